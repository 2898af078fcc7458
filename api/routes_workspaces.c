/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/workspaces: trees of files that fork. */
#include "base/cleanup.h"
#include "confine.h"
#include "json.h"
#include "principal.h"
#include "routes_body.h"
#include "routes_json.h"
#include "routes_table.h"
#include "service_workspaces.h"

#include <string.h>

/* --- JSON --- */

struct ramet_json *ramet_workspace_json(const struct ramet_workspace_view *workspace)
{
    struct ramet_json *o = ramet_json_object();
    ramet_json_set_string(o, "id", workspace->id);
    ramet_json_set_string(o, "name", workspace->name);
    ramet_json_set_string(o, "parent", workspace->parent);
    ramet_json_set_string(o, "sandbox", workspace->sandbox);
    ramet_json_set_string(o, "path", workspace->path);
    ramet_json_set_u64(o, "used_bytes", workspace->used_bytes);
    ramet_json_set_u64(o, "inodes", workspace->inodes);
    ramet_json_set_u64(o, "quota_bytes", workspace->quota_bytes);
    ramet_json_set_u64(o, "quota_inodes", workspace->quota_inodes);
    ramet_json_set_bool(o, "audit_opens", workspace->audit_opens);
    ramet_json_set_u64(o, "uid", workspace->uid);
    ramet_json_set_u64(o, "gid", workspace->gid);
    ramet_json_set_i64(o, "created_ms", workspace->created_ms);
    return o;
}

static struct ramet_json *state_json(const struct ramet_workspace_state_view *state)
{
    struct ramet_json *o = ramet_json_object();
    ramet_json_set_string(o, "name", state->name);
    ramet_json_set_string(o, "path", state->path);
    ramet_json_set_i64(o, "created_ms", state->created_ms);
    return o;
}

/* --- bodies --- */

static int want_id(const struct ramet_json *body, const char *key, uint32_t *ret, struct ramet_error *err)
{
    uint64_t value = *ret;
    int rc = ramet_json_want_u64(body, key, 0, UINT32_MAX - 1, &value, err);
    *ret = (uint32_t)value;
    return rc;
}

static int want_quota(const struct ramet_json *body, uint64_t *bytes, uint64_t *inodes, struct ramet_error *err)
{
    int rc = ramet_json_want_u64(body, "quota_bytes", 0, INT64_MAX, bytes, err);
    return rc < 0 ? rc : ramet_json_want_u64(body, "quota_inodes", 0, INT64_MAX, inodes, err);
}

static int need(const char *value, const char *key, struct ramet_error *err)
{
    return value ? 0 : ramet_error_set(err, RAMET_INVALID, "\"%s\" is missing", key);
}

/* --- handlers --- */

int ramet_route_workspaces(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    _autofree_ struct ramet_workspace_view *all = NULL;
    size_t count = 0;
    int rc = ramet_service_workspaces(ramet_call_service(call), &all, &count, err);
    if (rc < 0)
        return rc;
    struct ramet_json *list = ramet_json_array();
    for (size_t i = 0; i < count; i++)
        ramet_json_append(list, ramet_workspace_json(&all[i]));
    *ret = ramet_json_object();
    ramet_json_set(*ret, "workspaces", list);
    return 0;
}

int ramet_route_workspace_create(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    static const char *const keys[] = {"name", "uid", "gid", "quota_bytes", "quota_inodes", "audit_opens", NULL};
    struct ramet_workspace_create_request request = {0};
    struct ramet_workspace_view workspace;
    struct ramet_confinement who = {0};
    int rc = ramet_json_want_only(call->body, keys, err);
    if (rc == 0)
        rc = ramet_call_confinement(call, &who, err);
    request.uid = who.known ? who.uid : 0;
    if (rc == 0)
        rc = ramet_json_want_string(call->body, "name", &request.name, err);
    if (rc == 0)
        rc = need(request.name, "name", err);
    if (rc == 0)
        rc = want_id(call->body, "uid", &request.uid, err);
    request.gid = who.known && request.uid == who.uid ? who.gid : request.uid;
    if (rc == 0)
        rc = need(who.known || ramet_json_get(call->body, "uid") ? "" : NULL, "uid", err);
    if (rc == 0)
        rc = want_id(call->body, "gid", &request.gid, err);
    if (rc == 0)
        rc = ramet_confine_check(&who, request.uid, request.gid, err);
    if (rc == 0)
        rc = want_quota(call->body, &request.quota_bytes, &request.quota_inodes, err);
    if (rc == 0)
        rc = ramet_json_want_bool(call->body, "audit_opens", &request.audit_opens, err);
    if (rc == 0)
        rc = ramet_service_workspace_create(ramet_call_service(call), &request, &workspace, err);
    if (rc == 0)
        *ret = ramet_workspace_json(&workspace);
    return rc;
}

int ramet_route_workspace(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_workspace_view workspace;
    int rc = ramet_service_workspace_get(ramet_call_service(call), call->param, &workspace, err);
    if (rc == 0)
        *ret = ramet_workspace_json(&workspace);
    return rc;
}

int ramet_route_workspace_remove(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    int rc = ramet_service_workspace_remove(ramet_call_service(call), call->param, err);
    if (rc == 0)
        *ret = ramet_done_json("removed", call->param);
    return rc;
}

int ramet_route_workspace_fork(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    static const char *const keys[] = {"name", "state", NULL};
    struct ramet_workspace_view workspace;
    const char *name = NULL, *state = NULL;
    int rc = ramet_json_want_only(call->body, keys, err);
    if (rc == 0)
        rc = ramet_json_want_string(call->body, "name", &name, err);
    if (rc == 0)
        rc = ramet_json_want_string(call->body, "state", &state, err);
    if (rc == 0)
        rc = need(name, "name", err);
    if (rc == 0)
        rc = ramet_service_workspace_fork(ramet_call_service(call), call->param, state, name, &workspace, err);
    if (rc == 0)
        *ret = ramet_workspace_json(&workspace);
    return rc;
}

int ramet_route_workspace_rename(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_workspace_view workspace;
    const char *name = NULL;
    int rc = ramet_string_body(call->body, "name", true, &name, err);
    if (rc == 0)
        rc = ramet_service_workspace_rename(ramet_call_service(call), call->param, name, &workspace, err);
    if (rc == 0)
        *ret = ramet_workspace_json(&workspace);
    return rc;
}

int ramet_route_workspace_promote(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_workspace_view workspace;
    int rc = ramet_empty_body(call->body, err);
    if (rc == 0)
        rc = ramet_service_workspace_promote(ramet_call_service(call), call->param, &workspace, err);
    if (rc == 0)
        *ret = ramet_workspace_json(&workspace);
    return rc;
}

int ramet_route_workspace_attach(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_workspace_view workspace;
    const char *sandbox = NULL;
    int rc = ramet_string_body(call->body, "sandbox", false, &sandbox, err);
    if (rc == 0)
        rc = ramet_service_workspace_attach(ramet_call_service(call), call->param, sandbox, &workspace, err);
    if (rc == 0)
        *ret = ramet_workspace_json(&workspace);
    return rc;
}

int ramet_route_workspace_quota(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    static const char *const keys[] = {"quota_bytes", "quota_inodes", NULL};
    struct ramet_workspace_view workspace;
    uint64_t bytes = 0, inodes = 0;
    int rc = ramet_json_want_only(call->body, keys, err);
    if (rc == 0)
        rc = want_quota(call->body, &bytes, &inodes, err);
    if (rc == 0)
        rc = ramet_service_workspace_quota(ramet_call_service(call), call->param, bytes, inodes, &workspace, err);
    if (rc == 0)
        *ret = ramet_workspace_json(&workspace);
    return rc;
}

int ramet_route_workspace_audit(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    static const char *const keys[] = {"opens", NULL};
    struct ramet_workspace_view workspace;
    bool opens = false;
    int rc = ramet_json_want_only(call->body, keys, err);
    if (rc == 0)
        rc = need(ramet_json_get(call->body, "opens") ? "" : NULL, "opens", err);
    if (rc == 0)
        rc = ramet_json_want_bool(call->body, "opens", &opens, err);
    if (rc == 0)
        rc = ramet_service_workspace_audit(ramet_call_service(call), call->param, opens, &workspace, err);
    if (rc == 0)
        *ret = ramet_workspace_json(&workspace);
    return rc;
}

int ramet_route_workspace_sync(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    int rc = ramet_empty_body(call->body, err);
    if (rc == 0)
        rc = ramet_service_workspace_sync(ramet_call_service(call), call->param, err);
    if (rc == 0)
        *ret = ramet_done_json("synced", call->param);
    return rc;
}

/* --- history --- */

int ramet_route_workspace_snapshot(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_workspace_state_view state;
    const char *name = NULL;
    int rc = ramet_string_body(call->body, "state", false, &name, err);
    if (rc == 0)
        rc = ramet_service_workspace_snapshot(ramet_call_service(call), call->param, name, &state, err);
    if (rc == 0)
        *ret = state_json(&state);
    return rc;
}

int ramet_route_workspace_history(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    _autofree_ struct ramet_workspace_state_view *states = NULL;
    size_t count = 0;
    int rc = ramet_service_workspace_history(ramet_call_service(call), call->param, &states, &count, err);
    if (rc < 0)
        return rc;
    struct ramet_json *list = ramet_json_array();
    for (size_t i = 0; i < count; i++)
        ramet_json_append(list, state_json(&states[i]));
    *ret = ramet_json_object();
    ramet_json_set(*ret, "states", list);
    return 0;
}

int ramet_route_workspace_state_remove(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    const char *state = NULL;
    int rc = ramet_call_query(call, "state", &state, err);
    if (rc == 0)
        rc = ramet_service_workspace_state_remove(ramet_call_service(call), call->param, state, err);
    if (rc == 0)
        *ret = ramet_done_json("removed", state);
    return rc;
}

int ramet_route_workspace_rollback(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_workspace_state_view before;
    const char *state = NULL;
    int rc = ramet_string_body(call->body, "state", true, &state, err);
    if (rc == 0)
        rc = ramet_service_workspace_rollback(ramet_call_service(call), call->param, state, &before, err);
    if (rc < 0)
        return rc;
    *ret = ramet_json_object();
    ramet_json_set(*ret, "before", state_json(&before));
    return 0;
}
