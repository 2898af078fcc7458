/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON-RPC 2.0 messages, one at a time: MCP has no batches any more. A message owns
 * its JSON; what it points to is borrowed from that.
 */
#ifndef RAMET_API_MCP_JSONRPC_H
#define RAMET_API_MCP_JSONRPC_H

#include "base/error.h"

#include <stddef.h>

struct ramet_json;

enum ramet_jsonrpc_code {
    RAMET_JSONRPC_PARSE = -32700,
    RAMET_JSONRPC_INVALID_REQUEST = -32600,
    RAMET_JSONRPC_NO_METHOD = -32601,
    RAMET_JSONRPC_INVALID_PARAMS = -32602,
    RAMET_JSONRPC_INTERNAL = -32603,
    RAMET_JSONRPC_HEADER_MISMATCH = -32020,
    RAMET_JSONRPC_MISSING_CAPABILITY = -32021,
    RAMET_JSONRPC_UNSUPPORTED_VERSION = -32022,
    RAMET_JSONRPC_NO_RESOURCE = -32002, /* before 2026-07-28; INVALID_PARAMS since */
};

/* `data` is owned; ramet_jsonrpc_failure takes it. */
struct ramet_jsonrpc_error {
    int code;
    int http; /* status that goes with it; 0: 200 */
    char message[512];
    struct ramet_json *data;
};

/* Sets it and returns -1. */
int ramet_jsonrpc_fail(struct ramet_jsonrpc_error *error, int code, int http, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

enum ramet_jsonrpc_kind { RAMET_JSONRPC_REQUEST, RAMET_JSONRPC_NOTIFICATION, RAMET_JSONRPC_RESPONSE };

struct ramet_jsonrpc_message {
    struct ramet_json *root; /* owned */
    enum ramet_jsonrpc_kind kind;
    const struct ramet_json *id;     /* of a request or response: a string or an integer */
    const char *method;              /* of a request or notification */
    const struct ramet_json *params; /* an object, or NULL when there are none */
    const struct ramet_json *result; /* of a response that is no error */
};

/* Clears what is in *ret of a message that is wrong but for its id, so that the answer can have it. */
int ramet_jsonrpc_parse(const char *text, size_t size, struct ramet_jsonrpc_message *ret,
                        struct ramet_jsonrpc_error *error);
void ramet_jsonrpc_clear(struct ramet_jsonrpc_message *message);

/* The answers; `id` NULL is null, `result` and error->data are taken over. Owned by the caller. */
struct ramet_json *ramet_jsonrpc_result(const struct ramet_json *id, struct ramet_json *result);
struct ramet_json *ramet_jsonrpc_failure(const struct ramet_json *id, struct ramet_jsonrpc_error *error);
struct ramet_json *ramet_jsonrpc_notification(const char *method, struct ramet_json *params);

/* An id as text, for logs and tables: "7", "\"a\"". */
void ramet_jsonrpc_id_text(const struct ramet_json *id, char *ret, size_t size);

#endif
