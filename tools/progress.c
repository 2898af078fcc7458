/* SPDX-License-Identifier: Apache-2.0 */
/* The progress line has a thread of its own, since the call it covers blocks. `lock` guards `done`. */
#include "progress.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define QUIET_MS 300
#define FRAME_MS 100

struct progress {
    const char *doing;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t stopped;
    bool done;
};

/* Waits until it is over or `ms` have passed; whether it is over. Called under the lock. */
static bool over_within(struct progress *p, long ms)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += ms * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (!p->done && pthread_cond_timedwait(&p->stopped, &p->lock, &until) == 0)
        ;
    return p->done;
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
            fprintf(stderr, "\r%c %s (%u.%u s)", wheel[frame++ % 4], p->doing, ms / 1000, ms / 100 % 10);
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

void progress_stop(struct progress *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->done = true;
    pthread_cond_signal(&p->stopped);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    pthread_cond_destroy(&p->stopped);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
