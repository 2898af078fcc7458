/* SPDX-License-Identifier: Apache-2.0 */
/* References within a schema: "#", "#/a/b" (RFC 6901 in a URI fragment), "#anchor". Others lead nowhere. */
#include "base/cleanup.h"
#include "tools/schema_private.h"

#include <string.h>

enum { anchor_depth = 16, anchors_max = 10000, token_max = 512 };

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* One token of a pointer, up to the next '/', decoded; false when it is malformed or too long. */
static bool token(const char **at, char to[static token_max])
{
    size_t used = 0;
    for (; **at && **at != '/'; ++*at) {
        char c = **at;
        if (c == '%') {
            int high = hex((*at)[1]), low = high < 0 ? -1 : hex((*at)[2]);
            if (low < 0)
                return false;
            c = (char)(high << 4 | low);
            *at += 2;
        }
        if (c == '~') {
            char next = (*at)[1];
            if (next != '0' && next != '1')
                return false;
            c = next == '0' ? '~' : '/';
            ++*at;
        }
        if (used + 1 >= token_max)
            return false;
        to[used++] = c;
    }
    to[used] = '\0';
    return true;
}

static const struct ramet_json *step(const struct ramet_json *from, const char *name)
{
    if (!ramet_json_is_array(from))
        return ramet_json_get(from, name);
    char *end;
    unsigned long index = strtoul(name, &end, 10);
    return *name >= '0' && *name <= '9' && !*end ? ramet_json_at(from, index) : NULL;
}

/* The schema below `from` that has this anchor, among the first *left that are looked at. */
static const struct ramet_json *find_anchor(const struct ramet_json *from, const char *name, unsigned depth,
                                            unsigned *left)
{
    const struct ramet_json *child, *found = NULL;
    const char *key;
    void *iter = NULL;
    if (depth == 0 || *left == 0 || !ramet_json_is_object(from))
        return NULL;
    --*left;
    if (strcmp(ramet_json_str(from, "$anchor", ""), name) == 0 ||
        strcmp(ramet_json_str(from, "$dynamicAnchor", ""), name) == 0)
        return from;
    while (!found && ramet_json_next(from, &iter, &key, &child))
        found = find_anchor(child, name, depth - 1, left);
    return found;
}

const struct ramet_json *ramet_schema_ref(const struct ramet_json *root, const char *ref)
{
    char name[token_max];
    unsigned left = anchors_max;
    const char *id = ramet_json_str(root, "$id", "");
    size_t length = strcspn(id, "#");
    if (length && strncmp(ref, id, length) == 0 && (ref[length] == '#' || !ref[length]))
        ref += length;
    if (!*ref)
        return root;
    if (*ref++ != '#')
        return NULL;
    if (*ref && *ref != '/')
        return find_anchor(root, ref, anchor_depth, &left);
    const struct ramet_json *at = root;
    while (at && *ref == '/') {
        ref++;
        at = token(&ref, name) ? step(at, name) : NULL;
    }
    return at;
}
