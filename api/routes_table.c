/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every route of the daemon. openapi.yaml describes the same list; a test compares
 * it with what `rametd --routes` prints from here.
 */
#include "routes_table.h"
#include "gate.h"

__asm__(".pushsection .rodata\n"
        ".global ramet_openapi_yaml\n"
        ".type ramet_openapi_yaml, @object\n"
        "ramet_openapi_yaml:\n"
        ".incbin \"" RAMET_OPENAPI_FILE "\"\n"
        ".byte 0\n"
        ".size ramet_openapi_yaml, . - ramet_openapi_yaml\n"
        ".popsection\n");

static const char *const diff_query[] = {"from", "to", NULL};
static const char *const search_query[] = {"words", "limit", NULL};
static const char *const version_query[] = {"version", NULL};
static const char *const call_query[] = {"timeout_ms", NULL};
static const char *const audit_query[] = {"after", "limit", NULL};
static const char *const verify_query[] = {"from", NULL};
static const char *const state_query[] = {"state", NULL};
static const char *const import_query[] = {"name", "uid", "gid", "quota_bytes", "quota_inodes", NULL};
static const char *const import_into_query[] = {"into", NULL};
static const char *const export_query[] = {"path", "state", NULL};
static const char *const workspace_diff_query[] = {"against", "patch", NULL};

/* clang-format off */
#define GET(path, operation, handler) {"GET", path, operation, handler, 200, false, NULL, NULL, NULL, NULL, NULL, NULL, false}
#define GET_QUERY(path, operation, handler, query) {"GET", path, operation, handler, 200, false, query, NULL, NULL, NULL, NULL, NULL, false}
#define GET_TEXT(path, operation, text, type) {"GET", path, operation, NULL, 200, false, NULL, text, NULL, type, NULL, NULL, false}
#define GET_MADE(path, operation, write, type) {"GET", path, operation, NULL, 200, false, NULL, NULL, write, type, NULL, NULL, false}
#define POST(path, operation, handler) {"POST", path, operation, handler, 200, true, NULL, NULL, NULL, NULL, NULL, NULL, false}
#define CREATE(path, operation, handler) {"POST", path, operation, handler, 201, true, NULL, NULL, NULL, NULL, NULL, NULL, false}
#define START(path, operation, handler) {"POST", path, operation, handler, 202, true, NULL, NULL, NULL, NULL, NULL, NULL, false}
#define CALL(path, operation, write, query) {"POST", path, operation, NULL, 200, true, query, NULL, write, "application/json", NULL, NULL, false}
#define PUT(path, operation, handler) {"PUT", path, operation, handler, 200, true, NULL, NULL, NULL, NULL, NULL, NULL, false}
#define DELETE_QUERY(path, operation, handler, query) {"DELETE", path, operation, handler, 200, false, query, NULL, NULL, NULL, NULL, NULL, false}
#define DELETE(path, operation, handler) {"DELETE", path, operation, handler, 200, false, NULL, NULL, NULL, NULL, NULL, NULL, false}
#define RAW(method, path, operation, handler) {method, path, operation, NULL, 200, false, NULL, NULL, NULL, NULL, handler, NULL, false}
#define STREAM_IN(method, path, operation, handler, status, query) {method, path, operation, handler, status, false, query, NULL, NULL, NULL, NULL, NULL, true}
#define STREAM_OUT(path, operation, stream, type, query) {"GET", path, operation, NULL, 200, false, query, NULL, NULL, type, NULL, stream, false}
/* clang-format on */

static const struct ramet_route routes[] = {
    GET("/v1/status", "getStatus", ramet_route_status),
    GET("/v1/tree", "getTree", ramet_route_tree),
    GET_MADE("/v1/metrics", "getMetrics", ramet_route_metrics, "text/plain; version=0.0.4; charset=utf-8"),

    GET("/v1/sandboxes", "listSandboxes", ramet_route_sandboxes),
    CREATE("/v1/sandboxes", "runSandbox", ramet_route_run),
    GET("/v1/sandboxes/{sandbox}", "getSandbox", ramet_route_sandbox),
    DELETE("/v1/sandboxes/{sandbox}", "removeSandbox", ramet_route_sandbox_remove),
    CREATE("/v1/sandboxes/{sandbox}/fork", "forkSandbox", ramet_route_fork),
    POST("/v1/sandboxes/{sandbox}/exec", "execInSandbox", ramet_route_exec),
    CREATE("/v1/sandboxes/{sandbox}/snapshot", "snapshotSandbox", ramet_route_snapshot_take),
    POST("/v1/sandboxes/{sandbox}/rollback", "rollBackSandbox", ramet_route_rollback),
    POST("/v1/sandboxes/{sandbox}/promote", "promoteSandbox", ramet_route_promote),
    POST("/v1/sandboxes/{sandbox}/pause", "pauseSandbox", ramet_route_pause),
    POST("/v1/sandboxes/{sandbox}/resume", "resumeSandbox", ramet_route_resume),

    GET("/v1/snapshots", "listSnapshots", ramet_route_snapshots),
    CREATE("/v1/snapshots/import", "importSnapshot", ramet_route_import),
    GET("/v1/snapshots/{snapshot}", "getSnapshot", ramet_route_snapshot),
    DELETE("/v1/snapshots/{snapshot}", "removeSnapshot", ramet_route_snapshot_remove),
    CREATE("/v1/snapshots/{snapshot}/restore", "restoreSnapshot", ramet_route_restore),
    POST("/v1/snapshots/{snapshot}/export", "exportImage", ramet_route_export),
    PUT("/v1/tags/{tag}", "setTag", ramet_route_tag),
    DELETE("/v1/tags/{tag}", "removeTag", ramet_route_untag),
    GET_QUERY("/v1/diff", "diffSnapshots", ramet_route_diff, diff_query),

    GET("/v1/workspaces", "listWorkspaces", ramet_route_workspaces),
    CREATE("/v1/workspaces", "createWorkspace", ramet_route_workspace_create),
    STREAM_IN("POST", "/v1/workspaces/import", "importWorkspace", ramet_route_workspace_import, 201, import_query),
    GET("/v1/workspaces/{workspace}", "getWorkspace", ramet_route_workspace),
    DELETE("/v1/workspaces/{workspace}", "removeWorkspace", ramet_route_workspace_remove),
    CREATE("/v1/workspaces/{workspace}/fork", "forkWorkspace", ramet_route_workspace_fork),
    CREATE("/v1/workspaces/{workspace}/snapshot", "snapshotWorkspace", ramet_route_workspace_snapshot),
    GET("/v1/workspaces/{workspace}/history", "getWorkspaceHistory", ramet_route_workspace_history),
    DELETE_QUERY("/v1/workspaces/{workspace}/history", "removeWorkspaceState", ramet_route_workspace_state_remove,
                 state_query),
    POST("/v1/workspaces/{workspace}/rollback", "rollBackWorkspace", ramet_route_workspace_rollback),
    POST("/v1/workspaces/{workspace}/promote", "promoteWorkspace", ramet_route_workspace_promote),
    POST("/v1/workspaces/{workspace}/rename", "renameWorkspace", ramet_route_workspace_rename),
    POST("/v1/workspaces/{workspace}/attach", "attachWorkspace", ramet_route_workspace_attach),
    POST("/v1/workspaces/{workspace}/quota", "setWorkspaceQuota", ramet_route_workspace_quota),
    POST("/v1/workspaces/{workspace}/audit", "setWorkspaceAudit", ramet_route_workspace_audit),
    GET_QUERY("/v1/workspaces/{workspace}/diff", "diffWorkspace", ramet_route_workspace_diff, workspace_diff_query),
    POST("/v1/workspaces/{workspace}/merge", "mergeWorkspace", ramet_route_workspace_merge),
    STREAM_IN("PUT", "/v1/workspaces/{workspace}/tar", "importIntoWorkspace", ramet_route_workspace_import_into, 200,
              import_into_query),
    STREAM_OUT("/v1/workspaces/{workspace}/tar", "exportWorkspace", ramet_route_workspace_export, "application/x-tar",
               export_query),
    POST("/v1/workspaces/{workspace}/sync", "syncWorkspace", ramet_route_workspace_sync),

    GET("/v1/store/stat", "getStoreStat", ramet_route_store_stat),
    POST("/v1/store/gc", "collectGarbage", ramet_route_store_gc),
    POST("/v1/store/fsck", "checkStore", ramet_route_store_fsck),
    START("/v1/store/scrub", "startScrub", ramet_route_scrub_start),
    GET("/v1/store/scrub", "getScrub", ramet_route_scrub),
    DELETE("/v1/store/scrub", "stopScrub", ramet_route_scrub_stop),
    START("/v1/store/recompress", "startRecompress", ramet_route_recompress_start),
    GET("/v1/store/recompress", "getRecompress", ramet_route_recompress),
    DELETE("/v1/store/recompress", "stopRecompress", ramet_route_recompress_stop),

    GET("/v1/principal", "getPrincipal", ramet_route_principal),
    GET("/v1/policy", "getPolicy", ramet_route_policy),
    POST("/v1/policy/reload", "reloadPolicy", ramet_route_policy_reload),
    GET_QUERY("/v1/audit", "getAudit", ramet_route_audit, audit_query),
    GET_QUERY("/v1/audit/verify", "verifyAudit", ramet_route_audit_verify, verify_query),

    GET("/v1/tools", "listServers", ramet_route_tool_servers),
    CREATE("/v1/tools", "addServer", ramet_route_tool_server_add),
    POST("/v1/tools/import", "importServers", ramet_route_tool_import),
    GET("/v1/tools/{server}", "getServer", ramet_route_tool_server),
    DELETE("/v1/tools/{server}", "removeServer", ramet_route_tool_server_remove),
    POST("/v1/tools/{server}/refresh", "refreshServer", ramet_route_tool_refresh),
    GET_QUERY("/v1/tools/{server}/document", "getToolsDocument", ramet_route_tool_document, version_query),
    GET_QUERY("/v1/tools/{server}/diff", "diffTools", ramet_route_tool_diff, diff_query),
    CALL("/v1/tools/{server}/{tool}/call", "callTool", ramet_route_tool_call, call_query),

    GET_QUERY("/v1/tool-search", "searchTools", ramet_route_tool_search, search_query),

    RAW("POST", "/mcp", "postMcp", ramet_route_mcp),
    RAW("DELETE", "/mcp", "endMcpSession", ramet_route_mcp),

    GET_TEXT("/openapi.yaml", "getOpenapi", ramet_openapi_yaml, "application/yaml"),
};

struct ramet_router ramet_routes(struct ramet_routes_context *context)
{
    return (struct ramet_router){.routes = routes,
                                 .count = sizeof routes / sizeof *routes,
                                 .context = context,
                                 .gate = context ? ramet_gate_for_router(context->gate) : NULL};
}
