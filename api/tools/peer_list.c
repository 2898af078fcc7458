/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listings: pages put together into a document, bounded in pages, entries and bytes, so that no server can keep us
 * here or fill our memory. A page that is wrong fails the listing: half a list is none, and the last good one serves.
 *
 * Entries pass as they are. One that is no object or has no name is left out, and so is a second one of a name.
 */
#include "base/cleanup.h"
#include "base/log.h"
#include "json.h"
#include "tools/peer.h"
#include "tools/peer_private.h"
#include "vmm/clock.h"

#include <string.h>

enum {
    pages_max = 2000,
    entries_max = 50000,
    values_max = 1 << 20, /* of a page */
    bytes_max = 64 << 20, /* of a listing */
    name_max = 4096,
};

struct listing {
    struct ramet_peer *peer;
    const char *method, *key, *name_key;
    struct ramet_json *entries;
    uint64_t cursors[pages_max]; /* hashes of those that were followed */
    size_t page_count, bytes;
    uint64_t ttl_ms;
};

/* FNV-1a of a cursor: only to see one again. */
static uint64_t hash(const char *text)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return h;
}

static int follow(struct listing *l, const char *cursor, struct ramet_error *err)
{
    uint64_t h = hash(cursor);
    if (l->page_count == pages_max)
        return ramet_error_set(err, RAMET_TOO_LARGE, "%s goes on after %d pages", l->method, pages_max);
    for (size_t i = 0; i < l->page_count; i++)
        if (l->cursors[i] == h)
            return ramet_error_set(err, RAMET_UNAVAILABLE, "%s comes back to the cursor \"%.100s\" and would never end",
                                   l->method, cursor);
    l->cursors[l->page_count++] = h;
    return 0;
}

/* ---- a page ---- */

static int check_page(const struct listing *l, const struct ramet_json *page, struct ramet_error *err)
{
    const char *type = ramet_json_str(page, "resultType", "complete");
    if (!ramet_json_is_object(page) || !ramet_json_is_array(ramet_json_get(page, l->key)))
        return ramet_error_set(err, RAMET_UNAVAILABLE, "%s: its result has no array \"%s\"", l->method, l->key);
    if (strcmp(type, "complete") != 0)
        return ramet_error_set(err, RAMET_UNAVAILABLE, "%s: a result of type \"%.40s\" is not understood", l->method,
                               type);
    const struct ramet_json *next = ramet_json_get(page, "nextCursor");
    if (next && ramet_json_kind(next) != RAMET_JSON_STRING && ramet_json_kind(next) != RAMET_JSON_NULL)
        return ramet_error_set(err, RAMET_UNAVAILABLE, "%s: its cursor is no string", l->method);
    return 0;
}

/* One page from `cursor`, or the first. *ret NULL: the server does not know the method, which is no page at all. */
static int get_page(struct listing *l, const char *cursor, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_rpc_answer answer = {0};
    _autofree_ char *quoted = cursor ? ramet_rpc_quote(cursor) : NULL;
    _autofree_ char *members = NULL;
    int64_t code = 0;
    if ((cursor && !quoted) || asprintf(&members, "%s%s", cursor ? "\"cursor\":" : "", cursor ? quoted : "") < 0) {
        members = NULL;
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list it");
    }
    const struct peer_request request = {
        .method = l->method, .members = members, .deadline_us = ramet_deadline_us(l->peer->options.list_ms)};
    int rc = ramet_peer_request(l->peer, &request, &answer, NULL, err);
    if (rc < 0) {
        rc = ramet_error_prefix(err, "%s", l->method);
    } else if (ramet_rpc_error_code(&answer, &code)) {
        rc = code == RAMET_RPC_METHOD_NOT_FOUND && !cursor ? 0 : ramet_rpc_error_set(&answer, l->method, err);
    } else if ((l->bytes += answer.result.size) > bytes_max) {
        rc = ramet_error_set(err, RAMET_TOO_LARGE, "%s lists more than %d bytes", l->method, bytes_max);
    } else {
        _autofree_ char *clean = ramet_redact(l->peer->options.secrets, answer.result.at, answer.result.size, false);
        rc = clean ? ramet_json_parse_lenient(clean, strlen(clean), values_max, ret, err)
                   : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list it");
        rc = rc < 0 ? ramet_error_prefix(err, "%s", l->method) : check_page(l, *ret, err);
    }
    ramet_rpc_answer_free(&answer);
    return rc;
}

static const char *name_of(const struct listing *l, const struct ramet_json *entry)
{
    const char *name = ramet_json_str(entry, l->name_key, "");
    return strlen(name) <= name_max ? name : "";
}

static int add_entries(struct listing *l, const struct ramet_json *page, struct ramet_error *err)
{
    const struct ramet_json *entries = ramet_json_get(page, l->key);
    size_t count = ramet_json_count(entries);
    if (ramet_json_count(l->entries) + count > entries_max)
        return ramet_error_set(err, RAMET_TOO_LARGE, "%s lists more than %d entries", l->method, entries_max);
    for (size_t i = 0; i < count; i++) {
        const struct ramet_json *entry = ramet_json_at(entries, i);
        if (!ramet_json_is_object(entry) || !*name_of(l, entry))
            continue;
        struct ramet_json *copy = ramet_json_copy(entry);
        if (!copy)
            return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list it");
        ramet_json_append(l->entries, copy);
    }
    l->ttl_ms = (uint64_t)ramet_json_int(page, "ttlMs", 0);
    return 0;
}

/* ---- a list ---- */

struct named {
    const char *name;
    size_t index;
};

static int compare(const void *a, const void *b)
{
    const struct named *left = a, *right = b;
    int order = strcmp(left->name, right->name);
    return order ? order : left->index < right->index ? -1 : 1;
}

/* Leaves the first of each name, in the server's order. */
static int without_doubles(struct listing *l, struct ramet_error *err)
{
    size_t count = ramet_json_count(l->entries), doubles = 0;
    _autofree_ struct named *names = calloc(count + 1, sizeof *names);
    _autofree_ bool *gone = calloc(count + 1, sizeof *gone);
    if (!names || !gone)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list it");
    for (size_t i = 0; i < count; i++)
        names[i] = (struct named){name_of(l, ramet_json_at(l->entries, i)), i};
    qsort(names, count, sizeof *names, compare);
    for (size_t i = 1; i < count; i++)
        if (strcmp(names[i].name, names[i - 1].name) == 0) {
            gone[names[i].index] = true;
            doubles++;
        }
    if (doubles == 0)
        return 0;
    struct ramet_json *kept = ramet_json_array();
    for (size_t i = 0; i < count; i++)
        if (!gone[i])
            ramet_json_append(kept, ramet_json_copy(ramet_json_at(l->entries, i)));
    ramet_json_free(l->entries);
    l->entries = kept;
    return kept ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list it");
}

static int list_pages(struct listing *l, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *page = NULL;
    int rc = get_page(l, NULL, &page, err);
    while (rc == 0 && page) {
        rc = add_entries(l, page, err);
        const char *cursor = ramet_json_str(page, "nextCursor", NULL);
        if (rc < 0 || !cursor)
            break;
        struct ramet_json *next = NULL;
        rc = follow(l, cursor, err);
        if (rc == 0)
            rc = get_page(l, cursor, &next, err);
        ramet_json_free(page);
        page = next;
    }
    return rc < 0 ? rc : without_doubles(l, err);
}

/* Adds one of the four lists to the document. */
static int list_one(struct ramet_peer *peer, const char *capability, const char *method, const char *key,
                    struct ramet_json *doc, uint64_t *ttl_ms, struct ramet_error *err)
{
    const struct ramet_json *capabilities = ramet_json_get(peer->hello, "capabilities");
    struct listing *l = calloc(1, sizeof *l);
    int rc = 0;
    if (!l || !(l->entries = ramet_json_array())) {
        free(l);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list it");
    }
    l->peer = peer;
    l->method = method;
    l->key = key;
    l->name_key = strcmp(key, "resources") == 0 ? "uri" : "name";
    if (ramet_json_get(capabilities, capability))
        rc = list_pages(l, err);
    if (rc == 0) {
        ramet_json_set(doc, key, STEAL(l->entries));
        if (l->ttl_ms && (!*ttl_ms || l->ttl_ms < *ttl_ms))
            *ttl_ms = l->ttl_ms;
    }
    ramet_json_free(l->entries);
    free(l);
    return rc;
}

/* ---- the document ---- */

static void copy_member(struct ramet_json *doc, const char *key, const struct ramet_json *value)
{
    if (value)
        ramet_json_set(doc, key, ramet_json_copy(value));
}

/* A server of the newer era says its name in _meta. */
static const struct ramet_json *server_info(const struct ramet_peer *peer)
{
    const struct ramet_json *info = ramet_json_get(peer->hello, "serverInfo");
    return info ? info : ramet_json_get(ramet_json_get(peer->hello, "_meta"), "io.modelcontextprotocol/serverInfo");
}

int ramet_peer_list(struct ramet_peer *peer, struct ramet_json **ret, uint64_t *ret_ttl_ms, struct ramet_error *err)
{
    static const char *const lists[][3] = {{"tools", "tools/list", "tools"},
                                           {"prompts", "prompts/list", "prompts"},
                                           {"resources", "resources/list", "resources"},
                                           {"resources", "resources/templates/list", "resourceTemplates"}};
    _cleanup_(ramet_json_cleanup) struct ramet_json *doc = ramet_json_object();
    uint64_t ttl_ms = 0;
    int rc = 0;
    ramet_json_set_string(doc, "server", peer->options.server);
    ramet_json_set_string(doc, "protocolVersion", peer->version);
    copy_member(doc, "capabilities", ramet_json_get(peer->hello, "capabilities"));
    copy_member(doc, "serverInfo", server_info(peer));
    copy_member(doc, "instructions", ramet_json_get(peer->hello, "instructions"));
    for (size_t i = 0; rc == 0 && i < sizeof lists / sizeof *lists; i++)
        rc = list_one(peer, lists[i][0], lists[i][1], lists[i][2], doc, &ttl_ms, err);
    if (rc == 0 && ramet_json_count(doc) == 0)
        rc = ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list it");
    if (rc < 0) {
        ramet_redact_error(peer->options.secrets, err);
        return rc;
    }
    *ret = STEAL(doc);
    *ret_ttl_ms = ttl_ms;
    return 0;
}
