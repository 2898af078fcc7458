/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/rpc.h"

#include "base/cleanup.h"
#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { error_values_max = 1000 };

int ramet_rpc_read(const char *text, size_t size, struct ramet_rpc_message *ret, struct ramet_error *err)
{
    static const char *const names[] = {"jsonrpc", "id", "method", "params", "result", "error", NULL};
    struct ramet_span found[6];
    int rc = ramet_scan_object(text, size, names, found, err);
    if (rc < 0)
        return rc;
    struct ramet_rpc_message m = {
        .id = found[1], .method = found[2], .params = found[3], .result = found[4], .error = found[5]};
    bool has_id = m.id.at && !ramet_span_is(m.id, "null"), answer = m.result.at || m.error.at;
    if (!ramet_span_is(found[0], "\"2.0\"") || (m.method.at && (answer || *m.method.at != '"')) ||
        (!m.method.at && !answer) || (m.result.at && m.error.at && !ramet_span_is(m.error, "null")) ||
        (m.error.at && !m.result.at && *m.error.at != '{'))
        return ramet_error_set(err, RAMET_INVALID, "no JSON-RPC 2.0 message");
    if (m.result.at)
        m.error = (struct ramet_span){0};
    m.kind = answer ? RAMET_RPC_ANSWER : has_id ? RAMET_RPC_REQUEST : RAMET_RPC_NOTIFICATION;
    if (!ramet_span_u64(m.id, &m.number))
        m.number = UINT64_MAX;
    *ret = m;
    return 0;
}

void ramet_rpc_answer_free(struct ramet_rpc_answer *answer)
{
    free(answer->text);
    *answer = (struct ramet_rpc_answer){0};
}

static struct ramet_json *error_object(const struct ramet_rpc_answer *answer)
{
    struct ramet_json *error = NULL;
    if (answer->error.at)
        ramet_json_parse_lenient(answer->error.at, answer->error.size, error_values_max, &error, NULL);
    return error;
}

bool ramet_rpc_error_code(const struct ramet_rpc_answer *answer, int64_t *ret_code)
{
    if (!answer->error.at)
        return false;
    _cleanup_(ramet_json_cleanup) struct ramet_json *error = error_object(answer);
    *ret_code = ramet_json_int(error, "code", 0);
    return true;
}

int ramet_rpc_error_set(const struct ramet_rpc_answer *answer, const char *doing, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *error = error_object(answer);
    return ramet_error_set(err, RAMET_UNAVAILABLE, "%s: the server answers with error %lld: %.300s", doing,
                           (long long)ramet_json_int(error, "code", 0), ramet_json_str(error, "message", "no message"));
}

/* ---- making ---- */

static char *with_params(const char *head, const char *method, const char *version, const char *members)
{
    static const char meta[] = "\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"%s\","
                               "\"io.modelcontextprotocol/clientInfo\":{\"name\":\"ramet\",\"version\":\"%s\"},"
                               "\"io.modelcontextprotocol/clientCapabilities\":{}}";
    char stamp[sizeof meta + 64] = "", *text = NULL;
    if (version)
        snprintf(stamp, sizeof stamp, meta, version, RAMET_VERSION);
    const char *comma = *stamp && *members ? "," : "";
    if (asprintf(&text, "{\"jsonrpc\":\"2.0\"%s,\"method\":\"%s\",\"params\":{%s%s%s}}", head, method, stamp, comma,
                 members) < 0)
        return NULL;
    return text;
}

char *ramet_rpc_request(uint64_t id, const char *method, const char *version, const char *members)
{
    char head[48];
    snprintf(head, sizeof head, ",\"id\":%llu", (unsigned long long)id);
    return with_params(head, method, version, members);
}

char *ramet_rpc_notification(const char *method, const char *version, const char *members)
{
    return with_params("", method, version, members);
}

static char *reply(struct ramet_span id, const char *what)
{
    char *text;
    if (id.size > 1000 || asprintf(&text, "{\"jsonrpc\":\"2.0\",\"id\":%.*s,%s}", (int)id.size, id.at, what) < 0)
        return NULL;
    return text;
}

char *ramet_rpc_reply_empty(struct ramet_span id) { return reply(id, "\"result\":{}"); }

char *ramet_rpc_reply_unknown(struct ramet_span id)
{
    return reply(id, "\"error\":{\"code\":-32601,\"message\":\"Method not found\"}");
}

char *ramet_rpc_quote(const char *text)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *string = ramet_json_string(text);
    return ramet_json_text(string);
}
