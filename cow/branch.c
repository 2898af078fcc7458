/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Branches: their records and their overlays.
 *
 * The record is written before the branch is used and says which snapshot its disks lie
 * over and from which overlay generation on. A crash between making the files and
 * writing the record leaves a directory without a record, removed at the next opening;
 * one between updating the record and removing old files leaves files nobody reads,
 * removed with the branch.
 */
#include "base/cleanup.h"
#include "base/file.h"
#include "base/record.h"
#include "catalog_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { magic = 0x52424d52 /* "RMBR" */, version = 1 };

struct ramet_branch_name {
    struct ramet_branch_name *older;
    char text[RAMET_CATALOG_NAME_SIZE];
};

static void dir_of(const struct ramet_catalog *catalog, const char *id, char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s/%s", catalog->branch_dir, id);
}

/* --- objects --- */

void ramet_branch_unref(struct ramet_branch *branch)
{
    if (!branch || atomic_fetch_sub(&branch->refs, 1) != 1)
        return;
    for (size_t i = 0; i < branch->disk_count; i++)
        ramet_overlay_close(branch->disks[i]);
    while (branch->names) {
        struct ramet_branch_name *name = branch->names;
        branch->names = name->older;
        free(name);
    }
    free(branch);
}

void ramet_branch_cleanup(struct ramet_branch **branch) { ramet_branch_unref(*branch); }

void ramet_branches_free(struct ramet_branch **branches, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ramet_branch_unref(branches[i]);
    free(branches);
}

int ramet_branch_name_keep(struct ramet_branch *branch, const char *name, const char **ret, struct ramet_error *err)
{
    struct ramet_branch_name *kept = branch->names;
    while (kept && strcmp(kept->text, name) != 0)
        kept = kept->older;
    if (!kept && !(kept = calloc(1, sizeof *kept)))
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for branch %s", name);
    if (!kept->text[0]) {
        snprintf(kept->text, sizeof kept->text, "%s", name);
        kept->older = branch->names;
        branch->names = kept;
    }
    *ret = kept->text;
    return 0;
}

static int set_name(struct ramet_branch *branch, const char *name, struct ramet_error *err)
{
    const char *kept;
    int r = ramet_branch_name_keep(branch, name, &kept, err);
    if (r == 0)
        branch->name = kept;
    return r;
}

/* Index among the branches in name order of `name`, or where it belongs. */
static size_t position(const struct ramet_catalog *catalog, const char *name, bool *ret_found)
{
    size_t low = 0, count = catalog->branches.ids.count, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(catalog->branch_names[middle]->name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_found = low < count && strcmp(catalog->branch_names[low]->name, name) == 0;
    return low;
}

/* Takes over a reference. Under the lock. */
static int link_branch(struct ramet_catalog *catalog, struct ramet_branch *branch, struct ramet_error *err)
{
    bool found;
    size_t count = catalog->branches.ids.count, at = position(catalog, branch->name, &found);
    struct ramet_branch **grown = reallocarray(catalog->branch_names, count + 1, sizeof *grown);
    if (!grown)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for branch %s", branch->name);
    catalog->branch_names = grown;
    int r = ramet_members_add(&catalog->branches, branch->id, branch->serial, branch, err);
    if (r < 0)
        return r;
    memmove(&grown[at + 1], &grown[at], (count - at) * sizeof *grown);
    grown[at] = branch;
    return 0;
}

static bool is_linked(const struct ramet_catalog *catalog, const struct ramet_branch *branch)
{
    return ramet_members_by_id(&catalog->branches, branch->id) == branch;
}

size_t ramet_branch_name_index(const struct ramet_catalog *catalog, const struct ramet_branch *branch)
{
    bool found;
    size_t at = position(catalog, branch->name, &found);
    while (catalog->branch_names[at] != branch) /* a removal that failed on disk may leave two of one name */
        at++;
    return at;
}

/* False when it was not there. Under the lock. */
static bool unlink_branch(struct ramet_catalog *catalog, struct ramet_branch *branch)
{
    struct ramet_branch **names = catalog->branch_names;
    if (!is_linked(catalog, branch))
        return false;
    size_t at = ramet_branch_name_index(catalog, branch);
    ramet_members_remove(&catalog->branches, branch->id, branch->serial);
    memmove(&names[at], &names[at + 1], (catalog->branches.ids.count - at) * sizeof *names);
    return true;
}

/* Opens the overlays of all disks of `base`. */
static int open_disks(struct ramet_branch *branch, const struct ramet_snapshot *base, struct ramet_error *err)
{
    char dir[PATH_MAX];
    dir_of(branch->catalog, branch->id, dir);
    int r = ramet_dir_make(dir, 0700, err);
    for (size_t i = 0; i < RAMET_BRANCH_DISKS_MAX && r == 0; i++) {
        char name[RAMET_DISK_NAME_SIZE];
        ramet_disk_name(name, i);
        struct ramet_image *image = ramet_snapshot_image(base, name);
        if (!image)
            break;
        r = ramet_overlay_open(dir, name, image, branch->first_generation[i], &branch->disks[i], err);
        branch->disk_count += r == 0;
    }
    return r;
}

/* --- records --- */

/* Fields guarded by the lock are read under it. */
int ramet_branch_record_put(struct ramet_branch *branch, const char *name, const char *parent,
                            struct ramet_kv_batch *batch, struct ramet_error *err)
{
    struct ramet_catalog *catalog = branch->catalog;
    _cleanup_(ramet_buf_free) struct ramet_buf buf = {0};
    ramet_record_begin(&buf);
    pthread_mutex_lock(&catalog->lock);
    ramet_buf_put_u64(&buf, branch->serial);
    ramet_buf_put_str(&buf, name ? name : branch->name);
    ramet_buf_put_str(&buf, parent ? parent : branch->parent);
    ramet_buf_put_u64(&buf, (uint64_t)branch->created_ms);
    ramet_buf_put_u64(&buf, branch->memory_bytes);
    ramet_buf_put_u32(&buf, branch->cpus);
    ramet_buf_put_str(&buf, branch->base);
    ramet_buf_put_str(&buf, branch->last_snapshot);
    for (size_t i = 0; i < RAMET_BRANCH_DISKS_MAX; i++)
        ramet_buf_put_u64(&buf, branch->first_generation[i]);
    pthread_mutex_unlock(&catalog->lock);
    int r = ramet_record_end(&buf, magic, version, err);
    if (r == 0)
        ramet_kv_put(batch, RAMET_KV_BRANCHES, branch->id, strlen(branch->id), buf.data, buf.size);
    return r;
}

static bool is_linked_now(struct ramet_branch *branch)
{
    pthread_mutex_lock(&branch->catalog->lock);
    bool linked = is_linked(branch->catalog, branch);
    pthread_mutex_unlock(&branch->catalog->lock);
    return linked;
}

/* In one batch, of those that are listed. Under record_lock, so that none is removed meanwhile. */
static int write_records(struct ramet_catalog *catalog, struct ramet_branch *const *branches, size_t count,
                         struct ramet_error *err)
{
    _cleanup_(ramet_kv_batch_cleanup) struct ramet_kv_batch *batch = ramet_kv_batch_new(ramet_store_kv(catalog->store));
    int r = batch ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the records of branches");
    for (size_t i = 0; i < count && r == 0; i++)
        if (is_linked_now(branches[i]))
            r = ramet_branch_record_put(branches[i], NULL, NULL, batch, err);
    if (r < 0)
        return r;
    ramet_serials_put(catalog, batch);
    r = ramet_store_write(catalog->store, batch, err);
    for (size_t i = 0; i < count && r == 0; i++)
        branches[i]->recorded |= is_linked_now(branches[i]);
    return r;
}

static int decode(struct ramet_branch *branch, const void *value, size_t size, struct ramet_error *err)
{
    struct ramet_reader reader;
    uint16_t found;
    char what[64], name[RAMET_CATALOG_NAME_SIZE];
    snprintf(what, sizeof what, "branch %s", branch->id);
    int r = ramet_record_open(value, size, magic, version, what, &reader, &found, err);
    if (r < 0)
        return r;
    branch->serial = ramet_reader_u64(&reader);
    bool ok = ramet_reader_field(&reader, name, sizeof name) &&
              ramet_reader_field(&reader, branch->parent, sizeof branch->parent);
    branch->created_ms = (int64_t)ramet_reader_u64(&reader);
    branch->memory_bytes = ramet_reader_u64(&reader);
    branch->cpus = ramet_reader_u32(&reader);
    ok = ok && ramet_reader_field(&reader, branch->base, sizeof branch->base) &&
         ramet_reader_field(&reader, branch->last_snapshot, sizeof branch->last_snapshot);
    for (size_t i = 0; i < RAMET_BRANCH_DISKS_MAX; i++)
        branch->first_generation[i] = ramet_reader_u64(&reader);
    if (!ok || reader.failed || ramet_name_check(name, "name", NULL) < 0)
        return ramet_error_set(err, RAMET_CORRUPT, "%s: its record is damaged", what);
    branch->recorded = true;
    return set_name(branch, name, err);
}

static int load_one(struct ramet_catalog *catalog, const void *key, size_t key_size, const void *value, size_t size,
                    struct ramet_error *err)
{
    struct ramet_branch *branch = calloc(1, sizeof *branch);
    struct ramet_snapshot *base = NULL;
    if (!branch)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to load branches");
    atomic_init(&branch->refs, 1);
    branch->catalog = catalog;
    int r = ramet_id_load(branch->id, key, key_size, "branch", err);
    if (r == 0)
        r = decode(branch, value, size, err);
    if (r == 0 && ramet_catalog_find(catalog, branch->base, &base, NULL) == 0)
        r = open_disks(branch, base, err);
    ramet_snapshot_unref(base);
    if (r == 0)
        r = link_branch(catalog, branch, err);
    if (r < 0)
        ramet_branch_unref(branch);
    return r;
}

/* Removes directories no record names. */
static int remove_strays(struct ramet_catalog *catalog, struct ramet_error *err)
{
    DIR *dir = opendir(catalog->branch_dir);
    int r = 0;
    if (!dir)
        return 0;
    for (struct dirent *entry; r == 0 && (entry = readdir(dir));) {
        char path[PATH_MAX];
        if (entry->d_name[0] == '.' || ramet_members_by_id(&catalog->branches, entry->d_name))
            continue;
        dir_of(catalog, entry->d_name, path);
        r = ramet_dir_remove(path, err);
    }
    closedir(dir);
    return r;
}

int ramet_branches_load(struct ramet_catalog *catalog, struct ramet_error *err)
{
    struct ramet_kv_iter *iter = ramet_kv_iter_new(ramet_store_kv(catalog->store), RAMET_KV_BRANCHES, NULL, 0);
    const void *key, *value;
    size_t key_size, value_size;
    int r = iter ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to load branches");
    while (r == 0 && ramet_kv_iter_next(iter, &key, &key_size, &value, &value_size))
        r = load_one(catalog, key, key_size, value, value_size, err);
    if (r == 0)
        r = ramet_kv_iter_status(iter, err);
    ramet_kv_iter_free(iter);
    return r < 0 ? r : remove_strays(catalog, err);
}

/* Moves a directory to a name in `lost` that is free. */
static int move_aside(DIR *branches, const char *id, const char *lost, struct ramet_error *err)
{
    char to[NAME_MAX + 16];
    int r = ramet_dir_make(lost, 0700, err);
    if (r < 0)
        return r;
    _autoclose_ int fd = open(lost, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    snprintf(to, sizeof to, "%s", id);
    for (unsigned i = 1; renameat(dirfd(branches), id, fd, to) < 0; i++) {
        if (errno != ENOTEMPTY && errno != EEXIST)
            return ramet_error_os(err, errno, "cannot move branches/%s to %s", id, lost);
        snprintf(to, sizeof to, "%s.%u", id, i);
    }
    return ramet_dir_sync(lost, err);
}

int ramet_branches_set_aside(struct ramet_store *store, uint64_t *ret_count, struct ramet_error *err)
{
    char branches[PATH_MAX], lost[PATH_MAX];
    snprintf(branches, sizeof branches, "%s/branches", ramet_store_dir(store));
    snprintf(lost, sizeof lost, "%s/lost+branches", ramet_store_dir(store));
    DIR *dir = opendir(branches);
    uint64_t count = 0;
    int r = 0;
    for (struct dirent *entry; dir && r == 0 && (entry = readdir(dir));) {
        _autofree_ void *record = NULL;
        const char *id = entry->d_name;
        size_t size;
        if (id[0] == '.')
            continue;
        r = ramet_kv_get(ramet_store_kv(store), RAMET_KV_BRANCHES, id, strlen(id), &record, &size, err);
        if (r != -RAMET_NOT_FOUND)
            continue;
        r = move_aside(dir, id, lost, err);
        count += r == 0;
    }
    if (dir)
        closedir(dir);
    if (r == 0)
        *ret_count = count;
    return r;
}

/* --- the catalog's side --- */

static struct ramet_branch *find_locked(struct ramet_catalog *catalog, const char *ref)
{
    bool found;
    size_t at = position(catalog, ref, &found);
    return found ? catalog->branch_names[at] : ramet_members_by_id(&catalog->branches, ref);
}

int ramet_catalog_branch_find(struct ramet_catalog *catalog, const char *ref, struct ramet_branch **ret,
                              struct ramet_error *err)
{
    pthread_mutex_lock(&catalog->lock);
    struct ramet_branch *found = find_locked(catalog, ref);
    if (found)
        atomic_fetch_add(&found->refs, 1);
    pthread_mutex_unlock(&catalog->lock);
    if (!found) {
        ramet_error_set(err, RAMET_NOT_FOUND, "branch \"%s\" not found", ref);
        return ramet_error_hint(err, "'ramet ls' lists them");
    }
    *ret = found;
    return 0;
}

int ramet_catalog_branch_by_serial(struct ramet_catalog *catalog, uint64_t serial, struct ramet_branch **ret,
                                   struct ramet_error *err)
{
    pthread_mutex_lock(&catalog->lock);
    struct ramet_branch *found = ramet_members_by_serial(&catalog->branches, serial);
    if (found)
        atomic_fetch_add(&found->refs, 1);
    pthread_mutex_unlock(&catalog->lock);
    if (!found)
        return ramet_error_set(err, RAMET_NOT_FOUND, "no branch has serial %llu", (unsigned long long)serial);
    *ret = found;
    return 0;
}

int ramet_catalog_branches(struct ramet_catalog *catalog, struct ramet_branch ***ret, size_t *ret_count,
                           struct ramet_error *err)
{
    size_t count = 0;
    pthread_mutex_lock(&catalog->lock);
    void **all = ramet_members_list(&catalog->branches, &count);
    for (size_t i = 0; i < count; i++)
        atomic_fetch_add(&((struct ramet_branch *)all[i])->refs, 1);
    pthread_mutex_unlock(&catalog->lock);
    if (!all)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list branches");
    *ret = (struct ramet_branch **)all;
    *ret_count = count;
    return 0;
}

/* NULL and the error set when memory ran out. */
static struct ramet_branch *make(struct ramet_catalog *catalog, const struct ramet_branch_request *request,
                                 const struct ramet_snapshot *base, struct ramet_error *err)
{
    struct ramet_branch *branch = calloc(1, sizeof *branch);
    if (!branch || set_name(branch, request->name, err) < 0) {
        free(branch);
        ramet_error_set(err, RAMET_NO_MEMORY, "no memory for branch %s", request->name);
        return NULL;
    }
    atomic_init(&branch->refs, 1);
    branch->catalog = catalog;
    branch->serial = atomic_fetch_add(&catalog->next_serial, 1);
    ramet_id_make(branch->id);
    snprintf(branch->parent, sizeof branch->parent, "%s", request->parent ? request->parent : "");
    snprintf(branch->base, sizeof branch->base, "%s", base->id);
    snprintf(branch->last_snapshot, sizeof branch->last_snapshot, "%s",
             atomic_load(&base->durable) ? base->id
             : request->last_snapshot    ? request->last_snapshot
                                         : "");
    branch->created_ms = ramet_now_ms();
    branch->memory_bytes = request->memory_bytes;
    branch->cpus = request->cpus;
    return branch;
}

int ramet_branch_write(struct ramet_branch *branch, bool *ret_gone, struct ramet_error *err)
{
    bool linked = is_linked_now(branch);
    if (ret_gone)
        *ret_gone = !linked;
    return linked ? write_records(branch->catalog, &branch, 1, err) : 0;
}

/* Takes a branch that never came to be out of the list, if it is still there. Needs no memory. */
static void forget(struct ramet_catalog *catalog, struct ramet_branch *branch)
{
    pthread_mutex_lock(&catalog->lock);
    bool linked = unlink_branch(catalog, branch);
    pthread_mutex_unlock(&catalog->lock);
    if (linked)
        ramet_branch_unref(branch);
}

/* Takes a branch whose making failed away. Takes its reference over. */
static void take_back(struct ramet_branch *branch)
{
    if (ramet_catalog_branch_remove(branch->catalog, branch, NULL) < 0)
        forget(branch->catalog, branch);
    ramet_branch_unref(branch);
}

int ramet_catalog_branch_begin(struct ramet_catalog *catalog, const struct ramet_branch_request *request,
                               struct ramet_snapshot *base, struct ramet_branch **ret, struct ramet_error *err)
{
    int r = ramet_name_check(request->name, "name", err);
    if (r < 0)
        return r;
    struct ramet_branch *branch = make(catalog, request, base, err);
    if (!branch)
        return -RAMET_NO_MEMORY;
    pthread_mutex_lock(&catalog->lock);
    bool taken = find_locked(catalog, request->name);
    r = taken ? ramet_error_set(err, RAMET_EXISTS, "the name \"%s\" is taken", request->name)
              : link_branch(catalog, branch, err);
    if (r == 0)
        atomic_fetch_add(&branch->refs, 1);
    pthread_mutex_unlock(&catalog->lock);
    if (taken)
        ramet_error_hint(err, "choose another, or remove it with 'ramet rm %s'", request->name);
    if (r < 0) {
        ramet_branch_unref(branch);
        return r;
    }
    r = open_disks(branch, base, err);
    if (r < 0) {
        take_back(branch);
        return r;
    }
    *ret = branch;
    return 0;
}

int ramet_catalog_branches_record(struct ramet_catalog *catalog, struct ramet_branch *const *branches, size_t count,
                                  struct ramet_error *err)
{
    pthread_mutex_lock(&catalog->record_lock);
    int r = write_records(catalog, branches, count, err);
    pthread_mutex_unlock(&catalog->record_lock);
    return r;
}

int ramet_catalog_branch_new(struct ramet_catalog *catalog, const struct ramet_branch_request *request,
                             struct ramet_snapshot *base, struct ramet_branch **ret, struct ramet_error *err)
{
    struct ramet_branch *branch;
    int r = ramet_catalog_branch_begin(catalog, request, base, &branch, err);
    if (r < 0)
        return r;
    r = ramet_catalog_branches_record(catalog, &branch, 1, err);
    if (r < 0) {
        take_back(branch);
        return r;
    }
    *ret = branch;
    return 0;
}

int ramet_catalog_branch_remove(struct ramet_catalog *catalog, struct ramet_branch *branch, struct ramet_error *err)
{
    struct ramet_kv *kv = ramet_store_kv(catalog->store);
    _cleanup_(ramet_kv_batch_cleanup) struct ramet_kv_batch *batch = ramet_kv_batch_new(kv);
    if (!batch)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to remove branch %s", branch->name);
    pthread_mutex_lock(&catalog->record_lock);
    pthread_mutex_lock(&catalog->lock);
    bool linked = unlink_branch(catalog, branch);
    pthread_mutex_unlock(&catalog->lock);
    if (!linked) {
        pthread_mutex_unlock(&catalog->record_lock);
        return ramet_error_set(err, RAMET_NOT_FOUND, "branch \"%s\" is removed already", branch->name);
    }
    ramet_kv_delete(batch, RAMET_KV_BRANCHES, branch->id, strlen(branch->id));
    int r = ramet_store_write(catalog->store, batch, err);
    pthread_mutex_unlock(&catalog->record_lock);
    if (r == 0)
        r = ramet_branch_files_remove(branch, err);
    ramet_branch_unref(branch);
    return r;
}

int ramet_branch_files_remove(struct ramet_branch *branch, struct ramet_error *err)
{
    char dir[PATH_MAX];
    dir_of(branch->catalog, branch->id, dir);
    return ramet_dir_remove(dir, err);
}
