/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running a program in the guest: guest-exec starts it, guest-exec-status is asked until
 * it has ended and then returns everything it wrote.
 *
 * Polling begins at 1 ms and backs off to 50 ms: short commands answer quickly, long ones
 * leave the guest's CPU alone. Between polls nothing is locked, so other execs interleave.
 */
#include "vmm/guest_agent.h"

#include "base/cleanup.h"
#include "base64.h"
#include "vmm/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { FIRST_POLL_US = 1000, LAST_POLL_US = 50000, KILL_MS = 1000 };

static const char default_path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/* JSON carries UTF-8 only: refuses rather than changing the caller's bytes. */
static int append_text(struct ramet_json *array, const char *text, struct ramet_error *err)
{
    struct ramet_json *value = ramet_json_string(text);
    const char *kept = ramet_json_string_value(value);
    bool same = kept && strcmp(kept, text) == 0;
    ramet_json_append(array, value);
    return same ? 0 : ramet_error_set(err, RAMET_INVALID, "\"%s\" is not UTF-8, which the guest agent needs", text);
}

/* The agent replaces the whole environment when given one, so a PATH is always part of it. */
static int add_env(struct ramet_json *arguments, const char *const *env, struct ramet_error *err)
{
    struct ramet_json *list = ramet_json_array();
    bool has_path = false;
    int r = 0;
    for (; *env && r == 0; env++) {
        has_path = has_path || strncmp(*env, "PATH=", 5) == 0;
        r = append_text(list, *env, err);
    }
    if (!has_path && r == 0)
        r = append_text(list, default_path, err);
    ramet_json_set(arguments, "env", list);
    return r;
}

static int add_input(struct ramet_json *arguments, const void *input, size_t input_size, struct ramet_error *err)
{
    enum { INPUT_LIMIT = 16 << 20 };
    if (input_size > INPUT_LIMIT)
        return ramet_error_set(err, RAMET_TOO_LARGE, "%zu bytes of input; the guest agent takes %d", input_size,
                               INPUT_LIMIT);
    _autofree_ char *text = ramet_base64_encode(input, input_size);
    if (!text)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for %zu bytes of input", input_size);
    ramet_json_set_string(arguments, "input-data", text);
    return 0;
}

static int build_arguments(struct ramet_json *arguments, const char *const *argv, const char *const *env,
                           const void *input, size_t input_size, struct ramet_error *err)
{
    if (!argv[0] || !argv[0][0])
        return ramet_error_set(err, RAMET_INVALID, "no command to execute");
    struct ramet_json *list = ramet_json_array();
    ramet_json_set(arguments, "arg", list);
    int r = 0;
    for (const char *const *arg = argv + 1; *arg && r == 0; arg++)
        r = append_text(list, *arg, err);
    ramet_json_set_string(arguments, "path", argv[0]);
    ramet_json_set_bool(arguments, "capture-output", true);
    if (r == 0 && env)
        r = add_env(arguments, env, err);
    if (r == 0 && input_size > 0)
        r = add_input(arguments, input, input_size, err);
    return r;
}

static int start(struct ramet_agent *agent, const struct ramet_json *arguments, uint64_t deadline_us, int64_t *ret_pid,
                 struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    int r = ramet_agent_request(agent, "guest-exec", arguments, deadline_us, &answer, err);
    if (r < 0)
        return r;
    *ret_pid = ramet_json_int(answer, "pid", -1);
    return *ret_pid >= 0 ? 0 : ramet_error_set(err, RAMET_VMM, "the guest agent started a process without a pid");
}

/* Takes one stream of output out of the status; absent means empty. */
static int take_output(const struct ramet_json *status, const char *key, char **ret, size_t *ret_size,
                       struct ramet_error *err)
{
    struct ramet_error decode = {0};
    int r = ramet_base64_decode(ramet_json_str(status, key, ""), ret, ret_size, &decode);
    if (r == -RAMET_INVALID)
        return ramet_error_set(err, RAMET_VMM, "the guest sent garbage in %s: %s", key, decode.msg);
    if (r < 0 && err)
        *err = decode;
    return r;
}

static int take_result(const struct ramet_json *status, struct ramet_vm_exec_result *ret, struct ramet_error *err)
{
    struct ramet_vm_exec_result result = {
        .term_signal = (int)ramet_json_int(status, "signal", 0),
        .out_truncated = ramet_json_bool(status, "out-truncated", false),
        .err_truncated = ramet_json_bool(status, "err-truncated", false),
    };
    result.exit_code = result.term_signal ? -1 : (int)ramet_json_int(status, "exitcode", -1);
    int r = take_output(status, "out-data", &result.out, &result.out_size, err);
    if (r == 0)
        r = take_output(status, "err-data", &result.err, &result.err_size, err);
    if (r < 0)
        ramet_vm_exec_result_free(&result);
    else
        *ret = result;
    return r;
}

/* At first often, then less so, and never so often that answering takes the guest more time than is left to it. */
static uint64_t next_nap_us(uint64_t nap_us, uint64_t answer_us)
{
    uint64_t next_us = nap_us ? nap_us * 3 / 2 : FIRST_POLL_US;
    next_us = next_us > answer_us ? next_us : answer_us;
    return next_us < LAST_POLL_US ? next_us : LAST_POLL_US;
}

/* *ret is the final status, owned by the caller. */
static int await_exit(struct ramet_agent *agent, int64_t pid, uint64_t deadline_us, struct ramet_json **ret,
                      struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *arguments = ramet_json_object();
    ramet_json_set_i64(arguments, "pid", pid);
    for (uint64_t nap_us = 0;;) {
        _cleanup_(ramet_json_cleanup) struct ramet_json *status = NULL;
        uint64_t asked_us = ramet_now_us();
        int r = ramet_agent_request(agent, "guest-exec-status", arguments, deadline_us, &status, err);
        if (r < 0)
            return r;
        if (ramet_json_bool(status, "exited", false)) {
            *ret = STEAL(status);
            return 0;
        }
        uint64_t left_us = ramet_left_us(deadline_us);
        if (left_us == 0)
            return ramet_error_set(err, RAMET_TIMEOUT, "the command still runs");
        nap_us = next_nap_us(nap_us, ramet_now_us() - asked_us);
        ramet_sleep_us(nap_us < left_us ? nap_us : left_us);
    }
}

/* Best effort: a guest that cannot even run kill is reported as the timeout it already is. */
static void kill_in_guest(struct ramet_agent *agent, int64_t pid)
{
    char number[24];
    snprintf(number, sizeof number, "%lld", (long long)pid);
    const char *const argv[] = {"kill", "-KILL", number, NULL};
    uint64_t deadline_us = ramet_deadline_us(KILL_MS);
    _cleanup_(ramet_json_cleanup) struct ramet_json *arguments = ramet_json_object(), *status = NULL;
    int64_t killer;
    if (build_arguments(arguments, argv, NULL, NULL, 0, NULL) == 0 &&
        start(agent, arguments, deadline_us, &killer, NULL) == 0 &&
        await_exit(agent, killer, deadline_us, &status, NULL) == 0) {
        _cleanup_(ramet_json_cleanup) struct ramet_json *last = NULL;
        await_exit(agent, pid, deadline_us, &last, NULL); /* lets the agent forget the process */
    }
}

int ramet_agent_exec(struct ramet_agent *agent, const char *const *argv, const char *const *env, const void *input,
                     size_t input_size, unsigned timeout_ms, struct ramet_vm_exec_result *ret, struct ramet_error *err)
{
    uint64_t deadline_us = ramet_deadline_us(timeout_ms);
    _cleanup_(ramet_json_cleanup) struct ramet_json *arguments = ramet_json_object(), *status = NULL;
    int64_t pid = 0;
    int r = build_arguments(arguments, argv, env, input, input_size, err);
    if (r == 0)
        r = start(agent, arguments, deadline_us, &pid, err);
    if (r < 0)
        return ramet_error_prefix(err, "exec \"%s\"", argv[0] ? argv[0] : ""), r;
    r = await_exit(agent, pid, deadline_us, &status, err);
    if (r == -RAMET_TIMEOUT)
        kill_in_guest(agent, pid);
    if (r == 0)
        r = take_result(status, ret, err);
    return r < 0 ? (ramet_error_prefix(err, "exec \"%s\"", argv[0]), r) : 0;
}

void ramet_vm_exec_result_free(struct ramet_vm_exec_result *result)
{
    if (!result)
        return;
    free(result->out);
    free(result->err);
    result->out = result->err = NULL;
}

/*
 * By date(1): the agent's own guest-set-time also writes the hardware clock, and hwclock
 * waits up to a second for the right moment to do so.
 */
int ramet_agent_set_time(struct ramet_agent *agent, int64_t unix_ns, unsigned timeout_ms, struct ramet_error *err)
{
    char when[48];
    snprintf(when, sizeof when, "@%" PRId64 ".%09" PRId64, unix_ns / 1000000000, unix_ns % 1000000000);
    const char *argv[] = {"date", "-u", "-s", when, NULL};
    struct ramet_vm_exec_result result = {0};
    int r = ramet_agent_exec(agent, argv, NULL, NULL, 0, timeout_ms, &result, err);
    if (r == 0 && result.exit_code != 0)
        r = ramet_error_set(err, RAMET_UNSUPPORTED, "the guest cannot set its clock: %s",
                            result.err_size ? result.err : "date failed");
    ramet_vm_exec_result_free(&result);
    return r;
}
