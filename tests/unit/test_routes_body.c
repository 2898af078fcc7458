/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: request bodies become the service's requests, and every body that is wrong is
 * refused with the member's name.
 */
#include "testing.h"

#include "base/cleanup.h"
#include "json.h"
#include "routes_body.h"

#include <string.h>

#define JSON _cleanup_(ramet_json_cleanup) struct ramet_json *

static struct ramet_json *parsed(const char *text)
{
    struct ramet_json *value = NULL;
    struct ramet_error err = {0};
    check_ok(ramet_json_parse(text, strlen(text), &value, &err));
    return value;
}

/* ---- readers behind one signature ---- */

typedef int reader(const struct ramet_json *body, struct ramet_error *err);

static int read_run(const struct ramet_json *body, struct ramet_error *err)
{
    struct ramet_run_request request;
    unsigned count;
    return ramet_run_body(body, NULL, &request, &count, err);
}

static int read_restore(const struct ramet_json *body, struct ramet_error *err)
{
    struct ramet_run_request request;
    unsigned count;
    return ramet_run_body(body, "base", &request, &count, err);
}

static int read_fork(const struct ramet_json *body, struct ramet_error *err)
{
    struct ramet_fork_request request = {0};
    int rc = ramet_fork_body(body, &request, err);
    free((void *)request.names);
    return rc;
}

static int read_exec(const struct ramet_json *body, struct ramet_error *err)
{
    _cleanup_(ramet_exec_body_free) struct ramet_exec_body exec = {0};
    return ramet_exec_body(body, &exec, err);
}

static int read_import(const struct ramet_json *body, struct ramet_error *err)
{
    struct ramet_import_request request;
    return ramet_import_body(body, &request, err);
}

static int read_scrub(const struct ramet_json *body, struct ramet_error *err)
{
    struct ramet_job_request request;
    return ramet_scrub_body(body, &request, err);
}

static int read_recompress(const struct ramet_json *body, struct ramet_error *err)
{
    struct ramet_job_request request;
    return ramet_recompress_body(body, &request, err);
}

static int read_fsck(const struct ramet_json *body, struct ramet_error *err)
{
    bool repair;
    return ramet_fsck_body(body, &repair, err);
}

static int read_export(const struct ramet_json *body, struct ramet_error *err)
{
    struct ramet_export_request request;
    return ramet_export_body(body, &request, err);
}

static int read_tag(const struct ramet_json *body, struct ramet_error *err)
{
    const char *value;
    return ramet_string_body(body, "snapshot", true, &value, err);
}

/* ---- what is refused ---- */

static const struct {
    reader *read;
    const char *body, *names;
} refused[] = {
    {read_run, "{\"count\": 2}", "\"count\""},
    {read_run, "{\"snapshot\": 1}", "\"snapshot\""},
    {read_run, "{\"memory_bytes\": 1000}", "\"memory_bytes\""},
    {read_run, "{\"memory_bytes\": \"512M\"}", "\"memory_bytes\""},
    {read_run, "{\"cpus\": 0}", "\"cpus\""},
    {read_run, "{\"wait_ms\": -1}", "\"wait_ms\""},
    {read_restore, "{\"snapshot\": \"other\"}", "\"snapshot\""},
    {read_restore, "{\"count\": 1025}", "1 to 1024"},
    {read_restore, "{\"count\": 2, \"name\": \"x\"}", "\"name\""},
    {read_fork, "{\"count\": 0}", "1 to 1024"},
    {read_fork, "{\"count\": 1.0}", "\"count\""},
    {read_fork, "{\"count\": 4294967297}", "\"count\""},
    {read_fork, "{\"count\": 3, \"names\": [\"a\"]}", "\"names\""},
    {read_fork, "{\"names\": []}", "\"names\""},
    {read_fork, "{\"names\": \"a\"}", "\"names\""},
    {read_fork, "{\"names\": [\"a\", 2]}", "\"names\"[1]"},
    {read_fork, "{\"wait_durable\": 1}", "\"wait_durable\""},
    {read_exec, "{}", "\"argv\""},
    {read_exec, "{\"argv\": []}", "\"argv\""},
    {read_exec, "{\"argv\": [null]}", "\"argv\"[0]"},
    {read_exec, "{\"argv\": [\"x\"], \"env\": [\"A=b\"]}", "\"env\""},
    {read_exec, "{\"argv\": [\"x\"], \"env\": {\"A=\": \"b\"}}", "\"A=\""},
    {read_exec, "{\"argv\": [\"x\"], \"env\": {\"\": \"b\"}}", "\"env\""},
    {read_exec, "{\"argv\": [\"x\"], \"env\": {\"A\": 1}}", "\"A\""},
    {read_exec, "{\"argv\": [\"x\"], \"stdin\": \"\", \"stdin_base64\": \"\"}", "exclude"},
    {read_exec, "{\"argv\": [\"x\"], \"stdin_base64\": \"?\"}", "\"stdin_base64\""},
    {read_import, "{\"disk\": \"relative.raw\"}", "\"disk\""},
    {read_import, "{\"disc\": \"/x\"}", "\"disc\""},
    {read_import, "{\"parent\": 1}", "\"parent\""},
    {read_scrub, "{\"bytes_per_second\": 1000}", "\"bytes_per_second\""},
    {read_scrub, "{\"restart\": \"yes\"}", "\"restart\""},
    {read_scrub, "{\"level\": 3}", "\"level\""},
    {read_recompress, "{\"level\": 0}", "1 to 19"},
    {read_recompress, "{\"threads\": 17}", "1 to 16"},
    {read_fsck, "{\"repair\": 1}", "\"repair\""},
    {read_export, "{\"path\": \"/x\"}", "\"image\""},
    {read_export, "{\"image\": \"disk0\"}", "\"path\""},
    {read_export, "{\"image\": \"disk0\", \"path\": \"x\"}", "\"path\""},
    {read_tag, "{}", "\"snapshot\""},
    {read_tag, "{\"snapshot\": null}", "\"snapshot\""},
    {ramet_empty_body, "{\"x\": 1}", "\"x\""},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        JSON body = parsed(refused[i].body);
        struct ramet_error err = {0};
        int rc = refused[i].read(body, &err);
        if (rc != -RAMET_INVALID || !strstr(err.msg, refused[i].names))
            fail_msg("%s: %d \"%s\", which does not name %s", refused[i].body, rc, err.msg, refused[i].names);
    }
}

/* ---- what is understood ---- */

static void test_run(void **state)
{
    struct ramet_run_request request;
    struct ramet_error err = {0};
    unsigned count = 0;
    JSON body = parsed("{\"snapshot\": \"base\", \"name\": \"web\", \"memory_bytes\": 1048576, \"cpus\": 2, "
                       "\"wait_ms\": null}");
    (void)state;
    check_ok(ramet_run_body(body, NULL, &request, &count, &err));
    assert_string_equal(request.snapshot, "base");
    assert_string_equal(request.name, "web");
    assert_int_equal(request.memory_bytes, 1048576);
    assert_int_equal(request.cpus, 2);
    assert_int_equal(request.wait_ms, 0);
    assert_int_equal(count, 1);
}

static void test_fork(void **state)
{
    struct ramet_fork_request request = {0};
    struct ramet_error err = {0};
    JSON body = parsed("{\"names\": [\"a\", \"b\"], \"tag\": \"t\", \"wait_answer\": false, \"wait_durable\": true}");
    JSON empty = parsed("{}");
    (void)state;
    check_ok(ramet_fork_body(body, &request, &err));
    assert_int_equal(request.count, 2);
    assert_string_equal(request.names[1], "b");
    assert_string_equal(request.tag, "t");
    assert_true(request.wait_durable);
    assert_true(request.no_answer_wait);
    free((void *)request.names);
    check_ok(ramet_fork_body(empty, &request, &err));
    assert_int_equal(request.count, 1);
    assert_null(request.names);
    assert_false(request.no_answer_wait);
}

static void test_exec(void **state)
{
    _cleanup_(ramet_exec_body_free) struct ramet_exec_body text = {0};
    _cleanup_(ramet_exec_body_free) struct ramet_exec_body bytes = {0};
    struct ramet_error err = {0};
    JSON first = parsed("{\"argv\": [\"env\", \"-0\"], \"env\": {\"A\": \"b=c\", \"EMPTY\": \"\"}, \"stdin\": \"in\"}");
    JSON second = parsed("{\"argv\": [\"cat\"], \"stdin_base64\": \"AAEC\", \"timeout_ms\": 5}");
    (void)state;
    check_ok(ramet_exec_body(first, &text, &err));
    assert_string_equal(text.request.argv[1], "-0");
    assert_null(text.request.argv[2]);
    assert_string_equal(text.request.env[0], "A=b=c");
    assert_string_equal(text.request.env[1], "EMPTY=");
    assert_null(text.request.env[2]);
    assert_memory_equal(text.request.input, "in", 2);
    assert_int_equal(text.request.input_size, 2);
    check_ok(ramet_exec_body(second, &bytes, &err));
    assert_null(bytes.request.env);
    assert_int_equal(bytes.request.input_size, 3);
    assert_memory_equal(bytes.request.input, "\0\1\2", 3);
    assert_int_equal(bytes.request.timeout_ms, 5);
}

static void test_import_and_export(void **state)
{
    struct ramet_import_request import;
    struct ramet_export_request export;
    struct ramet_error err = {0};
    JSON in =
        parsed("{\"tag\": \"t\", \"disk\": \"/d\", \"kernel\": \"/k\", \"initrd\": \"/i\", \"cmdline\": \"quiet\", "
               "\"parent\": \"p\"}");
    JSON out = parsed("{\"image\": \"disk0\", \"path\": \"/d\"}");
    (void)state;
    check_ok(ramet_import_body(in, &import, &err));
    assert_string_equal(import.disk, "/d");
    assert_string_equal(import.kernel, "/k");
    assert_string_equal(import.initrd, "/i");
    assert_string_equal(import.cmdline, "quiet");
    assert_string_equal(import.parent, "p");
    assert_null(import.memory);
    check_ok(ramet_export_body(out, &export, &err));
    assert_string_equal(export.format, "raw");
}

static void test_store(void **state)
{
    struct ramet_job_request request;
    struct ramet_error err = {0};
    bool repair = true;
    JSON scrub = parsed("{\"bytes_per_second\": 1000000, \"restart\": true}");
    JSON recompress = parsed("{\"level\": 19, \"threads\": 4}");
    JSON empty = parsed("{}");
    (void)state;
    check_ok(ramet_scrub_body(scrub, &request, &err));
    assert_int_equal(request.kind, RAMET_JOB_SCRUB);
    assert_int_equal(request.bytes_per_second, 1000000);
    assert_true(request.restart);
    check_ok(ramet_recompress_body(recompress, &request, &err));
    assert_int_equal(request.kind, RAMET_JOB_RECOMPRESS);
    assert_int_equal(request.level, 19);
    assert_int_equal(request.threads, 4);
    check_ok(ramet_recompress_body(empty, &request, &err));
    assert_int_equal(request.level, 0);
    check_ok(ramet_fsck_body(empty, &repair, &err));
    assert_false(repair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_run),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_exec),
        cmocka_unit_test(test_import_and_export),
        cmocka_unit_test(test_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
