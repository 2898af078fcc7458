/* SPDX-License-Identifier: Apache-2.0 */
#include "journal.h"

#include "base/cleanup.h"
#include "base/codec.h"
#include "base/file.h"
#include "base/record.h"
#include "epoch.h"
#include "workspace_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

static const uint32_t magic = 0x4a574d52; /* "RMWJ" */

enum { zero_min = 256 << 10, zero_max = 4 << 20, checksum_at = 24, vectors = 512 };

/* --- records --- */

bool ramet_wjrecord_grow(struct ramet_wjrecord **record, size_t size)
{
    size_t used = *record ? (*record)->size : RAMET_WJOURNAL_HEADER, capacity = *record ? (*record)->capacity : 1000;
    if (*record && used + size <= capacity)
        return true;
    while (used + size > capacity)
        capacity *= 2;
    struct ramet_wjrecord *grown = realloc(*record, sizeof *grown + capacity);
    if (!grown)
        return false;
    if (!*record)
        *grown = (struct ramet_wjrecord){.size = RAMET_WJOURNAL_HEADER};
    grown->capacity = capacity;
    *record = grown;
    return true;
}

void ramet_wjrecord_put(struct ramet_wjrecord *record, const void *bytes, size_t size)
{
    memcpy(record->bytes + record->size, bytes, size);
    record->size += size;
}

void ramet_wjrecord_put_u8(struct ramet_wjrecord *record, uint8_t v) { record->bytes[record->size++] = v; }

void ramet_wjrecord_put_u16(struct ramet_wjrecord *record, size_t v)
{
    ramet_put_le16(record->bytes + record->size, (uint16_t)v);
    record->size += 2;
}

void ramet_wjrecord_put_u32(struct ramet_wjrecord *record, uint32_t v)
{
    ramet_put_le32(record->bytes + record->size, v);
    record->size += 4;
}

void ramet_wjrecord_put_u64(struct ramet_wjrecord *record, uint64_t v)
{
    ramet_put_le64(record->bytes + record->size, v);
    record->size += 8;
}

void ramet_wjrecord_seal(struct ramet_wjrecord *record, uint64_t durable)
{
    uint8_t *p = record->bytes;
    ramet_put_le32(p, magic);
    ramet_put_le32(p + 4, (uint32_t)record->size);
    ramet_put_le64(p + 8, record->sequence);
    ramet_put_le64(p + 16, durable);
    ramet_put_le64(p + checksum_at,
                   ramet_checksum(p, checksum_at, p + RAMET_WJOURNAL_HEADER, record->size - RAMET_WJOURNAL_HEADER));
}

size_t ramet_wjrecord_check(const uint8_t *data, size_t size, uint64_t *ret_sequence, uint64_t *ret_durable)
{
    if (size < RAMET_WJOURNAL_HEADER || ramet_get_le32(data) != magic)
        return 0;
    size_t whole = ramet_get_le32(data + 4);
    if (whole < RAMET_WJOURNAL_HEADER || whole > size || whole > RAMET_WJOURNAL_RECORD_MAX)
        return 0;
    if (ramet_checksum(data, checksum_at, data + RAMET_WJOURNAL_HEADER, whole - RAMET_WJOURNAL_HEADER) !=
        ramet_get_le64(data + checksum_at))
        return 0;
    *ret_sequence = ramet_get_le64(data + 8);
    *ret_durable = ramet_get_le64(data + 16);
    return whole;
}

/* --- the queue --- */

static void queue_locked(struct ramet_workspaces *set, struct ramet_wepoch *epoch, struct ramet_wjrecord *record)
{
    struct ramet_wcommit *commit = &set->commit;
    record->sequence = epoch->last_sequence = ++commit->sequence;
    record->next = NULL;
    *(epoch->journal.last ? &epoch->journal.last->next : &epoch->journal.first) = record;
    epoch->journal.last = record;
    atomic_fetch_add(&commit->queued_bytes, record->size);
    if (commit->idle)
        pthread_cond_signal(&commit->wake);
}

void ramet_wset_queue(struct ramet_workspaces *set, struct ramet_wjrecord *record)
{
    pthread_mutex_lock(&set->commit.queue);
    queue_locked(set, set->epoch, record);
    pthread_mutex_unlock(&set->commit.queue);
}

uint64_t ramet_wset_sequence(struct ramet_workspaces *set)
{
    pthread_mutex_lock(&set->commit.queue);
    uint64_t sequence = set->commit.sequence;
    pthread_mutex_unlock(&set->commit.queue);
    return sequence;
}

int ramet_wset_begin_epoch(struct ramet_workspaces *set, struct ramet_wepoch *epoch, struct ramet_error *err)
{
    struct ramet_wjrecord *record = NULL;
    if (!ramet_wjrecord_grow(&record, 5))
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to begin an epoch");
    ramet_wjrecord_put_u8(record, RAMET_WITEM_BEGIN);
    ramet_wjrecord_put_u32(record, epoch->number);
    pthread_mutex_lock(&set->commit.queue);
    epoch->older = set->epoch;
    set->epoch = epoch;
    queue_locked(set, epoch, record);
    epoch->begin_sequence = record->sequence;
    pthread_mutex_unlock(&set->commit.queue);
    return 0;
}

/* --- committing --- */

int ramet_wset_writable(struct ramet_workspaces *set, struct ramet_error *err)
{
    if (!atomic_load_explicit(&set->commit.failed, memory_order_acquire))
        return 0;
    ramet_error_set(err, RAMET_READ_ONLY, "workspaces take no more changes: %.300s", set->commit.failure.msg);
    return ramet_error_hint(err, "look at the disk, then restart the daemon");
}

/* What is queued for an epoch, and the slots released before it was. */
struct round {
    struct ramet_wepoch *epoch;
    struct ramet_wjrecord *first, *last;
    struct ramet_wslots released;
    uint64_t bytes;
};

/* A sync failed: what is on disk is not known. */
static int give_up(struct ramet_workspaces *set, int code, struct ramet_error *err)
{
    if (!atomic_load(&set->commit.failed)) {
        set->commit.failure = *err;
        atomic_store_explicit(&set->commit.failed, true, memory_order_release);
    }
    return code;
}

/* How far the file is filled ahead: as much as it has. */
static uint64_t ahead_of(uint64_t end) { return end < zero_min ? zero_min : end < zero_max ? end : zero_max; }

/* Fills the file with zeros up to `to`. */
static int fill(struct ramet_wepoch *epoch, uint64_t to, struct ramet_error *err)
{
    static const uint8_t zeros[1 << 18];
    struct ramet_wjournal *journal = &epoch->journal;
    int r = 0;
    while (journal->zeroed < to && r == 0) {
        r = ramet_file_write(epoch->journal_fd, epoch->journal_path, zeros, sizeof zeros, journal->zeroed, err);
        journal->zeroed += r == 0 ? sizeof zeros : 0;
    }
    return r;
}

/* Writes iovecs wholly. */
static int write_vectors(struct ramet_wepoch *epoch, struct iovec *iov, int count, uint64_t offset,
                         struct ramet_error *err)
{
    while (count > 0) {
        ssize_t done = pwritev(epoch->journal_fd, iov, count, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return ramet_error_os(err, done < 0 ? errno : EIO, "cannot write %s", epoch->journal_path);
        offset += (uint64_t)done;
        for (; count > 0 && (size_t)done >= iov->iov_len; iov++, count--)
            done -= (ssize_t)iov->iov_len;
        if (count > 0) {
            iov->iov_base = (uint8_t *)iov->iov_base + done;
            iov->iov_len -= (size_t)done;
        }
    }
    return 0;
}

static int write_records(struct ramet_workspaces *set, struct round *round, struct ramet_error *err)
{
    struct ramet_wjournal *journal = &round->epoch->journal;
    struct iovec iov[vectors];
    uint64_t durable = atomic_load(&set->commit.durable), at = journal->end;
    int r = 0, count = 0;
    if (journal->end + round->bytes > journal->zeroed)
        r = fill(round->epoch, journal->end + round->bytes + ahead_of(journal->end), err);
    for (struct ramet_wjrecord *record = round->first; record && r == 0; record = record->next) {
        ramet_wjrecord_seal(record, durable);
        iov[count++] = (struct iovec){record->bytes, record->size};
        if (count < vectors && record->next)
            continue;
        uint64_t size = 0;
        for (int i = 0; i < count; i++)
            size += iov[i].iov_len;
        r = write_vectors(round->epoch, iov, count, at, err);
        at += size;
        count = 0;
    }
    return r;
}

/* Pages first, then the records that name them. */
static int commit_round(struct ramet_workspaces *set, struct round *round, struct ramet_error *err)
{
    struct ramet_wepoch *epoch = round->epoch;
    int r = 0;
    if (atomic_exchange(&epoch->dirty, false) && (r = ramet_file_sync(epoch->pages_fd, epoch->pages_path, err)) < 0)
        return give_up(set, r, err);
    if (!round->first)
        return 0;
    if ((r = write_records(set, round, err)) < 0)
        return r;
    if ((r = ramet_file_sync(epoch->journal_fd, epoch->journal_path, err)) < 0)
        return give_up(set, r, err);
    epoch->journal.end += round->bytes;
    atomic_store(&set->commit.durable, round->last->sequence);
    return 0;
}

static void take_round(struct ramet_workspaces *set, struct ramet_wepoch *epoch, struct round *ret)
{
    *ret = (struct round){.epoch = epoch};
    /* What released a slot was queued before: taken in this order, its record is in this round or durable. */
    ramet_wepoch_take_released(epoch, &ret->released);
    pthread_mutex_lock(&set->commit.queue);
    ret->first = epoch->journal.first;
    ret->last = epoch->journal.last;
    epoch->journal.first = epoch->journal.last = NULL;
    pthread_mutex_unlock(&set->commit.queue);
    for (struct ramet_wjrecord *record = ret->first; record; record = record->next)
        ret->bytes += record->size;
}

static void free_records(struct ramet_wjrecord *record)
{
    while (record) {
        struct ramet_wjrecord *next = record->next;
        free(record);
        record = next;
    }
}

static void put_back(struct ramet_workspaces *set, struct round *round)
{
    pthread_mutex_lock(&set->commit.queue);
    struct ramet_wjournal *journal = &round->epoch->journal;
    if (round->first) {
        round->last->next = journal->first;
        journal->first = round->first;
        journal->last = journal->last ? journal->last : round->last;
    }
    pthread_mutex_unlock(&set->commit.queue);
    ramet_wepoch_put_released(round->epoch, &round->released);
}

/* The epoch and those before it, oldest first. */
static int commit_epochs(struct ramet_workspaces *set, struct ramet_wepoch *epoch, struct ramet_error *err)
{
    struct round round;
    if (epoch->settled)
        return 0;
    int r = epoch->older ? commit_epochs(set, epoch->older, err) : 0;
    if (r < 0)
        return r;
    take_round(set, epoch, &round);
    r = commit_round(set, &round, err);
    if (r < 0) {
        put_back(set, &round);
        return r;
    }
    atomic_fetch_sub(&set->commit.queued_bytes, round.bytes);
    ramet_wepoch_free_slots(epoch, &round.released);
    free_records(round.first);
    return 0;
}

void ramet_wset_settled(struct ramet_workspaces *set, struct ramet_wepoch *epoch)
{
    for (struct ramet_wepoch *e = epoch; e; e = e->older) {
        struct round round;
        take_round(set, e, &round);
        atomic_fetch_sub(&set->commit.queued_bytes, round.bytes);
        free_records(round.first);
        free(round.released.slots);
    }
    if (atomic_load(&set->commit.durable) < epoch->last_sequence)
        atomic_store(&set->commit.durable, epoch->last_sequence);
}

int ramet_wset_commit(struct ramet_workspaces *set, uint64_t sequence, struct ramet_error *err)
{
    struct ramet_error own = {0};
    if (atomic_load(&set->commit.durable) >= sequence)
        return 0;
    pthread_mutex_lock(&set->commit.lock);
    int r = ramet_wset_writable(set, &own);
    if (r == 0 && atomic_load(&set->commit.durable) < sequence) {
        pthread_mutex_lock(&set->commit.queue);
        struct ramet_wepoch *epoch = set->epoch;
        pthread_mutex_unlock(&set->commit.queue);
        r = commit_epochs(set, epoch, &own);
    }
    pthread_mutex_unlock(&set->commit.lock);
    if (r < 0 && err)
        *err = own;
    return r;
}

int ramet_workspaces_sync(struct ramet_workspaces *set, struct ramet_error *err)
{
    return ramet_wset_commit(set, ramet_wset_sequence(set), err);
}

/* --- the thread --- */

/* Fills the journal ahead, so that nobody who waits for a sync has to. */
static void fill_ahead(struct ramet_workspaces *set)
{
    pthread_mutex_lock(&set->commit.lock);
    pthread_mutex_lock(&set->commit.queue);
    struct ramet_wepoch *epoch = set->epoch;
    pthread_mutex_unlock(&set->commit.queue);
    uint64_t end = epoch->journal.end, ahead = ahead_of(end);
    if (!atomic_load(&set->commit.failed) && end + ahead / 2 > epoch->journal.zeroed &&
        fill(epoch, end + ahead, NULL) == 0)
        ramet_file_sync(epoch->journal_fd, epoch->journal_path, NULL);
    pthread_mutex_unlock(&set->commit.lock);
}

static bool wait_for_work(struct ramet_wcommit *commit)
{
    struct timespec until;
    pthread_mutex_lock(&commit->queue);
    commit->idle = true;
    while (!commit->stop && (atomic_load(&commit->queued_bytes) == 0 || atomic_load(&commit->failed)))
        pthread_cond_wait(&commit->wake, &commit->queue);
    commit->idle = false;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += 800000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    /* More may gather in the meantime. */
    while (!commit->stop && pthread_cond_timedwait(&commit->wake, &commit->queue, &until) == 0)
        ;
    bool stop = commit->stop;
    pthread_mutex_unlock(&commit->queue);
    return !stop;
}

static void *run(void *ctx)
{
    struct ramet_workspaces *set = ctx;
    fill_ahead(set);
    while (wait_for_work(&set->commit)) {
        ramet_wset_commit(set, ramet_wset_sequence(set), NULL); /* whoever syncs gets the error */
        fill_ahead(set);
    }
    return NULL;
}

int ramet_wset_commit_start(struct ramet_workspaces *set, struct ramet_error *err)
{
    int error = pthread_create(&set->commit.thread, NULL, run, set);
    if (error)
        return ramet_error_os(err, error, "cannot start the thread that commits workspaces");
    set->commit.started = true;
    return 0;
}

void ramet_wset_commit_stop(struct ramet_workspaces *set)
{
    if (!set->commit.started)
        return;
    pthread_mutex_lock(&set->commit.queue);
    set->commit.stop = true;
    pthread_cond_signal(&set->commit.wake);
    pthread_mutex_unlock(&set->commit.queue);
    pthread_join(set->commit.thread, NULL);
    set->commit.started = false;
}
