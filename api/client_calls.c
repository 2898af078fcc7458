/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The typed calls: requests into JSON, answers out of it. Answers are read leniently,
 * member by member from a table, so that a daemon may add members.
 */
#include "ramet.h"

#include "base/cleanup.h"
#include "base64.h"
#include "client_fields.h"
#include "json.h"
#include "wire.h"

#include <stdio.h>
#include <string.h>

/* ---- answers ---- */

static const struct ramet_client_field status_fields[] = {
    RAMET_FIELD(STRING, ramet_client_status, version), RAMET_FIELD(INT, ramet_client_status, pid),
    RAMET_FIELD(STRING, ramet_client_status, store),   RAMET_FIELD(STRING, ramet_client_status, socket),
    RAMET_FIELD(STRING, ramet_client_status, mount),   RAMET_FIELD(U64, ramet_client_status, sandboxes),
    RAMET_FIELD(U64, ramet_client_status, snapshots),
};

static const struct ramet_client_field sandbox_fields[] = {
    RAMET_FIELD(STRING, ramet_client_sandbox, id),
    RAMET_FIELD(STRING, ramet_client_sandbox, name),
    RAMET_FIELD(STRING, ramet_client_sandbox, state),
    RAMET_FIELD(STRING, ramet_client_sandbox, reason),
    RAMET_FIELD(STRING, ramet_client_sandbox, base),
    RAMET_FIELD(STRING, ramet_client_sandbox, parent),
    RAMET_FIELD(STRING, ramet_client_sandbox, last_snapshot),
    RAMET_FIELD(U64, ramet_client_sandbox, memory_bytes),
    RAMET_FIELD(U64, ramet_client_sandbox, cpus),
    RAMET_FIELD(INT, ramet_client_sandbox, pid),
    RAMET_FIELD(I64, ramet_client_sandbox, created_ms),
    RAMET_FIELD(U64, ramet_client_sandbox, pss_bytes),
    RAMET_FIELD(U64, ramet_client_sandbox, private_bytes),
    RAMET_FIELD(U64, ramet_client_sandbox, disk_bytes),
};

static const struct ramet_client_field snapshot_fields[] = {
    RAMET_FIELD(STRING, ramet_client_snapshot, id),          RAMET_FIELD(STRING, ramet_client_snapshot, parent),
    RAMET_FIELD(STRING, ramet_client_snapshot, sandbox),     RAMET_FIELD(BOOL, ramet_client_snapshot, durable),
    RAMET_FIELD(BOOL, ramet_client_snapshot, has_memory),    RAMET_FIELD(U64, ramet_client_snapshot, memory_bytes),
    RAMET_FIELD(U64, ramet_client_snapshot, disk_bytes),     RAMET_FIELD(U64, ramet_client_snapshot, state_bytes),
    RAMET_FIELD(U64, ramet_client_snapshot, cpus),           RAMET_FIELD(I64, ramet_client_snapshot, created_ms),
    RAMET_FIELD(U64, ramet_client_snapshot, captured_pages), RAMET_FIELD(U64, ramet_client_snapshot, stored_bytes),
};

static const struct ramet_client_field timing_fields[] = {
    RAMET_FIELD(U64, ramet_client_timing, pause_us),
    RAMET_FIELD(U64, ramet_client_timing, total_us),
};

static const struct ramet_client_field started_fields[] = {
    RAMET_FIELD(U64, ramet_client_started, running_us),
    RAMET_FIELD(U64, ramet_client_started, answer_us),
};

static const struct ramet_client_field exec_fields[] = {
    RAMET_FIELD(INT, ramet_client_exec_result, exit_code),
    RAMET_FIELD(INT, ramet_client_exec_result, signal),
    {"stdout_truncated", BOOL, offsetof(struct ramet_client_exec_result, out_truncated), sizeof(bool)},
    {"stderr_truncated", BOOL, offsetof(struct ramet_client_exec_result, err_truncated), sizeof(bool)},
};

static void read_snapshot(const struct ramet_json *object, struct ramet_client_snapshot *to)
{
    const struct ramet_json *tags = ramet_json_get(object, "tags");
    memset(to, 0, sizeof *to);
    RAMET_READ(object, snapshot_fields, to);
    for (size_t i = 0; i < RAMET_CLIENT_TAGS && i < ramet_json_count(tags); i++) {
        const char *tag = ramet_json_string_value(ramet_json_at(tags, i));
        snprintf(to->tags[i], sizeof to->tags[i], "%s", tag ? tag : "");
    }
}

static void read_started(const struct ramet_json *object, struct ramet_client_started *to)
{
    RAMET_READ(ramet_json_get(object, "sandbox"), sandbox_fields, &to->sandbox);
    RAMET_READ(ramet_json_get(object, "timing"), started_fields, to);
}

int ramet_client_get_status(struct ramet_client *client, struct ramet_client_status *ret, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    int rc = ramet_client_ask(client, "GET", RAMET_PATH("/v1/status", "", ""), NULL, &answer, err);
    if (rc == 0)
        RAMET_READ(answer, status_fields, ret);
    return rc;
}

/* ---- run and restore ---- */

static struct ramet_json *run_body(const struct ramet_client_run *request)
{
    struct ramet_json *body = ramet_json_object();
    ramet_client_set_string(body, "name", request->name);
    ramet_client_set_u64(body, "memory_bytes", request->memory_bytes);
    ramet_client_set_u64(body, "cpus", request->cpus);
    ramet_client_set_u64(body, "wait_ms", request->wait_ms);
    return body;
}

int ramet_client_run(struct ramet_client *client, const struct ramet_client_run *request,
                     struct ramet_client_started *ret, struct ramet_error *err)
{
    static const struct ramet_client_run defaults;
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    if (!request)
        request = &defaults;
    struct ramet_json *body = run_body(request);
    ramet_client_set_string(body, "snapshot", request->snapshot);
    int rc = ramet_client_ask(client, "POST", RAMET_PATH("/v1/sandboxes", "", ""), body, &answer, err);
    if (rc == 0)
        read_started(answer, ret);
    return rc;
}

int ramet_client_restore(struct ramet_client *client, const struct ramet_client_run *request,
                         struct ramet_client_started *ret, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    if (!request || !request->snapshot)
        return ramet_error_set(err, RAMET_INVALID, "a restore needs a snapshot");
    int rc = ramet_client_ask(client, "POST", RAMET_PATH("/v1/snapshots/", request->snapshot, "/restore"),
                              run_body(request), &answer, err);
    if (rc == 0)
        read_started(ramet_json_at(ramet_json_get(answer, "sandboxes"), 0), ret);
    return rc;
}

/* ---- fork ---- */

static struct ramet_json *fork_body(const struct ramet_client_fork *request)
{
    unsigned count = request->count ? request->count : 1;
    struct ramet_json *body = ramet_json_object();
    ramet_json_set_u64(body, "count", count);
    if (request->names) {
        struct ramet_json *names = ramet_json_array();
        for (unsigned i = 0; i < count; i++)
            ramet_json_append(names, ramet_json_string(request->names[i]));
        ramet_json_set(body, "names", names);
    }
    ramet_client_set_string(body, "tag", request->tag);
    ramet_json_set_bool(body, "wait_durable", request->wait_durable);
    ramet_json_set_bool(body, "wait_answer", !request->no_answer_wait);
    ramet_client_set_u64(body, "wait_ms", request->wait_ms);
    return body;
}

int ramet_client_fork(struct ramet_client *client, const char *sandbox, const struct ramet_client_fork *request,
                      struct ramet_client_fork_result *ret, struct ramet_error *err)
{
    static const struct ramet_client_fork defaults;
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    int rc = ramet_client_ask(client, "POST", RAMET_PATH("/v1/sandboxes/", sandbox, "/fork"),
                              fork_body(request ? request : &defaults), &answer, err);
    if (rc < 0)
        return rc;
    const struct ramet_json *children = ramet_json_get(answer, "children");
    size_t count = ramet_json_count(children);
    struct ramet_client_started *started = calloc(count + 1, sizeof *started);
    if (!started)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for %zu children", count);
    for (size_t i = 0; i < count; i++)
        read_started(ramet_json_at(children, i), &started[i]);
    read_snapshot(ramet_json_get(answer, "snapshot"), &ret->snapshot);
    RAMET_READ(ramet_json_get(answer, "timing"), timing_fields, &ret->timing);
    ret->children = started;
    ret->count = count;
    return 0;
}

void ramet_client_fork_result_free(struct ramet_client_fork_result *result)
{
    free(result->children);
    memset(result, 0, sizeof *result);
}

/* ---- exec ---- */

static struct ramet_json *env_json(const char *const *env)
{
    struct ramet_json *object = ramet_json_object();
    for (; *env; env++) {
        size_t length = strcspn(*env, "=");
        _autofree_ char *key = strndup(*env, length);
        if (key)
            ramet_json_set_string(object, key, (*env)[length] ? *env + length + 1 : "");
    }
    return object;
}

static struct ramet_json *exec_body(const struct ramet_client_exec *request)
{
    struct ramet_json *body = ramet_json_object(), *argv = ramet_json_array();
    for (const char *const *arg = request->argv; *arg; arg++)
        ramet_json_append(argv, ramet_json_string(*arg));
    ramet_json_set(body, "argv", argv);
    if (request->env)
        ramet_json_set(body, "env", env_json(request->env));
    if (request->input_size) {
        _autofree_ char *base64 = ramet_base64_encode(request->input, request->input_size);
        ramet_json_set_string(body, "stdin_base64", base64);
    }
    ramet_client_set_u64(body, "timeout_ms", request->timeout_ms);
    return body;
}

int ramet_client_exec(struct ramet_client *client, const char *sandbox, const struct ramet_client_exec *request,
                      struct ramet_client_exec_result *ret, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    _cleanup_(ramet_client_exec_result_free) struct ramet_client_exec_result result = {0};
    for (const char *const *arg = request->argv; *arg; arg++)
        if (!ramet_utf8_text(*arg, strlen(*arg)))
            return ramet_error_set(err, RAMET_INVALID, "argument %td of the command is not UTF-8", arg - request->argv);
    int rc = ramet_client_ask(client, "POST", RAMET_PATH("/v1/sandboxes/", sandbox, "/exec"), exec_body(request),
                              &answer, err);
    if (rc == 0)
        rc = ramet_wire_get_bytes(answer, "stdout", &result.out, &result.out_size, err);
    if (rc == 0)
        rc = ramet_wire_get_bytes(answer, "stderr", &result.err, &result.err_size, err);
    if (rc < 0)
        return rc;
    RAMET_READ(answer, exec_fields, &result);
    *ret = result;
    memset(&result, 0, sizeof result);
    return 0;
}

void ramet_client_exec_result_free(struct ramet_client_exec_result *result)
{
    free(result->out);
    free(result->err);
    memset(result, 0, sizeof *result);
}

/* ---- snapshot, rollback, promote, pause, resume, remove ---- */

int ramet_client_snapshot(struct ramet_client *client, const char *sandbox, const char *tag,
                          struct ramet_client_snapshot *ret, struct ramet_client_timing *ret_timing,
                          struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    struct ramet_json *body = ramet_json_object();
    ramet_client_set_string(body, "tag", tag);
    int rc = ramet_client_ask(client, "POST", RAMET_PATH("/v1/sandboxes/", sandbox, "/snapshot"), body, &answer, err);
    if (rc < 0)
        return rc;
    read_snapshot(ramet_json_get(answer, "snapshot"), ret);
    ret->unchanged = ramet_json_bool(answer, "unchanged", false);
    if (ret_timing)
        RAMET_READ(ramet_json_get(answer, "timing"), timing_fields, ret_timing);
    return 0;
}

static int change(struct ramet_client *client, const char *sandbox, const char *verb, struct ramet_client_sandbox *ret,
                  struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    int rc = ramet_client_ask(client, "POST", RAMET_PATH("/v1/sandboxes/", sandbox, verb), ramet_json_object(), &answer,
                              err);
    if (rc == 0 && ret)
        RAMET_READ(answer, sandbox_fields, ret);
    return rc;
}

int ramet_client_pause(struct ramet_client *client, const char *sandbox, struct ramet_client_sandbox *ret,
                       struct ramet_error *err)
{
    return change(client, sandbox, "/pause", ret, err);
}

int ramet_client_resume(struct ramet_client *client, const char *sandbox, struct ramet_client_sandbox *ret,
                        struct ramet_error *err)
{
    return change(client, sandbox, "/resume", ret, err);
}

int ramet_client_promote(struct ramet_client *client, const char *sandbox, struct ramet_client_sandbox *ret,
                         struct ramet_error *err)
{
    return change(client, sandbox, "/promote", ret, err);
}

int ramet_client_rollback(struct ramet_client *client, const char *sandbox, const struct ramet_client_rollback *request,
                          struct ramet_client_started *ret, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    if (!request || !request->snapshot)
        return ramet_error_set(err, RAMET_INVALID, "a rollback needs a snapshot");
    struct ramet_json *body = ramet_json_object();
    ramet_client_set_string(body, "snapshot", request->snapshot);
    ramet_json_set_bool(body, "wait_answer", !request->no_answer_wait);
    ramet_client_set_u64(body, "wait_ms", request->wait_ms);
    int rc = ramet_client_ask(client, "POST", RAMET_PATH("/v1/sandboxes/", sandbox, "/rollback"), body, &answer, err);
    if (rc == 0)
        read_started(answer, ret);
    return rc;
}

static int remove_one(struct ramet_client *client, const char *prefix, const char *ref, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    return ramet_client_ask(client, "DELETE", RAMET_PATH(prefix, ref, ""), NULL, &answer, err);
}

int ramet_client_remove_sandbox(struct ramet_client *client, const char *sandbox, struct ramet_error *err)
{
    return remove_one(client, "/v1/sandboxes/", sandbox, err);
}

int ramet_client_remove_snapshot(struct ramet_client *client, const char *snapshot, struct ramet_error *err)
{
    return remove_one(client, "/v1/snapshots/", snapshot, err);
}
