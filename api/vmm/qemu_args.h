/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's command line. */
#ifndef RAMET_API_VMM_QEMU_ARGS_H
#define RAMET_API_VMM_QEMU_ARGS_H

#include <stddef.h>

/* Descriptors QEMU inherits, in this order from RAMET_PROCESS_FIRST_FD on. */
enum ramet_qemu_fd { RAMET_QEMU_QMP, RAMET_QEMU_AGENT, RAMET_QEMU_CONSOLE, RAMET_QEMU_HOLDER, RAMET_QEMU_FD_COUNT };

enum { RAMET_QEMU_DISK_MAX = 24 };

/* What must be known before QEMU starts. The rest is told over QMP before its machine is made (launch.c). */
struct ramet_qemu_shape {
    const char *name; /* shown in the process list */
    unsigned cpus;
    size_t disk_count;
    const char *kernel, *initrd, *cmdline; /* a boot; kernel NULL: a state will be loaded */
};

/* NULL-terminated; free it with ramet_qemu_args_free. NULL when memory ran out. */
char **ramet_qemu_args(const char *qemu, const char *accelerator, const struct ramet_qemu_shape *shape);
void ramet_qemu_args_free(char ***args);

#endif
