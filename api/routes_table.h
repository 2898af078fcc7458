/* SPDX-License-Identifier: Apache-2.0 */
/* The handlers behind the daemon's routes; each file of handlers holds one noun. */
#ifndef RAMET_API_ROUTES_TABLE_H
#define RAMET_API_ROUTES_TABLE_H

#include "routes.h"

/* routes_sandboxes.c */
ramet_route_handler ramet_route_sandboxes, ramet_route_run, ramet_route_sandbox, ramet_route_sandbox_remove;
ramet_route_handler ramet_route_fork, ramet_route_exec, ramet_route_snapshot_take, ramet_route_pause;
ramet_route_handler ramet_route_rollback, ramet_route_promote;
ramet_route_handler ramet_route_resume;

/* routes_snapshots.c */
ramet_route_handler ramet_route_snapshots, ramet_route_snapshot, ramet_route_snapshot_remove, ramet_route_restore;
ramet_route_handler ramet_route_import, ramet_route_export, ramet_route_tag, ramet_route_untag, ramet_route_diff;

/* routes_workspaces.c */
ramet_route_handler ramet_route_workspaces, ramet_route_workspace_create, ramet_route_workspace;
ramet_route_handler ramet_route_workspace_remove, ramet_route_workspace_fork, ramet_route_workspace_rename;
ramet_route_handler ramet_route_workspace_promote, ramet_route_workspace_attach, ramet_route_workspace_quota;
ramet_route_handler ramet_route_workspace_audit;
ramet_route_handler ramet_route_workspace_sync, ramet_route_workspace_snapshot, ramet_route_workspace_history;
ramet_route_handler ramet_route_workspace_state_remove, ramet_route_workspace_rollback, ramet_route_workspace_diff;
ramet_route_handler ramet_route_workspace_merge;

/* routes_workspace_tar.c */
ramet_route_handler ramet_route_workspace_import, ramet_route_workspace_import_into;
ramet_route_stream ramet_route_workspace_export;

/* routes_tree.c */
ramet_route_handler ramet_route_tree;

/* routes_store.c */
ramet_route_text ramet_route_metrics;
ramet_route_handler ramet_route_status, ramet_route_store_stat, ramet_route_store_gc, ramet_route_store_fsck;
ramet_route_handler ramet_route_scrub_start, ramet_route_scrub, ramet_route_scrub_stop;
ramet_route_handler ramet_route_recompress_start, ramet_route_recompress, ramet_route_recompress_stop;

/* routes_access.c */
ramet_route_handler ramet_route_principal, ramet_route_policy, ramet_route_policy_reload;
ramet_route_handler ramet_route_audit, ramet_route_audit_verify;
int ramet_route_mcp(const struct ramet_call *call, struct ramet_http_response *response, struct ramet_error *err);

/* routes_tool_search.c */
ramet_route_handler ramet_route_tool_search;
/* routes_tools.c */
ramet_route_handler ramet_route_tool_servers, ramet_route_tool_server_add, ramet_route_tool_import;
ramet_route_handler ramet_route_tool_server, ramet_route_tool_server_remove, ramet_route_tool_refresh;
ramet_route_handler ramet_route_tool_document, ramet_route_tool_diff;
ramet_route_text ramet_route_tool_call;

/* Who the call's files belong to (confine.h). */
struct ramet_confinement;
int ramet_call_confinement(const struct ramet_call *call, struct ramet_confinement *ret, struct ramet_error *err);
/* routes_workspaces.c: a workspace as JSON. */
struct ramet_workspace_view;
struct ramet_json *ramet_workspace_json(const struct ramet_workspace_view *workspace);

/* routes_table.c: openapi.yaml as text, embedded by the assembler. */
extern const char ramet_openapi_yaml[];

/* The service of a call to the daemon. */
static inline struct ramet_service *ramet_call_service(const struct ramet_call *call)
{
    return ((struct ramet_routes_context *)call->context)->service;
}

#endif
