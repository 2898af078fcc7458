/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the client's calls on workspaces send what they are asked to and read what they are
 * answered; archives go both ways in pieces, and one that breaks off is known as such.
 */
#include "client_fixture.h"

#include "http_produce.h"

#include <signal.h>
#include <unistd.h>

enum { archive_size = 3000001 };

static size_t arrived;    /* bytes of a streamed body */
static _Atomic int whole; /* of the last one that ended: 1 it was, 0 it broke off; -1 before */
static bool fail_export;

static int take(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    char buf[10000];
    ssize_t got;
    see(call);
    arrived = 0;
    while ((got = read(call->request->body_fd, buf, sizeof buf)) > 0)
        for (ssize_t i = 0; i < got; i++, arrived++)
            assert_int_equal((unsigned char)buf[i], arrived % 251);
    whole = ramet_http_body_whole(call->request);
    if (strstr(seen, "refuse"))
        return ramet_error_set(err, RAMET_INVALID, "\"member\" is bad");
    return ramet_json_parse(canned, strlen(canned), ret, err);
}

static int write_archive(void *context, int fd, struct ramet_error *err)
{
    char buf[7000];
    (void)context;
    for (size_t at = 0; at < archive_size; at += sizeof buf) {
        size_t size = archive_size - at < sizeof buf ? archive_size - at : sizeof buf;
        for (size_t i = 0; i < size; i++)
            buf[i] = (char)((at + i) % 251);
        if (write(fd, buf, size) != (ssize_t)size || (fail_export && at > archive_size / 2))
            return ramet_error_set(err, RAMET_IO, "it broke");
    }
    return 0;
}

static void free_nothing(void *context) { (void)context; }

static int give(const struct ramet_call *call, struct ramet_http_response *response, struct ramet_error *err)
{
    const struct ramet_http_producer producer = {.write = write_archive, .free = free_nothing, .what = "test"};
    see(call);
    if (strstr(seen, "none"))
        return ramet_error_set(err, RAMET_NOT_FOUND, "no such path");
    return ramet_http_produce(&producer, response, err);
}

static const char *const queries[] = {"against", "patch", "name", "into", "state", "path", NULL};
static const struct ramet_route routes[] = {
    {.method = "GET", .path = "/v1/workspaces", .handler = answer, .status = 200},
    {.method = "POST", .path = "/v1/workspaces", .handler = answer, .status = 201, .takes_body = true},
    {.method = "POST",
     .path = "/v1/workspaces/import",
     .handler = take,
     .status = 201,
     .query = queries,
     .streams_body = true},
    {.method = "GET", .path = "/v1/workspaces/{w}", .handler = answer, .status = 200},
    {.method = "DELETE", .path = "/v1/workspaces/{w}", .handler = answer, .status = 200},
    {.method = "PUT",
     .path = "/v1/workspaces/{w}/tar",
     .handler = take,
     .status = 200,
     .query = queries,
     .streams_body = true},
    {.method = "GET",
     .path = "/v1/workspaces/{w}/tar",
     .stream = give,
     .status = 200,
     .query = queries,
     .text_type = "application/x-tar"},
    {.method = "GET", .path = "/v1/workspaces/{w}/{what}", .handler = answer, .status = 200, .query = queries},
    {.method = "POST", .path = "/v1/workspaces/{w}/{what}", .handler = answer, .status = 200, .takes_body = true},
};

static int setup(void **state) { return client_setup(state, routes, sizeof routes / sizeof *routes); }

static void test_plain_calls(void **state)
{
    struct fixture *f = *state;
    struct ramet_client_workspace one, *all;
    struct ramet_client_workspace_state kept, *states;
    struct ramet_error err = {0};
    size_t count;
    canned = "{\"workspaces\":[{\"name\":\"a\",\"uid\":4294967294},{\"name\":\"b\",\"path\":\"/m/b\",\"inodes\":7}]}";
    check_ok(ramet_client_workspaces(f->client, &all, &count, &err));
    assert_string_equal(seen, "GET /v1/workspaces -");
    assert_int_equal(count, 2);
    assert_int_equal(all[0].uid, 4294967294);
    assert_string_equal(all[1].path, "/m/b");
    assert_int_equal(all[1].inodes, 7);
    free(all);
    canned = "{\"id\":\"00000000000000ab\",\"name\":\"w\",\"parent\":\"00000000000000aa\",\"quota_bytes\":5,\"audit_"
             "opens\":true}";
    const struct ramet_client_workspace_create plain = {.name = "w"}, full = {.name = "w",
                                                                              .owned = true,
                                                                              .gid = 3,
                                                                              .quota_bytes = 5,
                                                                              .audit_opens = true};
    check_ok(ramet_client_workspace_create(f->client, &plain, &one, &err));
    assert_string_equal(seen, "POST /v1/workspaces {\"name\":\"w\"}");
    assert_string_equal(one.parent, "00000000000000aa");
    assert_true(one.audit_opens);
    check_ok(ramet_client_workspace_create(f->client, &full, NULL, &err));
    assert_string_equal(
        seen, "POST /v1/workspaces {\"name\":\"w\",\"uid\":0,\"gid\":3,\"quota_bytes\":5,\"audit_opens\":true}");
    check_ok(ramet_client_workspace(f->client, "w x", &one, &err));
    assert_string_equal(seen, "GET /v1/workspaces/w%20x -");
    check_ok(ramet_client_workspace_fork(f->client, "w", "s", "v", &one, &err));
    assert_string_equal(seen, "POST /v1/workspaces/w/fork {\"name\":\"v\",\"state\":\"s\"}");
    check_ok(ramet_client_workspace_promote(f->client, "v", &one, &err));
    assert_string_equal(seen, "POST /v1/workspaces/v/promote {}");
    check_ok(ramet_client_workspace_attach(f->client, "v", NULL, &one, &err));
    assert_string_equal(seen, "POST /v1/workspaces/v/attach {}");
    check_ok(ramet_client_remove_workspace(f->client, "v", &err));
    assert_string_equal(seen, "DELETE /v1/workspaces/v -");
    canned = "{\"name\":\"s\",\"path\":\"/m/w/.ramet/history/s\",\"created_ms\":9}";
    check_ok(ramet_client_workspace_snapshot(f->client, "w", "s", &kept, &err));
    assert_string_equal(seen, "POST /v1/workspaces/w/snapshot {\"state\":\"s\"}");
    assert_int_equal(kept.created_ms, 9);
    canned = "{\"before\":{\"name\":\"b\"}}";
    check_ok(ramet_client_workspace_rollback(f->client, "w", "s", &kept, &err));
    assert_string_equal(seen, "POST /v1/workspaces/w/rollback {\"state\":\"s\"}");
    assert_string_equal(kept.name, "b");
    canned = "{\"states\":[{\"name\":\"b\"}]}";
    check_ok(ramet_client_workspace_history(f->client, "w", &states, &count, &err));
    assert_string_equal(states[0].name, "b");
    assert_int_equal(count, 1);
    free(states);
}

static void test_diff_and_merge(void **state)
{
    struct fixture *f = *state;
    struct ramet_client_workspace_diff diff;
    struct ramet_client_workspace_merged merged;
    struct ramet_error err = {0};
    canned =
        "{\"items\":[{\"path\":\"a\",\"what\":\"content\"},{\"path\":\"c\",\"old_path\":\"b\",\"what\":\"renamed\"}],"
        "\"changed\":1,\"renamed\":1,\"lines_added\":4,\"patch\":\"+x\\n\",\"patch_encoding\":\"text\"}";
    check_ok(ramet_client_workspace_diff(f->client, "w", "v@s&t", true, &diff, &err));
    assert_string_equal(seen, "GET /v1/workspaces/w/diff?patch=1&against=v@s&t -");
    assert_int_equal(diff.count, 2);
    assert_string_equal(diff.changes[1].old_path, "b");
    assert_null(diff.changes[0].old_path);
    assert_string_equal(diff.patch, "+x\n");
    assert_int_equal(diff.lines_added, 4);
    ramet_client_workspace_diff_free(&diff);
    canned = "{\"applied\":false,\"conflicts\":[{\"kind\":\"rename\",\"path\":\"p\"}],\"unresolved\":1}";
    const struct ramet_client_workspace_merge request = {.from = "v", .strategy = "theirs", .dry_run = true};
    check_ok(ramet_client_workspace_merge(f->client, "w", &request, &merged, &err));
    assert_string_equal(seen, "POST /v1/workspaces/w/merge {\"from\":\"v\",\"strategy\":\"theirs\",\"dry_run\":true}");
    assert_false(merged.applied);
    assert_string_equal(merged.conflicts[0].kind, "rename");
    assert_string_equal(merged.conflicts[0].path, "p");
    assert_int_equal(merged.unresolved, 1);
    ramet_client_workspace_merged_free(&merged);
}

struct source {
    size_t at, gives_up_at;
};

static long read_source(void *context, char *buf, size_t max)
{
    struct source *source = context;
    size_t left = archive_size - source->at, size = left < max ? left : max;
    if (source->at >= source->gives_up_at)
        return -1;
    for (size_t i = 0; i < size; i++)
        buf[i] = (char)((source->at + i) % 251);
    source->at += size;
    return (long)size;
}

static void test_import(void **state)
{
    struct fixture *f = *state;
    struct ramet_client_workspace one;
    struct ramet_error err = {0};
    struct source source = {.gives_up_at = SIZE_MAX};
    struct ramet_client_workspace_import request = {.read = read_source, .context = &source};
    canned = "{\"name\":\"w\",\"imported\":{\"files\":3}}";
    check_ok(ramet_client_workspace_import(f->client, "w", &request, &one, &err));
    assert_string_equal(seen, "POST /v1/workspaces/import?name=w -");
    assert_string_equal(one.name, "w");
    assert_int_equal(arrived, archive_size);
    assert_int_equal(whole, 1);
    source.at = 0;
    request.into = "a/b";
    check_ok(ramet_client_workspace_import(f->client, "w", &request, NULL, &err));
    assert_string_equal(seen, "PUT /v1/workspaces/w/tar?into=a/b -");
    source.at = 0;
    check_fails(ramet_client_workspace_import(f->client, "refuse", &request, NULL, &err), RAMET_INVALID);
    assert_non_null(strstr(err.msg, "\"member\" is bad"));
    source = (struct source){.gives_up_at = archive_size / 2};
    whole = -1;
    check_fails(ramet_client_workspace_import(f->client, "w", &request, NULL, &err), RAMET_INVALID);
    for (int i = 0; whole < 0 && i < 1000; i++)
        usleep(10000);
    assert_int_equal(whole, 0); /* and the daemon knows that more was to come */
}

static bool check_bytes(void *context, const char *bytes, size_t size)
{
    size_t *at = context;
    for (size_t i = 0; i < size; i++, ++*at)
        assert_int_equal((unsigned char)bytes[i], *at % 251);
    return *at < 2 * (size_t)archive_size;
}

static bool refuse_bytes(void *context, const char *bytes, size_t size)
{
    (void)context, (void)bytes, (void)size;
    return false;
}

static void test_export(void **state)
{
    struct fixture *f = *state;
    struct ramet_error err = {0};
    size_t at = 0;
    check_ok(ramet_client_workspace_export(f->client, "w", "s", "a b", check_bytes, &at, &err));
    assert_string_equal(seen, "GET /v1/workspaces/w/tar?state=s&path=a b -");
    assert_int_equal(at, archive_size);
    at = 0;
    check_fails(ramet_client_workspace_export(f->client, "w", NULL, "none", check_bytes, &at, &err), RAMET_NOT_FOUND);
    assert_int_equal(at, 0);
    check_fails(ramet_client_workspace_export(f->client, "w", NULL, NULL, refuse_bytes, NULL, &err), RAMET_INVALID);
    fail_export = true;
    check_fails(ramet_client_workspace_export(f->client, "w", NULL, NULL, check_bytes, &at, &err), RAMET_UNAVAILABLE);
    fail_export = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_plain_calls, setup, client_teardown),
        cmocka_unit_test_setup_teardown(test_diff_and_merge, setup, client_teardown),
        cmocka_unit_test_setup_teardown(test_import, setup, client_teardown),
        cmocka_unit_test_setup_teardown(test_export, setup, client_teardown),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
