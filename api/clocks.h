/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clocks of guests that were forked, restored or paused: each stands where the guest did until it is set.
 *
 * Setting one runs date(1) in the guest, which takes longer than all else that a fork waits for. So no call waits
 * for it but one that runs a command in that guest: clocks are set behind the callers' backs, and
 * ramet_clocks_settle stands before a command, which thereby never sees a clock that is yet to be set.
 */
#ifndef RAMET_API_CLOCKS_H
#define RAMET_API_CLOCKS_H

#include "base/error.h"

struct ramet_clocks;
struct ramet_sandbox;

int ramet_clocks_new(struct ramet_clocks **ret, struct ramet_error *err);
/* Forgets those that wait; one that is being set is waited for, which its VM's end cuts short. NULL is a no-op. */
void ramet_clocks_free(struct ramet_clocks *clocks);

/* Has the guest's clock set soon, if that is due; nothing while it is paused. The guest's agent may yet be silent. */
void ramet_clocks_add(struct ramet_clocks *clocks, struct ramet_sandbox *sandbox);

/*
 * Returns when the clock is set, at once when that is not due. A guest that cannot set its clock is warned of and
 * let be. RAMET_TIMEOUT when its agent stays silent: then the clock is still due. Any thread; under no lock after op.
 */
int ramet_clocks_settle(struct ramet_sandbox *sandbox, unsigned timeout_ms, struct ramet_error *err);

#endif
