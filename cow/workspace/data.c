/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/file.h"
#include "epoch.h"
#include "workspace_private.h"

#include <inttypes.h>
#include <string.h>

enum { batch = 64 };

/* Finds the epoch of a staged page. */
static struct ramet_wepoch *epoch_of(struct ramet_workspace *workspace, ramet_wref ref)
{
    struct ramet_wepoch *epoch = workspace->set->epoch;
    while (epoch && epoch->number != ramet_wref_epoch(ref))
        epoch = epoch->older;
    return epoch && ramet_wref_slot(ref) < epoch->next_slot ? epoch : NULL;
}

/* What a reference means now: the chunk that a settled slot became. */
ramet_wref ramet_wdata_resolve(struct ramet_workspace *workspace, ramet_wref ref)
{
    if (!ramet_wref_is_staged(ref) || ramet_wref_epoch(ref) == workspace->set->epoch->number)
        return ref;
    struct ramet_wepoch *epoch = epoch_of(workspace, ref);
    return epoch && epoch->settled ? epoch->table[ramet_wref_slot(ref)] : ref;
}

/* Pages in a row in a staging file; gives how many. */
static int read_staged(struct ramet_workspace *workspace, const ramet_wref *refs, size_t count, uint8_t *buf,
                       size_t *ret_count, struct ramet_error *err)
{
    struct ramet_wepoch *epoch = epoch_of(workspace, refs[0]);
    size_t run = 1;
    if (!epoch)
        return ramet_error_set(err, RAMET_CORRUPT, "page %" PRIu32 " of epoch %" PRIu32 " is missing",
                               ramet_wref_slot(refs[0]), ramet_wref_epoch(refs[0]));
    while (run < count && refs[run] == refs[0] + run)
        run++;
    *ret_count = run;
    return ramet_file_read(epoch->pages_fd, epoch->pages_path, buf, run * RAMET_PAGE_SIZE,
                           (uint64_t)ramet_wref_slot(refs[0]) * RAMET_PAGE_SIZE, err);
}

static int read_batch(struct ramet_workspace *workspace, const ramet_wref *given, size_t count, uint8_t *buf,
                      struct ramet_error *err)
{
    ramet_wref refs[batch];
    size_t run = 0;
    int r = 0;
    for (size_t i = 0; i < count; i++)
        refs[i] = ramet_wdata_resolve(workspace, given[i]);
    for (size_t i = 0; i < count && r == 0; i += run, buf += run * RAMET_PAGE_SIZE) {
        if (ramet_wref_is_staged(refs[i])) {
            r = read_staged(workspace, refs + i, count - i, buf, &run, err);
            continue;
        }
        for (run = 1; i + run < count && !ramet_wref_is_staged(refs[i + run]);)
            run++;
        r = ramet_store_read(workspace->set->store, refs + i, run, buf, err);
    }
    return r;
}

int ramet_wdata_read(struct ramet_workspace *workspace, const ramet_wref *refs, size_t count, void *buf,
                     struct ramet_error *err)
{
    int r = 0;
    for (size_t done = 0; done < count && r == 0; done += batch)
        r = read_batch(workspace, refs + done, count - done < batch ? count - done : batch,
                       (uint8_t *)buf + done * RAMET_PAGE_SIZE, err);
    return r;
}

static int write_batch(struct ramet_workspace *workspace, ramet_wref *refs, size_t count, const uint8_t *buf,
                       struct ramet_error *err)
{
    struct ramet_wepoch *epoch = workspace->set->epoch;
    ramet_wref fresh[batch];
    memcpy(fresh, refs, count * sizeof *refs);
    int r = ramet_wepoch_claim(epoch, workspace->owner, fresh, count, err);
    if (r < 0)
        return r;
    for (size_t i = 0, run; i < count && r == 0; i += run) {
        for (run = 1; i + run < count && fresh[i + run] == fresh[i] + run;)
            run++;
        r = ramet_file_write(epoch->pages_fd, epoch->pages_path, buf + i * RAMET_PAGE_SIZE, run * RAMET_PAGE_SIZE,
                             (uint64_t)ramet_wref_slot(fresh[i]) * RAMET_PAGE_SIZE, err);
    }
    atomic_store(&epoch->dirty, true);
    if (r == 0) {
        memcpy(refs, fresh, count * sizeof *refs);
        return 0;
    }
    for (size_t i = 0; i < count; i++)
        if (fresh[i] != refs[i])
            ramet_wepoch_disown(epoch, workspace->owner, &fresh[i], 1, true);
    return r;
}

int ramet_wdata_write(struct ramet_workspace *workspace, ramet_wref *refs, size_t count, const void *buf,
                      struct ramet_error *err)
{
    _autofree_ ramet_wref *before = count > batch ? malloc(count * sizeof *before) : NULL;
    if (count <= batch)
        return write_batch(workspace, refs, count, buf, err);
    if (!before)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to write");
    memcpy(before, refs, count * sizeof *refs);
    int r = 0;
    for (size_t done = 0; done < count && r == 0; done += batch)
        r = write_batch(workspace, refs + done, count - done < batch ? count - done : batch,
                        (const uint8_t *)buf + done * RAMET_PAGE_SIZE, err);
    for (size_t i = 0; i < count && r < 0; i++)
        if (refs[i] != before[i]) {
            ramet_wdata_release(workspace, &refs[i], 1);
            refs[i] = before[i];
        }
    return r;
}

int ramet_wdata_write_part(struct ramet_workspace *workspace, ramet_wref *ref, size_t offset, const void *buf,
                           size_t size, struct ramet_error *err)
{
    struct ramet_wepoch *epoch = workspace->set->epoch;
    uint8_t page[RAMET_PAGE_SIZE];
    ramet_wref fresh = *ref;
    int r = ramet_wepoch_claim(epoch, workspace->owner, &fresh, 1, err);
    if (r < 0)
        return r;
    uint64_t at = (uint64_t)ramet_wref_slot(fresh) * RAMET_PAGE_SIZE;
    if (fresh == *ref) {
        r = ramet_file_write(epoch->pages_fd, epoch->pages_path, buf, size, at + offset, err);
    } else {
        r = ramet_wdata_read(workspace, ref, 1, page, err);
        if (r == 0) {
            memcpy(page + offset, buf, size);
            r = ramet_file_write(epoch->pages_fd, epoch->pages_path, page, sizeof page, at, err);
        }
        if (r < 0)
            ramet_wepoch_disown(epoch, workspace->owner, &fresh, 1, true);
    }
    atomic_store(&epoch->dirty, true);
    if (r == 0)
        *ref = fresh;
    return r;
}

void ramet_wdata_share(struct ramet_workspace *workspace, const ramet_wref *refs, size_t count)
{
    ramet_wepoch_disown(workspace->set->epoch, workspace->owner, refs, count, false);
}

void ramet_wdata_release(struct ramet_workspace *workspace, const ramet_wref *refs, size_t count)
{
    ramet_wepoch_disown(workspace->set->epoch, workspace->owner, refs, count, true);
}
