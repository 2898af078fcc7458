/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Child processes that never outlive us: spawn, watch, kill, reap.
 *
 * Thread-safety: any function from any thread, except free beside another call on the
 * same process. Nothing else in the program may reap our children (no waitpid(-1), no ignored SIGCHLD).
 */
#ifndef RAMET_API_VMM_PROCESS_H
#define RAMET_API_VMM_PROCESS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { RAMET_PROCESS_FIRST_FD = 3 };

struct ramet_process;

struct ramet_spawn {
    const char *const *argv; /* argv[0] is a path, not looked up */
    const char *const *env;  /* the whole environment */
    const int *fds;          /* become descriptors 3, 4, ... of the child; borrowed */
    size_t fd_count;
    int output_fd;         /* the child's stdout and stderr; borrowed */
    int input_fd;          /* its stdin; 0: nothing to read; borrowed */
    int error_fd;          /* its stderr; 0: output_fd; borrowed */
    const char *directory; /* where it starts; NULL: where we are */
};

/* The child runs in its own session, with no other descriptor of ours, default signals, and no core dumps. */
int ramet_process_spawn(const struct ramet_spawn *spawn, struct ramet_process **ret, struct ramet_error *err);
/*
 * Waits so long for its end, then asks for it with SIGTERM, then kills whatever of its session is left, its children
 * too, and reaps it. *ret_status is as waitpid(2) gives it.
 */
void ramet_process_end(struct ramet_process *process, unsigned timeout_ms, int *ret_status);
/* Kills it if it lives and reaps it. NULL is a no-op. */
void ramet_process_free(struct ramet_process *process);

int ramet_process_pidfd(const struct ramet_process *process); /* readable once it has ended; borrowed */
pid_t ramet_process_pid(const struct ramet_process *process);
/* Waits for its end and reaps it. True when it has ended; *ret_status is then as waitpid(2) gives it. */
bool ramet_process_wait(struct ramet_process *process, unsigned timeout_ms, int *ret_status);

#endif
