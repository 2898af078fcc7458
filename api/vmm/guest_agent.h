/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The QEMU guest agent: commands run inside the guest, over a virtio-serial port.
 *
 * Whatever arrives was written by the guest and is not trusted: sizes are bounded,
 * malformed answers are RAMET_VMM, silence is RAMET_TIMEOUT, and after either the next
 * request first resynchronises (guest-sync-delimited). The same happens after a fork,
 * when an answer to the parent's question may still sit in the child's queue.
 *
 * Thread-safety: all functions may be called from any thread; several execs interleave,
 * since only single requests are serialised.
 */
#ifndef RAMET_API_VMM_GUEST_AGENT_H
#define RAMET_API_VMM_GUEST_AGENT_H

#include "json.h"
#include "vmm/vmm.h"

struct ramet_agent;

/* Takes over `fd`, also on failure. Nothing is sent yet: the guest may still be booting. */
int ramet_agent_open(int fd, struct ramet_agent **ret, struct ramet_error *err);
void ramet_agent_close(struct ramet_agent *agent); /* NULL is a no-op */

/* One request and its answer, the return value of which *ret then owns. RAMET_INVALID: the agent refused. */
int ramet_agent_request(struct ramet_agent *agent, const char *command, const struct ramet_json *arguments,
                        uint64_t deadline_us, struct ramet_json **ret, struct ramet_error *err);
int ramet_agent_ping(struct ramet_agent *agent, unsigned timeout_ms, struct ramet_error *err);
int ramet_agent_set_time(struct ramet_agent *agent, int64_t unix_ns, unsigned timeout_ms, struct ramet_error *err);
/* As ramet_vm_exec (guest_exec.c). When time runs out the guest process is sent SIGKILL before RAMET_TIMEOUT is
 * returned. */
int ramet_agent_exec(struct ramet_agent *agent, const char *const *argv, const char *const *env, const void *input,
                     size_t input_size, unsigned timeout_ms, struct ramet_vm_exec_result *ret, struct ramet_error *err);

#endif
