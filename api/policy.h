/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a principal may do: one pure function, asked by every door. A policy is read
 * from a JSON file and never changes; policy_source.h keeps the one in force.
 *
 *     {"principals": [
 *       {"name": "ops", "uid": 1000, "role": "admin"},
 *       {"name": "claude", "user": "alice", "agent": "claude", "uid": 1001, "role": "agent",
 *        "token_sha256": "<64 hex digits>",
 *        "allow": [{"operations": ["runSandbox", "restoreSnapshot"], "snapshots": ["debian"]},
 *                  {"operations": ["*"], "sandboxes": ["@own", "claude-*"], "snapshots": ["@own"]}],
 *        "tools": ["github/search_*", "files/read_*"]}]}
 *
 * An admin may do everything. An agent may nothing but what its entry allows:
 * - an operation of the API (operationId of openapi.yaml) when one member of "allow"
 *   has it, and for each object the call names one such member has a pattern that fits:
 *   its id, its name or one of its tags, or "@own" for what the principal made. Patterns
 *   of names never reach operations the daemon keeps for admins (access.h), not even "*".
 * - a tool when one of "tools" fits "server/tool". What it may not call it does not see:
 *   listing, reading, searching and calling are the same question.
 * A principal with an act chain may do what every entry in the chain allows.
 * Patterns: * any run of characters but /, ? one of them; nothing else is special.
 *
 * Root and the daemon's own user are admins unless the file has an entry with their uid;
 * without a file they are all there is.
 * Thread-safety: a policy is immutable; ref and unref are atomic.
 */
#ifndef RAMET_API_POLICY_H
#define RAMET_API_POLICY_H

#include "base/error.h"
#include "principal.h"

#include <stdbool.h>
#include <stddef.h>

#define RAMET_POLICY_ID_SIZE 17

struct ramet_json;
struct ramet_policy;

/* RAMET_INVALID names the principal and the member. */
int ramet_policy_parse(const char *text, size_t size, struct ramet_policy **ret, struct ramet_error *err);
int ramet_policy_default(struct ramet_policy **ret, struct ramet_error *err); /* the one without a file */
struct ramet_policy *ramet_policy_ref(struct ramet_policy *policy);
void ramet_policy_unref(struct ramet_policy *policy); /* NULL is a no-op */
void ramet_policy_cleanup(struct ramet_policy **policy);
const char *ramet_policy_id(const struct ramet_policy *policy);     /* of its text's hash, or "default" */
bool ramet_policy_admits_others(const struct ramet_policy *policy); /* besides root and the daemon's user */
bool ramet_policy_has_tokens(const struct ramet_policy *policy);

/* ---- the question ---- */

enum ramet_object_kind { RAMET_OBJECT_SANDBOX, RAMET_OBJECT_SNAPSHOT, RAMET_OBJECT_WORKSPACE, RAMET_OBJECT_TOOL };

/* Strings are borrowed; NULL is "". */
struct ramet_object {
    enum ramet_object_kind kind;
    const char *id;
    const char *name;        /* of a tool "server/tool", or "server": then whether any tool of it could be allowed */
    const char *const *tags; /* further names, NULL-terminated; or NULL */
    const char *owner;       /* ramet_principal_text of who made it; "" when nobody is recorded */
};

struct ramet_verdict {
    bool allowed;
    char reason[160]; /* why: the entry and what of it decided; goes to the audit and into the error */
};

/* Actions on tools; all others are operationIds. */
#define RAMET_ACTION_LIST_TOOLS "listTools"
#define RAMET_ACTION_READ_TOOL "readTool"
#define RAMET_ACTION_SEARCH_TOOLS "searchTools"
#define RAMET_ACTION_CALL_TOOL "callTool"

/*
 * Whether the principal may do `action` to `object`. Without an object (NULL): whether
 * it may do it to anything at all, as for operations that name none, or to decide what
 * is shown. `ret` may be NULL. No I/O, no clock: equal questions get equal answers.
 */
bool ramet_policy_allows(const struct ramet_policy *policy, const struct ramet_principal *principal, const char *action,
                         const struct ramet_object *object, struct ramet_verdict *ret);

/* The same for a tool: `server` and `tool` are the names as the MCP server and the registry have them. */
bool ramet_policy_allows_tool(const struct ramet_policy *policy, const struct ramet_principal *principal,
                              const char *action, const char *server, const char *tool, struct ramet_verdict *ret);

bool ramet_policy_is_admin(const struct ramet_policy *policy, const struct ramet_principal *principal);

/*
 * The user whose files a principal that is no admin makes: the uid of the first entry of its chain that is an agent's
 * and has one, else that of its process, if the process is the agent's own. False: none is known.
 */
bool ramet_policy_agent_uid(const struct ramet_policy *policy, const struct ramet_principal *principal, uid_t *ret);

/* ---- for principal.c and the routes ---- */

struct ramet_policy_entry; /* borrowed from the policy */
const struct ramet_policy_entry *ramet_policy_by_uid(const struct ramet_policy *policy, uid_t uid);
const struct ramet_policy_entry *ramet_policy_by_token(const struct ramet_policy *policy, const char *token);
const struct ramet_policy_entry *ramet_policy_by_name(const struct ramet_policy *policy, const char *name);
void ramet_policy_entry_names(const struct ramet_policy_entry *entry,
                              struct ramet_principal *ret); /* name, user, agent */

/* As the API shows it: entries without the hashes of their tokens. Owned by the caller. */
struct ramet_json *ramet_policy_json(const struct ramet_policy *policy);

#endif
