/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: requests are read strictly (every wrong thing named), values survive a round
 * trip, and any bytes a guest prints come through the wire format unchanged.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base64.h"
#include "json.h"
#include "wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define JSON _cleanup_(ramet_json_cleanup) struct ramet_json *

static struct ramet_json *parsed(const char *text)
{
    struct ramet_json *value = NULL;
    struct ramet_error err = {0};
    assert_int_equal(ramet_json_parse(text, strlen(text), &value, &err), 0);
    return value;
}

static void assert_text(const struct ramet_json *value, const char *want)
{
    _autofree_ char *text = ramet_json_text(value);
    assert_non_null(text);
    assert_string_equal(text, want);
}

static void assert_invalid(int rc, const struct ramet_error *err, const char *names)
{
    assert_int_equal(rc, -RAMET_INVALID);
    assert_int_equal(err->code, RAMET_INVALID);
    if (!strstr(err->msg, names))
        fail_msg("\"%s\" does not name %s", err->msg, names);
}

static void test_malformed_names_the_place(void **state)
{
    static const char *const bad[] = {"",         "{",           "{\"a\":1",   "{\"a\":}",
                                      "[1,]",     "nul",         "{\"a\":1}x", "{\"a\":1,\"a\":2}",
                                      "\"\xff\"", "\"\\ud800\"", "{'a':1}",    "123456789012345678901234567890"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ramet_json *value = NULL;
        struct ramet_error err = {0};
        assert_invalid(ramet_json_parse(bad[i], strlen(bad[i]), &value, &err), &err, "line 1");
        assert_null(value);
    }
}

static void test_deep_nesting_is_refused(void **state)
{
    char text[20000];
    struct ramet_json *value = NULL;
    struct ramet_error err = {0};
    (void)state;
    memset(text, '[', sizeof text);
    assert_invalid(ramet_json_parse(text, sizeof text, &value, &err), &err, "malformed");
}

static void test_builds_and_reads_back(void **state)
{
    JSON object = ramet_json_object();
    (void)state;
    ramet_json_set_string(object, "s", "gr\xc3\xbc\xc3\x9f \"x\"");
    ramet_json_set_string(object, "none", NULL);
    ramet_json_set_u64(object, "u", UINT64_MAX);
    ramet_json_set_i64(object, "i", -5);
    ramet_json_set_bool(object, "b", true);
    struct ramet_json *list = ramet_json_array();
    ramet_json_append(list, ramet_json_string("x"));
    ramet_json_set(object, "list", list);
    _autofree_ char *text = ramet_json_text(object);
    JSON again = parsed(text);
    assert_string_equal(ramet_json_str(again, "s", ""), "gr\xc3\xbc\xc3\x9f \"x\"");
    assert_int_equal(ramet_json_int(again, "u", 0), INT64_MAX);
    assert_int_equal(ramet_json_int(again, "i", 0), -5);
    assert_true(ramet_json_bool(again, "b", false));
    assert_int_equal(ramet_json_count(ramet_json_get(again, "list")), 1);
    assert_string_equal(ramet_json_str(again, "none", "fallback"), "fallback");
    assert_int_equal(ramet_json_int(again, "s", 7), 7);
}

static void test_strict_getters(void **state)
{
    JSON body = parsed("{\"name\": 5, \"count\": 0, \"big\": 9000, \"neg\": -1, \"real\": 1.5, \"flag\": \"yes\"}");
    struct ramet_error err = {0};
    const char *name = "untouched";
    uint64_t count = 77;
    bool flag = true;
    (void)state;
    assert_invalid(ramet_json_want_string(body, "name", &name, &err), &err, "\"name\"");
    assert_invalid(ramet_json_want_u64(body, "count", 1, 1024, &count, &err), &err, "\"count\"");
    assert_invalid(ramet_json_want_u64(body, "big", 1, 1024, &count, &err), &err, "1 to 1024");
    assert_invalid(ramet_json_want_u64(body, "neg", 0, UINT64_MAX, &count, &err), &err, "\"neg\"");
    assert_invalid(ramet_json_want_u64(body, "real", 0, 10, &count, &err), &err, "\"real\"");
    assert_invalid(ramet_json_want_bool(body, "flag", &flag, &err), &err, "\"flag\"");
    assert_int_equal(ramet_json_want_u64(body, "absent", 1, 2, &count, &err), 0);
    assert_string_equal(name, "untouched");
    assert_int_equal(count, 77);
    assert_true(flag);
}

static void test_unknown_members_are_named(void **state)
{
    static const char *const keys[] = {"count", "tag", NULL};
    JSON good = parsed("{\"tag\": \"x\"}");
    JSON bad = parsed("{\"tag\": \"x\", \"cuont\": 1}");
    struct ramet_error err = {0};
    (void)state;
    assert_int_equal(ramet_json_want_only(good, keys, &err), 0);
    assert_invalid(ramet_json_want_only(bad, keys, &err), &err, "\"cuont\"");
}

static void test_errors_travel_whole(void **state)
{
    struct ramet_error sent = {0}, got = {0};
    (void)state;
    ramet_error_set(&sent, RAMET_NOT_FOUND, "snapshot \"base@3\" not found");
    ramet_error_hint(&sent, "'ramet ls --snapshots' lists them");
    JSON value = ramet_wire_error(&sent);
    _autofree_ char *text = ramet_json_text(value);
    assert_int_equal(ramet_wire_error_read(text, strlen(text), 404, &got), -RAMET_NOT_FOUND);
    assert_string_equal(got.msg, sent.msg);
    assert_string_equal(got.hint, sent.hint);
    assert_int_equal(ramet_wire_error_read("<html>", 6, 502, &got), -RAMET_INTERNAL);
    assert_non_null(strstr(got.msg, "502"));
}

static void test_base64(void **state)
{
    static const char *const bad[] = {"a", "ab", "abc", "ab=c", "a===", "====", "ab==abcd", "YWI=YWI=", "a b="};
    static const struct {
        const char *plain, *text;
    } known[] = {{"", ""},        {"f", "Zg=="},        {"fo", "Zm8="},
                 {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"foobar", "Zm9vYmFy"}};
    struct ramet_error err = {0};
    char *none = NULL;
    size_t size = 0;
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        _autofree_ char *text = ramet_base64_encode(known[i].plain, strlen(known[i].plain));
        _autofree_ char *plain = NULL;
        assert_int_equal(ramet_base64_decode(known[i].text, &plain, &size, &err), 0);
        assert_string_equal(text, known[i].text);
        assert_string_equal(plain, known[i].plain);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ramet_base64_decode(bad[i], &none, &size, &err), -RAMET_INVALID);
    assert_null(none);
}

static void test_utf8(void **state)
{
    static const char *const good[] = {"", "plain", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {
        "\x80",  "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80",
        "a\xffz"};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(ramet_utf8_text(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(ramet_utf8_text(bad[i], strlen(bad[i])));
    assert_false(ramet_utf8_text("a\0b", 3));
}

static void round_trip(const char *data, size_t size, const char *encoding)
{
    JSON object = ramet_json_object();
    struct ramet_error err = {0};
    _autofree_ char *back = NULL;
    size_t back_size = 0;
    ramet_wire_set_bytes(object, "stdout", data, size);
    assert_string_equal(ramet_json_str(object, "stdout_encoding", ""), encoding);
    assert_int_equal(ramet_wire_get_bytes(object, "stdout", &back, &back_size, &err), 0);
    assert_int_equal(back_size, size);
    assert_memory_equal(back, data, size);
}

static void test_bytes_are_lossless(void **state)
{
    char all[256];
    (void)state;
    for (size_t i = 0; i < sizeof all; i++)
        all[i] = (char)i;
    round_trip("", 0, "utf-8");
    round_trip("gr\xc3\xbc\xc3\x9f\n", 7, "utf-8");
    round_trip("a\0b", 3, "base64");
    round_trip(all, sizeof all, "base64");
    round_trip(all + 1, 127, "utf-8");
    JSON object = ramet_json_object();
    ramet_wire_set_bytes(object, "x", NULL, 0);
    assert_text(object, "{\"x\":\"\",\"x_encoding\":\"utf-8\"}");
}

static void test_kinds(void **state)
{
    static const enum ramet_json_kind kinds[] = {RAMET_JSON_NULL,    RAMET_JSON_BOOL,  RAMET_JSON_BOOL,
                                                 RAMET_JSON_INTEGER, RAMET_JSON_REAL,  RAMET_JSON_STRING,
                                                 RAMET_JSON_ARRAY,   RAMET_JSON_OBJECT};
    JSON all = parsed("[null, true, false, 1, 1.5, \"s\", [], {}]");
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        assert_int_equal(ramet_json_kind(ramet_json_at(all, i)), kinds[i]);
        assert_int_equal(ramet_json_is_true(ramet_json_at(all, i)), i == 1);
    }
    assert_int_equal(ramet_json_kind(NULL), RAMET_JSON_ABSENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_malformed_names_the_place),
        cmocka_unit_test(test_deep_nesting_is_refused),
        cmocka_unit_test(test_builds_and_reads_back),
        cmocka_unit_test(test_strict_getters),
        cmocka_unit_test(test_unknown_members_are_named),
        cmocka_unit_test(test_errors_travel_whole),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_bytes_are_lossless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
