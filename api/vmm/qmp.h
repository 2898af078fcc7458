/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QMP, QEMU's control protocol, over a socket pair that QEMU inherited.
 *
 * Thread-safety: commands may come from any thread; one, or one batch, is in flight at a time. A
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

/* A command of a batch. `arguments` may be NULL. */
struct ramet_qmp_call {
    const char *command;
    struct ramet_json *arguments;
};
/*
 * Sends all commands at once; QEMU runs them in order. Takes over all `arguments`. pass_fd, unless -1, is borrowed and
 * travels with them, for the one that takes it (getfd). Fails with the first refusal; what follows it was run too.
 */
int ramet_qmp_batch(struct ramet_qmp *qmp, const struct ramet_qmp_call *calls, size_t count, int pass_fd,
                    unsigned timeout_ms, struct ramet_error *err);
/* Waits for the event that an incoming state is loaded; migration capability "events" must be set. *ret_running:
 * whether the vCPUs run. A state QEMU cannot load ends it: RAMET_VMM. */
int ramet_qmp_await_loaded(struct ramet_qmp *qmp, uint64_t deadline_us, bool *ret_running, struct ramet_error *err);

/* Why the guest ended, as its last SHUTDOWN event told ("guest-shutdown", "guest-reset", ...); "" when none came.
 * Call it after QEMU has died: it reads the events still in the socket. The text lives as long as `qmp`. */
const char *ramet_qmp_shutdown_reason(struct ramet_qmp *qmp);

#endif
