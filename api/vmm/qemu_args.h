/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's command line, built from a configuration. */
#ifndef RAMET_API_VMM_QEMU_ARGS_H
#define RAMET_API_VMM_QEMU_ARGS_H

#include "vmm/vmm.h"

/* Descriptors QEMU inherits, in this order from RAMET_PROCESS_FIRST_FD on. */
enum ramet_qemu_fd { RAMET_QEMU_QMP, RAMET_QEMU_AGENT, RAMET_QEMU_CONSOLE, RAMET_QEMU_HOLDER, RAMET_QEMU_FD_COUNT };

enum { RAMET_QEMU_DISK_MAX = 24 };

/* NULL-terminated; free it with ramet_qemu_args_free. NULL when memory ran out. */
char **ramet_qemu_args(const char *qemu, const char *accelerator, const struct ramet_vm_config *config);
void ramet_qemu_args_free(char ***args);

#endif
