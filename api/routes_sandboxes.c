/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/sandboxes: run, fork, exec and the rest of what is done to running machines. */
#include "base/cleanup.h"
#include "json.h"
#include "routes_body.h"
#include "routes_json.h"
#include "routes_table.h"

int ramet_route_sandboxes(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    _autofree_ struct ramet_sandbox_info *sandboxes = NULL;
    size_t count = 0;
    int rc = ramet_service_sandboxes(ramet_call_service(call), &sandboxes, &count, err);
    if (rc < 0)
        return rc;
    struct ramet_json *list = ramet_json_array();
    for (size_t i = 0; i < count; i++)
        ramet_json_append(list, ramet_sandbox_json(&sandboxes[i]));
    *ret = ramet_json_object();
    ramet_json_set(*ret, "sandboxes", list);
    return 0;
}

int ramet_route_run(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_run_request request;
    struct ramet_sandbox_info sandbox;
    struct ramet_child_timing timing = {0};
    unsigned count;
    int rc = ramet_run_body(call->body, NULL, &request, &count, err);
    if (rc == 0)
        rc = ramet_service_run(ramet_call_service(call), &request, &sandbox, &timing, err);
    if (rc == 0)
        *ret = ramet_started_json(&sandbox, &timing);
    return rc;
}

int ramet_route_sandbox(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_sandbox_info sandbox;
    int rc = ramet_service_sandbox_get(ramet_call_service(call), call->param, &sandbox, err);
    if (rc == 0)
        *ret = ramet_sandbox_json(&sandbox);
    return rc;
}

int ramet_route_sandbox_remove(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    int rc = ramet_service_sandbox_remove(ramet_call_service(call), call->param, err);
    if (rc == 0)
        *ret = ramet_done_json("removed", call->param);
    return rc;
}

int ramet_route_fork(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_fork_request request = {0};
    struct ramet_fork_result result;
    int rc = ramet_fork_body(call->body, &request, err);
    if (rc < 0)
        return rc;
    rc = ramet_service_fork(ramet_call_service(call), call->param, &request, &result, err);
    free((void *)request.names);
    if (rc < 0)
        return rc;
    *ret = ramet_fork_json(&result);
    ramet_fork_result_free(&result);
    return 0;
}

int ramet_route_exec(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    _cleanup_(ramet_exec_body_free) struct ramet_exec_body body = {0};
    struct ramet_exec_result result;
    int rc = ramet_exec_body(call->body, &body, err);
    if (rc == 0)
        rc = ramet_service_exec(ramet_call_service(call), call->param, &body.request, &result, err);
    if (rc < 0)
        return rc;
    *ret = ramet_exec_json(&result);
    ramet_exec_result_free(&result);
    return 0;
}

int ramet_route_snapshot_take(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_snapshot_result result;
    const char *tag = NULL;
    int rc = ramet_string_body(call->body, "tag", false, &tag, err);
    if (rc == 0)
        rc = ramet_service_snapshot(ramet_call_service(call), call->param, tag, &result, err);
    if (rc < 0)
        return rc;
    *ret = ramet_taken_json(&result.snapshot, &result.timing);
    ramet_json_set_bool(*ret, "unchanged", result.unchanged);
    return 0;
}

int ramet_route_rollback(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_rollback_request request;
    struct ramet_sandbox_info sandbox;
    struct ramet_child_timing timing = {0};
    int rc = ramet_rollback_body(call->body, &request, err);
    if (rc == 0)
        rc = ramet_service_rollback(ramet_call_service(call), call->param, &request, &sandbox, &timing, err);
    if (rc == 0)
        *ret = ramet_started_json(&sandbox, &timing);
    return rc;
}

typedef int change_state(struct ramet_service *, const char *, struct ramet_sandbox_info *, struct ramet_error *);

static int change(const struct ramet_call *call, change_state *how, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_sandbox_info sandbox;
    int rc = ramet_empty_body(call->body, err);
    if (rc == 0)
        rc = how(ramet_call_service(call), call->param, &sandbox, err);
    if (rc == 0)
        *ret = ramet_sandbox_json(&sandbox);
    return rc;
}

int ramet_route_promote(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    return change(call, ramet_service_promote, ret, err);
}

int ramet_route_pause(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    return change(call, ramet_service_pause, ret, err);
}

int ramet_route_resume(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    return change(call, ramet_service_resume, ret, err);
}
