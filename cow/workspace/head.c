/* SPDX-License-Identifier: Apache-2.0 */
/* Heads: their objects, the list of them, their record. */
#include "workspace_private.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "catalog_private.h"
#include "files.h"

#include <string.h>

int ramet_whead_new(struct ramet_workspaces *set, struct ramet_workspace **ret, struct ramet_error *err)
{
    struct ramet_workspace *workspace = calloc(1, sizeof *workspace);
    if (!workspace)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a workspace");
    atomic_init(&workspace->refs, 1);
    workspace->set = set;
    workspace->serial = atomic_fetch_add(&set->catalog->next_serial, 1);
    workspace->owner = atomic_fetch_add(&set->next_owner, 1);
    workspace->created_ms = ramet_now_ms();
    workspace->stale = true;
    ramet_id_make(workspace->id);
    pthread_rwlock_init(&workspace->lock, NULL);
    ramet_wtree_init(&workspace->tree, set->store, RAMET_CHUNK_ZERO);
    ramet_wtree_init(&workspace->base, set->store, RAMET_CHUNK_ZERO);
    *ret = workspace;
    return 0;
}

struct ramet_workspace *ramet_workspace_ref(struct ramet_workspace *workspace)
{
    atomic_fetch_add(&workspace->refs, 1);
    return workspace;
}

void ramet_workspace_unref(struct ramet_workspace *workspace)
{
    if (!workspace || atomic_fetch_sub(&workspace->refs, 1) != 1)
        return;
    ramet_wfiles_close(workspace);
    ramet_wmaintain_bury(&workspace->set->maintain, &workspace->tree);
    ramet_wmaintain_bury(&workspace->set->maintain, &workspace->base);
    pthread_rwlock_destroy(&workspace->lock);
    free(workspace);
}

void ramet_workspace_cleanup(struct ramet_workspace **workspace) { ramet_workspace_unref(*workspace); }

/* --- the lists --- */

/* Index of `name` among the workspaces, or where it belongs. */
static size_t position(const struct ramet_workspaces *set, const char *name, bool *ret_found)
{
    size_t low = 0, high = set->head_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(set->heads[middle]->name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_found = low < set->head_count && strcmp(set->heads[low]->name, name) == 0;
    return low;
}

static bool make_room(struct ramet_workspace ***list, size_t count, size_t *capacity)
{
    if (count < *capacity)
        return true;
    size_t grown_to = *capacity ? *capacity * 2 : 64;
    struct ramet_workspace **grown = reallocarray(*list, grown_to, sizeof *grown);
    if (!grown)
        return false;
    *list = grown;
    *capacity = grown_to;
    return true;
}

static void insert(struct ramet_workspace **list, size_t *count, size_t at, struct ramet_workspace *workspace)
{
    memmove(&list[at + 1], &list[at], (*count - at) * sizeof *list);
    list[at] = workspace;
    ++*count;
}

int ramet_whead_link(struct ramet_workspace *workspace, struct ramet_error *err)
{
    struct ramet_workspaces *set = workspace->set;
    bool found = false, room;
    size_t at = set->state_count;
    if (workspace->is_state)
        room = make_room(&set->states, set->state_count, &set->state_capacity);
    else {
        at = position(set, workspace->name, &found);
        room = make_room(&set->heads, set->head_count, &set->head_capacity);
    }
    if (found) {
        ramet_error_set(err, RAMET_EXISTS, "a workspace is named \"%s\" already", workspace->name);
        return ramet_error_hint(err, "'ramet workspace ls' lists them");
    }
    if (!room || !ramet_u64map_put(&set->serials, workspace->serial, (uintptr_t)workspace))
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for workspace \"%s\"", workspace->name);
    ramet_workspace_ref(workspace);
    while (workspace->is_state && at > 0 && set->states[at - 1]->serial > workspace->serial)
        at--;
    if (workspace->is_state)
        insert(set->states, &set->state_count, at, workspace);
    else
        insert(set->heads, &set->head_count, at, workspace);
    return 0;
}

void ramet_whead_unlink(struct ramet_workspace *workspace)
{
    struct ramet_workspaces *set = workspace->set;
    struct ramet_workspace **list = workspace->is_state ? set->states : set->heads;
    size_t *count = workspace->is_state ? &set->state_count : &set->head_count, at = 0;
    uint64_t held;
    if (!ramet_u64map_get(&set->serials, workspace->serial, &held) || held != (uintptr_t)workspace)
        return;
    if (!workspace->is_state) {
        bool found;
        at = position(set, workspace->name, &found);
    }
    while (list[at] != workspace)
        at++;
    memmove(&list[at], &list[at + 1], (--*count - at) * sizeof *list);
    ramet_u64map_remove(&set->serials, workspace->serial);
    ramet_workspace_unref(workspace);
}

struct ramet_workspace *ramet_whead_named(struct ramet_workspaces *set, const char *name)
{
    bool found;
    size_t at = position(set, name, &found);
    return found ? set->heads[at] : NULL;
}

void ramet_whead_audit_states(struct ramet_workspace *workspace)
{
    struct ramet_workspaces *set = workspace->set;
    for (size_t i = 0; i < set->state_count; i++)
        if (strcmp(set->states[i]->id, workspace->id) == 0)
            set->states[i]->audited = workspace->audited;
}

/* --- records --- */

enum { FLAG_STATE = 1, FLAG_AUDITED = 2 };

void ramet_whead_encode(const struct ramet_workspace *workspace, struct ramet_buf *buf)
{
    ramet_buf_put_u64(buf, workspace->serial);
    ramet_buf_put_u8(buf, (workspace->is_state ? FLAG_STATE : 0) | (workspace->audited ? FLAG_AUDITED : 0));
    ramet_buf_put_str(buf, workspace->id);
    ramet_buf_put_str(buf, workspace->name);
    ramet_buf_put_str(buf, workspace->parent);
    ramet_buf_put_str(buf, workspace->sandbox);
    ramet_buf_put_u64(buf, (uint64_t)workspace->created_ms);
    ramet_buf_put_u64(buf, workspace->quota_bytes);
    ramet_buf_put_u64(buf, workspace->quota_inodes);
    ramet_buf_put_u32(buf, workspace->uid);
    ramet_buf_put_u32(buf, workspace->gid);
}

int ramet_whead_decode(struct ramet_reader *reader, struct ramet_workspace *workspace, struct ramet_error *err)
{
    workspace->serial = ramet_reader_u64(reader);
    uint8_t flags = ramet_reader_u8(reader);
    workspace->is_state = flags & FLAG_STATE;
    workspace->audited = flags & FLAG_AUDITED;
    bool ok = ramet_reader_field(reader, workspace->id, sizeof workspace->id) &&
              ramet_reader_field(reader, workspace->name, sizeof workspace->name) &&
              ramet_reader_field(reader, workspace->parent, sizeof workspace->parent) &&
              ramet_reader_field(reader, workspace->sandbox, sizeof workspace->sandbox);
    workspace->created_ms = (int64_t)ramet_reader_u64(reader);
    workspace->quota_bytes = ramet_reader_u64(reader);
    workspace->quota_inodes = ramet_reader_u64(reader);
    workspace->uid = ramet_reader_u32(reader);
    workspace->gid = ramet_reader_u32(reader);
    if (!ok || reader->failed || flags > (FLAG_STATE | FLAG_AUDITED) || workspace->serial == 0 ||
        workspace->serial > INT64_MAX)
        return ramet_error_set(err, RAMET_CORRUPT, "the record of a workspace is damaged");
    workspace->announced = true;
    return 0;
}

int ramet_whead_note(struct ramet_workspace *workspace, uint64_t from, uint64_t base_from,
                     struct ramet_wjrecord **record, struct ramet_error *err)
{
    _cleanup_(ramet_buf_free) struct ramet_buf buf = {0};
    ramet_whead_encode(workspace, &buf);
    if (buf.failed || !ramet_wjrecord_grow(record, 21 + buf.size + 9))
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for workspace \"%s\"", workspace->name);
    ramet_wjrecord_put_u8(*record, RAMET_WITEM_HEAD);
    ramet_wjrecord_put_u64(*record, from);
    ramet_wjrecord_put_u64(*record, base_from);
    ramet_wjrecord_put_u32(*record, (uint32_t)buf.size);
    ramet_wjrecord_put(*record, buf.data, buf.size);
    return 0;
}

int ramet_whead_note_drop(uint64_t serial, struct ramet_wjrecord **record, struct ramet_error *err)
{
    if (!ramet_wjrecord_grow(record, 9))
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to remove a workspace");
    ramet_wjrecord_put_u8(*record, RAMET_WITEM_DROP);
    ramet_wjrecord_put_u64(*record, serial);
    return 0;
}

int ramet_whead_announce(struct ramet_workspace *workspace, struct ramet_wjrecord **record, struct ramet_error *err)
{
    pthread_mutex_lock(&workspace->set->names);
    int r = ramet_whead_note(workspace, 0, 0, record, err);
    pthread_mutex_unlock(&workspace->set->names);
    return r;
}

int ramet_whead_branch_off(struct ramet_workspace *from, struct ramet_workspace *to, struct ramet_error *err)
{
    int r = ramet_wtree_share(&to->tree, &from->tree, err);
    if (r == 0 && !to->is_state && !to->has_base) {
        r = ramet_wtree_share(&to->base, &from->tree, err);
        to->has_base = r == 0;
    }
    if (r < 0)
        return r;
    to->uid = from->uid;
    to->gid = from->gid;
    if ((r = ramet_wfiles_open(to, err)) < 0)
        return r;
    from->owner = atomic_fetch_add(&from->set->next_owner, 1);
    to->announced = true;
    return 0;
}
