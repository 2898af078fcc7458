/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /v1/tools: MCP servers and calls to their tools. A call's body is the tool's arguments and its answer the tool's
 * result, byte for byte as the server wrote it: nothing is put around either.
 */
#include "base/cleanup.h"
#include "json.h"
#include "routes_body.h"
#include "routes_json.h"
#include "routes_table.h"
#include "tools/catalogue.h"
#include "tools/diff.h"
#include "tools/registry.h"
#include "wire.h"

#include <inttypes.h>
#include <string.h>

enum { wait_max_ms = 24 * 3600 * 1000 };

static struct ramet_tools *tools_of(const struct ramet_call *call)
{
    return ramet_service_tools(ramet_call_service(call));
}

static struct ramet_tools_catalogue *catalogue_of(const struct ramet_call *call)
{
    return ramet_service_tools_catalogue(ramet_call_service(call));
}

/* ---- servers ---- */

int ramet_route_tool_servers(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_json *servers;
    int rc = ramet_tools_show_all(tools_of(call), &servers, err);
    if (rc < 0)
        return rc;
    *ret = ramet_json_object();
    ramet_json_set(*ret, "servers", servers);
    return 0;
}

int ramet_route_tool_server(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    return ramet_tools_show(tools_of(call), call->param, ret, err);
}

int ramet_route_tool_server_add(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    static const char *const keys[] = {"server", "config", "replace", NULL};
    const char *server = NULL;
    bool replace = false;
    int rc = ramet_json_want_only(call->body, keys, err);
    if (rc == 0)
        rc = ramet_json_want_string(call->body, "server", &server, err);
    if (rc == 0)
        rc = ramet_json_want_bool(call->body, "replace", &replace, err);
    if (rc == 0 && !server)
        rc = ramet_error_set(err, RAMET_INVALID, "\"server\" is missing");
    if (rc == 0)
        rc = ramet_tools_add(tools_of(call), server, ramet_json_get(call->body, "config"), replace, err);
    return rc < 0 ? rc : ramet_tools_show(tools_of(call), server, ret, err);
}

int ramet_route_tool_import(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    static const char *const keys[] = {"file", "replace", NULL};
    struct ramet_json *servers;
    bool replace = false;
    int rc = ramet_json_want_only(call->body, keys, err);
    if (rc == 0)
        rc = ramet_json_want_bool(call->body, "replace", &replace, err);
    if (rc == 0)
        rc = ramet_tools_import(tools_of(call), ramet_json_get(call->body, "file"), replace, &servers, err);
    if (rc < 0)
        return rc;
    *ret = ramet_json_object();
    ramet_json_set(*ret, "servers", servers);
    return 0;
}

int ramet_route_tool_server_remove(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    int rc = ramet_tools_remove(tools_of(call), call->param, err);
    if (rc == 0)
        *ret = ramet_done_json("removed", call->param);
    return rc;
}

int ramet_route_tool_refresh(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    static const char *const keys[] = {"timeout_ms", NULL};
    uint64_t timeout_ms = 0;
    int rc = ramet_json_want_only(call->body, keys, err);
    if (rc == 0)
        rc = ramet_json_want_u64(call->body, "timeout_ms", 1, wait_max_ms, &timeout_ms, err);
    if (rc == 0)
        rc = ramet_tools_refresh(tools_of(call), call->param, (unsigned)timeout_ms, err);
    return rc < 0 ? rc : ramet_tools_show(tools_of(call), call->param, ret, err);
}

/* ---- documents ---- */

/* A query parameter that is a number; 0 when it is not given. */
/* The version asked for in the query, or the newest. */
static int find_document(const struct ramet_call *call, const char *name, struct ramet_tools_doc **ret,
                         struct ramet_error *err)
{
    uint64_t version = 0;
    int rc = ramet_call_query_u64(call, name, 1, INT64_MAX, &version, err);
    if (rc < 0)
        return rc;
    if (version)
        return ramet_tools_catalogue_version(catalogue_of(call), call->param, version, ret, err);
    *ret = ramet_tools_catalogue_current(catalogue_of(call), call->param);
    if (*ret)
        return 0;
    ramet_error_set(err, RAMET_NOT_FOUND, "nothing is known of MCP server \"%.100s\"", call->param);
    return ramet_error_hint(err, "'ramet tools ls' shows the servers and what is wrong with them");
}

int ramet_route_tool_document(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    _cleanup_(ramet_tools_doc_cleanup) struct ramet_tools_doc *doc = NULL;
    int rc = find_document(call, "version", &doc, err);
    if (rc < 0)
        return rc;
    *ret = ramet_json_copy(ramet_tools_doc_json(doc));
    return *ret ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a document");
}

/* The kept version before `doc`; itself when there is none. */
static int find_previous(const struct ramet_call *call, const struct ramet_tools_doc *doc, struct ramet_tools_doc **ret,
                         struct ramet_error *err)
{
    _autofree_ uint64_t *versions = NULL;
    size_t count = 0;
    uint64_t version = ramet_tools_doc_version(doc);
    int rc = ramet_tools_catalogue_versions(catalogue_of(call), call->param, &versions, &count, err);
    for (size_t i = 1; rc == 0 && i < count; i++)
        if (versions[i] == ramet_tools_doc_version(doc))
            version = versions[i - 1];
    return rc < 0 ? rc : ramet_tools_catalogue_version(catalogue_of(call), call->param, version, ret, err);
}

int ramet_route_tool_diff(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    _cleanup_(ramet_tools_doc_cleanup) struct ramet_tools_doc *from = NULL;
    _cleanup_(ramet_tools_doc_cleanup) struct ramet_tools_doc *to = NULL;
    const char *given;
    int rc = find_document(call, "to", &to, err);
    if (rc == 0 && ramet_call_query(call, "from", &given, NULL) == 0)
        rc = find_document(call, "from", &from, err);
    else if (rc == 0)
        rc = find_previous(call, to, &from, err);
    return rc < 0 ? rc : ramet_tools_diff(from, to, ret, err);
}

/* ---- calls ---- */

/* What a server's error comes to: the Error object, with the server's own beside it as "rpc", whole. */
static char *error_text(const struct ramet_rpc_answer *answer, struct ramet_error *err)
{
    static const char *const names[] = {"code", "message", NULL};
    struct ramet_span parts[2];
    char *text = NULL;
    if (ramet_scan_object(answer->error.at, answer->error.size, names, parts, err) < 0)
        return NULL;
    bool quoted = parts[1].at && *parts[1].at == '"';
    if (asprintf(&text,
                 "{\"error\":{\"code\":\"remote\",\"message\":\"MCP error %.*s: %.*s\",\"hint\":\"\",\"rpc\":%.*s}}",
                 parts[0].at && parts[0].size < 32 ? (int)parts[0].size : 1, parts[0].at ? parts[0].at : "?",
                 quoted ? (int)parts[1].size - 2 : 0, quoted ? parts[1].at + 1 : "", (int)answer->error.size,
                 answer->error.at) < 0)
        return NULL;
    return text;
}

int ramet_route_tool_call(const struct ramet_call *call, char **ret, struct ramet_error *err)
{
    struct ramet_rpc_answer answer = {0};
    uint64_t timeout_ms = 0;
    int rc = ramet_call_query_u64(call, "timeout_ms", 1, wait_max_ms, &timeout_ms, err);
    if (rc == 0)
        rc =
            ramet_tools_call(tools_of(call), call->param, call->param2, call->body, (unsigned)timeout_ms, &answer, err);
    if (rc < 0)
        return rc;
    if (answer.error.at)
        *call->ret_status = ramet_code_http(RAMET_REMOTE);
    *ret = answer.error.at ? error_text(&answer, err) : strndup(answer.result.at, answer.result.size);
    ramet_rpc_answer_free(&answer);
    return *ret ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a tool's answer");
}
