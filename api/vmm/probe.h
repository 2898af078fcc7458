/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the driver only: which QEMU runs and how fast it can. */
#ifndef RAMET_API_VMM_PROBE_H
#define RAMET_API_VMM_PROBE_H

#include "vmm/vmm.h"

/* $RAMET_QEMU or qemu-system-x86_64 from PATH. Owned by the caller. */
int ramet_qemu_find(char **ret, struct ramet_error *err);

#endif
