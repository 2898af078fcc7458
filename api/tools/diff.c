/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/diff.h"

#include "base/cleanup.h"
#include "json.h"
#include "tools/catalogue.h"

#include <stdio.h>
#include <string.h>

enum { paths_max = 50, depth_max = 16, path_size = 200 };

struct named {
    const char *name;
    const struct ramet_json *entry;
};

/* ---- where two values differ ---- */

static void add_path(struct ramet_json *paths, const char *path)
{
    if (ramet_json_count(paths) < paths_max)
        ramet_json_append(paths, ramet_json_string(path));
}

static void compare(const struct ramet_json *a, const struct ramet_json *b, const char *path, unsigned depth,
                    struct ramet_json *paths);

/* Members of `a` that are not in `b`, or differ there; the other way round only those that are new. */
static void compare_members(const struct ramet_json *a, const struct ramet_json *b, const char *path, unsigned depth,
                            bool only_new, struct ramet_json *paths)
{
    const struct ramet_json *value;
    const char *key;
    void *iter = NULL;
    while (ramet_json_next(a, &iter, &key, &value)) {
        char below[path_size];
        const struct ramet_json *other = ramet_json_get(b, key);
        snprintf(below, sizeof below, "%s%s%s", path, *path ? "." : "", key);
        if (!other)
            add_path(paths, below);
        else if (!only_new)
            compare(value, other, below, depth, paths);
    }
}

static void compare(const struct ramet_json *a, const struct ramet_json *b, const char *path, unsigned depth,
                    struct ramet_json *paths)
{
    if (ramet_json_equal(a, b))
        return;
    if (!ramet_json_is_object(a) || !ramet_json_is_object(b) || depth == 0) {
        add_path(paths, path);
        return;
    }
    compare_members(a, b, path, depth - 1, false, paths);
    compare_members(b, a, path, depth - 1, true, paths);
}

/* ---- lists ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

/* Sorted by name; NULL when memory ran out. */
static struct named *sorted(const struct ramet_json *list, const char *key, size_t *ret_count)
{
    size_t count = ramet_json_count(list);
    struct named *names = calloc(count + 1, sizeof *names);
    for (size_t i = 0; names && i < count; i++)
        names[i] = (struct named){ramet_json_str(ramet_json_at(list, i), key, ""), ramet_json_at(list, i)};
    if (names)
        qsort(names, count, sizeof *names, by_name);
    *ret_count = count;
    return names;
}

static void add_change(struct ramet_json *changes, const char *kind, const char *name, const char *change,
                       struct ramet_json *paths)
{
    struct ramet_json *item = ramet_json_object();
    ramet_json_set_string(item, "kind", kind);
    ramet_json_set_string(item, "name", name);
    ramet_json_set_string(item, "change", change);
    ramet_json_set(item, "paths", paths ? paths : ramet_json_array());
    ramet_json_append(changes, item);
}

static void compare_entries(struct ramet_json *changes, const char *kind, const struct named *a, const struct named *b)
{
    if (ramet_json_equal(a->entry, b->entry))
        return;
    struct ramet_json *paths = ramet_json_array();
    compare(a->entry, b->entry, "", depth_max, paths);
    add_change(changes, kind, a->name, "changed", paths);
}

/* Both sides at once, as in a merge. */
static int compare_lists(struct ramet_json *changes, const char *kind, const char *key, const struct ramet_json *from,
                         const struct ramet_json *to, struct ramet_error *err)
{
    size_t from_count = 0, to_count = 0, i = 0, k = 0;
    _autofree_ struct named *a = sorted(from, key, &from_count);
    _autofree_ struct named *b = sorted(to, key, &to_count);
    if (!a || !b)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to compare two versions");
    while (i < from_count || k < to_count) {
        int order = i == from_count ? 1 : k == to_count ? -1 : strcmp(a[i].name, b[k].name);
        if (order < 0)
            add_change(changes, kind, a[i++].name, "removed", NULL);
        else if (order > 0)
            add_change(changes, kind, b[k++].name, "added", NULL);
        else
            compare_entries(changes, kind, &a[i++], &b[k++]);
    }
    return 0;
}

/* ---- documents ---- */

static void compare_server(struct ramet_json *changes, const struct ramet_tools_doc *from,
                           const struct ramet_tools_doc *to)
{
    static const char *const members[] = {"protocolVersion", "capabilities", "serverInfo", "instructions"};
    struct ramet_json *paths = ramet_json_array();
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        const struct ramet_json *a = ramet_json_get(ramet_tools_doc_json(from), members[i]);
        const struct ramet_json *b = ramet_json_get(ramet_tools_doc_json(to), members[i]);
        if (a && b)
            compare(a, b, members[i], depth_max, paths);
        else if (a || b)
            add_path(paths, members[i]);
    }
    if (ramet_json_count(paths))
        add_change(changes, "server", ramet_tools_doc_server(to), "changed", paths);
    else
        ramet_json_free(paths);
}

int ramet_tools_diff(const struct ramet_tools_doc *from, const struct ramet_tools_doc *to, struct ramet_json **ret,
                     struct ramet_error *err)
{
    static const char *const lists[][3] = {{"tools", "tool", "name"},
                                           {"prompts", "prompt", "name"},
                                           {"resources", "resource", "uri"},
                                           {"resourceTemplates", "resource template", "name"}};
    struct ramet_json *changes = ramet_json_array();
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof lists / sizeof *lists; i++)
        rc = compare_lists(changes, lists[i][1], lists[i][2], ramet_json_get(ramet_tools_doc_json(from), lists[i][0]),
                           ramet_json_get(ramet_tools_doc_json(to), lists[i][0]), err);
    if (rc < 0) {
        ramet_json_free(changes);
        return rc;
    }
    compare_server(changes, from, to);
    *ret = ramet_json_object();
    ramet_json_set_string(*ret, "server", ramet_tools_doc_server(to));
    ramet_json_set_u64(*ret, "from", ramet_tools_doc_version(from));
    ramet_json_set_u64(*ret, "to", ramet_tools_doc_version(to));
    ramet_json_set(*ret, "changes", changes);
    return 0;
}
