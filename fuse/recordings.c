/* SPDX-License-Identifier: Apache-2.0 */
/* A list of the few files being recorded, each with a bit for every page seen. */
#include "recordings.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "chunk.h"

struct recording {
    struct recording *next;
    uint64_t ino, page_count;
    uint64_t *seen; /* owned; a bit a page */
    struct ramet_working_set set;
};

void ramet_recordings_init(struct ramet_recordings *recordings)
{
    *recordings = (struct ramet_recordings){0};
    pthread_mutex_init(&recordings->lock, NULL);
}

static void recording_free(struct recording *recording)
{
    ramet_working_set_free(&recording->set);
    free(recording->seen);
    free(recording);
}

void ramet_recordings_free(struct ramet_recordings *recordings)
{
    while (recordings->first) {
        struct recording *recording = recordings->first;
        recordings->first = recording->next;
        recording_free(recording);
    }
    pthread_mutex_destroy(&recordings->lock);
}

/* Where the file's recording is linked, or the end of the list. Under the lock. */
static struct recording **find(struct ramet_recordings *recordings, uint64_t ino)
{
    struct recording **at = &recordings->first;
    while (*at && (*at)->ino != ino)
        at = &(*at)->next;
    return at;
}

int ramet_recordings_begin(struct ramet_recordings *recordings, uint64_t ino, uint64_t page_count,
                           struct ramet_error *err)
{
    struct recording *recording = calloc(1, sizeof *recording);
    uint64_t *seen = calloc(page_count / 64 + 1, sizeof *seen);
    if (!recording || !seen) {
        free(recording);
        free(seen);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to record a working set");
    }
    *recording = (struct recording){.ino = ino, .page_count = page_count, .seen = seen};
    pthread_mutex_lock(&recordings->lock);
    struct recording **at = find(recordings, ino);
    bool busy = *at;
    if (!busy) {
        *at = recording;
        atomic_fetch_add(&recordings->active, 1);
    }
    pthread_mutex_unlock(&recordings->lock);
    if (busy) {
        recording_free(recording);
        return ramet_error_set(err, RAMET_BUSY, "a working set of that file is being recorded");
    }
    return 0;
}

int ramet_recordings_end(struct ramet_recordings *recordings, uint64_t ino, struct ramet_working_set *ret,
                         struct ramet_error *err)
{
    pthread_mutex_lock(&recordings->lock);
    struct recording **at = find(recordings, ino), *recording = *at;
    if (recording) {
        *at = recording->next;
        atomic_fetch_sub(&recordings->active, 1);
    }
    pthread_mutex_unlock(&recordings->lock);
    if (!recording)
        return ramet_error_set(err, RAMET_NOT_FOUND, "no working set of that file is being recorded");
    *ret = recording->set;
    ret->recorded_ms = ramet_now_ms();
    recording->set = (struct ramet_working_set){0};
    recording_free(recording);
    return 0;
}

void ramet_recordings_note(struct ramet_recordings *recordings, uint64_t ino, uint64_t offset, size_t size)
{
    if (atomic_load_explicit(&recordings->active, memory_order_relaxed) == 0)
        return;
    uint64_t first = offset / RAMET_PAGE_SIZE, end = (offset + size + RAMET_PAGE_SIZE - 1) / RAMET_PAGE_SIZE;
    pthread_mutex_lock(&recordings->lock);
    struct recording *recording = *find(recordings, ino);
    for (uint64_t page = first; recording && page < end && page < recording->page_count; page++) {
        uint64_t bit = UINT64_C(1) << page % 64;
        if (!(recording->seen[page / 64] & bit) && ramet_working_set_add(&recording->set, page, NULL) == 0)
            recording->seen[page / 64] |= bit;
    }
    pthread_mutex_unlock(&recordings->lock);
}
