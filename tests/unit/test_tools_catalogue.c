/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what a server listed is kept as it was listed, in versions that survive the process, damage of one file does
 * not take the others, subscribers hear of each change once, and names of servers become file names and back.
 */
#include "testing.h"

#include "base/cleanup.h"
#include "json.h"
#include "tools/catalogue.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct ramet_json *listing(const char *server, const char *tools)
{
    struct ramet_error err = {0};
    struct ramet_json *listed = ramet_json_object(), *list = NULL;
    check_ok(ramet_json_parse_lenient(tools, strlen(tools), 1000, &list, &err));
    ramet_json_set_string(listed, "server", server);
    ramet_json_set(listed, "tools", list);
    return listed;
}

struct told {
    int count;
    char server[64];
    uint64_t version; /* 0: gone */
};

static void hear(void *context, const char *server, struct ramet_tools_doc *doc)
{
    struct told *told = context;
    told->count++;
    snprintf(told->server, sizeof told->server, "%s", server);
    told->version = doc ? ramet_tools_doc_version(doc) : 0;
}

static void check_current(struct ramet_tools_catalogue *catalogue, const char *server, uint64_t version,
                          const char *tools)
{
    _cleanup_(ramet_tools_doc_cleanup) struct ramet_tools_doc *doc = ramet_tools_catalogue_current(catalogue, server);
    assert_non_null(doc);
    _autofree_ char *text = ramet_json_text(ramet_json_get(ramet_tools_doc_json(doc), "tools"));
    assert_int_equal(ramet_tools_doc_version(doc), version);
    assert_string_equal(text, tools);
    assert_string_equal(ramet_tools_doc_server(doc), server);
}

static void versions_survive(void **state)
{
    (void)state;
    struct ramet_tools_catalogue *c;
    struct ramet_error err = {0};
    struct told told = {0};
    struct ramet_tools_health health;
    char dir[64], path[128];
    bool changed;
    test_dir_make(dir);
    snprintf(path, sizeof path, "%s/tools", dir);
    check_ok(ramet_tools_catalogue_open(path, &c, &err));
    check_ok(ramet_tools_catalogue_subscribe(c, hear, &told, &err));
    assert_null(ramet_tools_catalogue_current(c, "a/b"));
    check_ok(ramet_tools_catalogue_put(c, listing("a/b", "[{\"name\":\"x\",\"odd\":\"\\u0000\",\"n\":1.5}]"), &changed,
                                       &err));
    assert_true(changed);
    check_ok(ramet_tools_catalogue_put(c, listing("a/b", "[{\"name\":\"x\",\"odd\":\"\\u0000\",\"n\":1.5}]"), &changed,
                                       &err));
    assert_false(changed);
    assert_int_equal(told.count, 1);
    check_ok(ramet_tools_catalogue_put(c, listing("a/b", "[{\"name\":\"y\"}]"), &changed, &err));
    assert_int_equal(told.count, 2);
    assert_string_equal(told.server, "a/b");
    assert_int_equal(told.version, 2);
    check_ok(ramet_tools_catalogue_put(c, listing("z", "[]"), NULL, &err));
    ramet_tools_catalogue_set_health(c, "z", "it crashed");
    ramet_tools_catalogue_set_health(c, "z", "it crashed");
    assert_int_equal(told.count, 4);
    ramet_tools_catalogue_close(c);

    check_ok(ramet_tools_catalogue_open(path, &c, &err));
    check_current(c, "a/b", 2, "[{\"name\":\"y\"}]");
    struct ramet_tools_doc *old;
    check_ok(ramet_tools_catalogue_version(c, "a/b", 1, &old, &err));
    assert_non_null(ramet_tools_doc_tool(old, "x"));
    assert_null(ramet_tools_doc_tool(old, "y"));
    _autofree_ char *text = ramet_json_text(ramet_json_get(ramet_tools_doc_json(old), "tools"));
    assert_string_equal(text, "[{\"name\":\"x\",\"odd\":\"\\u0000\",\"n\":1.5}]");
    check_fails(ramet_tools_catalogue_version(c, "a/b", 3, &old, &err), RAMET_NOT_FOUND);
    check_ok(ramet_tools_catalogue_health(c, "a/b", &health, &err));
    assert_false(health.up);
    assert_true(health.checked_ms > 0);
    ramet_tools_catalogue_set_health(c, "a/b", NULL);
    check_ok(ramet_tools_catalogue_health(c, "a/b", &health, &err));
    assert_true(health.up);

    /* The newest goes on without the catalogue; removing takes the files. */
    check_ok(ramet_tools_catalogue_subscribe(c, hear, &told, &err));
    check_ok(ramet_tools_catalogue_remove(c, "a/b", &err));
    assert_int_equal(told.version, 0);
    assert_null(ramet_tools_catalogue_current(c, "a/b"));
    ramet_tools_catalogue_close(c);
    assert_non_null(ramet_tools_doc_tool(old, "x"));
    ramet_tools_doc_unref(old);
    snprintf(path, sizeof path, "%s/tools/a%%2Fb", dir);
    assert_int_equal(access(path, F_OK), -1);
    test_dir_remove(dir);
}

static void damage_is_contained(void **state)
{
    (void)state;
    struct ramet_tools_catalogue *c;
    struct ramet_error err = {0};
    struct stat st;
    char dir[64], path[128];
    test_dir_make(dir);
    check_ok(ramet_tools_catalogue_open(dir, &c, &err));
    for (int i = 0; i < RAMET_TOOLS_VERSIONS + 3; i++) {
        char tools[64];
        snprintf(tools, sizeof tools, "[{\"name\":\"t%d\"}]", i);
        check_ok(ramet_tools_catalogue_put(c, listing("s", tools), NULL, &err));
    }
    ramet_tools_catalogue_close(c);
    snprintf(path, sizeof path, "%s/s/3.json", dir);
    assert_int_equal(stat(path, &st), -1); /* let go */
    snprintf(path, sizeof path, "%s/s/4.json", dir);
    assert_int_equal(stat(path, &st), 0);

    /* One byte of the newest, a leftover of a crash, and what is not ours. */
    snprintf(path, sizeof path, "%s/s/%d.json", dir, RAMET_TOOLS_VERSIONS + 3);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "T", 1, 22), 1);
    close(fd);
    snprintf(path, sizeof path, "%s/s/99.json.tmp", dir);
    assert_true((fd = open(path, O_CREAT | O_WRONLY, 0600)) >= 0);
    close(fd);
    snprintf(path, sizeof path, "%s/not%%escaped", dir);
    assert_int_equal(mkdir(path, 0700), 0);

    check_ok(ramet_tools_catalogue_open(dir, &c, &err));
    char want[64];
    snprintf(want, sizeof want, "[{\"name\":\"t%d\"}]", RAMET_TOOLS_VERSIONS + 1);
    check_current(c, "s", RAMET_TOOLS_VERSIONS + 2, want);
    snprintf(path, sizeof path, "%s/s/99.json.tmp", dir);
    assert_int_equal(stat(path, &st), -1);
    check_ok(ramet_tools_catalogue_put(c, listing("s", "[]"), NULL, &err));
    check_current(c, "s", RAMET_TOOLS_VERSIONS + 4, "[]");
    ramet_tools_catalogue_close(c);
    test_dir_remove(dir);
}

static void names_are_reversible(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {{"everything", "everything"},
                                           {"a/b", "a%2Fb"},
                                           {"..", "%2E."},
                                           {"", "%"},
                                           {"%", "%25"},
                                           {"a b", "a%20b"},
                                           {"é", "é"},
                                           {"\xff", "%FF"},
                                           {".hidden", "%2Ehidden"}};
    struct ramet_error err = {0};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        _autofree_ char *escaped = ramet_tools_escape(pairs[i][0]);
        _autofree_ char *back = NULL;
        assert_string_equal(escaped, pairs[i][1]);
        check_ok(ramet_tools_unescape(escaped, &back, &err));
        assert_string_equal(back, pairs[i][0]);
    }
    static const char *const wrong[] = {"%2", "%zz", "%41", "a/b", "%2f", "%00", ".", "x%", "\xff"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char *back;
        check_fails(ramet_tools_unescape(wrong[i], &back, &err), RAMET_INVALID);
    }
    check_fails(ramet_tools_server_check("", &err), RAMET_INVALID);
    check_fails(ramet_tools_server_check("a\nb", &err), RAMET_INVALID);
    check_fails(ramet_tools_server_check("\xff", &err), RAMET_INVALID);
    check_ok(ramet_tools_server_check("github.com/x/y", &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions_survive),
        cmocka_unit_test(damage_is_contained),
        cmocka_unit_test(names_are_reversible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
