/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/snapshots, /v1/tags and /v1/diff: what lies in the store and how it comes and goes. */
#include "base/cleanup.h"
#include "json.h"
#include "routes_body.h"
#include "routes_json.h"
#include "routes_table.h"

int ramet_route_snapshots(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    _autofree_ struct ramet_snapshot_info *snapshots = NULL;
    size_t count = 0;
    int rc = ramet_service_snapshots(ramet_call_service(call), &snapshots, &count, err);
    if (rc < 0)
        return rc;
    struct ramet_json *list = ramet_json_array();
    for (size_t i = 0; i < count; i++)
        ramet_json_append(list, ramet_snapshot_json(&snapshots[i]));
    *ret = ramet_json_object();
    ramet_json_set(*ret, "snapshots", list);
    return 0;
}

static int answer_snapshot(const struct ramet_call *call, const char *ref, struct ramet_json **ret,
                           struct ramet_error *err)
{
    struct ramet_snapshot_info snapshot;
    int rc = ramet_service_snapshot_get(ramet_call_service(call), ref, &snapshot, err);
    if (rc == 0)
        *ret = ramet_snapshot_json(&snapshot);
    return rc;
}

int ramet_route_snapshot(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    return answer_snapshot(call, call->param, ret, err);
}

int ramet_route_snapshot_remove(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    int rc = ramet_service_snapshot_remove(ramet_call_service(call), call->param, err);
    if (rc == 0)
        *ret = ramet_done_json("removed", call->param);
    return rc;
}

/* ---- restore ---- */

/* All or none: when one cannot start, those before it go again. */
static int restore_all(struct ramet_service *service, const struct ramet_run_request *request, unsigned count,
                       struct ramet_json *list, struct ramet_error *err)
{
    _autofree_ struct ramet_sandbox_info *started = calloc(count, sizeof *started);
    if (!started)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for %u sandboxes", count);
    for (unsigned i = 0; i < count; i++) {
        struct ramet_child_timing timing = {0};
        int rc = ramet_service_run(service, request, &started[i], &timing, err);
        if (rc < 0) {
            while (i-- > 0)
                ramet_service_sandbox_remove(service, started[i].id, NULL);
            return rc;
        }
        ramet_json_append(list, ramet_started_json(&started[i], &timing));
    }
    return 0;
}

int ramet_route_restore(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_service *service = ramet_call_service(call);
    struct ramet_run_request request;
    unsigned count;
    int rc = ramet_run_body(call->body, call->param, &request, &count, err);
    if (rc == 0)
        rc = ramet_service_check_restorable(service, call->param, err);
    if (rc < 0)
        return rc;
    _cleanup_(ramet_json_cleanup) struct ramet_json *list = ramet_json_array();
    rc = restore_all(service, &request, count, list, err);
    if (rc < 0)
        return rc;
    *ret = ramet_json_object();
    ramet_json_set(*ret, "sandboxes", STEAL(list));
    return 0;
}

/* ---- in and out ---- */

int ramet_route_import(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_import_request request;
    struct ramet_snapshot_info snapshot;
    int rc = ramet_import_body(call->body, &request, err);
    if (rc == 0)
        rc = ramet_service_import(ramet_call_service(call), &request, &snapshot, err);
    if (rc == 0)
        *ret = ramet_snapshot_json(&snapshot);
    return rc;
}

int ramet_route_export(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_export_request request;
    struct ramet_export result;
    int rc = ramet_export_body(call->body, &request, err);
    if (rc == 0)
        rc = ramet_service_export(ramet_call_service(call), call->param, request.image, request.path, request.format,
                                  &result, err);
    if (rc < 0)
        return rc;
    *ret = ramet_json_object();
    ramet_json_set_string(*ret, "image", request.image);
    ramet_json_set_string(*ret, "path", request.path);
    ramet_json_set_string(*ret, "format", request.format);
    ramet_json_set_u64(*ret, "size_bytes", result.size_bytes);
    ramet_json_set_string(*ret, "sha256", result.sha256);
    return 0;
}

/* ---- tags and diff ---- */

int ramet_route_tag(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    const char *ref = NULL;
    int rc = ramet_string_body(call->body, "snapshot", true, &ref, err);
    if (rc == 0)
        rc = ramet_service_tag(ramet_call_service(call), ref, call->param, err);
    return rc < 0 ? rc : answer_snapshot(call, call->param, ret, err);
}

int ramet_route_untag(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    int rc = ramet_service_untag(ramet_call_service(call), call->param, err);
    if (rc == 0)
        *ret = ramet_done_json("removed", call->param);
    return rc;
}

int ramet_route_diff(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    const char *from = NULL, *to = NULL;
    struct ramet_diff diff;
    int rc = ramet_call_query(call, "from", &from, err);
    if (rc == 0)
        rc = ramet_call_query(call, "to", &to, err);
    if (rc == 0)
        rc = ramet_service_diff(ramet_call_service(call), from, to, &diff, err);
    if (rc == 0)
        *ret = ramet_diff_json(&diff);
    return rc;
}
