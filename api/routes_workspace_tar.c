/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/workspaces/import and /v1/workspaces/{workspace}/tar: archives that are read and written as they go. */
#include "base/cleanup.h"
#include "confine.h"
#include "http_produce.h"
#include "json.h"
#include "routes_table.h"
#include "service_workspaces.h"

#include <string.h>

/* A query parameter that may be absent: *ret stays. */
static bool is_whole(void *request) { return ramet_http_body_whole(request); }

/* What any import has: the body, and whose its files are. */
static int begin(const struct ramet_call *call, struct ramet_workspace_import *ret, struct ramet_confinement *ret_who,
                 struct ramet_error *err)
{
    struct ramet_confinement who;
    int rc = ramet_call_confinement(call, &who, err);
    if (rc < 0)
        return rc;
    *ret = (struct ramet_workspace_import){.fd = call->request->body_fd,
                                           .confined = who.confined,
                                           .uid = who.known ? who.uid : 0,
                                           .gid = who.known ? who.gid : 0,
                                           .whole = is_whole,
                                           .context = (void *)call->request};
    *ret_who = who;
    return 0;
}

static struct ramet_json *import_json(const struct ramet_workspace_view *workspace,
                                      const struct ramet_workspace_imported *sums)
{
    struct ramet_json *o = ramet_workspace_json(workspace), *imported = ramet_json_object();
    ramet_json_set_u64(imported, "files", sums->files);
    ramet_json_set_u64(imported, "bytes", sums->bytes);
    ramet_json_set_u64(imported, "skipped", sums->skipped);
    ramet_json_set(o, "imported", imported);
    return o;
}

int ramet_route_workspace_import(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_workspace_import import;
    struct ramet_workspace_imported sums;
    struct ramet_workspace_view workspace;
    struct ramet_confinement who;
    const char *name = NULL;
    int rc = ramet_call_query(call, "name", &name, err);
    if (rc == 0)
        rc = begin(call, &import, &who, err);
    if (rc < 0)
        return rc;
    uint64_t uid = import.uid, gid;
    rc = ramet_call_query_u64(call, "uid", 0, UINT32_MAX - 1, &uid, err);
    gid = uid == import.uid ? import.gid : uid;
    if (rc == 0)
        rc = ramet_call_query_u64(call, "gid", 0, UINT32_MAX - 1, &gid, err);
    if (rc == 0)
        rc = ramet_confine_check(&who, (uint32_t)uid, (uint32_t)gid, err);
    if (rc == 0)
        rc = ramet_call_query_u64(call, "quota_bytes", 0, INT64_MAX, &import.quota_bytes, err);
    if (rc == 0)
        rc = ramet_call_query_u64(call, "quota_inodes", 0, INT64_MAX, &import.quota_inodes, err);
    import.uid = (uint32_t)uid;
    import.gid = (uint32_t)gid;
    if (rc == 0)
        rc = ramet_service_workspace_import(ramet_call_service(call), name, &import, &workspace, &sums, err);
    if (rc == 0)
        *ret = import_json(&workspace, &sums);
    return rc;
}

int ramet_route_workspace_import_into(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_workspace_import import;
    struct ramet_workspace_imported sums;
    struct ramet_workspace_view workspace;
    struct ramet_confinement who;
    int rc = begin(call, &import, &who, err);
    if (rc < 0)
        return rc;
    ramet_call_query(call, "into", &import.into, NULL); /* may be absent: the root */
    rc = ramet_service_workspace_import_into(ramet_call_service(call), call->param, &import, &workspace, &sums, err);
    if (rc == 0)
        *ret = import_json(&workspace, &sums);
    return rc;
}

/* ---- export ---- */

static int write_export(void *context, int fd, struct ramet_error *err)
{
    return ramet_workspace_export_write(context, fd, err);
}

static void free_export(void *context) { ramet_workspace_export_free(context); }

int ramet_route_workspace_export(const struct ramet_call *call, struct ramet_http_response *response,
                                 struct ramet_error *err)
{
    struct ramet_workspace_export *export = NULL;
    const char *path = "", *state = NULL;
    ramet_call_query(call, "path", &path, NULL); /* both may be absent */
    ramet_call_query(call, "state", &state, NULL);
    int rc = ramet_service_workspace_export(ramet_call_service(call), call->param, state, path, &export, err);
    if (rc < 0)
        return rc;
    const struct ramet_http_producer producer = {
        .write = write_export, .free = free_export, .context = export, .what = "export of a workspace"};
    return ramet_http_produce(&producer, response, err);
}
