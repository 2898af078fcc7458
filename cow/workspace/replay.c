/* SPDX-License-Identifier: Apache-2.0 */
#include "replay.h"

#include "base/cleanup.h"
#include "base/codec.h"
#include "files.h"

#include <string.h>

static int senseless(struct ramet_error *err, const char *what)
{
    return ramet_error_set(err, RAMET_CORRUPT, "the journal of workspaces holds %s", what);
}

static struct ramet_workspace *by_serial(struct ramet_workspaces *set, uint64_t serial)
{
    uint64_t found = 0;
    ramet_u64map_get(&set->serials, serial, &found);
    return (struct ramet_workspace *)(uintptr_t)found;
}

void ramet_wreplay_free(struct ramet_wreplay *replay) { ramet_wspare_free(&replay->spare); }

/* --- heads --- */

/* The same head with another name, sandbox or quota. */
static int update_head(struct ramet_workspaces *set, struct ramet_workspace *to, struct ramet_error *err)
{
    struct ramet_workspace *held = by_serial(set, to->serial);
    if (!held)
        return senseless(err, "a change of a workspace it does not know");
    ramet_workspace_ref(held);
    ramet_whead_unlink(held);
    memcpy(held->id, to->id, sizeof held->id);
    memcpy(held->name, to->name, sizeof held->name);
    memcpy(held->parent, to->parent, sizeof held->parent);
    memcpy(held->sandbox, to->sandbox, sizeof held->sandbox);
    held->quota_bytes = to->quota_bytes;
    held->quota_inodes = to->quota_inodes;
    held->audited = to->audited;
    held->stale = true;
    int r = ramet_whead_link(held, err);
    ramet_workspace_unref(held);
    return r;
}

/* Takes the tree of a head, and its base, or that tree as the base. */
static int take_tree(struct ramet_workspace *head, struct ramet_workspace *origin, struct ramet_workspace *base,
                     struct ramet_error *err)
{
    int r = ramet_wtree_share(&head->tree, &origin->tree, err);
    if (r == 0 && !head->is_state && (!base || base->has_base)) {
        r = ramet_wtree_share(&head->base, base ? &base->base : &origin->tree, err);
        head->has_base = r == 0;
    }
    origin->owner = atomic_fetch_add(&origin->set->next_owner, 1);
    return r;
}

static int add_head(struct ramet_wreplay *replay, struct ramet_workspace *head, uint64_t from, uint64_t base_from,
                    struct ramet_error *err)
{
    struct ramet_workspaces *set = replay->set;
    struct ramet_workspace *origin = from ? by_serial(set, from) : NULL;
    struct ramet_workspace *base = base_from ? by_serial(set, base_from) : NULL;
    int r = 0;
    if (by_serial(set, head->serial) || (from && !origin) || (base_from && !base))
        return senseless(err, "a workspace that is there, or is made of one that is not");
    if (origin && origin->damaged) {
        head->damaged = true;
        memcpy(head->damage, origin->damage, sizeof head->damage);
    } else if (origin) {
        r = take_tree(head, origin, base, err);
    }
    if (r == 0 && base && !head->is_state && strcmp(base->id, head->id) == 0) { /* its next life, of the same name */
        replay->replaced = base->serial;
        ramet_whead_unlink(base);
    }
    return r < 0 ? r : ramet_whead_link(head, err);
}

static int apply_head(struct ramet_wreplay *replay, struct ramet_reader *reader, struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *head = NULL;
    uint64_t from = ramet_reader_u64(reader), base_from = ramet_reader_u64(reader);
    uint32_t size = ramet_reader_u32(reader);
    const uint8_t *bytes = ramet_reader_bytes(reader, size);
    if (!bytes)
        return senseless(err, "a head that is cut off");
    struct ramet_reader record = {.data = bytes, .size = size};
    int r = ramet_whead_new(replay->set, &head, err);
    if (r == 0)
        r = ramet_whead_decode(&record, head, err);
    if (r < 0)
        return r;
    replay->serials = head->serial >= replay->serials ? head->serial + 1 : replay->serials;
    return from == head->serial ? update_head(replay->set, head, err) : add_head(replay, head, from, base_from, err);
}

static int apply_drop(struct ramet_wreplay *replay, struct ramet_reader *reader, struct ramet_error *err)
{
    uint64_t serial = ramet_reader_u64(reader);
    struct ramet_workspace *head = by_serial(replay->set, serial);
    if (!head && serial == replay->replaced)
        return 0;
    if (!head)
        return senseless(err, "the removal of a workspace it does not know");
    ramet_whead_unlink(head);
    return 0;
}

/* --- records of trees --- */

static void damage(struct ramet_workspace *head, const struct ramet_error *err)
{
    head->damaged = true;
    snprintf(head->damage, sizeof head->damage, "workspace \"%s\" cannot be brought up to date: %.200s", head->name,
             err->msg);
}

static int perform(struct ramet_wreplay *replay, struct ramet_workspace *head, const struct ramet_wbytes *key,
                   const uint8_t *value, size_t size, struct ramet_error *err)
{
    struct ramet_error own = {0};
    unsigned height;
    int r = ramet_wtree_prepare(&head->tree, key, &height, &own);
    if (r == 0)
        r = ramet_wspare_reserve(&replay->spare, RAMET_WSPARE_LEAVES, ramet_wspare_inner(height), &own);
    if (r == -RAMET_CORRUPT || r == -RAMET_IO) {
        damage(head, &own);
        return 0;
    }
    if (r < 0) {
        if (err)
            *err = own;
        return r;
    }
    if (value) {
        ramet_wtree_put(&head->tree, &replay->spare, key, value, size);
    } else {
        ramet_wtree_delete(&head->tree, &replay->spare, key);
        ramet_wtree_shrink(&head->tree, key);
    }
    head->stale = true;
    return 0;
}

static int apply_op(struct ramet_wreplay *replay, struct ramet_reader *reader, bool put, struct ramet_workspace *head,
                    struct ramet_error *err)
{
    struct ramet_wbytes bytes;
    struct ramet_wkey key;
    const uint8_t *sizes = ramet_reader_bytes(reader, put ? 4 : 2);
    size_t key_size = sizes ? ramet_load16(sizes) : 0, size = sizes && put ? ramet_load16(sizes + 2) : 0;
    const uint8_t *at = ramet_reader_bytes(reader, key_size), *value = ramet_reader_bytes(reader, size);
    if (reader->failed || size > RAMET_WVALUE_MAX || !ramet_wbytes_get(at, key_size, &key))
        return senseless(err, "a record of a tree that is damaged");
    if (!head)
        return senseless(err, "a change of a tree it does not know");
    if (head->damaged)
        return 0;
    ramet_wbytes_set(&bytes, &key);
    if (key.type == RAMET_WTYPE_INODE && key.ino >= atomic_load(&replay->set->next_ino))
        atomic_store(&replay->set->next_ino, key.ino + 1);
    return perform(replay, head, &bytes, put ? value : NULL, size, err);
}

static int apply(struct ramet_wreplay *replay, const uint8_t *items, size_t size, struct ramet_error *err)
{
    struct ramet_reader reader = {.data = items, .size = size};
    struct ramet_workspace *head = NULL;
    uint64_t serial = 0;
    int r = 0;
    while (r == 0 && reader.at < reader.size) {
        uint8_t kind = ramet_reader_u8(&reader);
        if (kind == RAMET_WITEM_TREE)
            head = by_serial(replay->set, serial = ramet_reader_u64(&reader));
        else if (kind == RAMET_WITEM_PUT || kind == RAMET_WITEM_DELETE)
            r = apply_op(replay, &reader, kind == RAMET_WITEM_PUT, head, err);
        else if (kind == RAMET_WITEM_HEAD)
            r = apply_head(replay, &reader, err);
        else if (kind == RAMET_WITEM_DROP)
            r = apply_drop(replay, &reader, err);
        else if (kind == RAMET_WITEM_BEGIN)
            replay->epoch = ramet_reader_u32(&reader);
        else
            r = senseless(err, "an item of an unknown kind");
        if (kind == RAMET_WITEM_HEAD || kind == RAMET_WITEM_DROP) /* it may be the one that went */
            head = serial ? by_serial(replay->set, serial) : NULL;
        if (r == 0 && reader.failed)
            r = senseless(err, "an item that is cut off");
    }
    return r;
}

/* --- the file --- */

/* Whether a record further on says that one after `sequence` was durable: then it was not torn, but lost. */
static bool was_durable(const uint8_t *data, size_t size, uint64_t sequence)
{
    uint64_t found, durable;
    for (const uint8_t *at = data; size >= RAMET_WJOURNAL_HEADER; at++, size--) {
        const uint8_t *next = memchr(at, 'R', size - RAMET_WJOURNAL_HEADER + 1);
        if (!next)
            return false;
        size -= (size_t)(next - at);
        at = next;
        if (ramet_wjrecord_check(at, size, &found, &durable) && found > sequence && durable > sequence)
            return true;
    }
    return false;
}

int ramet_wreplay_records(struct ramet_wreplay *replay, const uint8_t *data, size_t size, const char *name,
                          size_t *ret_end, struct ramet_error *err)
{
    size_t at = 0, whole;
    uint64_t sequence, durable;
    int r = 0;
    while (r == 0 && (whole = ramet_wjrecord_check(data + at, size - at, &sequence, &durable))) {
        if (replay->began && sequence != replay->sequence + 1)
            break;
        r = apply(replay, data + at + RAMET_WJOURNAL_HEADER, whole - RAMET_WJOURNAL_HEADER, err);
        if (r < 0)
            return ramet_error_prefix(err, "%s at byte %zu", name, at);
        replay->began = true;
        replay->sequence = sequence;
        at += whole;
    }
    if (was_durable(data + at, size - at, replay->sequence)) {
        ramet_error_set(err, RAMET_CORRUPT,
                        "%s is damaged at byte %zu: changes of workspaces that were synced are lost", name, at);
        return ramet_error_hint(err, "put the file back; without it workspaces are as they were before");
    }
    *ret_end = at;
    return 0;
}
