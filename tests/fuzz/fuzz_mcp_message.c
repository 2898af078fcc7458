/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an MCP server sends. The first byte says how: even, a JSON-RPC message; odd, a stream of events that hold some,
 * in pieces of half of it plus one byte. Spans lie within their text and are JSON themselves, and the id of what would
 * be too large to keep is the message's.
 */
#include "fuzz.h"

#include "json.h"
#include "tools/rpc.h"
#include "tools/sse.h"

#include <stdlib.h>
#include <string.h>

static void check_span(struct ramet_span span, const char *text, size_t size)
{
    struct ramet_json *json = NULL;
    if (!span.at)
        return;
    FUZZ_CHECK(span.at >= text && span.at + span.size <= text + size && span.size > 0);
    /* The other parser has limits of its own: numbers, lone halves of surrogates, names with NUL. */
    if (ramet_json_parse_lenient(span.at, span.size, 100000, &json, NULL) == 0)
        ramet_json_free(json);
}

static void read_message(const char *text, size_t size)
{
    struct ramet_rpc_message m;
    struct ramet_id_finder finder = {0};
    if (ramet_rpc_read(text, size, &m, NULL) < 0)
        return;
    check_span(m.id, text, size);
    check_span(m.method, text, size);
    check_span(m.params, text, size);
    check_span(m.result, text, size);
    check_span(m.error, text, size);
    ramet_id_finder_feed(&finder, text, size / 2);
    ramet_id_finder_feed(&finder, text + size / 2, size - size / 2);
    FUZZ_CHECK(m.number == UINT64_MAX || (finder.found && finder.id == m.number));
    char *reply = m.kind == RAMET_RPC_REQUEST ? ramet_rpc_reply_empty(m.id) : NULL;
    if (reply) {
        struct ramet_rpc_message again;
        FUZZ_CHECK(ramet_rpc_read(reply, strlen(reply), &again, NULL) == 0 && again.number == m.number);
    }
    free(reply);
}

static bool take_event(void *context, const char *data, size_t size, bool too_large)
{
    unsigned *left = context;
    if (!too_large)
        read_message(data, size);
    return --*left > 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    const char *text = (const char *)data + 1;
    size_t left = size - 1, piece = data[0] / 2 + 1u;
    if (data[0] % 2 == 0) {
        read_message(text, left);
        return 0;
    }
    struct ramet_sse sse = {.data_max = 4096};
    unsigned events = 1000;
    for (bool goes_on = true; goes_on && left > 0;) {
        size_t n = left < piece ? left : piece;
        goes_on = ramet_sse_feed(&sse, text, n, take_event, &events);
        text += n;
        left -= n;
        FUZZ_CHECK(sse.data_size <= sse.data_max && strlen(sse.id) < sizeof sse.id);
    }
    ramet_sse_free(&sse);
    return 0;
}
