/* SPDX-License-Identifier: Apache-2.0 */
#include "mcp/jsonrpc.h"

#include "base/cleanup.h"
#include "json.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int ramet_jsonrpc_fail(struct ramet_jsonrpc_error *error, int code, int http, const char *fmt, ...)
{
    va_list ap;
    ramet_json_free(error->data);
    *error = (struct ramet_jsonrpc_error){.code = code, .http = http};
    va_start(ap, fmt);
    vsnprintf(error->message, sizeof error->message, fmt, ap);
    va_end(ap);
    return -1;
}

static bool is_id(const struct ramet_json *id)
{
    enum ramet_json_kind kind = ramet_json_kind(id);
    return kind == RAMET_JSON_STRING || kind == RAMET_JSON_INTEGER;
}

static int invalid(struct ramet_jsonrpc_error *error, const char *why)
{
    return ramet_jsonrpc_fail(error, RAMET_JSONRPC_INVALID_REQUEST, 400, "%s", why);
}

static int read_message(struct ramet_jsonrpc_message *m, struct ramet_jsonrpc_error *error)
{
    const struct ramet_json *id = ramet_json_get(m->root, "id"), *params = ramet_json_get(m->root, "params");
    m->id = is_id(id) ? id : NULL;
    m->method = ramet_json_string_value(ramet_json_get(m->root, "method"));
    m->result = ramet_json_get(m->root, "result");
    m->params = params;
    if (strcmp(ramet_json_str(m->root, "jsonrpc", ""), "2.0") != 0)
        return invalid(error, "\"jsonrpc\" must be \"2.0\"");
    if (id && !m->id)
        return invalid(error, "\"id\" must be a string or an integer");
    if (m->method) {
        m->kind = m->id ? RAMET_JSONRPC_REQUEST : RAMET_JSONRPC_NOTIFICATION;
        return !params || ramet_json_is_object(params)
                   ? 0
                   : ramet_jsonrpc_fail(error, RAMET_JSONRPC_INVALID_PARAMS, 400, "\"params\" must be an object");
    }
    m->kind = RAMET_JSONRPC_RESPONSE;
    return m->id && (m->result || ramet_json_is_object(ramet_json_get(m->root, "error")))
               ? 0
               : invalid(error, "the message is no request, notification or response");
}

int ramet_jsonrpc_parse(const char *text, size_t size, struct ramet_jsonrpc_message *ret,
                        struct ramet_jsonrpc_error *error)
{
    struct ramet_error err = {0};
    *ret = (struct ramet_jsonrpc_message){0};
    if (ramet_json_parse(text, size, &ret->root, &err) < 0)
        return ramet_jsonrpc_fail(error, RAMET_JSONRPC_PARSE, 400, "%s", err.msg);
    if (!ramet_json_is_object(ret->root))
        return invalid(error,
                       ramet_json_is_array(ret->root) ? "batches are not supported" : "the message is no object");
    return read_message(ret, error);
}

void ramet_jsonrpc_clear(struct ramet_jsonrpc_message *message)
{
    ramet_json_free(message->root);
    *message = (struct ramet_jsonrpc_message){0};
}

static struct ramet_json *answer(const struct ramet_json *id)
{
    struct ramet_json *o = ramet_json_object();
    ramet_json_set_string(o, "jsonrpc", "2.0");
    ramet_json_set(o, "id", id ? ramet_json_copy(id) : NULL);
    return o;
}

struct ramet_json *ramet_jsonrpc_result(const struct ramet_json *id, struct ramet_json *result)
{
    struct ramet_json *o = answer(id);
    ramet_json_set(o, "result", result);
    return o;
}

struct ramet_json *ramet_jsonrpc_failure(const struct ramet_json *id, struct ramet_jsonrpc_error *error)
{
    struct ramet_json *o = answer(id), *e = ramet_json_object();
    ramet_json_set_i64(e, "code", error->code);
    ramet_json_set_string(e, "message", error->message);
    if (error->data)
        ramet_json_set(e, "data", STEAL(error->data));
    ramet_json_set(o, "error", e);
    return o;
}

struct ramet_json *ramet_jsonrpc_notification(const char *method, struct ramet_json *params)
{
    struct ramet_json *o = ramet_json_object();
    ramet_json_set_string(o, "jsonrpc", "2.0");
    ramet_json_set_string(o, "method", method);
    if (params)
        ramet_json_set(o, "params", params);
    return o;
}

void ramet_jsonrpc_id_text(const struct ramet_json *id, char *ret, size_t size)
{
    _autofree_ char *text = id ? ramet_json_text(id) : NULL;
    snprintf(ret, size, "%s", text ? text : "");
}
