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
    int output_fd; /* the child's stdout and stderr; borrowed */
};

/* The child runs in its own session, with no other descriptor of ours, default signals, and no core dumps. */
int ramet_process_spawn(const struct ramet_spawn *spawn, struct ramet_process **ret, struct ramet_error *err);
/* Kills it if it lives and reaps it. NULL is a no-op. */
void ramet_process_free(struct ramet_process *process);

pid_t ramet_process_pid(const struct ramet_process *process);
/* Waits for its end and reaps it. True when it has ended; *ret_status is then as waitpid(2) gives it. */
bool ramet_process_wait(struct ramet_process *process, unsigned timeout_ms, int *ret_status);

#endif
