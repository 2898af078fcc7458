/* SPDX-License-Identifier: Apache-2.0 */
/* One table of tools, and the few shapes that differ from the API's. No state but the definitions. */
#include "mcp/ramet_tools.h"

#include "audit.h"
#include "base/cleanup.h"
#include "gate.h"
#include "json.h"
#include "policy.h"
#include "policy_source.h"

#include <stdio.h>
#include <string.h>

__asm__(".pushsection .rodata\n"
        "ramet_mcp_tools_json:\n"
        ".incbin \"" RAMET_MCP_TOOLS_FILE "\"\n"
        ".byte 0\n"
        ".popsection\n");
extern const char ramet_mcp_tools_json[] __attribute__((visibility("hidden")));

struct ramet_mcp_tools {
    const struct ramet_router *router;
    struct ramet_gate *gate;
    struct ramet_json *definitions; /* the array */
};

/* How an answer of the API becomes the tool's. */
enum shape {
    SHAPE_AS_IS,
    SHAPE_SANDBOX,   /* the sandbox itself: {"sandbox": it} */
    SHAPE_STARTED,   /* {"sandbox", "timing"}: without the timing */
    SHAPE_CHILDREN,  /* lists of {"sandbox", "timing"}: of sandboxes */
    SHAPE_WORKSPACE, /* {"workspace": it} */
};

static const struct tool {
    const char *name, *operation;
    const char *param;    /* the argument that is the path's parameter */
    const char *query[2]; /* arguments that are the query's */
    enum shape shape;
} tools[] = {
    {"list", "listSandboxes", NULL, {NULL}, SHAPE_AS_IS},
    {"show", "getSandbox", "ref", {NULL}, SHAPE_SANDBOX},
    {"run", "runSandbox", NULL, {NULL}, SHAPE_STARTED},
    {"fork", "forkSandbox", "sandbox", {NULL}, SHAPE_CHILDREN},
    {"exec", "execInSandbox", "sandbox", {NULL}, SHAPE_AS_IS},
    {"snapshot", "snapshotSandbox", "sandbox", {NULL}, SHAPE_STARTED},
    {"restore", "restoreSnapshot", "snapshot", {NULL}, SHAPE_CHILDREN},
    {"rollback", "rollBackSandbox", "sandbox", {NULL}, SHAPE_STARTED},
    {"diff", "diffSnapshots", NULL, {"from", "to"}, SHAPE_AS_IS},
    {"pause", "pauseSandbox", "sandbox", {NULL}, SHAPE_SANDBOX},
    {"resume", "resumeSandbox", "sandbox", {NULL}, SHAPE_SANDBOX},
    {"remove", "removeSandbox", "sandbox", {NULL}, SHAPE_AS_IS},
    {"remove_snapshot", "removeSnapshot", "snapshot", {NULL}, SHAPE_AS_IS},
    {"workspace_list", "listWorkspaces", NULL, {NULL}, SHAPE_AS_IS},
    {"workspace_create", "createWorkspace", NULL, {NULL}, SHAPE_WORKSPACE},
    {"workspace_fork", "forkWorkspace", "workspace", {NULL}, SHAPE_WORKSPACE},
    {"workspace_snapshot", "snapshotWorkspace", "workspace", {NULL}, SHAPE_AS_IS},
    {"workspace_rollback", "rollBackWorkspace", "workspace", {NULL}, SHAPE_AS_IS},
    {"workspace_diff", "diffWorkspace", "workspace", {"against"}, SHAPE_AS_IS},
    {"workspace_promote", "promoteWorkspace", "workspace", {NULL}, SHAPE_WORKSPACE},
    {"workspace_remove", "removeWorkspace", "workspace", {NULL}, SHAPE_AS_IS},
    {"search_tools", "searchTools", NULL, {"words"}, SHAPE_AS_IS},
};

static const struct tool *find_tool(const char *name)
{
    for (size_t i = 0; i < sizeof tools / sizeof *tools; i++)
        if (strcmp(tools[i].name, name) == 0)
            return &tools[i];
    return NULL;
}

static const struct ramet_json *definition(const struct ramet_mcp_tools *t, const char *name)
{
    for (size_t i = 0; i < ramet_json_count(t->definitions); i++)
        if (strcmp(ramet_json_str(ramet_json_at(t->definitions, i), "name", ""), name) == 0)
            return ramet_json_at(t->definitions, i);
    return NULL;
}

/* ---- what the caller may use ---- */

static bool allowed(const struct ramet_mcp_tools *t, const struct ramet_principal *principal, const struct tool *tool)
{
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy = ramet_policy_source_get(ramet_gate_policies(t->gate));
    bool both = strcmp(tool->name, "list") == 0 || strcmp(tool->name, "show") == 0;
    if (ramet_policy_allows(policy, principal, tool->operation, NULL, NULL))
        return true;
    return both &&
           ramet_policy_allows(policy, principal, *tool->name == 'l' ? "listSnapshots" : "getSnapshot", NULL, NULL);
}

static struct ramet_json *list_tools(const struct ramet_mcp_tools *t, const struct ramet_mcp_call *call)
{
    struct ramet_json *o = ramet_json_object(), *list = ramet_json_array();
    for (size_t i = 0; i < ramet_json_count(t->definitions); i++) {
        const struct ramet_json *one = ramet_json_at(t->definitions, i);
        const struct tool *tool = find_tool(ramet_json_str(one, "name", ""));
        if (tool && allowed(t, call->principal, tool))
            ramet_json_append(list, ramet_json_copy(one));
    }
    ramet_json_set(o, "tools", list);
    return o;
}

/* A tool that there is not, or not for this caller: the same answer, and the audit knows. */
static int unknown_tool(const struct ramet_mcp_tools *t, const struct ramet_mcp_call *call, const char *name,
                        struct ramet_jsonrpc_error *error)
{
    char object[96];
    struct ramet_error err = {0};
    snprintf(object, sizeof object, "tool:ramet/%.80s", name);
    const struct ramet_audit_line line = {.principal = call->principal,
                                          .action = RAMET_ACTION_CALL_TOOL,
                                          .object = object,
                                          .reason = "no tool of that name that it may use",
                                          .server = "ramet",
                                          .tool = name,
                                          .client = call->origin->client,
                                          .session = call->origin->session,
                                          .trace = call->origin->trace,
                                          .method = call->origin->method,
                                          .protocol = call->origin->protocol,
                                          .request_id = call->origin->request_id,
                                          .error = "denied"};
    if (ramet_audit_add(ramet_gate_audit(t->gate), &line, true, NULL, &err) < 0)
        return ramet_jsonrpc_fail(error, RAMET_JSONRPC_INTERNAL, 0, "%s", err.msg);
    return ramet_jsonrpc_fail(error, RAMET_JSONRPC_INVALID_PARAMS, 0, "Unknown tool: %.100s", name);
}

/* ---- results ---- */

static struct ramet_json *result_of(struct ramet_json *structured, const char *text, bool is_error)
{
    struct ramet_json *o = ramet_json_object(), *content = ramet_json_array(), *item = ramet_json_object();
    ramet_json_set_string(item, "type", "text");
    ramet_json_set_string(item, "text", text);
    ramet_json_append(content, item);
    ramet_json_set(o, "content", content);
    if (structured)
        ramet_json_set(o, "structuredContent", structured);
    if (is_error)
        ramet_json_set_bool(o, "isError", true);
    return o;
}

static struct ramet_json *error_result(const struct ramet_error *err)
{
    char text[sizeof err->msg + sizeof err->hint + 64];
    snprintf(text, sizeof text, "%s: %s%s%s", ramet_code_name(err->code), err->msg, *err->hint ? "; " : "", err->hint);
    return result_of(NULL, text, true);
}

/* Takes over `structured`. */
static struct ramet_json *good_result(struct ramet_json *structured)
{
    _autofree_ char *text = ramet_json_text(structured);
    return result_of(structured, text ? text : "", false);
}

static struct ramet_json *wrap(const char *key, struct ramet_json *value)
{
    struct ramet_json *o = ramet_json_object();
    ramet_json_set(o, key, value);
    return o;
}

static void unwrap_list(struct ramet_json *answer, const char *key)
{
    const struct ramet_json *list = ramet_json_get(answer, key);
    if (!list)
        return;
    struct ramet_json *plain = ramet_json_array();
    for (size_t i = 0; i < ramet_json_count(list); i++)
        ramet_json_append(plain, ramet_json_copy(ramet_json_get(ramet_json_at(list, i), "sandbox")));
    ramet_json_set(answer, key, plain);
}

/* Takes over `answer`. */
static struct ramet_json *shaped(const struct tool *tool, struct ramet_json *answer)
{
    switch (tool->shape) {
    case SHAPE_AS_IS: break;
    case SHAPE_SANDBOX: return wrap("sandbox", answer);
    case SHAPE_WORKSPACE: return wrap("workspace", answer);
    case SHAPE_CHILDREN:
        unwrap_list(answer, "children");
        unwrap_list(answer, "sandboxes");
        ramet_json_remove(answer, "timing");
        break;
    case SHAPE_STARTED: ramet_json_remove(answer, "timing"); break;
    }
    return answer;
}

/* ---- calls ---- */

/* The body of the operation: the arguments that are nothing else. "command" is a line for the shell. */
static struct ramet_json *body_of(const struct tool *tool, const struct ramet_json *arguments)
{
    struct ramet_json *body = arguments ? ramet_json_copy(arguments) : ramet_json_object();
    const char *command = ramet_json_str(body, "command", NULL);
    if (tool->param)
        ramet_json_remove(body, tool->param);
    if (strcmp(tool->name, "exec") == 0 && command && !ramet_json_get(body, "argv")) {
        struct ramet_json *argv = ramet_json_array();
        ramet_json_append(argv, ramet_json_string("/bin/sh"));
        ramet_json_append(argv, ramet_json_string("-c"));
        ramet_json_append(argv, ramet_json_string(command));
        ramet_json_remove(body, "command");
        ramet_json_set(body, "argv", argv);
    }
    return body;
}

/* Arguments that the definition does not have, or lacks. The operation checks the rest. */
static int check_arguments(const struct ramet_json *definition, const struct ramet_json *arguments,
                           struct ramet_error *err)
{
    const struct ramet_json *schema = ramet_json_get(definition, "inputSchema"), *value;
    const struct ramet_json *required = ramet_json_get(schema, "required");
    const char *key;
    void *iter = NULL;
    for (size_t i = 0; i < ramet_json_count(required); i++) {
        key = ramet_json_string_value(ramet_json_at(required, i));
        const char *text = ramet_json_str(arguments, key, NULL);
        if (!text || !*text)
            return ramet_error_set(err, RAMET_INVALID, "argument \"%s\" is missing or no string", key);
    }
    while (arguments && ramet_json_next(arguments, &iter, &key, &value))
        if (!ramet_json_get(ramet_json_get(schema, "properties"), key))
            return ramet_error_set(err, RAMET_INVALID, "there is no argument \"%.80s\"", key);
    return 0;
}

static int call_operation(const struct ramet_mcp_tools *t, const struct ramet_mcp_call *call, const struct tool *tool,
                          const char *operation, const struct ramet_json *arguments, struct ramet_json **ret,
                          struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *body = body_of(tool, arguments);
    struct ramet_inner_call inner = {.operation = operation,
                                     .principal = call->principal,
                                     .origin = call->origin,
                                     .param = tool->param ? ramet_json_str(arguments, tool->param, "") : NULL,
                                     .body = body};
    size_t count = 0;
    for (size_t i = 0; i < 2 && tool->query[i]; i++) {
        const char *value = ramet_json_str(arguments, tool->query[i], NULL);
        if (value) {
            inner.query[count].name = tool->query[i];
            inner.query[count++].value = value;
        }
    }
    return ramet_router_call(t->router, &inner, ret, err);
}

/* Both lists, each where it may be seen. */
static int call_list(const struct ramet_mcp_tools *t, const struct ramet_mcp_call *call, const struct tool *tool,
                     struct ramet_json **ret, struct ramet_error *err)
{
    static const struct {
        const char *operation, *member;
    } lists[] = {{"listSandboxes", "sandboxes"}, {"listSnapshots", "snapshots"}};
    struct ramet_json *o = ramet_json_object();
    for (size_t i = 0; i < 2; i++) {
        _cleanup_(ramet_json_cleanup) struct ramet_json *one = NULL;
        int rc = call_operation(t, call, tool, lists[i].operation, NULL, &one, err);
        if (rc < 0 && rc != -RAMET_DENIED) {
            ramet_json_free(o);
            return rc;
        }
        const struct ramet_json *list = ramet_json_get(one, lists[i].member);
        ramet_json_set(o, lists[i].member, list ? ramet_json_copy(list) : ramet_json_array());
    }
    *ret = o;
    return 0;
}

static int call_show(const struct ramet_mcp_tools *t, const struct ramet_mcp_call *call, const struct tool *tool,
                     const struct ramet_json *arguments, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_json *answer = NULL;
    int rc = call_operation(t, call, tool, "getSandbox", arguments, &answer, err);
    if (rc == -RAMET_DENIED || rc == -RAMET_NOT_FOUND) {
        rc = call_operation(t, call, tool, "getSnapshot", arguments, &answer, err);
        if (rc == 0)
            *ret = wrap("snapshot", answer);
    } else if (rc == 0) {
        *ret = wrap("sandbox", answer);
    }
    return rc;
}

static int call_tool(const struct ramet_mcp_tools *t, const struct ramet_mcp_call *call, struct ramet_json **ret,
                     struct ramet_jsonrpc_error *error)
{
    const struct ramet_json *arguments = ramet_json_get(call->params, "arguments");
    const char *name = ramet_json_str(call->params, "name", NULL);
    const struct tool *tool = name ? find_tool(name) : NULL;
    struct ramet_error err = {0};
    struct ramet_json *answer = NULL;
    if (!name)
        return ramet_jsonrpc_fail(error, RAMET_JSONRPC_INVALID_PARAMS, 0, "\"name\" is missing");
    if (!tool || !allowed(t, call->principal, tool))
        return unknown_tool(t, call, name, error);
    if (arguments && !ramet_json_is_object(arguments))
        return ramet_jsonrpc_fail(error, RAMET_JSONRPC_INVALID_PARAMS, 0, "\"arguments\" must be an object");
    int rc = check_arguments(definition(t, name), arguments, &err);
    if (rc == 0 && strcmp(name, "list") == 0)
        rc = call_list(t, call, tool, &answer, &err);
    else if (rc == 0 && strcmp(name, "show") == 0)
        rc = call_show(t, call, tool, arguments, &answer, &err);
    else if (rc == 0) {
        rc = call_operation(t, call, tool, tool->operation, arguments, &answer, &err);
        answer = rc == 0 ? shaped(tool, answer) : NULL;
    }
    *ret = rc < 0 ? error_result(&err) : good_result(answer);
    return 0;
}

/* ---- the provider ---- */

static int answer(void *context, const struct ramet_mcp_call *call, struct ramet_json **ret,
                  struct ramet_jsonrpc_error *error)
{
    struct ramet_mcp_tools *t = context;
    if (strcmp(call->method, "tools/call") == 0)
        return call_tool(t, call, ret, error);
    if (strcmp(call->method, "tools/list") != 0)
        return ramet_jsonrpc_fail(error, RAMET_JSONRPC_NO_METHOD, 404, "no method \"%.80s\"", call->method);
    *ret = list_tools(t, call);
    return 0;
}

struct ramet_mcp_provider ramet_mcp_tools_provider(struct ramet_mcp_tools *t)
{
    return (struct ramet_mcp_provider){
        .context = t,
        .name = "ramet",
        .title = "Ramet",
        .version = RAMET_VERSION,
        .instructions =
            "Sandboxes are virtual machines that fork in milliseconds, memory and disks included. list shows "
            "what there is; exec runs a command in one; fork branches it as it is right now, so try things "
            "in children and remove those that failed; snapshot and rollback go back to a known state.",
        .capabilities = "{\"tools\":{}}",
        .answer = answer};
}

int ramet_mcp_tools_new(const struct ramet_router *router, struct ramet_gate *gate, struct ramet_mcp_tools **ret,
                        struct ramet_error *err)
{
    struct ramet_mcp_tools *t = calloc(1, sizeof *t);
    if (!t)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for an MCP server");
    t->router = router;
    t->gate = gate;
    int rc = ramet_json_parse(ramet_mcp_tools_json, strlen(ramet_mcp_tools_json), &t->definitions, err);
    if (rc < 0) {
        free(t);
        return rc;
    }
    *ret = t;
    return 0;
}

void ramet_mcp_tools_free(struct ramet_mcp_tools *t)
{
    if (!t)
        return;
    ramet_json_free(t->definitions);
    free(t);
}
