/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QMP, QEMU's control protocol, over a socket pair that QEMU inherited.
 *
 * Thread-safety: commands may come from any thread; one is in flight at a time. A
 * command that timed out leaves the connection usable: its late answer is recognised by id.
 */
#ifndef RAMET_API_VMM_QMP_H
#define RAMET_API_VMM_QMP_H

#include "json.h"

struct ramet_qmp;

/* Takes over `fd`, also on failure; waits for the greeting and negotiates capabilities. */
int ramet_qmp_open(int fd, unsigned timeout_ms, struct ramet_qmp **ret, struct ramet_error *err);
void ramet_qmp_close(struct ramet_qmp *qmp); /* NULL is a no-op */

/*
 * Runs one command. Takes over `arguments` (may be NULL). *ret_value, unless ret_value is NULL, is owned by the caller.
 * RAMET_VMM: QEMU refused (its reason is in the message), answered garbage, or is gone.
 */
int ramet_qmp_command(struct ramet_qmp *qmp, const char *command, struct ramet_json *arguments, unsigned timeout_ms,
                      struct ramet_json **ret_value, struct ramet_error *err);
/* Gives QEMU a copy of `fd` under a name that "fd:NAME" refers to. */
int ramet_qmp_give_fd(struct ramet_qmp *qmp, const char *name, int fd, unsigned timeout_ms, struct ramet_error *err);

/* Why the guest ended, as its last SHUTDOWN event told ("guest-shutdown", "guest-reset", ...); "" when none came.
 * Call it after QEMU has died: it reads the events still in the socket. The text lives as long as `qmp`. */
const char *ramet_qmp_shutdown_reason(struct ramet_qmp *qmp);

#endif
