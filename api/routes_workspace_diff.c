/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/workspaces/{workspace}/diff and merge. */
#include "base/cleanup.h"
#include "json.h"
#include "routes_table.h"
#include "service_workspaces.h"
#include "wire.h"
#include "workspace/diff.h"
#include "workspace/merge.h"

#include <string.h>

/* --- difference --- */

static struct ramet_json *item_json(const struct ramet_wdiff_item *item)
{
    struct ramet_json *o = ramet_json_object();
    char words[128];
    ramet_wdiff_words(item->what, words, sizeof words);
    ramet_json_set_string(o, "path", item->path);
    if (item->old_path)
        ramet_json_set_string(o, "old_path", item->old_path);
    ramet_json_set_string(o, "what", words);
    if (item->after.ino)
        ramet_json_set_u64(o, "size_bytes", item->after.size);
    if (item->before.ino)
        ramet_json_set_u64(o, "old_size_bytes", item->before.size);
    return o;
}

static int add_patch(struct ramet_wdiff *diff, struct ramet_json *to, struct ramet_error *err)
{
    _autofree_ char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a patch");
    int rc = ramet_wdiff_print_patch(diff, out, err);
    if (fclose(out) != 0 && rc == 0)
        rc = ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a patch");
    if (rc == 0)
        ramet_wire_set_bytes(to, "patch", text, size);
    return rc;
}

static int diff_json(struct ramet_wdiff *diff, bool patch, struct ramet_json *to, struct ramet_error *err)
{
    struct ramet_wdiff_stat stat;
    struct ramet_json *items = ramet_json_array();
    for (size_t i = 0; i < diff->count; i++)
        ramet_json_append(items, item_json(&diff->items[i]));
    ramet_json_set(to, "items", items);
    int rc = ramet_wdiff_print_stat(diff, NULL, &stat, err);
    if (rc < 0)
        return rc;
    ramet_json_set_u64(to, "added", stat.added);
    ramet_json_set_u64(to, "removed", stat.removed);
    ramet_json_set_u64(to, "changed", stat.changed);
    ramet_json_set_u64(to, "renamed", stat.renamed);
    ramet_json_set_u64(to, "lines_added", stat.lines_added);
    ramet_json_set_u64(to, "lines_removed", stat.lines_removed);
    ramet_json_set_u64(to, "bytes_added", stat.bytes_added);
    ramet_json_set_u64(to, "bytes_removed", stat.bytes_removed);
    return patch ? add_patch(diff, to, err) : 0;
}

int ramet_route_workspace_diff(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    _cleanup_(ramet_wdiff_cleanup) struct ramet_wdiff *diff = NULL;
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = ramet_json_object();
    const char *against = NULL, *patch = NULL;
    ramet_call_query(call, "against", &against, NULL); /* may be absent */
    ramet_call_query(call, "patch", &patch, NULL);
    int rc = ramet_service_workspace_diff(ramet_call_service(call), call->param, against, &diff, err);
    if (rc == 0)
        rc = diff_json(diff, patch && strcmp(patch, "1") == 0, answer, err);
    if (rc == 0)
        *ret = STEAL(answer);
    return rc;
}

/* --- merge --- */

static int want_take(const char *text, const char *key, enum ramet_wtake *ret, struct ramet_error *err)
{
    if (text && strcmp(text, "ours") != 0 && strcmp(text, "theirs") != 0)
        return ramet_error_set(err, RAMET_INVALID, "\"%.200s\" must be \"ours\" or \"theirs\", not \"%.100s\"", key,
                               text);
    *ret = !text ? RAMET_WTAKE_NONE : strcmp(text, "ours") == 0 ? RAMET_WTAKE_OURS : RAMET_WTAKE_THEIRS;
    return 0;
}

/* {"path": "ours", ...}; *ret is owned by the caller, its paths by the body. */
static int want_resolutions(const struct ramet_json *body, struct ramet_wresolution **ret, size_t *ret_count,
                            struct ramet_error *err)
{
    const struct ramet_json *object = ramet_json_get(body, "resolutions"), *value;
    const char *path;
    void *iter = NULL;
    if (!object)
        return 0;
    if (!ramet_json_is_object(object))
        return ramet_error_set(err, RAMET_INVALID, "\"resolutions\" must be an object of paths");
    struct ramet_wresolution *all = calloc(ramet_json_count(object) + 1, sizeof *all);
    if (!all)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for resolutions");
    *ret = all;
    while (ramet_json_next(object, &iter, &path, &value)) {
        const char *text = ramet_json_string_value(value);
        int rc = want_take(text ? text : "", path, &all[*ret_count].take, err);
        if (rc < 0)
            return rc;
        all[(*ret_count)++].path = path;
    }
    return 0;
}

static struct ramet_json *merge_json(const struct ramet_wmerge_result *result)
{
    struct ramet_json *o = ramet_json_object(), *list = ramet_json_array();
    ramet_json_set_bool(o, "applied", result->applied);
    for (size_t i = 0; i < result->conflict_count; i++) {
        struct ramet_json *conflict = ramet_json_object();
        ramet_json_set_string(conflict, "kind", ramet_wconflict_name(result->conflicts[i].kind));
        ramet_json_set_string(conflict, "path", result->conflicts[i].path);
        ramet_json_append(list, conflict);
    }
    ramet_json_set(o, "conflicts", list);
    ramet_json_set_u64(o, "unresolved", result->unresolved);
    ramet_json_set_u64(o, "names", result->names);
    ramet_json_set_u64(o, "files", result->files);
    ramet_json_set_u64(o, "merged_texts", result->merged_texts);
    return o;
}

static int read_merge(const struct ramet_json *body, const char **from, const char **base,
                      struct ramet_wmerge_options *options, struct ramet_wresolution **resolutions,
                      struct ramet_error *err)
{
    static const char *const keys[] = {"from", "base", "strategy", "resolutions", "whole_files", "dry_run", NULL};
    const char *strategy = NULL;
    int rc = ramet_json_want_only(body, keys, err);
    if (rc == 0)
        rc = ramet_json_want_string(body, "from", from, err);
    if (rc == 0 && !*from)
        rc = ramet_error_set(err, RAMET_INVALID, "\"from\" is missing");
    if (rc == 0)
        rc = ramet_json_want_string(body, "base", base, err);
    if (rc == 0)
        rc = ramet_json_want_string(body, "strategy", &strategy, err);
    if (rc == 0)
        rc = want_take(strategy, "strategy", &options->strategy, err);
    if (rc == 0)
        rc = ramet_json_want_bool(body, "whole_files", &options->whole_files, err);
    if (rc == 0)
        rc = ramet_json_want_bool(body, "dry_run", &options->dry_run, err);
    if (rc == 0)
        rc = want_resolutions(body, resolutions, &options->resolution_count, err);
    options->resolutions = *resolutions;
    return rc;
}

int ramet_route_workspace_merge(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    _autofree_ struct ramet_wresolution *resolutions = NULL;
    struct ramet_wmerge_options options = {0};
    struct ramet_wmerge_result result = {0};
    const char *from = NULL, *base = NULL;
    int rc = read_merge(call->body, &from, &base, &options, &resolutions, err);
    if (rc == 0)
        rc = ramet_service_workspace_merge(ramet_call_service(call), call->param, from, base, &options, &result, err);
    if (rc < 0)
        return rc;
    *ret = merge_json(&result);
    ramet_wmerge_result_free(&result);
    return 0;
}
