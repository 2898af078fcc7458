/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON-RPC 2.0 messages: made as text, taken apart as spans. An answer keeps the text it came in, so that a result
 * is passed on as the server wrote it. Pure functions.
 */
#ifndef RAMET_API_TOOLS_RPC_H
#define RAMET_API_TOOLS_RPC_H

#include "tools/scan.h"

#define RAMET_RPC_METHOD_NOT_FOUND (-32601)
#define RAMET_RPC_UNSUPPORTED_VERSION (-32022)

#define RAMET_MCP_MODERN "2026-07-28" /* the stateless revision */
#define RAMET_MCP_LEGACY "2025-11-25" /* the newest with a handshake */

enum ramet_rpc_kind { RAMET_RPC_ANSWER, RAMET_RPC_REQUEST, RAMET_RPC_NOTIFICATION };

/* Spans of the message's text. */
struct ramet_rpc_message {
    enum ramet_rpc_kind kind;
    struct ramet_span id, method, params, result, error;
    uint64_t number; /* the id, when it is one of ours; else UINT64_MAX */
};

/* RAMET_INVALID for what is no JSON-RPC 2.0 message. */
int ramet_rpc_read(const char *text, size_t size, struct ramet_rpc_message *ret, struct ramet_error *err);

/* What a server answered: its message, owned, and the one of the two members that there is. */
struct ramet_rpc_answer {
    char *text;
    struct ramet_span result, error;
};
void ramet_rpc_answer_free(struct ramet_rpc_answer *answer);

/* {"code": ..., "message": ...} of an answer; false when it is a result. */
bool ramet_rpc_error_code(const struct ramet_rpc_answer *answer, int64_t *ret_code);
/* Such an answer as an error of ours: RAMET_UNAVAILABLE with what it said about `doing`. */
int ramet_rpc_error_set(const struct ramet_rpc_answer *answer, const char *doing, struct ramet_error *err);

/*
 * A request with params {members}, `members` being the text between the braces ("" for none). `version` of the
 * stateless era adds the _meta that every request has there; NULL adds none. Owned by the caller; NULL: no memory.
 */
char *ramet_rpc_request(uint64_t id, const char *method, const char *version, const char *members);
char *ramet_rpc_notification(const char *method, const char *version, const char *members);
/* To a request of the server's: `id` is its span. */
char *ramet_rpc_reply_empty(struct ramet_span id);
char *ramet_rpc_reply_unknown(struct ramet_span id);

/* `text` as a JSON string with its quotes; owned, NULL when memory ran out. */
char *ramet_rpc_quote(const char *text);

#endif
