/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions of clients before 2026-07-28: what initialize agreed on, the level of
 * logging, and questions the server asked that were not answered yet. A session is
 * its principal's alone; for everybody else it does not exist.
 *
 * At most RAMET_MCP_SESSIONS_MAX; the one that was quiet longest makes way.
 * Thread-safety: every function from any thread; a session that was found stays
 * valid until it is unrefed, removed or not.
 */
#ifndef RAMET_API_MCP_SESSIONS_H
#define RAMET_API_MCP_SESSIONS_H

#include "base/error.h"
#include "principal.h"

#include <stdbool.h>

#define RAMET_MCP_SESSIONS_MAX 1024
#define RAMET_MCP_SESSION_SIZE 33 /* of an id: 32 hex digits and NUL */

struct ramet_json;
struct ramet_mcp_sessions;
struct ramet_mcp_session;

struct ramet_mcp_sessions *ramet_mcp_sessions_new(void); /* NULL: no memory */
void ramet_mcp_sessions_free(struct ramet_mcp_sessions *sessions);

/* The caller's reference; NULL: no memory. `initialize` is the params of the request, copied. */
struct ramet_mcp_session *ramet_mcp_session_new(struct ramet_mcp_sessions *sessions,
                                                const struct ramet_principal *principal, const char *version,
                                                const struct ramet_json *initialize);
/* NULL: there is none of that id and principal. */
struct ramet_mcp_session *ramet_mcp_session_find(struct ramet_mcp_sessions *sessions, const char *id,
                                                 const struct ramet_principal *principal);
void ramet_mcp_session_remove(struct ramet_mcp_sessions *sessions, struct ramet_mcp_session *session);
void ramet_mcp_session_unref(struct ramet_mcp_session *session); /* NULL is a no-op */

const char *ramet_mcp_session_id(const struct ramet_mcp_session *session);
const char *ramet_mcp_session_version(const struct ramet_mcp_session *session);
const struct ramet_json *ramet_mcp_session_capabilities(const struct ramet_mcp_session *session); /* of the client */
const char *ramet_mcp_session_client(const struct ramet_mcp_session *session);                    /* "name/version" */

/* Severity of logging the client asked for, 0 (debug) to 7 (emergency). */
void ramet_mcp_session_set_level(struct ramet_mcp_session *session, int level);
int ramet_mcp_session_level(struct ramet_mcp_session *session);

/* Asks: a number for the question, then its answer's result. TIMEOUT; UNAVAILABLE when the session ends. */
uint64_t ramet_mcp_session_question(struct ramet_mcp_session *session);
int ramet_mcp_session_await(struct ramet_mcp_session *session, uint64_t question, unsigned timeout_ms,
                            struct ramet_json **ret, struct ramet_error *err);
/* A response of the client's; `result` NULL when it is an error. One that nobody waits for is dropped. */
void ramet_mcp_session_response(struct ramet_mcp_session *session, const struct ramet_json *id,
                                const struct ramet_json *result);

#endif
