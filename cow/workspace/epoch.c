/* SPDX-License-Identifier: Apache-2.0 */
#include "epoch.h"

#include "base/cleanup.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The staging file grows by as much as it has, 1 to 32 MiB, so that few syncs find its size or extents changed. */
enum { room_min = 256, room_max = 8192 };

static int open_file(const char *path, bool fresh, int *ret, struct ramet_error *err)
{
    *ret = open(path, O_RDWR | O_CREAT | O_CLOEXEC | (fresh ? O_TRUNC : 0), 0600);
    return *ret < 0 ? ramet_error_os(err, errno, "cannot open %s", path) : 0;
}

int ramet_wepoch_open(const char *dir, uint32_t number, bool fresh, struct ramet_wepoch **ret, struct ramet_error *err)
{
    struct ramet_wepoch *epoch = calloc(1, sizeof *epoch);
    struct stat st;
    if (!epoch)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for an epoch");
    epoch->number = number;
    epoch->pages_fd = epoch->journal_fd = -1;
    pthread_mutex_init(&epoch->lock, NULL);
    snprintf(epoch->pages_path, sizeof epoch->pages_path, "%s/%08x.pages", dir, number);
    snprintf(epoch->journal_path, sizeof epoch->journal_path, "%s/%08x.journal", dir, number);
    int r = open_file(epoch->pages_path, fresh, &epoch->pages_fd, err);
    if (r == 0)
        r = open_file(epoch->journal_path, fresh, &epoch->journal_fd, err);
    if (r == 0 && fstat(epoch->pages_fd, &st) < 0)
        r = ramet_error_os(err, errno, "cannot size %s", epoch->pages_path);
    if (r < 0) {
        ramet_wepoch_close(epoch);
        return r;
    }
    epoch->room = (uint64_t)st.st_size / RAMET_PAGE_SIZE;
    if (fresh && (r = ramet_dir_sync(dir, err)) < 0) {
        ramet_wepoch_close(epoch);
        return r;
    }
    *ret = epoch;
    return 0;
}

void ramet_wepoch_close(struct ramet_wepoch *epoch)
{
    if (!epoch)
        return;
    if (epoch->pages_fd >= 0)
        close(epoch->pages_fd);
    if (epoch->journal_fd >= 0)
        close(epoch->journal_fd);
    for (size_t i = 0; i < epoch->segments; i++)
        free(epoch->owners[i]);
    while (epoch->journal.first) {
        struct ramet_wjrecord *record = epoch->journal.first;
        epoch->journal.first = record->next;
        free(record);
    }
    free(epoch->owners);
    free(epoch->free.slots);
    free(epoch->released.slots);
    free(epoch->table);
    pthread_mutex_destroy(&epoch->lock);
    free(epoch);
}

void ramet_wepoch_remove_files(struct ramet_wepoch *epoch)
{
    unlink(epoch->pages_path);
    unlink(epoch->journal_path);
}

/* --- slots --- */

static uint64_t *owner_of(struct ramet_wepoch *epoch, uint32_t slot)
{
    return &epoch->owners[slot / RAMET_WEPOCH_SEGMENT][slot % RAMET_WEPOCH_SEGMENT];
}

static bool is_owned(struct ramet_wepoch *epoch, uint64_t owner, ramet_wref ref)
{
    return ramet_wref_is_staged(ref) && ramet_wref_epoch(ref) == epoch->number &&
           ramet_wref_slot(ref) < epoch->next_slot && *owner_of(epoch, ramet_wref_slot(ref)) == owner;
}

/* Makes room for `count` more slots at the end. Under the lock. */
static int make_room(struct ramet_wepoch *epoch, size_t count, struct ramet_error *err)
{
    uint64_t end = epoch->next_slot + count;
    if (end > UINT32_MAX)
        return ramet_error_set(err, RAMET_NO_SPACE, "%s is full", epoch->pages_path);
    while (epoch->segments * RAMET_WEPOCH_SEGMENT < end) {
        uint64_t **grown = reallocarray(epoch->owners, epoch->segments + 1, sizeof *grown);
        if (grown)
            epoch->owners = grown;
        if (!grown || !(grown[epoch->segments] = calloc(RAMET_WEPOCH_SEGMENT, sizeof **grown)))
            return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to write");
        epoch->segments++;
    }
    if (end <= epoch->room)
        return 0;
    uint64_t step = end < room_min ? room_min : end < room_max ? end : room_max, room = end + step;
    off_t from = (off_t)(epoch->room * RAMET_PAGE_SIZE), size = (off_t)((room - epoch->room) * RAMET_PAGE_SIZE);
    if (fallocate(epoch->pages_fd, 0, from, size) < 0) {
        if (errno != EOPNOTSUPP)
            return ramet_error_os(err, errno, "cannot grow %s", epoch->pages_path);
        if (ftruncate(epoch->pages_fd, from + size) < 0)
            return ramet_error_os(err, errno, "cannot grow %s", epoch->pages_path);
    }
    epoch->room = room;
    return 0;
}

int ramet_wepoch_claim(struct ramet_wepoch *epoch, uint64_t owner, ramet_wref *refs, size_t count,
                       struct ramet_error *err)
{
    pthread_mutex_lock(&epoch->lock);
    size_t missing = 0;
    for (size_t i = 0; i < count; i++)
        missing += !is_owned(epoch, owner, refs[i]);
    /* Single pages fill the gaps, larger writes stay together while there is no need. */
    bool gaps = missing <= 2 || epoch->free.count > epoch->next_slot / 2;
    int r = gaps && epoch->free.count >= missing ? 0 : make_room(epoch, missing, err);
    for (size_t i = 0; i < count && r == 0; i++) {
        if (is_owned(epoch, owner, refs[i]))
            continue;
        uint32_t slot = gaps && epoch->free.count >= missing ? epoch->free.slots[--epoch->free.count]
                                                             : (uint32_t)epoch->next_slot++;
        missing--;
        *owner_of(epoch, slot) = owner;
        refs[i] = ramet_wref_make(epoch->number, slot);
    }
    pthread_mutex_unlock(&epoch->lock);
    return r;
}

/* A slot that does not fit in is lost until the epoch ends. */
static void add_slot(struct ramet_wslots *slots, uint32_t slot)
{
    if (slots->count == slots->capacity) {
        size_t capacity = slots->capacity ? slots->capacity * 2 : 256;
        uint32_t *grown = reallocarray(slots->slots, capacity, sizeof *grown);
        if (!grown)
            return;
        slots->slots = grown;
        slots->capacity = capacity;
    }
    slots->slots[slots->count++] = slot;
}

void ramet_wepoch_disown(struct ramet_wepoch *epoch, uint64_t owner, const ramet_wref *refs, size_t count, bool release)
{
    pthread_mutex_lock(&epoch->lock);
    for (size_t i = 0; i < count; i++) {
        if (!is_owned(epoch, owner, refs[i]))
            continue;
        *owner_of(epoch, ramet_wref_slot(refs[i])) = 0;
        if (release)
            add_slot(&epoch->released, ramet_wref_slot(refs[i]));
    }
    pthread_mutex_unlock(&epoch->lock);
}

void ramet_wepoch_take_released(struct ramet_wepoch *epoch, struct ramet_wslots *ret)
{
    pthread_mutex_lock(&epoch->lock);
    *ret = epoch->released;
    epoch->released = (struct ramet_wslots){0};
    pthread_mutex_unlock(&epoch->lock);
}

static void give(struct ramet_wepoch *epoch, struct ramet_wslots *to, struct ramet_wslots *slots)
{
    pthread_mutex_lock(&epoch->lock);
    for (size_t i = 0; i < slots->count; i++)
        add_slot(to, slots->slots[i]);
    pthread_mutex_unlock(&epoch->lock);
    free(slots->slots);
    *slots = (struct ramet_wslots){0};
}

void ramet_wepoch_put_released(struct ramet_wepoch *epoch, struct ramet_wslots *slots)
{
    give(epoch, &epoch->released, slots);
}

void ramet_wepoch_free_slots(struct ramet_wepoch *epoch, struct ramet_wslots *slots)
{
    give(epoch, &epoch->free, slots);
}
