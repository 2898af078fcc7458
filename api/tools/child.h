/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program begun with a pipe for each of its standard streams, in a session of its own, with no other descriptor of
 * ours. Thread-safe.
 */
#ifndef RAMET_API_TOOLS_CHILD_H
#define RAMET_API_TOOLS_CHILD_H

#include "vmm/process.h"

struct ramet_child {
    struct ramet_process *process; /* NULL when it could not be begun */
    int in_fd, out_fd, err_fd;     /* our ends: to write to its input, to read the others from; -1 or the caller's */
};

/*
 * argv[0] is a path, or looked up on the PATH in `env`, which is all of its environment; `directory` is where it
 * starts, NULL: /. Everything is borrowed for the length of the call. On failure what `ret` has is the caller's all the
 * same.
 */
int ramet_child_start(const char *const *argv, const char *const *env, const char *directory, struct ramet_child *ret,
                      struct ramet_error *err);

#endif
