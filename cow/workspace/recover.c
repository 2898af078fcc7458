/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening: heads as the last checkpoint wrote them, then the journals of the epochs since,
 * oldest first, each up to its first record that is not intact. What was torn is cut off,
 * everything read is synced, and a new epoch begins, so that nothing is written behind
 * what was read. The old epochs' pages go to the store with the next checkpoint.
 */
#include "base/cleanup.h"
#include "base/file.h"
#include "base/record.h"
#include "catalog_private.h"
#include "epoch.h"
#include "files.h"
#include "replay.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* --- the store's records --- */

static int load_set(struct ramet_workspaces *set, const void *value, size_t size, struct ramet_wreplay *replay,
                    uint32_t *ret_epoch, struct ramet_error *err)
{
    struct ramet_reader reader;
    uint16_t version;
    int r = ramet_record_open(value, size, RAMET_WSET_MAGIC, RAMET_WRECORD_VERSION, "the record of all workspaces",
                              &reader, &version, err);
    if (r < 0)
        return r;
    *ret_epoch = ramet_reader_u32(&reader);
    atomic_store(&set->next_ino, ramet_reader_u64(&reader));
    replay->serials = ramet_reader_u64(&reader);
    return reader.failed ? ramet_error_set(err, RAMET_CORRUPT, "the record of all workspaces is damaged") : 0;
}

static int load_head(struct ramet_workspaces *set, const void *value, size_t size, struct ramet_wreplay *replay,
                     struct ramet_error *err)
{
    _cleanup_(ramet_workspace_cleanup) struct ramet_workspace *head = NULL;
    struct ramet_reader reader;
    uint16_t version;
    int r = ramet_record_open(value, size, RAMET_WRECORD_MAGIC, RAMET_WRECORD_VERSION, "the record of a workspace",
                              &reader, &version, err);
    if (r == 0)
        r = ramet_whead_new(set, &head, err);
    if (r == 0)
        r = ramet_whead_decode(&reader, head, err);
    if (r < 0)
        return r;
    ramet_wtree_init(&head->tree, set->store, ramet_reader_u64(&reader));
    head->has_base = ramet_reader_u8(&reader);
    ramet_wtree_init(&head->base, set->store, ramet_reader_u64(&reader));
    if (reader.failed)
        return ramet_error_set(err, RAMET_CORRUPT, "the record of workspace \"%s\" is damaged", head->name);
    head->stale = false;
    replay->serials = head->serial >= replay->serials ? head->serial + 1 : replay->serials;
    return ramet_whead_link(head, err);
}

static int load_store(struct ramet_workspaces *set, struct ramet_wreplay *replay, uint32_t *ret_epoch,
                      struct ramet_error *err)
{
    struct ramet_kv_iter *iter = ramet_kv_iter_new(ramet_store_kv(set->store), RAMET_KV_WORKSPACES, NULL, 0);
    size_t key_size, size;
    const void *key, *value;
    int r = iter ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to load workspaces");
    while (r == 0 && ramet_kv_iter_next(iter, &key, &key_size, &value, &size)) {
        if (key_size == strlen(RAMET_WSET_KEY))
            r = load_set(set, value, size, replay, ret_epoch, err);
        else
            r = load_head(set, value, size, replay, err);
    }
    if (r == 0)
        r = ramet_kv_iter_status(iter, err);
    ramet_kv_iter_free(iter);
    return r;
}

/* --- the files --- */

/* The highest epoch there are files of; those before `first` go: a checkpoint was cut off before it removed them. */
static int survey(struct ramet_workspaces *set, uint32_t first, uint32_t *ret_last, struct ramet_error *err)
{
    DIR *dir = opendir(set->dir);
    if (!dir)
        return ramet_error_os(err, errno, "cannot read %s", set->dir);
    *ret_last = first ? first - 1 : 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char *end;
        unsigned long number = strtoul(entry->d_name, &end, 16);
        if (end != entry->d_name + 8 || (strcmp(end, ".pages") != 0 && strcmp(end, ".journal") != 0))
            continue;
        if (number < first)
            unlinkat(dirfd(dir), entry->d_name, 0);
        else if (number > *ret_last)
            *ret_last = (uint32_t)number;
    }
    closedir(dir);
    return 0;
}

static int read_journal(struct ramet_wepoch *epoch, uint8_t **ret, size_t *ret_size, struct ramet_error *err)
{
    struct stat st;
    if (fstat(epoch->journal_fd, &st) < 0)
        return ramet_error_os(err, errno, "cannot read %s", epoch->journal_path);
    *ret_size = (size_t)st.st_size;
    *ret = malloc(*ret_size + 1);
    return *ret ? ramet_file_read(epoch->journal_fd, epoch->journal_path, *ret, *ret_size, 0, err)
                : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to read %s", epoch->journal_path);
}

/* Replays one epoch and puts it into the list. */
static int recover_epoch(struct ramet_workspaces *set, uint32_t number, struct ramet_wreplay *replay,
                         struct ramet_error *err)
{
    struct ramet_wepoch *epoch;
    _autofree_ uint8_t *data = NULL;
    size_t size = 0, end = 0;
    int r = ramet_wepoch_open(set->dir, number, false, &epoch, err);
    if (r < 0)
        return r;
    atomic_store(&epoch->next_slot, epoch->room);
    epoch->older = set->epoch;
    set->epoch = epoch;
    r = read_journal(epoch, &data, &size, err);
    if (r == 0)
        r = ramet_wreplay_records(replay, data, size, epoch->journal_path, &end, err);
    if (r == 0 && end > 0 && replay->epoch != number)
        r = ramet_error_set(err, RAMET_CORRUPT, "%s is the journal of epoch %08x", epoch->journal_path, replay->epoch);
    if (r == 0 && ftruncate(epoch->journal_fd, (off_t)end) < 0)
        r = ramet_error_os(err, errno, "cannot cut %s", epoch->journal_path);
    if (r == 0)
        r = ramet_file_sync(epoch->pages_fd, epoch->pages_path, err);
    if (r == 0)
        r = ramet_file_sync(epoch->journal_fd, epoch->journal_path, err);
    epoch->journal.zeroed = end;
    atomic_store(&epoch->journal.end, end);
    return r;
}

static int open_heads(struct ramet_workspace **heads, size_t count, struct ramet_error *err)
{
    int r = 0;
    for (size_t i = 0; i < count && r == 0; i++) {
        struct ramet_error own = {0};
        if (heads[i]->damaged)
            continue;
        r = ramet_wfiles_open(heads[i], &own);
        if (r == -RAMET_CORRUPT || r == -RAMET_IO) {
            heads[i]->damaged = true;
            snprintf(heads[i]->damage, sizeof heads[i]->damage, "workspace \"%s\" cannot be read: %.200s",
                     heads[i]->name, own.msg);
            r = 0;
        } else if (r < 0 && err) {
            *err = own;
        }
    }
    return r;
}

static int begin(struct ramet_workspaces *set, uint32_t number, struct ramet_error *err)
{
    struct ramet_wepoch *epoch;
    int r = ramet_wepoch_open(set->dir, number, true, &epoch, err);
    if (r == 0 && (r = ramet_wset_begin_epoch(set, epoch, err)) < 0)
        ramet_wepoch_close(epoch);
    return r;
}

static void raise(_Atomic uint64_t *value, uint64_t to)
{
    if (atomic_load(value) < to)
        atomic_store(value, to);
}

int ramet_wset_recover(struct ramet_workspaces *set, struct ramet_error *err)
{
    struct ramet_wreplay replay = {.set = set, .serials = 1};
    uint32_t first = 1, last = 0;
    int r = load_store(set, &replay, &first, err);
    if (r == 0)
        r = survey(set, first, &last, err);
    for (uint32_t number = first; number <= last && r == 0; number++)
        r = recover_epoch(set, number, &replay, err);
    ramet_wreplay_free(&replay);
    for (size_t i = 0; i < set->head_count; i++)
        ramet_whead_audit_states(set->heads[i]);
    raise(&set->catalog->next_serial, replay.serials);
    set->commit.sequence = replay.sequence;
    atomic_store(&set->commit.durable, replay.sequence);
    if (r == 0)
        r = begin(set, last + 1, err);
    if (r == 0)
        r = open_heads(set->heads, set->head_count, err);
    if (r == 0)
        r = open_heads(set->states, set->state_count, err);
    return r;
}
