/* SPDX-License-Identifier: Apache-2.0 */
/* Reading of request bodies. What a name may look like, or a memory size, is the service's to judge. */
#include "routes_body.h"

#include "base/cleanup.h"
#include "base64.h"
#include "json.h"

#include <string.h>

#define MEMORY_MIN_BYTES (UINT64_C(1) << 20)
#define MEMORY_MAX_BYTES (UINT64_C(1) << 44)
#define CPUS_MAX 256
#define WAIT_MAX_MS 86400000u
#define RATE_MIN (UINT64_C(1) << 16) /* a frame is read as a whole */
#define RATE_MAX (UINT64_C(1) << 44)

static int want_unsigned(const struct ramet_json *body, const char *key, unsigned min, unsigned max, unsigned *ret,
                         struct ramet_error *err)
{
    uint64_t value = *ret;
    int rc = ramet_json_want_u64(body, key, min, max, &value, err);
    *ret = (unsigned)value;
    return rc;
}

static int want_absolute(const struct ramet_json *body, const char *key, const char **ret, struct ramet_error *err)
{
    int rc = ramet_json_want_string(body, key, ret, err);
    if (rc == 0 && *ret && **ret != '/')
        rc = ramet_error_set(err, RAMET_INVALID, "\"%s\" must be an absolute path, not \"%.200s\"", key, *ret);
    return rc;
}

static int missing(const char *key, struct ramet_error *err)
{
    return ramet_error_set(err, RAMET_INVALID, "\"%s\" is missing", key);
}

/* The strings of an array member, NULL-terminated; absent gives NULL. Owned by the caller, the strings borrowed. */
static int want_strings(const struct ramet_json *body, const char *key, const char ***ret, size_t *ret_count,
                        struct ramet_error *err)
{
    const struct ramet_json *array = ramet_json_get(body, key);
    if (!array)
        return 0;
    size_t count = ramet_json_is_array(array) ? ramet_json_count(array) : 0;
    if (count == 0)
        return ramet_error_set(err, RAMET_INVALID, "\"%s\" must be an array of strings, not empty", key);
    _autofree_ const char **strings = calloc(count + 1, sizeof *strings);
    if (!strings)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for \"%s\"", key);
    for (size_t i = 0; i < count; i++) {
        strings[i] = ramet_json_string_value(ramet_json_at(array, i));
        if (!strings[i])
            return ramet_error_set(err, RAMET_INVALID, "\"%s\"[%zu] must be a string", key, i);
    }
    *ret = STEAL(strings);
    *ret_count = count;
    return 0;
}

/* ---- run and restore ---- */

int ramet_run_body(const struct ramet_json *body, const char *snapshot, struct ramet_run_request *ret,
                   unsigned *ret_count, struct ramet_error *err)
{
    static const char *const run_keys[] = {"name", "memory_bytes", "cpus", "wait_ms", "snapshot", NULL};
    static const char *const restore_keys[] = {"name", "memory_bytes", "cpus", "wait_ms", "count", NULL};
    struct ramet_run_request request = {.snapshot = snapshot};
    unsigned count = 1;
    int rc = ramet_json_want_only(body, snapshot ? restore_keys : run_keys, err);
    if (rc == 0 && !snapshot)
        rc = ramet_json_want_string(body, "snapshot", &request.snapshot, err);
    if (rc == 0)
        rc = ramet_json_want_string(body, "name", &request.name, err);
    if (rc == 0)
        rc = ramet_json_want_u64(body, "memory_bytes", MEMORY_MIN_BYTES, MEMORY_MAX_BYTES, &request.memory_bytes, err);
    if (rc == 0)
        rc = want_unsigned(body, "cpus", 1, CPUS_MAX, &request.cpus, err);
    if (rc == 0)
        rc = want_unsigned(body, "wait_ms", 1, WAIT_MAX_MS, &request.wait_ms, err);
    if (rc == 0)
        rc = want_unsigned(body, "count", 1, RAMET_FORK_MAX, &count, err);
    if (rc == 0 && count > 1 && request.name)
        rc = ramet_error_set(err, RAMET_INVALID, "\"name\" names one sandbox, \"count\" asks for %u", count);
    if (rc < 0)
        return rc;
    *ret = request;
    *ret_count = count;
    return 0;
}

/* ---- fork ---- */

static int read_names(const struct ramet_json *body, struct ramet_fork_request *request, const char ***ret,
                      struct ramet_error *err)
{
    size_t named = 0;
    int rc = want_strings(body, "names", ret, &named, err);
    if (rc < 0 || !*ret)
        return rc;
    if (!ramet_json_get(body, "count") && named <= RAMET_FORK_MAX)
        request->count = (unsigned)named;
    if (named != request->count)
        return ramet_error_set(err, RAMET_INVALID, "\"names\" has %zu names for %u children", named, request->count);
    return 0;
}

int ramet_fork_body(const struct ramet_json *body, struct ramet_fork_request *ret, struct ramet_error *err)
{
    static const char *const keys[] = {"count", "names", "tag", "wait_durable", "wait_answer", "wait_ms", NULL};
    struct ramet_fork_request request = {.count = 1};
    _autofree_ const char **names = NULL;
    bool wait_answer = true;
    int rc = ramet_json_want_only(body, keys, err);
    if (rc == 0)
        rc = want_unsigned(body, "count", 1, RAMET_FORK_MAX, &request.count, err);
    if (rc == 0)
        rc = read_names(body, &request, &names, err);
    if (rc == 0)
        rc = ramet_json_want_string(body, "tag", &request.tag, err);
    if (rc == 0)
        rc = ramet_json_want_bool(body, "wait_durable", &request.wait_durable, err);
    if (rc == 0)
        rc = ramet_json_want_bool(body, "wait_answer", &wait_answer, err);
    if (rc == 0)
        rc = want_unsigned(body, "wait_ms", 1, WAIT_MAX_MS, &request.wait_ms, err);
    if (rc < 0)
        return rc;
    request.no_answer_wait = !wait_answer;
    request.names = STEAL(names);
    *ret = request;
    return 0;
}

/* ---- rollback ---- */

int ramet_rollback_body(const struct ramet_json *body, struct ramet_rollback_request *ret, struct ramet_error *err)
{
    static const char *const keys[] = {"snapshot", "wait_answer", "wait_ms", NULL};
    struct ramet_rollback_request request = {0};
    bool wait_answer = true;
    int rc = ramet_json_want_only(body, keys, err);
    if (rc == 0)
        rc = ramet_json_want_string(body, "snapshot", &request.snapshot, err);
    if (rc == 0 && !request.snapshot)
        rc = ramet_error_set(err, RAMET_INVALID, "\"snapshot\" is missing");
    if (rc == 0)
        rc = ramet_json_want_bool(body, "wait_answer", &wait_answer, err);
    if (rc == 0)
        rc = want_unsigned(body, "wait_ms", 1, WAIT_MAX_MS, &request.wait_ms, err);
    if (rc < 0)
        return rc;
    request.no_answer_wait = !wait_answer;
    *ret = request;
    return 0;
}

/* ---- exec ---- */

/* One allocation: the pointers, then the "KEY=VALUE" strings they point to. */
static int join_env(const struct ramet_json *env, size_t text_size, const char *const **ret, struct ramet_error *err)
{
    size_t count = ramet_json_count(env);
    const char **list = malloc((count + 1) * sizeof *list + text_size);
    if (!list)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for \"env\"");
    char *text = (char *)(list + count + 1);
    void *iter = NULL;
    const char *key;
    const struct ramet_json *value;
    for (size_t i = 0; ramet_json_next(env, &iter, &key, &value); i++) {
        list[i] = text;
        text = stpcpy(stpcpy(stpcpy(text, key), "="), ramet_json_string_value(value)) + 1;
    }
    list[count] = NULL;
    *ret = list;
    return 0;
}

static int read_env(const struct ramet_json *body, const char *const **ret, struct ramet_error *err)
{
    const struct ramet_json *env = ramet_json_get(body, "env"), *value;
    void *iter = NULL;
    const char *key;
    size_t text_size = 0;
    if (!env)
        return 0;
    if (!ramet_json_is_object(env))
        return ramet_error_set(err, RAMET_INVALID, "\"env\" must be an object of strings");
    while (ramet_json_next(env, &iter, &key, &value)) {
        const char *text = ramet_json_string_value(value);
        if (!text || !*key || strchr(key, '='))
            return ramet_error_set(err, RAMET_INVALID, "\"env\": \"%.100s\" is no variable with a string value", key);
        text_size += strlen(key) + strlen(text) + 2;
    }
    return join_env(env, text_size, ret, err);
}

static int read_input(const struct ramet_json *body, struct ramet_exec_body *out, struct ramet_error *err)
{
    const char *text = NULL, *base64 = NULL;
    int rc = ramet_json_want_string(body, "stdin", &text, err);
    if (rc == 0)
        rc = ramet_json_want_string(body, "stdin_base64", &base64, err);
    if (rc < 0)
        return rc;
    if (text && base64)
        return ramet_error_set(err, RAMET_INVALID, "\"stdin\" and \"stdin_base64\" exclude each other");
    if (base64) {
        if (ramet_base64_decode(base64, &out->input, &out->request.input_size, err) < 0)
            return ramet_error_prefix(err, "\"stdin_base64\"");
        out->request.input = out->input;
    } else if (text) {
        out->request.input = text;
        out->request.input_size = strlen(text);
    }
    return 0;
}

int ramet_exec_body(const struct ramet_json *body, struct ramet_exec_body *ret, struct ramet_error *err)
{
    static const char *const keys[] = {"argv", "env", "stdin", "stdin_base64", "timeout_ms", NULL};
    size_t count = 0;
    const char **argv = NULL;
    int rc = ramet_json_want_only(body, keys, err);
    if (rc == 0)
        rc = want_strings(body, "argv", &argv, &count, err);
    ret->request.argv = argv;
    if (rc == 0 && !argv)
        rc = missing("argv", err);
    if (rc == 0)
        rc = read_env(body, &ret->request.env, err);
    if (rc == 0)
        rc = read_input(body, ret, err);
    if (rc == 0)
        rc = want_unsigned(body, "timeout_ms", 1, WAIT_MAX_MS, &ret->request.timeout_ms, err);
    return rc;
}

void ramet_exec_body_free(struct ramet_exec_body *body)
{
    free((void *)body->request.argv);
    free((void *)body->request.env);
    free(body->input);
}

/* ---- import and export ---- */

int ramet_import_body(const struct ramet_json *body, struct ramet_import_request *ret, struct ramet_error *err)
{
    static const char *const keys[] = {"tag",   "disk",         "kernel", "initrd", "cmdline", "memory",
                                       "state", "memory_bytes", "cpus",   "parent", NULL};
    struct ramet_import_request request = {0};
    const struct {
        const char *key, **to;
    } files[] = {{"disk", &request.disk},
                 {"kernel", &request.kernel},
                 {"initrd", &request.initrd},
                 {"memory", &request.memory},
                 {"state", &request.state}};
    int rc = ramet_json_want_only(body, keys, err);
    for (size_t i = 0; rc == 0 && i < sizeof files / sizeof *files; i++)
        rc = want_absolute(body, files[i].key, files[i].to, err);
    if (rc == 0)
        rc = ramet_json_want_string(body, "tag", &request.tag, err);
    if (rc == 0)
        rc = ramet_json_want_string(body, "cmdline", &request.cmdline, err);
    if (rc == 0)
        rc = ramet_json_want_string(body, "parent", &request.parent, err);
    if (rc == 0)
        rc = ramet_json_want_u64(body, "memory_bytes", MEMORY_MIN_BYTES, MEMORY_MAX_BYTES, &request.memory_bytes, err);
    if (rc == 0)
        rc = want_unsigned(body, "cpus", 1, CPUS_MAX, &request.cpus, err);
    if (rc == 0)
        *ret = request;
    return rc;
}

int ramet_export_body(const struct ramet_json *body, struct ramet_export_request *ret, struct ramet_error *err)
{
    static const char *const keys[] = {"image", "path", "format", NULL};
    struct ramet_export_request request = {.format = "raw"};
    int rc = ramet_json_want_only(body, keys, err);
    if (rc == 0)
        rc = ramet_json_want_string(body, "image", &request.image, err);
    if (rc == 0)
        rc = want_absolute(body, "path", &request.path, err);
    if (rc == 0)
        rc = ramet_json_want_string(body, "format", &request.format, err);
    if (rc == 0 && !request.image)
        rc = missing("image", err);
    if (rc == 0 && !request.path)
        rc = missing("path", err);
    if (rc == 0)
        *ret = request;
    return rc;
}

/* ---- the store ---- */

int ramet_scrub_body(const struct ramet_json *body, struct ramet_job_request *ret, struct ramet_error *err)
{
    static const char *const keys[] = {"bytes_per_second", "restart", NULL};
    struct ramet_job_request request = {.kind = RAMET_JOB_SCRUB};
    int rc = ramet_json_want_only(body, keys, err);
    if (rc == 0)
        rc = ramet_json_want_u64(body, "bytes_per_second", RATE_MIN, RATE_MAX, &request.bytes_per_second, err);
    if (rc == 0)
        rc = ramet_json_want_bool(body, "restart", &request.restart, err);
    if (rc == 0)
        *ret = request;
    return rc;
}

int ramet_recompress_body(const struct ramet_json *body, struct ramet_job_request *ret, struct ramet_error *err)
{
    static const char *const keys[] = {"level", "threads", NULL};
    struct ramet_job_request request = {.kind = RAMET_JOB_RECOMPRESS};
    unsigned level = 0;
    int rc = ramet_json_want_only(body, keys, err);
    if (rc == 0)
        rc = want_unsigned(body, "level", 1, RAMET_LEVEL_MAX, &level, err);
    if (rc == 0)
        rc = want_unsigned(body, "threads", 1, RAMET_JOB_THREADS_MAX, &request.threads, err);
    if (rc < 0)
        return rc;
    request.level = (int)level;
    *ret = request;
    return 0;
}

int ramet_fsck_body(const struct ramet_json *body, bool *ret_repair, struct ramet_error *err)
{
    static const char *const keys[] = {"repair", NULL};
    bool repair = false;
    int rc = ramet_json_want_only(body, keys, err);
    if (rc == 0)
        rc = ramet_json_want_bool(body, "repair", &repair, err);
    if (rc == 0)
        *ret_repair = repair;
    return rc;
}

/* ---- the small ones ---- */

int ramet_string_body(const struct ramet_json *body, const char *key, bool required, const char **ret,
                      struct ramet_error *err)
{
    const char *const keys[] = {key, NULL};
    const char *value = NULL;
    int rc = ramet_json_want_only(body, keys, err);
    if (rc == 0)
        rc = ramet_json_want_string(body, key, &value, err);
    if (rc == 0 && required && !value)
        rc = missing(key, err);
    if (rc == 0)
        *ret = value;
    return rc;
}

int ramet_empty_body(const struct ramet_json *body, struct ramet_error *err)
{
    static const char *const none[] = {NULL};
    return ramet_json_want_only(body, none, err);
}
