/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One small thread per VM, blocked in read nearly always. After a failed write (full disk)
 * it goes on reading, since a console nobody reads would slow the guest down.
 * The fields are set before the thread starts and belong to it until it is joined.
 */
#include "vmm/console.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

enum { LOG_LIMIT = 1 << 20, STACK_SIZE = 128 * 1024 };

struct ramet_console {
    int fd, log_fd;
    char *path, *old_path;
    size_t written;
    pthread_t thread;
};

static int open_log(const char *path) { return open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600); }

static void rotate(struct ramet_console *console)
{
    rename(console->path, console->old_path);
    close(console->log_fd);
    console->log_fd = open_log(console->path);
    console->written = 0;
}

static void *pump(void *arg)
{
    struct ramet_console *console = arg;
    char buf[4096];
    for (;;) {
        ssize_t n = recv(console->fd, buf, sizeof buf, 0);
        if (n == 0 || (n < 0 && errno != EINTR))
            return NULL;
        if (n < 0)
            continue;
        if (console->written + (size_t)n > LOG_LIMIT)
            rotate(console);
        if (console->log_fd >= 0 && write(console->log_fd, buf, (size_t)n) > 0)
            console->written += (size_t)n;
    }
}

static int start_pump(struct ramet_console *console)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = pthread_create(&console->thread, &attr, pump, console);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return failure;
}

static void release(struct ramet_console *console)
{
    close(console->fd);
    if (console->log_fd >= 0)
        close(console->log_fd);
    free(console->path);
    free(console->old_path);
    free(console);
}

int ramet_console_open(int fd, const char *path, struct ramet_console **ret, struct ramet_error *err)
{
    struct ramet_console *console = calloc(1, sizeof *console);
    if (!console) {
        close(fd);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a console");
    }
    console->fd = fd;
    console->log_fd = open_log(path);
    int failure = console->log_fd < 0 ? errno : 0;
    if (asprintf(&console->path, "%s", path) < 0)
        failure = ENOMEM, console->path = NULL;
    if (asprintf(&console->old_path, "%s.1", path) < 0)
        failure = ENOMEM, console->old_path = NULL;
    if (failure == 0)
        failure = start_pump(console);
    if (failure != 0) {
        release(console);
        return ramet_error_os(err, failure, "console log \"%s\"", path);
    }
    *ret = console;
    return 0;
}

void ramet_console_close(struct ramet_console *console)
{
    if (!console)
        return;
    shutdown(console->fd, SHUT_RDWR);
    pthread_join(console->thread, NULL);
    release(console);
}
