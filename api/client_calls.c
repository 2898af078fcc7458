/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The typed calls: requests into JSON, answers out of it. Answers are read leniently,
 * member by member from a table, so that a daemon may add members.
 */
#include "ramet.h"

#include "base/cleanup.h"
#include "base64.h"
#include "json.h"
#include "wire.h"

#include <stdio.h>
#include <string.h>

/* ---- answers ---- */

enum kind { STRING, U64, I64, INT, BOOL };

struct field {
    const char *key;
    enum kind kind;
    size_t offset, size;
};

#define FIELD(kind, type, member)                                                                                      \
    {                                                                                                                  \
#member, kind, offsetof(struct type, member), sizeof(((struct type *)0)->member)                               \
    }

static void read_fields(const struct ramet_json *object, const struct field *fields, size_t count, void *to)
{
    for (const struct field *f = fields; f < fields + count; f++) {
        void *at = (char *)to + f->offset;
        switch (f->kind) {
        case STRING: snprintf(at, f->size, "%s", ramet_json_str(object, f->key, "")); break;
        case U64: *(uint64_t *)at = (uint64_t)ramet_json_int(object, f->key, 0); break;
        case I64: *(int64_t *)at = ramet_json_int(object, f->key, 0); break;
        case INT: *(int *)at = (int)ramet_json_int(object, f->key, 0); break;
        case BOOL: *(bool *)at = ramet_json_bool(object, f->key, false); break;
        }
    }
}

#define READ(object, fields, to) read_fields(object, fields, sizeof(fields) / sizeof *(fields), to)

static const struct field status_fields[] = {
    FIELD(STRING, ramet_client_status, version), FIELD(INT, ramet_client_status, pid),
    FIELD(STRING, ramet_client_status, store),   FIELD(STRING, ramet_client_status, socket),
    FIELD(STRING, ramet_client_status, mount),   FIELD(U64, ramet_client_status, sandboxes),
    FIELD(U64, ramet_client_status, snapshots),
};

static const struct field sandbox_fields[] = {
    FIELD(STRING, ramet_client_sandbox, id),
    FIELD(STRING, ramet_client_sandbox, name),
    FIELD(STRING, ramet_client_sandbox, state),
    FIELD(STRING, ramet_client_sandbox, reason),
    FIELD(STRING, ramet_client_sandbox, base),
    FIELD(STRING, ramet_client_sandbox, parent),
    FIELD(STRING, ramet_client_sandbox, last_snapshot),
    FIELD(U64, ramet_client_sandbox, memory_bytes),
    FIELD(U64, ramet_client_sandbox, cpus),
    FIELD(INT, ramet_client_sandbox, pid),
    FIELD(I64, ramet_client_sandbox, created_ms),
    FIELD(U64, ramet_client_sandbox, pss_bytes),
    FIELD(U64, ramet_client_sandbox, private_bytes),
    FIELD(U64, ramet_client_sandbox, disk_bytes),
};

static const struct field snapshot_fields[] = {
    FIELD(STRING, ramet_client_snapshot, id),          FIELD(STRING, ramet_client_snapshot, parent),
    FIELD(STRING, ramet_client_snapshot, sandbox),     FIELD(BOOL, ramet_client_snapshot, durable),
    FIELD(BOOL, ramet_client_snapshot, has_memory),    FIELD(U64, ramet_client_snapshot, memory_bytes),
    FIELD(U64, ramet_client_snapshot, disk_bytes),     FIELD(U64, ramet_client_snapshot, state_bytes),
    FIELD(U64, ramet_client_snapshot, cpus),           FIELD(I64, ramet_client_snapshot, created_ms),
    FIELD(U64, ramet_client_snapshot, captured_pages), FIELD(U64, ramet_client_snapshot, stored_bytes),
};

static const struct field timing_fields[] = {
    FIELD(U64, ramet_client_timing, pause_us),
    FIELD(U64, ramet_client_timing, total_us),
};

static const struct field started_fields[] = {
    FIELD(U64, ramet_client_started, running_us),
    FIELD(U64, ramet_client_started, answer_us),
};

static const struct field exec_fields[] = {
    FIELD(INT, ramet_client_exec_result, exit_code),
    FIELD(INT, ramet_client_exec_result, signal),
    {"stdout_truncated", BOOL, offsetof(struct ramet_client_exec_result, out_truncated), sizeof(bool)},
    {"stderr_truncated", BOOL, offsetof(struct ramet_client_exec_result, err_truncated), sizeof(bool)},
};

static void read_snapshot(const struct ramet_json *object, struct ramet_client_snapshot *to)
{
    const struct ramet_json *tags = ramet_json_get(object, "tags");
    memset(to, 0, sizeof *to);
    READ(object, snapshot_fields, to);
    for (size_t i = 0; i < RAMET_CLIENT_TAGS && i < ramet_json_count(tags); i++) {
        const char *tag = ramet_json_string_value(ramet_json_at(tags, i));
        snprintf(to->tags[i], sizeof to->tags[i], "%s", tag ? tag : "");
    }
}

static void read_started(const struct ramet_json *object, struct ramet_client_started *to)
{
    READ(ramet_json_get(object, "sandbox"), sandbox_fields, &to->sandbox);
    READ(ramet_json_get(object, "timing"), started_fields, to);
}

/* ---- a call ---- */

/* Makes one call on prefix/ref/suffix; takes over `body`, which may be NULL. *ret_answer is owned by the caller. */
static int call(struct ramet_client *client, const char *method, const char *const path[static 3],
                struct ramet_json *body, struct ramet_json **ret_answer, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *request = body;
    _autofree_ char *full = ramet_client_path(path[0], path[1], path[2]);
    _autofree_ char *text = ramet_json_text(request);
    _autofree_ char *answer = NULL;
    if (!full || (request && !text))
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a call");
    int rc = ramet_client_call(client, method, full, text, NULL, &answer, err);
    if (rc == 0)
        rc = ramet_json_parse(answer, strlen(answer), ret_answer, err);
    return rc;
}

#define PATH(prefix, ref, suffix) ((const char *const[3]){prefix, ref, suffix})

static void set_string(struct ramet_json *body, const char *key, const char *value)
{
    if (value)
        ramet_json_set_string(body, key, value);
}

static void set_u64(struct ramet_json *body, const char *key, uint64_t value)
{
    if (value)
        ramet_json_set_u64(body, key, value);
}

int ramet_client_get_status(struct ramet_client *client, struct ramet_client_status *ret, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    int rc = call(client, "GET", PATH("/v1/status", "", ""), NULL, &answer, err);
    if (rc == 0)
        READ(answer, status_fields, ret);
    return rc;
}

/* ---- run and restore ---- */

static struct ramet_json *run_body(const struct ramet_client_run *request)
{
    struct ramet_json *body = ramet_json_object();
    set_string(body, "name", request->name);
    set_u64(body, "memory_bytes", request->memory_bytes);
    set_u64(body, "cpus", request->cpus);
    set_u64(body, "wait_ms", request->wait_ms);
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
    set_string(body, "snapshot", request->snapshot);
    int rc = call(client, "POST", PATH("/v1/sandboxes", "", ""), body, &answer, err);
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
    int rc =
        call(client, "POST", PATH("/v1/snapshots/", request->snapshot, "/restore"), run_body(request), &answer, err);
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
    set_string(body, "tag", request->tag);
    ramet_json_set_bool(body, "wait_durable", request->wait_durable);
    ramet_json_set_bool(body, "wait_answer", !request->no_answer_wait);
    set_u64(body, "wait_ms", request->wait_ms);
    return body;
}

int ramet_client_fork(struct ramet_client *client, const char *sandbox, const struct ramet_client_fork *request,
                      struct ramet_client_fork_result *ret, struct ramet_error *err)
{
    static const struct ramet_client_fork defaults;
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    int rc = call(client, "POST", PATH("/v1/sandboxes/", sandbox, "/fork"), fork_body(request ? request : &defaults),
                  &answer, err);
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
    READ(ramet_json_get(answer, "timing"), timing_fields, &ret->timing);
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
    set_u64(body, "timeout_ms", request->timeout_ms);
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
    int rc = call(client, "POST", PATH("/v1/sandboxes/", sandbox, "/exec"), exec_body(request), &answer, err);
    if (rc == 0)
        rc = ramet_wire_get_bytes(answer, "stdout", &result.out, &result.out_size, err);
    if (rc == 0)
        rc = ramet_wire_get_bytes(answer, "stderr", &result.err, &result.err_size, err);
    if (rc < 0)
        return rc;
    READ(answer, exec_fields, &result);
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
    set_string(body, "tag", tag);
    int rc = call(client, "POST", PATH("/v1/sandboxes/", sandbox, "/snapshot"), body, &answer, err);
    if (rc < 0)
        return rc;
    read_snapshot(ramet_json_get(answer, "snapshot"), ret);
    ret->unchanged = ramet_json_bool(answer, "unchanged", false);
    if (ret_timing)
        READ(ramet_json_get(answer, "timing"), timing_fields, ret_timing);
    return 0;
}

static int change(struct ramet_client *client, const char *sandbox, const char *verb, struct ramet_client_sandbox *ret,
                  struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    int rc = call(client, "POST", PATH("/v1/sandboxes/", sandbox, verb), ramet_json_object(), &answer, err);
    if (rc == 0 && ret)
        READ(answer, sandbox_fields, ret);
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
    set_string(body, "snapshot", request->snapshot);
    ramet_json_set_bool(body, "wait_answer", !request->no_answer_wait);
    set_u64(body, "wait_ms", request->wait_ms);
    int rc = call(client, "POST", PATH("/v1/sandboxes/", sandbox, "/rollback"), body, &answer, err);
    if (rc == 0)
        read_started(answer, ret);
    return rc;
}

static int remove_one(struct ramet_client *client, const char *prefix, const char *ref, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    return call(client, "DELETE", PATH(prefix, ref, ""), NULL, &answer, err);
}

int ramet_client_remove_sandbox(struct ramet_client *client, const char *sandbox, struct ramet_error *err)
{
    return remove_one(client, "/v1/sandboxes/", sandbox, err);
}

int ramet_client_remove_snapshot(struct ramet_client *client, const char *snapshot, struct ramet_error *err)
{
    return remove_one(client, "/v1/snapshots/", snapshot, err);
}
