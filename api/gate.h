/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate before every route: who calls, may they, and it is told in the audit. It
 * holds the policy in force, the audit and the owners; the mount and the MCP side ask
 * and tell through the same three.
 *
 * A call is judged on the objects as they are now, and the handler is given their ids,
 * so that a name which moves in between lets nobody in. To whom something is forbidden
 * it looks like what does not exist. What an agent makes is recorded as its own before
 * it learns the id. Denials, and calls by agents that change something, are synced to
 * the audit before anything is done; an admin's before they are answered.
 *
 * Thread-safety: after open, every function from any thread.
 */
#ifndef RAMET_API_GATE_H
#define RAMET_API_GATE_H

#include "base/error.h"
#include "routes.h"

struct ramet_audit;
struct ramet_gate;
struct ramet_owners;
struct ramet_policy_source;
struct ramet_service;

/*
 * The audit is in STORE/audit, the owners in STORE/owners, so the store must be ours already. Objects are looked up
 * in the service; owners of what is not there any more are forgotten. `policies` is borrowed, as is the service.
 */
int ramet_gate_open(const char *store_dir, struct ramet_policy_source *policies, struct ramet_service *service,
                    struct ramet_gate **ret, struct ramet_error *err);
void ramet_gate_close(struct ramet_gate *gate); /* NULL is a no-op */

/* Borrowed, as long as the gate is open. */
const struct ramet_router_gate *ramet_gate_for_router(struct ramet_gate *gate);
struct ramet_policy_source *ramet_gate_policies(struct ramet_gate *gate);
struct ramet_audit *ramet_gate_audit(struct ramet_gate *gate);
struct ramet_owners *ramet_gate_owners(struct ramet_gate *gate);

/*
 * For what is no route, as a read of a tool's file: asks the policy and tells the
 * audit, at once when it is denied, soon when it is allowed. `object` as in the
 * audit's lines. DENIED.
 */
int ramet_gate_judge_tool(struct ramet_gate *gate, const struct ramet_principal *principal, const char *action,
                          const char *server, const char *tool, struct ramet_error *err);

#endif
