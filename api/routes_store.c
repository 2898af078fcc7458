/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/status, /v1/metrics and /v1/store: the daemon itself and what it keeps on disk. */
#include "base/cleanup.h"
#include "json.h"
#include "routes_body.h"
#include "routes_json.h"
#include "routes_table.h"

#include <unistd.h>

int ramet_route_status(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    const struct ramet_routes_context *context = call->context;
    size_t sandbox_count, snapshot_count;
    unsigned spares_made;
    (void)err;
    ramet_service_count(context->service, &sandbox_count, &snapshot_count);
    *ret = ramet_json_object();
    ramet_json_set_string(*ret, "version", RAMET_VERSION);
    ramet_json_set_i64(*ret, "pid", getpid());
    ramet_json_set_string(*ret, "store", context->store_dir);
    ramet_json_set_string(*ret, "socket", context->socket_path);
    ramet_json_set_string(*ret, "mount", context->mount_dir);
    ramet_json_set_string(*ret, "run_dir", context->run_dir);
    ramet_json_set_u64(*ret, "sandboxes", sandbox_count);
    ramet_json_set_u64(*ret, "snapshots", snapshot_count);
    ramet_json_set_u64(*ret, "spares", ramet_service_pool_count(context->service, &spares_made));
    ramet_json_set_u64(*ret, "spares_made", spares_made);
    return 0;
}

int ramet_route_metrics(const struct ramet_call *call, char **ret, struct ramet_error *err)
{
    return ramet_service_metrics(ramet_call_service(call), ret, err);
}

int ramet_route_store_stat(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_store_info info;
    int rc = ramet_service_store_stat(ramet_call_service(call), &info, err);
    if (rc == 0)
        *ret = ramet_store_json(&info);
    return rc;
}

int ramet_route_store_gc(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_gc_info info;
    int rc = ramet_empty_body(call->body, err);
    if (rc == 0)
        rc = ramet_service_store_gc(ramet_call_service(call), &info, err);
    if (rc == 0)
        *ret = ramet_gc_json(&info);
    return rc;
}

int ramet_route_store_fsck(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_fsck_info info;
    bool repair;
    int rc = ramet_fsck_body(call->body, &repair, err);
    if (rc == 0)
        rc = ramet_service_store_fsck(ramet_call_service(call), repair, &info, err);
    if (rc < 0)
        return rc;
    *ret = ramet_fsck_json(&info);
    free(info.report);
    return 0;
}

/* ---- background jobs ---- */

static int answer_job(const struct ramet_call *call, enum ramet_job_kind kind, struct ramet_json **ret,
                      struct ramet_error *err)
{
    struct ramet_job_info info;
    int rc = ramet_service_job_get(ramet_call_service(call), kind, &info, err);
    if (rc < 0)
        return rc;
    *ret = ramet_job_json(&info);
    free(info.report);
    return 0;
}

static int start_job(const struct ramet_call *call, const struct ramet_job_request *request, struct ramet_json **ret,
                     struct ramet_error *err)
{
    int rc = ramet_service_job_start(ramet_call_service(call), request, err);
    return rc < 0 ? rc : answer_job(call, request->kind, ret, err);
}

static int stop_job(const struct ramet_call *call, enum ramet_job_kind kind, struct ramet_json **ret,
                    struct ramet_error *err)
{
    ramet_service_job_stop(ramet_call_service(call), kind);
    return answer_job(call, kind, ret, err);
}

int ramet_route_scrub_start(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_job_request request;
    int rc = ramet_scrub_body(call->body, &request, err);
    return rc < 0 ? rc : start_job(call, &request, ret, err);
}

int ramet_route_scrub(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    return answer_job(call, RAMET_JOB_SCRUB, ret, err);
}

int ramet_route_scrub_stop(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    return stop_job(call, RAMET_JOB_SCRUB, ret, err);
}

int ramet_route_recompress_start(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_job_request request;
    int rc = ramet_recompress_body(call->body, &request, err);
    return rc < 0 ? rc : start_job(call, &request, ret, err);
}

int ramet_route_recompress(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    return answer_job(call, RAMET_JOB_RECOMPRESS, ret, err);
}

int ramet_route_recompress_stop(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    return stop_job(call, RAMET_JOB_RECOMPRESS, ret, err);
}
