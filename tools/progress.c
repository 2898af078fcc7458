/* SPDX-License-Identifier: Apache-2.0 */
/* The progress line has a thread of its own, since the call it covers blocks. */
#include "progress.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define QUIET_MS 300
#define FRAME_MS 100
#define BAR_WIDTH 30

struct progress {
    const char *doing;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t stopped;
    bool over;
    uint64_t done, total; /* of what is done, for a bar; total 0: not known */
};

/* Waits until it is over or `ms` have passed; whether it is over. Called under the lock. */
static bool over_within(struct progress *p, long ms)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += ms * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (!p->over && pthread_cond_timedwait(&p->stopped, &p->lock, &until) == 0)
        ;
    return p->over;
}

/* "[#####     ]  50 % ", or nothing. Called under the lock. */
static void draw_bar(const struct progress *p)
{
    static const char full[BAR_WIDTH + 1] = "##############################";
    if (p->total == 0)
        return;
    double part = p->done < p->total ? (double)p->done / (double)p->total : 1;
    fprintf(stderr, "[%-*.*s] %3.0f %% ", BAR_WIDTH, (int)(part * BAR_WIDTH), full, part * 100);
}

static void *draw(void *arg)
{
    static const char wheel[] = "|/-\\";
    struct progress *p = arg;
    pthread_mutex_lock(&p->lock);
    if (!over_within(p, QUIET_MS)) {
        unsigned frame = 0;
        do {
            unsigned ms = QUIET_MS + FRAME_MS * frame;
            fprintf(stderr, "\r%c ", wheel[frame++ % 4]);
            draw_bar(p);
            fprintf(stderr, "%s (%u.%u s)", p->doing, ms / 1000, ms / 100 % 10);
            fflush(stderr);
        } while (!over_within(p, FRAME_MS));
        fprintf(stderr, "\r\033[K");
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

struct progress *progress_start(const char *doing)
{
    struct progress *p = isatty(STDERR_FILENO) ? calloc(1, sizeof *p) : NULL;
    if (!p)
        return NULL;
    p->doing = doing;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->stopped, NULL);
    if (pthread_create(&p->thread, NULL, draw, p) == 0)
        return p;
    free(p);
    return NULL;
}

void progress_set(struct progress *p, uint64_t done, uint64_t total)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->done = done;
    p->total = total;
    pthread_mutex_unlock(&p->lock);
}

void progress_stop(struct progress *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->over = true;
    pthread_cond_signal(&p->stopped);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    pthread_cond_destroy(&p->stopped);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
