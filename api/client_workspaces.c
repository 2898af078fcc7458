/* SPDX-License-Identifier: Apache-2.0 */
/* The typed calls on workspaces; client_fields.h says how answers are read. */
#include "base/cleanup.h"
#include "client_fields.h"
#include "json.h"
#include "wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char where[] = "/v1/workspaces/";

static const struct ramet_client_field workspace_fields[] = {
    RAMET_FIELD(STRING, ramet_client_workspace, id),        RAMET_FIELD(STRING, ramet_client_workspace, name),
    RAMET_FIELD(STRING, ramet_client_workspace, parent),    RAMET_FIELD(STRING, ramet_client_workspace, sandbox),
    RAMET_FIELD(STRING, ramet_client_workspace, path),      RAMET_FIELD(U64, ramet_client_workspace, used_bytes),
    RAMET_FIELD(U64, ramet_client_workspace, inodes),       RAMET_FIELD(U64, ramet_client_workspace, quota_bytes),
    RAMET_FIELD(U64, ramet_client_workspace, quota_inodes), RAMET_FIELD(BOOL, ramet_client_workspace, audit_opens),
    RAMET_FIELD(U32, ramet_client_workspace, uid),          RAMET_FIELD(U32, ramet_client_workspace, gid),
    RAMET_FIELD(I64, ramet_client_workspace, created_ms),
};

static const struct ramet_client_field state_fields[] = {
    RAMET_FIELD(STRING, ramet_client_workspace_state, name),
    RAMET_FIELD(STRING, ramet_client_workspace_state, path),
    RAMET_FIELD(I64, ramet_client_workspace_state, created_ms),
};

static const struct ramet_client_field diff_fields[] = {
    RAMET_FIELD(U64, ramet_client_workspace_diff, added),
    RAMET_FIELD(U64, ramet_client_workspace_diff, removed),
    RAMET_FIELD(U64, ramet_client_workspace_diff, changed),
    RAMET_FIELD(U64, ramet_client_workspace_diff, renamed),
    RAMET_FIELD(U64, ramet_client_workspace_diff, lines_added),
    RAMET_FIELD(U64, ramet_client_workspace_diff, lines_removed),
    RAMET_FIELD(U64, ramet_client_workspace_diff, bytes_added),
    RAMET_FIELD(U64, ramet_client_workspace_diff, bytes_removed),
};

static const struct ramet_client_field merged_fields[] = {
    RAMET_FIELD(BOOL, ramet_client_workspace_merged, applied),
    RAMET_FIELD(U64, ramet_client_workspace_merged, unresolved),
    RAMET_FIELD(U64, ramet_client_workspace_merged, names),
    RAMET_FIELD(U64, ramet_client_workspace_merged, files),
    RAMET_FIELD(U64, ramet_client_workspace_merged, merged_texts),
};

static int no_memory(struct ramet_error *err)
{
    return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for an answer");
}

/* A list of plain structs, owned by the caller. */
static int read_list(const struct ramet_json *list, const struct ramet_client_field *fields, size_t count, size_t size,
                     void **ret, size_t *ret_count, struct ramet_error *err)
{
    size_t length = ramet_json_count(list);
    char *items = calloc(length + 1, size);
    if (!items)
        return no_memory(err);
    for (size_t i = 0; i < length; i++)
        ramet_client_read(ramet_json_at(list, i), fields, count, items + i * size);
    *ret = items;
    *ret_count = length;
    return 0;
}

#define READ_LIST(list, fields, ret, ret_count, err)                                                                   \
    read_list(list, fields, sizeof(fields) / sizeof *(fields), sizeof **(ret), (void **)(ret), ret_count, err)

/* ---- calls that answer a workspace, or a state ---- */

static int change(struct ramet_client *client, const char *method, const char *const path[static 3],
                  struct ramet_json *body, struct ramet_client_workspace *ret, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    int rc = ramet_client_ask(client, method, path, body, &answer, err);
    if (rc == 0 && ret)
        RAMET_READ(answer, workspace_fields, ret);
    return rc;
}

int ramet_client_workspaces(struct ramet_client *client, struct ramet_client_workspace **ret, size_t *ret_count,
                            struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    int rc = ramet_client_ask(client, "GET", RAMET_PATH("/v1/workspaces", "", ""), NULL, &answer, err);
    return rc < 0 ? rc : READ_LIST(ramet_json_get(answer, "workspaces"), workspace_fields, ret, ret_count, err);
}

int ramet_client_workspace(struct ramet_client *client, const char *workspace, struct ramet_client_workspace *ret,
                           struct ramet_error *err)
{
    return change(client, "GET", RAMET_PATH(where, workspace, ""), NULL, ret, err);
}

int ramet_client_workspace_create(struct ramet_client *client, const struct ramet_client_workspace_create *request,
                                  struct ramet_client_workspace *ret, struct ramet_error *err)
{
    struct ramet_json *body = ramet_json_object();
    ramet_client_set_string(body, "name", request->name);
    if (request->owned) {
        ramet_json_set_u64(body, "uid", request->uid);
        ramet_json_set_u64(body, "gid", request->gid);
    }
    ramet_client_set_u64(body, "quota_bytes", request->quota_bytes);
    ramet_client_set_u64(body, "quota_inodes", request->quota_inodes);
    if (request->audit_opens)
        ramet_json_set_bool(body, "audit_opens", true);
    return change(client, "POST", RAMET_PATH("/v1/workspaces", "", ""), body, ret, err);
}

int ramet_client_workspace_fork(struct ramet_client *client, const char *workspace, const char *state, const char *name,
                                struct ramet_client_workspace *ret, struct ramet_error *err)
{
    struct ramet_json *body = ramet_json_object();
    ramet_client_set_string(body, "name", name);
    ramet_client_set_string(body, "state", state);
    return change(client, "POST", RAMET_PATH(where, workspace, "/fork"), body, ret, err);
}

int ramet_client_workspace_promote(struct ramet_client *client, const char *workspace,
                                   struct ramet_client_workspace *ret, struct ramet_error *err)
{
    return change(client, "POST", RAMET_PATH(where, workspace, "/promote"), ramet_json_object(), ret, err);
}

int ramet_client_workspace_attach(struct ramet_client *client, const char *workspace, const char *sandbox,
                                  struct ramet_client_workspace *ret, struct ramet_error *err)
{
    struct ramet_json *body = ramet_json_object();
    ramet_client_set_string(body, "sandbox", sandbox);
    return change(client, "POST", RAMET_PATH(where, workspace, "/attach"), body, ret, err);
}

int ramet_client_workspace_snapshot(struct ramet_client *client, const char *workspace, const char *state,
                                    struct ramet_client_workspace_state *ret, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    struct ramet_json *body = ramet_json_object();
    ramet_client_set_string(body, "state", state);
    int rc = ramet_client_ask(client, "POST", RAMET_PATH(where, workspace, "/snapshot"), body, &answer, err);
    if (rc == 0 && ret)
        RAMET_READ(answer, state_fields, ret);
    return rc;
}

int ramet_client_workspace_rollback(struct ramet_client *client, const char *workspace, const char *state,
                                    struct ramet_client_workspace_state *ret, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    struct ramet_json *body = ramet_json_object();
    ramet_client_set_string(body, "state", state);
    int rc = ramet_client_ask(client, "POST", RAMET_PATH(where, workspace, "/rollback"), body, &answer, err);
    if (rc == 0 && ret)
        RAMET_READ(ramet_json_get(answer, "before"), state_fields, ret);
    return rc;
}

int ramet_client_workspace_history(struct ramet_client *client, const char *workspace,
                                   struct ramet_client_workspace_state **ret, size_t *ret_count,
                                   struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    int rc = ramet_client_ask(client, "GET", RAMET_PATH(where, workspace, "/history"), NULL, &answer, err);
    return rc < 0 ? rc : READ_LIST(ramet_json_get(answer, "states"), state_fields, ret, ret_count, err);
}

int ramet_client_remove_workspace(struct ramet_client *client, const char *workspace, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    return ramet_client_ask(client, "DELETE", RAMET_PATH(where, workspace, ""), NULL, &answer, err);
}

/* ---- diff ---- */

void ramet_client_workspace_diff_free(struct ramet_client_workspace_diff *diff)
{
    for (size_t i = 0; i < diff->count; i++) {
        free(diff->changes[i].path);
        free(diff->changes[i].old_path);
    }
    free(diff->changes);
    free(diff->patch);
    *diff = (struct ramet_client_workspace_diff){0};
}

static int read_changes(const struct ramet_json *items, struct ramet_client_workspace_diff *diff,
                        struct ramet_error *err)
{
    size_t count = ramet_json_count(items);
    diff->changes = calloc(count + 1, sizeof *diff->changes);
    for (size_t i = 0; diff->changes && i < count; i++) {
        struct ramet_client_workspace_change *to = &diff->changes[diff->count++];
        const struct ramet_json *item = ramet_json_at(items, i);
        const char *old = ramet_json_str(item, "old_path", NULL);
        snprintf(to->what, sizeof to->what, "%s", ramet_json_str(item, "what", ""));
        to->path = strdup(ramet_json_str(item, "path", ""));
        to->old_path = old ? strdup(old) : NULL;
        if (!to->path || (old && !to->old_path))
            return no_memory(err);
    }
    return diff->changes ? 0 : no_memory(err);
}

int ramet_client_workspace_diff(struct ramet_client *client, const char *workspace, const char *against, bool patch,
                                struct ramet_client_workspace_diff *ret, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    _cleanup_(ramet_client_workspace_diff_free) struct ramet_client_workspace_diff diff = {0};
    _autofree_ char *query =
        ramet_client_path(patch ? "/diff?patch=1&against=" : "/diff?against=", against ? against : "", "");
    int rc = query ? ramet_client_ask(client, "GET", RAMET_PATH(where, workspace, query), NULL, &answer, err)
                   : no_memory(err);
    if (rc == 0)
        rc = read_changes(ramet_json_get(answer, "items"), &diff, err);
    if (rc == 0 && patch)
        rc = ramet_wire_get_bytes(answer, "patch", &diff.patch, &diff.patch_size, err);
    if (rc < 0)
        return rc;
    RAMET_READ(answer, diff_fields, &diff);
    *ret = diff;
    diff = (struct ramet_client_workspace_diff){0};
    return 0;
}

/* ---- merge ---- */

void ramet_client_workspace_merged_free(struct ramet_client_workspace_merged *merged)
{
    for (size_t i = 0; i < merged->conflict_count; i++)
        free(merged->conflicts[i].path);
    free(merged->conflicts);
    *merged = (struct ramet_client_workspace_merged){0};
}

static struct ramet_json *merge_body(const struct ramet_client_workspace_merge *request)
{
    struct ramet_json *body = ramet_json_object();
    ramet_client_set_string(body, "from", request->from);
    ramet_client_set_string(body, "base", request->base);
    ramet_client_set_string(body, "strategy", request->strategy);
    if (request->whole_files)
        ramet_json_set_bool(body, "whole_files", true);
    if (request->dry_run)
        ramet_json_set_bool(body, "dry_run", true);
    return body;
}

int ramet_client_workspace_merge(struct ramet_client *client, const char *workspace,
                                 const struct ramet_client_workspace_merge *request,
                                 struct ramet_client_workspace_merged *ret, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    _cleanup_(ramet_client_workspace_merged_free) struct ramet_client_workspace_merged merged = {0};
    int rc =
        ramet_client_ask(client, "POST", RAMET_PATH(where, workspace, "/merge"), merge_body(request), &answer, err);
    if (rc < 0)
        return rc;
    const struct ramet_json *conflicts = ramet_json_get(answer, "conflicts");
    size_t count = ramet_json_count(conflicts);
    merged.conflicts = calloc(count + 1, sizeof *merged.conflicts);
    if (!merged.conflicts)
        return no_memory(err);
    while (merged.conflict_count < count) {
        struct ramet_client_workspace_conflict *to = &merged.conflicts[merged.conflict_count];
        const struct ramet_json *conflict = ramet_json_at(conflicts, merged.conflict_count++);
        snprintf(to->kind, sizeof to->kind, "%s", ramet_json_str(conflict, "kind", ""));
        if (!(to->path = strdup(ramet_json_str(conflict, "path", ""))))
            return no_memory(err);
    }
    RAMET_READ(answer, merged_fields, &merged);
    *ret = merged;
    merged = (struct ramet_client_workspace_merged){0};
    return 0;
}

/* ---- archives ---- */

int ramet_client_workspace_import(struct ramet_client *client, const char *workspace,
                                  const struct ramet_client_workspace_import *request,
                                  struct ramet_client_workspace *ret, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *parsed = NULL;
    _autofree_ char *answer = NULL, *into = NULL, *path = NULL;
    if (request->into && (into = ramet_client_path("/tar?into=", request->into, "")))
        path = ramet_client_path(where, workspace, into);
    else if (!request->into)
        path = ramet_client_path("/v1/workspaces/import?name=", workspace, "");
    if (!path)
        return no_memory(err);
    int rc =
        ramet_client_send(client, request->into ? "PUT" : "POST", path, request->read, request->context, &answer, err);
    if (rc == 0)
        rc = ramet_json_parse(answer, strlen(answer), &parsed, err);
    if (rc == 0 && ret)
        RAMET_READ(parsed, workspace_fields, ret);
    return rc;
}

int ramet_client_workspace_export(struct ramet_client *client, const char *workspace, const char *state,
                                  const char *path, bool (*write)(void *context, const char *bytes, size_t size),
                                  void *context, struct ramet_error *err)
{
    _autofree_ char *of = ramet_client_path("/tar?state=", state ? state : "", "&path=");
    _autofree_ char *below = of ? ramet_client_path(of, path ? path : "", "") : NULL;
    _autofree_ char *full = below ? ramet_client_path(where, workspace, below) : NULL;
    return full ? ramet_client_receive(client, full, write, context, err) : no_memory(err);
}
