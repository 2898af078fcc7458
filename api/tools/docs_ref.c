/* SPDX-License-Identifier: Apache-2.0 */
/* Where a reference leads. Only inside of the same document: nothing is ever fetched. */
#include "docs_type_private.h"

#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* One part of a JSON pointer in a fragment, without its %XX and ~0, ~1; false when it is too long or malformed. */
static bool take_part(const char **at, char *part, size_t size)
{
    size_t length = 0;
    while (**at && **at != '/') {
        char c = *(*at)++;
        if (c == '%') {
            if (hex((*at)[0]) < 0 || hex((*at)[1]) < 0)
                return false;
            c = (char)(hex((*at)[0]) << 4 | hex((*at)[1]));
            *at += 2;
        }
        if (length + 1 >= size)
            return false;
        part[length++] = c;
    }
    part[length] = 0;
    char *to = part;
    for (char *from = part; *from; from++) {
        if (from[0] == '~' && (from[1] == '0' || from[1] == '1'))
            *to++ = *++from == '0' ? '~' : '/';
        else
            *to++ = *from;
    }
    *to = 0;
    return true;
}

static const struct ramet_json *member(const struct ramet_json *object, const char *key, const char **ret_name)
{
    void *iter = NULL;
    const char *name;
    const struct ramet_json *value;
    while (ramet_json_is_object(object) && ramet_json_next(object, &iter, &name, &value))
        if (strcmp(name, key) == 0) {
            *ret_name = name;
            return value;
        }
    return NULL;
}

static const struct ramet_json *follow_pointer(const struct ramet_json *at, const char *pointer, const char **ret_name)
{
    char part[512];
    while (at && *pointer == '/') {
        pointer++;
        if (!take_part(&pointer, part, sizeof part))
            return NULL;
        if (ramet_json_is_array(at)) {
            char *end;
            unsigned long index = strtoul(part, &end, 10);
            at = *part && !*end ? ramet_json_at(at, index) : NULL;
        } else {
            at = member(at, part, ret_name);
        }
    }
    return *pointer ? NULL : at;
}

/* One of the definitions that calls itself so. */
static const struct ramet_json *find_called(const struct ramet_json *document, const char *key, const char *what,
                                            const char **ret_name)
{
    static const char *const places[] = {"$defs", "definitions"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const struct ramet_json *all = ramet_json_get(document, places[i]), *one;
        void *iter = NULL;
        const char *name;
        while (ramet_json_is_object(all) && ramet_json_next(all, &iter, &name, &one))
            if (ramet_json_is_object(one) && strcmp(ramet_json_str(one, key, ""), what) == 0) {
                *ret_name = name;
                return one;
            }
    }
    return NULL;
}

const struct ramet_json *docs_ref_find(const struct ramet_json *document, const char *ref, const char **ret_name)
{
    const char *id = ramet_json_str(document, "$id", NULL);
    size_t id_size = id ? strcspn(id, "#") : 0;
    if (id_size && strncmp(ref, id, id_size) == 0 && (ref[id_size] == '#' || ref[id_size] == 0))
        ref += id_size; /* the document by its own name */
    if (*ref == 0 || strcmp(ref, "#") == 0)
        return document;
    if (*ref != '#')
        return find_called(document, "$id", ref, ret_name);
    if (ref[1] == '/')
        return follow_pointer(document, ref + 1, ret_name);
    const struct ramet_json *found = find_called(document, "$anchor", ref + 1, ret_name);
    return found ? found : find_called(document, "$dynamicAnchor", ref + 1, ret_name);
}
