/* SPDX-License-Identifier: Apache-2.0 */
#include "audit_line.h"

#include "base/cleanup.h"
#include "json.h"

#include <string.h>

static void set(struct ramet_json *o, const char *key, const char *value)
{
    if (value && *value)
        ramet_json_set_string(o, key, value);
}

static void set_principal(struct ramet_json *o, const struct ramet_principal *who)
{
    struct ramet_json *actor = ramet_json_object();
    set(actor, "name", who->name);
    set(actor, "user", who->user);
    set(actor, "agent", who->agent);
    if (who->act_count) {
        struct ramet_json *act = ramet_json_array();
        for (unsigned i = 0; i < who->act_count; i++)
            ramet_json_append(act, ramet_json_string(who->act[i]));
        ramet_json_set(actor, "act", act);
    }
    if (who->uid >= 0)
        ramet_json_set_i64(actor, "uid", who->uid);
    if (who->pid > 0)
        ramet_json_set_i64(actor, "pid", who->pid);
    ramet_json_set(o, "actor", actor);
    set(o, "trigger", ramet_door_name(who->door));
}

static struct ramet_json *line_json(const struct ramet_audit_line *line)
{
    struct ramet_json *o = ramet_json_object();
    ramet_json_set_string(o, "event", line->done ? "result" : line->allowed ? "call" : "denied");
    if (line->principal)
        set_principal(o, line->principal);
    set(o, "action", line->action);
    set(o, "object", line->object);
    ramet_json_set_string(o, "decision", line->allowed ? "allowed" : "denied");
    set(o, "reason", line->reason);
    set(o, "policy", line->policy);
    set(o, "access", line->access);
    set(o, "server", line->server);
    set(o, "gen_ai.tool.name", line->tool);
    set(o, "mcp.method.name", line->method);
    set(o, "mcp.protocol.version", line->protocol);
    set(o, "jsonrpc.request.id", line->request_id);
    set(o, "client", line->client);
    set(o, "session", line->session);
    set(o, "trace_id", line->trace);
    set(o, "arguments_hmac", line->arguments);
    set(o, "error.type", line->error);
    if (line->done) {
        ramet_json_set_u64(o, "duration_us", line->duration_us);
        set(o, "call", line->call);
    }
    return o;
}

char *ramet_audit_line_middle(const struct ramet_audit_line *line)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *o = line_json(line);
    char *text = ramet_json_text(o);
    if (!text)
        return NULL;
    size_t size = strlen(text);
    memmove(text, text + 1, size - 2);
    text[size - 2] = '\0';
    return text;
}
