/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the typed calls of the client library send what they are asked to and read
 * what they are answered, against a server whose answers are canned.
 */
#include "client_fixture.h"

static const char *const any_query[] = {"x", NULL};

#define ROUTE(method, path, body)                                                                                      \
    {                                                                                                                  \
        method, path, "any", answer, 200, body, any_query, NULL, NULL, NULL, NULL, NULL, false                         \
    }
static const struct ramet_route routes[] = {
    ROUTE("GET", "/v1/status", false),
    ROUTE("POST", "/v1/sandboxes", true),
    ROUTE("DELETE", "/v1/sandboxes/{s}", false),
    ROUTE("POST", "/v1/sandboxes/{s}/fork", true),
    ROUTE("POST", "/v1/sandboxes/{s}/exec", true),
    ROUTE("POST", "/v1/sandboxes/{s}/snapshot", true),
    ROUTE("POST", "/v1/sandboxes/{s}/rollback", true),
    ROUTE("POST", "/v1/sandboxes/{s}/promote", true),
    ROUTE("POST", "/v1/sandboxes/{s}/pause", true),
    ROUTE("POST", "/v1/sandboxes/{s}/resume", true),
    ROUTE("POST", "/v1/snapshots/{s}/restore", true),
    ROUTE("DELETE", "/v1/snapshots/{s}", false),
};

static int setup(void **state) { return client_setup(state, routes, sizeof routes / sizeof *routes); }

static void test_status(void **state)
{
    struct fixture *f = *state;
    struct ramet_client_status status;
    struct ramet_error err = {0};
    canned = "{\"version\":\"9.9\",\"pid\":5,\"store\":\"/s\",\"sandboxes\":3,\"new\":[1]}";
    check_ok(ramet_client_get_status(f->client, &status, &err));
    assert_string_equal(seen, "GET /v1/status -");
    assert_string_equal(status.version, "9.9");
    assert_int_equal(status.pid, 5);
    assert_int_equal(status.sandboxes, 3);
    assert_string_equal(status.mount, "");
}

static void test_run_and_restore(void **state)
{
    struct fixture *f = *state;
    struct ramet_client_started started;
    struct ramet_error err = {0};
    const struct ramet_client_run request = {.snapshot = "base", .name = "web", .memory_bytes = 1 << 28, .cpus = 2};
    canned = "{\"sandbox\":{\"id\":\"00000000000000ab\",\"name\":\"web\",\"state\":\"running\",\"cpus\":2,"
             "\"created_ms\":-1},\"timing\":{\"running_us\":7,\"answer_us\":8}}";
    check_ok(ramet_client_run(f->client, &request, &started, &err));
    assert_string_equal(
        seen, "POST /v1/sandboxes {\"name\":\"web\",\"memory_bytes\":268435456,\"cpus\":2,\"snapshot\":\"base\"}");
    assert_string_equal(started.sandbox.id, "00000000000000ab");
    assert_string_equal(started.sandbox.state, "running");
    assert_int_equal(started.sandbox.cpus, 2);
    assert_int_equal(started.sandbox.created_ms, -1);
    assert_int_equal(started.answer_us, 8);
    check_ok(ramet_client_run(f->client, NULL, &started, &err));
    assert_string_equal(seen, "POST /v1/sandboxes {}");
    check_fails(ramet_client_restore(f->client, NULL, &started, &err), RAMET_INVALID);
    canned = "{\"sandboxes\":[{\"sandbox\":{\"name\":\"again\"},\"timing\":{\"running_us\":9}}]}";
    check_ok(ramet_client_restore(f->client, &(struct ramet_client_run){.snapshot = "warm"}, &started, &err));
    assert_string_equal(seen, "POST /v1/snapshots/warm/restore {}");
    assert_string_equal(started.sandbox.name, "again");
    assert_int_equal(started.running_us, 9);
}

static void test_fork(void **state)
{
    struct fixture *f = *state;
    struct ramet_client_fork_result result;
    struct ramet_error err = {0};
    canned = "{\"snapshot\":{\"tags\":[\"t\",\"u\"],\"has_memory\":true},\"timing\":{\"pause_us\":4900},"
             "\"children\":[{\"sandbox\":{\"name\":\"a\"},\"timing\":{\"answer_us\":3}}]}";
    const char *const names[] = {"a", "b"};
    const struct ramet_client_fork request = {.count = 2, .names = names, .tag = "t", .no_answer_wait = true};
    check_ok(ramet_client_fork(f->client, "web", &request, &result, &err));
    assert_non_null(strstr(seen, "{\"count\":2,\"names\":[\"a\",\"b\"],\"tag\":\"t\","));
    assert_non_null(strstr(seen, "\"wait_answer\":false}"));
    ramet_client_fork_result_free(&result);
    check_ok(ramet_client_fork(f->client, "web", NULL, &result, &err));
    assert_string_equal(seen, "POST /v1/sandboxes/web/fork {\"count\":1,\"wait_durable\":false,\"wait_answer\":true}");
    assert_string_equal(result.snapshot.tags[1], "u");
    assert_string_equal(result.snapshot.tags[2], "");
    assert_true(result.snapshot.has_memory);
    assert_int_equal(result.timing.pause_us, 4900);
    assert_int_equal(result.count, 1);
    assert_string_equal(result.children[0].sandbox.name, "a");
    assert_int_equal(result.children[0].answer_us, 3);
    ramet_client_fork_result_free(&result);
    assert_null(result.children);
}

static void test_exec(void **state)
{
    struct fixture *f = *state;
    struct ramet_client_exec_result result;
    struct ramet_error err = {0};
    const char *const argv[] = {"cat", "-", NULL}, *const env[] = {"A=b=c", "EMPTY=", NULL};
    const char *const bad[] = {"echo", "\xff", NULL};
    const struct ramet_client_exec request = {
        .argv = argv, .env = env, .input = "\0\1", .input_size = 2, .timeout_ms = 5};
    canned = "{\"exit_code\":-1,\"signal\":9,\"stdout\":\"AAEC\",\"stdout_encoding\":\"base64\",\"stderr\":\"x\","
             "\"stderr_encoding\":\"utf-8\",\"stderr_truncated\":true}";
    check_ok(ramet_client_exec(f->client, "web", &request, &result, &err));
    assert_string_equal(seen, "POST /v1/sandboxes/web/exec {\"argv\":[\"cat\",\"-\"],\"env\":{\"A\":\"b=c\",\"EMPTY\":"
                              "\"\"},\"stdin_base64\":\"AAE=\",\"timeout_ms\":5}");
    assert_int_equal(result.exit_code, -1);
    assert_int_equal(result.signal, 9);
    assert_int_equal(result.out_size, 3);
    assert_memory_equal(result.out, "\0\1\2", 3);
    assert_string_equal(result.err, "x");
    assert_false(result.out_truncated);
    assert_true(result.err_truncated);
    ramet_client_exec_result_free(&result);
    check_fails(ramet_client_exec(f->client, "web", &(struct ramet_client_exec){.argv = bad}, &result, &err),
                RAMET_INVALID);
}

static void test_rollback_and_promote(void **state)
{
    struct fixture *f = *state;
    struct ramet_client_started started;
    struct ramet_client_sandbox sandbox;
    struct ramet_error err = {0};
    check_fails(ramet_client_rollback(f->client, "web", &(struct ramet_client_rollback){0}, &started, &err),
                RAMET_INVALID);
    canned = "{\"sandbox\":{\"name\":\"web\",\"base\":\"00000000000000ab\"},\"timing\":{\"running_us\":7}}";
    const struct ramet_client_rollback request = {.snapshot = "warm", .no_answer_wait = true, .wait_ms = 9};
    check_ok(ramet_client_rollback(f->client, "web", &request, &started, &err));
    assert_string_equal(seen,
                        "POST /v1/sandboxes/web/rollback {\"snapshot\":\"warm\",\"wait_answer\":false,\"wait_ms\":9}");
    assert_string_equal(started.sandbox.base, "00000000000000ab");
    assert_int_equal(started.running_us, 7);
    canned = "{\"name\":\"web\",\"parent\":\"\"}";
    check_ok(ramet_client_promote(f->client, "try-3", &sandbox, &err));
    assert_string_equal(seen, "POST /v1/sandboxes/try-3/promote {}");
    assert_string_equal(sandbox.name, "web");
    check_ok(ramet_client_promote(f->client, "try-3", NULL, &err));
}

static void test_the_rest(void **state)
{
    struct fixture *f = *state;
    struct ramet_client_snapshot snapshot;
    struct ramet_client_timing timing;
    struct ramet_client_sandbox sandbox;
    struct ramet_error err = {0};
    canned = "{\"snapshot\":{\"durable\":true,\"stored_bytes\":5},\"timing\":{\"pause_us\":6},\"state\":\"paused\"}";
    check_ok(ramet_client_snapshot(f->client, "web", "warm", &snapshot, &timing, &err));
    assert_string_equal(seen, "POST /v1/sandboxes/web/snapshot {\"tag\":\"warm\"}");
    assert_true(snapshot.durable);
    assert_int_equal(timing.pause_us, 6);
    check_ok(ramet_client_snapshot(f->client, "web", NULL, &snapshot, NULL, &err));
    check_ok(ramet_client_pause(f->client, "web", &sandbox, &err));
    assert_string_equal(sandbox.state, "paused");
    check_ok(ramet_client_resume(f->client, "web", NULL, &err));
    assert_string_equal(seen, "POST /v1/sandboxes/web/resume {}");
    check_ok(ramet_client_remove_sandbox(f->client, "web", &err));
    assert_string_equal(seen, "DELETE /v1/sandboxes/web -");
    check_ok(ramet_client_remove_snapshot(f->client, "a b%", &err));
    assert_string_equal(seen, "DELETE /v1/snapshots/a%20b%25 -");
}

static void test_errors(void **state)
{
    struct fixture *f = *state;
    struct ramet_client_sandbox sandbox = {.name = "untouched"};
    struct ramet_error err = {0};
    canned = NULL;
    check_fails(ramet_client_pause(f->client, "web", &sandbox, &err), RAMET_CONFLICT);
    assert_string_equal(err.msg, "it is paused");
    assert_string_equal(err.hint, "resume it");
    assert_string_equal(sandbox.name, "untouched");
    /* A '/' within a name is no separator. */
    check_fails(ramet_client_remove_sandbox(f->client, "a/b", &err), RAMET_CONFLICT);
    assert_string_equal(seen, "DELETE /v1/sandboxes/a%2Fb -");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, client_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_status), TEST(test_run_and_restore),      TEST(test_fork), TEST(test_exec), TEST(test_the_rest),
        TEST(test_errors), TEST(test_rollback_and_promote),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
