/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: messages of strangers are taken apart as they are or refused, whatever is in them: JSON as spans, JSON-RPC,
 * server-sent events in any pieces, the id of what is too large; and known secrets do not leave in any text.
 */
#include "testing.h"

#include "base/cleanup.h"
#include "tools/redact.h"
#include "tools/rpc.h"
#include "tools/sse.h"
#include "tools/web.h"

#include <string.h>

/* ---- JSON ---- */

static void spans_are_found(void **state)
{
    (void)state;
    static const char *const names[] = {"id", "result", "absent", NULL};
    static const char text[] =
        " {\"a\":{\"id\":1}, \"result\" : {\"x\":[1,2,{\"id\":\"]}\\\"\"}]} ,\"id\":7,\"id\": 8 } ";
    struct ramet_span found[3];
    struct ramet_error err = {0};
    uint64_t id;
    check_ok(ramet_scan_object(text, strlen(text), names, found, &err));
    assert_true(ramet_span_is(found[1], "{\"x\":[1,2,{\"id\":\"]}\\\"\"}]}"));
    assert_true(ramet_span_u64(found[0], &id));
    assert_int_equal(id, 8);
    assert_null(found[2].at);
}

static void malformed_texts_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {NULL};
    static const char *const wrong[] = {"",
                                        "[]",
                                        "{",
                                        "{}}",
                                        "{\"a\"}",
                                        "{\"a\":}",
                                        "{\"a\":1,}",
                                        "{a:1}",
                                        "{\"a\":01}",
                                        "{\"a\":1.}",
                                        "{\"a\":.5}",
                                        "{\"a\":1e}",
                                        "{\"a\":+1}",
                                        "{\"a\":tru}",
                                        "{\"a\":\"",
                                        "{\"a\":\"\n\"}",
                                        "{\"a\":\"\\x\"}",
                                        "{\"a\":\"\\u12\"}",
                                        "{\"a\":\"\xff\"}",
                                        "{\"a\":\"\xc0\x80\"}",
                                        "{\"a\":[1 2]}",
                                        "{\"a\":[1,]}",
                                        "{\"a\":1}x",
                                        "{\"a\":NaN}",
                                        "{\"\xed\xa0\x80\":1}",
                                        "\xef\xbb\xbf{}"};
    struct ramet_error err = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (ramet_scan_object(wrong[i], strlen(wrong[i]), names, NULL, &err) != -RAMET_INVALID)
            fail_msg("accepted: %s", wrong[i]);
    /* An embedded NUL, and nesting without end. */
    assert_int_equal(ramet_scan_object("{\"a\":\"\0\"}", 9, names, NULL, &err), -RAMET_INVALID);
    char *deep = malloc(200001);
    assert_non_null(deep);
    memset(deep, '[', 200000);
    memcpy(deep, "{\"a\":", 5);
    deep[200000] = '\0';
    assert_int_equal(ramet_scan_object(deep, 200000, names, NULL, &err), -RAMET_INVALID);
    assert_non_null(strstr(err.msg, "too deep"));
    free(deep);
    static const char good[] = "{\"a\":[-0.5e+3,true,null,\"\\ud83d\\ude00\\/\xf0\x9f\x98\x80\",{}]}";
    check_ok(ramet_scan_object(good, strlen(good), names, NULL, &err));
}

/* ---- JSON-RPC ---- */

static void messages_have_kinds(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int kind; /* -1: none */
        uint64_t number;
    } messages[] = {
        {"{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":{}}", RAMET_RPC_ANSWER, 5},
        {"{\"result\":null,\"jsonrpc\":\"2.0\",\"id\":5,\"error\":null}", RAMET_RPC_ANSWER, 5},
        {"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32700,\"message\":\"x\"}}", RAMET_RPC_ANSWER,
         UINT64_MAX},
        {"{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"ping\"}", RAMET_RPC_REQUEST, UINT64_MAX},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\",\"params\":{}}", RAMET_RPC_NOTIFICATION, UINT64_MAX},
        {"{\"jsonrpc\":\"2.0\",\"id\":1.0,\"result\":{}}", RAMET_RPC_ANSWER, UINT64_MAX},
        {"{\"jsonrpc\":\"2.0\",\"id\":99999999999999999999,\"result\":{}}", RAMET_RPC_ANSWER, UINT64_MAX},
        {"{\"jsonrpc\":\"1.0\",\"id\":5,\"result\":{}}", -1, 0},
        {"{\"jsonrpc\":\"2.0\",\"id\":5}", -1, 0},
        {"{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"x\",\"result\":{}}", -1, 0},
        {"{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":7}", -1, 0},
        {"{\"jsonrpc\":\"2.0\",\"id\":5,\"error\":\"x\"}", -1, 0},
        {"[{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":{}}]", -1, 0},
        {"npm notice", -1, 0},
    };
    struct ramet_error err = {0};
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        struct ramet_rpc_message m;
        int rc = ramet_rpc_read(messages[i].text, strlen(messages[i].text), &m, &err);
        assert_int_equal(rc, messages[i].kind < 0 ? -RAMET_INVALID : 0);
        if (rc == 0) {
            assert_int_equal(m.kind, messages[i].kind);
            assert_true(m.number == messages[i].number);
        }
    }
}

static void requests_are_made(void **state)
{
    (void)state;
    struct ramet_rpc_message m;
    struct ramet_error err = {0};
    _autofree_ char *legacy = ramet_rpc_request(7, "tools/list", NULL, "");
    _autofree_ char *modern = ramet_rpc_request(8, "tools/call", RAMET_MCP_MODERN, "\"name\":\"x\"");
    assert_string_equal(legacy, "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/list\",\"params\":{}}");
    check_ok(ramet_rpc_read(modern, strlen(modern), &m, &err));
    static const char *const names[] = {"_meta", "name", NULL};
    struct ramet_span parts[2];
    check_ok(ramet_scan_object(m.params.at, m.params.size, names, parts, &err));
    assert_true(ramet_span_is(parts[1], "\"x\""));
    assert_non_null(
        memmem(parts[0].at, parts[0].size, "\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\"", 53));
    static const char ping[] = "{\"jsonrpc\":\"2.0\",\"id\":\"q\\\"1\",\"method\":\"ping\"}";
    check_ok(ramet_rpc_read(ping, strlen(ping), &m, &err));
    _autofree_ char *reply = ramet_rpc_reply_empty(m.id);
    assert_string_equal(reply, "{\"jsonrpc\":\"2.0\",\"id\":\"q\\\"1\",\"result\":{}}");
}

static void ids_are_found_in_what_is_too_large(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool found;
        uint64_t id;
    } texts[] = {
        {"{\"jsonrpc\":\"2.0\",\"id\":41,\"result\":{\"id\":9}}", true, 41},
        {"{\"result\":{\"a\":[{\"id\":9,\"b\":\"\\\"id\\\":8\"}],\"id\":7},\"jsonrpc\":\"2.0\",\"id\": 42}", true, 42},
        {"{\"result\":\"id\",\"x\":\"id\",\"id\":43,\"y\":\"\\\\\"}", true, 43},
        {"{\"idx\":1,\"i\":2,\"\\u0069d\":3}", false, 0},
        {"{\"id\":\"44\"}", false, 0},
        {"{\"result\":{\"id\":9}}", false, 0},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        for (size_t piece = 1; piece < 8; piece++) {
            struct ramet_id_finder finder = {0};
            size_t size = strlen(texts[i].text);
            for (size_t at = 0; at < size; at += piece)
                ramet_id_finder_feed(&finder, texts[i].text + at, size - at < piece ? size - at : piece);
            assert_int_equal(finder.found, texts[i].found);
            if (texts[i].found)
                assert_int_equal(finder.id, texts[i].id);
        }
}

/* ---- server-sent events ---- */

struct heard {
    char text[512];
    int count, stop_at;
};

static bool hear(void *context, const char *data, size_t size, bool too_large)
{
    struct heard *heard = context;
    size_t used = strlen(heard->text);
    snprintf(heard->text + used, sizeof heard->text - used, "<%.*s>", too_large ? 3 : (int)size,
             too_large ? "big" : data);
    return ++heard->count != heard->stop_at;
}

static void events_come_in_any_pieces(void **state)
{
    (void)state;
    static const char stream[] =
        "\xef\xbb\xbf: hello\n\nid: 1\nevent: message\ndata: {\"a\":1}\n\ndata:x\r\ndata: y\r\n\r\n"
        "retry: 250\rdata\r\rid: 2\ndata: 0123456789abcdef0123456789abcdef\n\nfoo: bar\n\n"
        "data: last\n\ndata: never ended";
    for (size_t piece = 1; piece < sizeof stream; piece++) {
        struct ramet_sse sse = {.data_max = 20};
        struct heard heard = {0};
        for (size_t at = 0; at < sizeof stream - 1; at += piece)
            assert_true(ramet_sse_feed(&sse, stream + at,
                                       sizeof stream - 1 - at < piece ? sizeof stream - 1 - at : piece, hear, &heard));
        assert_string_equal(heard.text, "<{\"a\":1}><x\ny><><big><last>");
        assert_string_equal(sse.id, "2");
        assert_int_equal(sse.retry_ms, 250);
        ramet_sse_free(&sse);
    }
    /* A line that never ends takes no more memory than a whole event may. */
    struct ramet_sse sse = {.data_max = 1000};
    struct heard heard = {.stop_at = 1};
    char block[4096];
    memset(block, 'x', sizeof block);
    for (int i = 0; i < 1000; i++)
        assert_true(ramet_sse_feed(&sse, block, sizeof block, hear, &heard));
    assert_true(sse.line_capacity + sse.data_capacity < 100000);
    assert_false(ramet_sse_feed(&sse, "\n\n", 2, hear, &heard));
    assert_string_equal(heard.text, "<big>");
    ramet_sse_free(&sse);
}

static void header_values_are_encoded(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {{"plain", "plain"},
                                           {"a b", "a b"},
                                           {" a", "=?base64?IGE=?="},
                                           {"", "=?base64?"
                                                "?="},
                                           {"\xc3\xa9", "=?base64?w6k=?="},
                                           {"x\r\nEvil: 1", "=?base64?eA0KRXZpbDogMQ==?="},
                                           {"=?base64?eA==?=", "=?base64?PT9iYXNlNjQ/ZUE9PT89?="}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        _autofree_ char *value = ramet_web_header_value(pairs[i][0]);
        assert_string_equal(value, pairs[i][1]);
    }
}

/* ---- secrets ---- */

static void secrets_do_not_leave(void **state)
{
    (void)state;
    struct ramet_secrets secrets = {0};
    struct ramet_error err = {0};
    static const struct {
        const char *text, *clean;
        bool excerpt;
    } texts[] = {
        {"nothing", "nothing", false},
        {"a hunter2 b hunter2", "a [redacted] b [redacted]", false},
        {"hunter2-longer!", "[redacted]!", false},
        {"{\"x\":\"q\\\"uo\\\\te\"}", "{\"x\":\"[redacted]\"}", false},
        {"ter2 said, hunt", "[redacted] said, [redacted]", true},
        {"ter2 said, hunt", "ter2 said, hunt", false},
        {"abc", "abc", false},
    };
    check_ok(ramet_secrets_add(&secrets, "hunter2", &err));
    check_ok(ramet_secrets_add(&secrets, "hunter2-longer", &err));
    check_ok(ramet_secrets_add(&secrets, "q\"uo\\te", &err));
    check_ok(ramet_secrets_add(&secrets, "abc", &err)); /* too short to be one */
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        _autofree_ char *clean = ramet_redact(&secrets, texts[i].text, strlen(texts[i].text), texts[i].excerpt);
        assert_string_equal(clean, texts[i].clean);
    }
    ramet_error_set(&err, RAMET_IO, "it said hunter2");
    ramet_error_hint(&err, "use q\"uo\\te");
    ramet_redact_error(&secrets, &err);
    assert_string_equal(err.msg, "it said [redacted]");
    assert_string_equal(err.hint, "use [redacted]");
    ramet_secrets_free(&secrets);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans_are_found),
        cmocka_unit_test(malformed_texts_are_refused),
        cmocka_unit_test(messages_have_kinds),
        cmocka_unit_test(requests_are_made),
        cmocka_unit_test(ids_are_found_in_what_is_too_large),
        cmocka_unit_test(events_come_in_any_pieces),
        cmocka_unit_test(header_values_are_encoded),
        cmocka_unit_test(secrets_do_not_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
