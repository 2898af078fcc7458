/* SPDX-License-Identifier: Apache-2.0 */
/*
 * include/ramet_memory.h: stores and images. Branches are in memory_branch.c.
 *
 * An image is a resident memory and its state. It gets a snapshot in the catalog when it
 * is committed; until then a crash leaves nothing of it. Images that are loaded are in a
 * list, so that a snapshot is resident once.
 *
 * Locks: the store's guards the list and the counts of images; an image's commit lock is
 * held across its commit, or the removal of its snapshot, and nothing else takes it.
 */
#include "memory_private.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "userfault.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

static const char memory_name[] = "memory", state_name[] = "state";

/* --- stores --- */

static int open_parts(struct ramet_memory_store *store, const char *dir, const struct ramet_memory_options *options,
                      struct ramet_error *err)
{
    struct ramet_store_options of_store = {.cache_bytes = options ? options->cache_bytes : 0,
                                           .threads = options ? options->threads : 0};
    struct ramet_error untracked;
    store->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (store->pagemap_fd < 0)
        return ramet_error_os(err, errno, "/proc/self/pagemap");
    store->userfault_fd = ramet_userfault_open(&untracked);
    if (store->userfault_fd < 0)
        ramet_debug("%s; snapshots copy all a branch ever wrote", untracked.msg);
    int r = ramet_store_open(dir, &of_store, &store->store, err);
    return r < 0 ? r : ramet_catalog_open(store->store, &store->catalog, err);
}

int ramet_memory_open(const char *dir, const struct ramet_memory_options *options, struct ramet_memory_store **ret,
                      struct ramet_error *err)
{
    struct ramet_memory_store *store = calloc(1, sizeof *store);
    if (!store)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to open a store");
    store->userfault_fd = -1;
    pthread_mutex_init(&store->lock, NULL);
    int r = open_parts(store, dir, options, err);
    if (r < 0)
        ramet_memory_close(store);
    else
        *ret = store;
    return r;
}

void ramet_memory_close(struct ramet_memory_store *store)
{
    if (!store)
        return;
    ramet_fault_server_free(store->server);
    ramet_catalog_close(store->catalog);
    if (store->store)
        ramet_store_close(store->store);
    ramet_cleanup_close(&store->userfault_fd);
    ramet_cleanup_close(&store->pagemap_fd);
    pthread_mutex_destroy(&store->lock);
    free(store);
}

/* --- images --- */

int ramet_memory_image_new(struct ramet_memory_store *store, struct ramet_resident *resident, void *state,
                           size_t state_bytes, struct ramet_snapshot *snapshot, struct ramet_memory_image **ret,
                           struct ramet_error *err)
{
    struct ramet_memory_image *image = calloc(1, sizeof *image);
    if (!image) {
        ramet_resident_unref(resident);
        free(state);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for an image");
    }
    *image = (struct ramet_memory_image){
        .refs = 1, .store = store, .resident = resident, .state = state, .state_bytes = state_bytes};
    pthread_mutex_init(&image->commit_lock, NULL);
    if (snapshot) {
        image->snapshot = ramet_snapshot_ref(snapshot);
        memcpy(image->id, snapshot->id, sizeof image->id);
    } else {
        ramet_id_make(image->id);
    }
    pthread_mutex_lock(&store->lock);
    image->next = store->images;
    if (image->next)
        image->next->previous = image;
    store->images = image;
    pthread_mutex_unlock(&store->lock);
    *ret = image;
    return 0;
}

struct ramet_memory_image *ramet_memory_image_ref(struct ramet_memory_image *image)
{
    pthread_mutex_lock(&image->store->lock);
    image->refs++;
    pthread_mutex_unlock(&image->store->lock);
    return image;
}

void ramet_memory_image_unref(struct ramet_memory_image *image)
{
    if (!image)
        return;
    struct ramet_memory_store *store = image->store;
    pthread_mutex_lock(&store->lock);
    bool last = --image->refs == 0;
    if (last) {
        *(image->previous ? &image->previous->next : &store->images) = image->next;
        if (image->next)
            image->next->previous = image->previous;
    }
    pthread_mutex_unlock(&store->lock);
    if (!last)
        return;
    ramet_resident_unref(image->resident);
    ramet_snapshot_unref(image->snapshot);
    pthread_mutex_destroy(&image->commit_lock);
    free(image->state);
    free(image);
}

uint64_t ramet_memory_size(const struct ramet_memory_image *image) { return ramet_resident_size(image->resident); }

const void *ramet_memory_state(const struct ramet_memory_image *image, size_t *ret_size)
{
    *ret_size = image->state_bytes;
    return image->state;
}

const char *ramet_memory_id(const struct ramet_memory_image *image) { return image->id; }

int ramet_memory_create(struct ramet_memory_store *store, uint64_t size_bytes, struct ramet_memory_image **ret,
                        struct ramet_error *err)
{
    struct ramet_image *zeros;
    struct ramet_resident *resident = NULL;
    int r = ramet_image_new_stored(ramet_catalog_images(store->catalog), size_bytes, RAMET_CHUNK_ZERO, &zeros, err);
    if (r < 0)
        return r;
    r = ramet_resident_load(zeros, &resident, err);
    ramet_image_unref(zeros);
    return r < 0 ? r : ramet_memory_image_new(store, resident, NULL, 0, NULL, ret, err);
}

/* A reference to the image of a snapshot that is loaded, or NULL. */
static struct ramet_memory_image *find_loaded(struct ramet_memory_store *store, const char *id)
{
    pthread_mutex_lock(&store->lock);
    struct ramet_memory_image *image = store->images;
    while (image && strcmp(image->id, id) != 0)
        image = image->next;
    if (image)
        image->refs++;
    pthread_mutex_unlock(&store->lock);
    return image;
}

static int load_state(const struct ramet_snapshot *snapshot, void **ret, size_t *ret_size, struct ramet_error *err)
{
    struct ramet_image *image = ramet_snapshot_image(snapshot, state_name);
    size_t size = image ? (size_t)ramet_image_size(image) : 0;
    _autofree_ void *state = size ? malloc(size) : NULL;
    if (size && !state)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the device state");
    int r = size ? ramet_image_read(image, 0, state, size, err) : 0;
    if (r == 0) {
        *ret = STEAL(state);
        *ret_size = size;
    }
    return r;
}

/* Whether pages can be brought on demand; the thread that does starts with the first image that wants it. */
static bool can_serve(struct ramet_memory_store *store)
{
    struct ramet_error err = {0};
    pthread_mutex_lock(&store->lock);
    if (!store->server && ramet_fault_server_new(&store->server, &err) < 0)
        ramet_debug("%s; all memory is read at once", err.msg);
    bool can = store->server;
    pthread_mutex_unlock(&store->lock);
    return can;
}

static int load_snapshot(struct ramet_memory_store *store, struct ramet_snapshot *snapshot, bool lazy,
                         struct ramet_memory_image **ret, struct ramet_error *err)
{
    struct ramet_image *memory = ramet_snapshot_image(snapshot, memory_name);
    struct ramet_resident *resident = NULL;
    void *state = NULL;
    size_t state_bytes = 0;
    if (!memory)
        return ramet_error_set(err, RAMET_INVALID, "snapshot %s holds no memory", snapshot->id);
    int r = load_state(snapshot, &state, &state_bytes, err);
    if (r == 0)
        r = lazy && can_serve(store) ? ramet_resident_lazy(memory, &resident, err)
                                     : ramet_resident_load(memory, &resident, err);
    if (r < 0) {
        free(state);
        return ramet_error_prefix(err, "snapshot %s", snapshot->id);
    }
    return ramet_memory_image_new(store, resident, state, state_bytes, snapshot, ret, err);
}

static int load(struct ramet_memory_store *store, const char *ref, bool lazy, struct ramet_memory_image **ret,
                struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL;
    int r = ramet_catalog_find(store->catalog, ref, &snapshot, err);
    if (r < 0)
        return r;
    struct ramet_memory_image *loaded = find_loaded(store, snapshot->id);
    if (!loaded)
        return load_snapshot(store, snapshot, lazy, ret, err);
    *ret = loaded;
    return 0;
}

int ramet_memory_load(struct ramet_memory_store *store, const char *ref, struct ramet_memory_image **ret,
                      struct ramet_error *err)
{
    return load(store, ref, false, ret, err);
}

int ramet_memory_load_lazily(struct ramet_memory_store *store, const char *ref, struct ramet_memory_image **ret,
                             struct ramet_error *err)
{
    return load(store, ref, true, ret, err);
}

int ramet_memory_fault(struct ramet_memory_store *store, const void *address, struct ramet_error *err)
{
    return store->server ? ramet_fault_server_error(store->server, address, err) : 0;
}

/* --- durability --- */

static int state_image(const struct ramet_memory_image *image, struct ramet_image **ret, struct ramet_error *err)
{
    _autoclose_ int fd = memfd_create("ramet-state", MFD_CLOEXEC);
    if (fd < 0)
        return ramet_error_os(err, errno, "memory for the device state");
    int r = ramet_file_write(fd, "device state", image->state, image->state_bytes, 0, err);
    if (r < 0)
        return r;
    return ramet_image_new_whole(ramet_catalog_images(image->store->catalog), STEAL_FD(fd), image->state_bytes, ret,
                                 err);
}

/* The image as a snapshot of the catalog's, not visible yet. */
static int make_snapshot(const struct ramet_memory_image *image, struct ramet_snapshot **ret, struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL;
    struct ramet_image *state;
    int r = ramet_snapshot_new(image->store->catalog, &snapshot, err);
    if (r < 0)
        return r;
    memcpy(snapshot->id, image->id, sizeof snapshot->id);
    snapshot->memory_bytes = ramet_memory_size(image);
    snapshot->captured_pages = ramet_resident_changed(image->resident);
    struct ramet_image *memory = ramet_image_ref(ramet_resident_image(image->resident));
    r = ramet_snapshot_add_image(snapshot, memory_name, memory, err);
    if (r == 0 && image->state_bytes > 0) {
        r = state_image(image, &state, err);
        if (r == 0)
            r = ramet_snapshot_add_image(snapshot, state_name, state, err);
    }
    if (r == 0)
        *ret = STEAL(snapshot);
    return r;
}

static int commit_first(struct ramet_memory_image *image, const char *tag, struct ramet_error *err)
{
    struct ramet_catalog *catalog = image->store->catalog;
    struct ramet_error ignored;
    struct ramet_snapshot *snapshot = NULL;
    int r = make_snapshot(image, &snapshot, err);
    if (r < 0)
        return r;
    r = ramet_catalog_add(catalog, snapshot, tag, err);
    if (r == 0 && (r = ramet_catalog_commit(catalog, snapshot, err)) < 0)
        ramet_catalog_remove(catalog, snapshot, &ignored); /* was never durable: needs no disk */
    if (r == 0)
        image->snapshot = snapshot;
    else
        ramet_snapshot_unref(snapshot);
    return r;
}

int ramet_memory_commit(struct ramet_memory_image *image, const char *tag, struct ramet_error *err)
{
    pthread_mutex_lock(&image->commit_lock);
    int r = 0;
    if (image->snapshot && atomic_load(&image->snapshot->removed)) {
        ramet_snapshot_unref(image->snapshot);
        image->snapshot = NULL;
    }
    if (!image->snapshot)
        r = commit_first(image, tag, err);
    else if (tag)
        r = ramet_catalog_tag(image->store->catalog, image->snapshot, tag, err);
    pthread_mutex_unlock(&image->commit_lock);
    return r;
}

/* An image of it that is loaded may be committed anew, under the same id: not before the old record is gone. */
static int remove_record(struct ramet_memory_store *store, struct ramet_snapshot *snapshot, struct ramet_error *err)
{
    struct ramet_memory_image *loaded = find_loaded(store, snapshot->id);
    if (!loaded)
        return ramet_catalog_remove(store->catalog, snapshot, err);
    pthread_mutex_lock(&loaded->commit_lock);
    int r = ramet_catalog_remove(store->catalog, snapshot, err);
    pthread_mutex_unlock(&loaded->commit_lock);
    ramet_memory_image_unref(loaded);
    return r;
}

int ramet_memory_remove(struct ramet_memory_store *store, const char *ref, struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL;
    struct ramet_gc_result freed;
    int r = ramet_catalog_find(store->catalog, ref, &snapshot, err);
    if (r == 0)
        r = remove_record(store, snapshot, err);
    return r < 0 ? r : ramet_catalog_gc(store->catalog, &freed, err);
}
