/* SPDX-License-Identifier: Apache-2.0 */
/*
 * include/ramet_memory.h: branches. A branch maps the file of a root privately; `at` is the
 * state it last agreed with. What it wrote since is found by scanning its page tables:
 *
 * - tracked (userfaultfd): private pages that were written since the last snapshot or
 *   rollback;
 * - not tracked: all private pages. More than needed, and right as well.
 *
 * Tracking begins with the first snapshot, or when pages are placed, because a branch that
 * only runs should cost nothing but its mmap.
 *
 * A rollback lets go of the pages that may differ, which brings the root's back, and puts
 * the target's own in their place. To a state of another root the file is mapped anew at
 * the same address.
 */
#include "memory_private.h"

#include "base/cleanup.h"
#include "userfault.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { copy_threads_max = 4, copy_thread_pages = 1024, place_pages = 64 };

struct ramet_memory_branch {
    struct ramet_memory_store *store;
    struct ramet_resident *at;
    uint8_t *address;
    uint64_t size;
    bool served;  /* its root is lazy: the fault server knows the mapping */
    bool watched; /* the range is registered: writes are noticed */
    bool tracked; /* and what was noticed is all since `at` */
    bool broken;  /* a rollback failed */
};

/* --- mapping --- */

static int map_root(struct ramet_memory_branch *branch, struct ramet_resident *state, struct ramet_error *err)
{
    int fixed = branch->address ? MAP_FIXED : 0;
    void *address = mmap(branch->address, branch->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE | fixed,
                         ramet_resident_fd(state), 0);
    if (address == MAP_FAILED)
        return ramet_error_os(err, errno, "cannot map %llu bytes of memory", (unsigned long long)branch->size);
    if (branch->served) /* what was there is gone */
        ramet_fault_server_remove(branch->store->server, address);
    branch->address = address;
    branch->served = branch->watched = branch->tracked = false;
    if (!ramet_resident_is_lazy(state))
        return 0;
    int r = ramet_fault_server_add(branch->store->server, address, state, err);
    branch->served = branch->watched = branch->tracked = r == 0;
    return r;
}

static int userfault_fd(const struct ramet_memory_branch *branch)
{
    return branch->served ? ramet_fault_server_fd(branch->store->server) : branch->store->userfault_fd;
}

static bool watch(struct ramet_memory_branch *branch)
{
    struct ramet_error ignored;
    if (!branch->watched && branch->store->userfault_fd >= 0)
        branch->watched =
            ramet_userfault_track(branch->store->userfault_fd, branch->address, branch->size, &ignored) == 0;
    return branch->watched;
}

/* Puts `count` pages of a layer where the branch has the root's. */
static int place_run(struct ramet_memory_branch *branch, const struct ramet_layer *layer, uint64_t page, uint64_t count,
                     void *buf, struct ramet_error *err)
{
    uint8_t *to = branch->address + page * RAMET_PAGE_SIZE;
    if (!branch->watched)
        return ramet_layer_read(layer, page, count, to, err);
    int r = ramet_layer_read(layer, page, count, buf, err);
    return r < 0 ? r : ramet_userfault_place(userfault_fd(branch), to, buf, count * RAMET_PAGE_SIZE, err);
}

/* Puts the pages of [first, first + count) that are not the root's in `state`. */
static int place(struct ramet_memory_branch *branch, const struct ramet_resident *state, uint64_t first, uint64_t count,
                 struct ramet_error *err)
{
    _Alignas(16) uint8_t buf[place_pages * RAMET_PAGE_SIZE];
    int r = 0;
    for (uint64_t done = 0, n; done < count && r == 0; done += n) {
        struct ramet_layer *layer;
        n = ramet_resident_find(state, first + done, count - done, &layer);
        if (layer && n > place_pages)
            n = place_pages;
        if (layer)
            r = place_run(branch, layer, first + done, n, buf, err);
    }
    return r;
}

/* A fresh mapping with all of the state's pages. */
static int map_state(struct ramet_memory_branch *branch, struct ramet_resident *state, struct ramet_error *err)
{
    int r = map_root(branch, state, err);
    if (r < 0 || ramet_resident_changed(state) == 0)
        return r;
    branch->tracked = watch(branch);
    return place(branch, state, 0, branch->size / RAMET_PAGE_SIZE, err);
}

int ramet_memory_branch(struct ramet_memory_image *image, struct ramet_memory_branch **ret, struct ramet_error *err)
{
    struct ramet_memory_branch *branch = calloc(1, sizeof *branch);
    if (!branch)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a branch");
    branch->store = image->store;
    branch->size = ramet_memory_size(image);
    branch->at = ramet_resident_for_branch(image->resident);
    int r = map_state(branch, branch->at, err);
    if (r < 0)
        ramet_memory_branch_free(branch);
    else
        *ret = branch;
    return r;
}

void ramet_memory_branch_free(struct ramet_memory_branch *branch)
{
    if (!branch)
        return;
    if (branch->served)
        ramet_fault_server_remove(branch->store->server, branch->address);
    if (branch->address)
        munmap(branch->address, branch->size);
    ramet_resident_unref(branch->at);
    free(branch);
}

void *ramet_memory_address(const struct ramet_memory_branch *branch) { return branch->address; }

static int scan(struct ramet_memory_branch *branch, enum ramet_page_scan_how how, struct ramet_page_runs *ret,
                struct ramet_error *err)
{
    return ramet_page_scan(branch->store->pagemap_fd, (uintptr_t)branch->address, branch->size, how, ret, err);
}

/* --- snapshots --- */

/*
 * Lists what was written since `at`, and has the tracking begin anew. It has forgotten them then: until they are safe
 * the branch does not count as tracked.
 */
static int list_and_rearm(struct ramet_memory_branch *branch, struct ramet_page_runs *ret, struct ramet_error *err)
{
    bool fresh = !branch->watched; /* then all that is private counts as written */
    if (watch(branch) && (fresh || branch->tracked)) {
        branch->tracked = false;
        return scan(branch, RAMET_SCAN_REARM, ret, err);
    }
    if (branch->watched) {
        _cleanup_(ramet_page_runs_free) struct ramet_page_runs forgotten = {0};
        int r = scan(branch, RAMET_SCAN_REARM, &forgotten, err);
        if (r < 0)
            return r;
    }
    return scan(branch, RAMET_SCAN_PRIVATE, ret, err);
}

struct copy {
    const struct ramet_memory_branch *branch;
    const struct ramet_page_runs *runs;
    size_t first, end; /* runs */
    int fd;
    pthread_t thread;
    int status;
    struct ramet_error err;
};

/* One pass from the mapping into the memfd; a run is whole or an error. */
static void *copy_runs(void *ctx)
{
    enum { batch = 512 };
    struct copy *copy = ctx;
    struct iovec from[batch];
    for (size_t i = copy->first; i < copy->end && copy->status == 0;) {
        const struct ramet_page_run *run = &copy->runs->items[i];
        uint64_t at = run->at * RAMET_PAGE_SIZE;
        ssize_t size = 0, n;
        int count = 0;
        for (; i < copy->end && count < batch; i++, count++) {
            run = &copy->runs->items[i];
            from[count].iov_base = copy->branch->address + run->page * RAMET_PAGE_SIZE;
            from[count].iov_len = run->count * RAMET_PAGE_SIZE;
            size += (ssize_t)from[count].iov_len;
        }
        n = pwritev(copy->fd, from, count, (off_t)at);
        if (n < 0 && errno == EFAULT)
            copy->status = ramet_error_set(&copy->err, RAMET_CORRUPT, "a page of the branch's memory is damaged");
        else if (n != size)
            copy->status = ramet_error_os(&copy->err, n < 0 ? errno : EIO, "copying a branch's memory");
    }
    return NULL;
}

/* Shares the runs out among threads. */
static int copy_out(const struct ramet_memory_branch *branch, const struct ramet_page_runs *runs, int fd,
                    struct ramet_error *err)
{
    struct copy copies[copy_threads_max];
    size_t wanted = (size_t)(runs->page_count / copy_thread_pages) + 1, next = 0;
    unsigned cpus = ramet_store_threads(branch->store->store), started = 0;
    wanted = wanted < cpus ? wanted : cpus;
    wanted = wanted < copy_threads_max ? wanted : copy_threads_max;
    for (size_t k = 0; k < wanted; k++) {
        uint64_t until = runs->page_count * (k + 1) / wanted;
        copies[k] = (struct copy){.branch = branch, .runs = runs, .first = next, .fd = fd};
        while (next < runs->count && (k + 1 == wanted || runs->items[next].at < until))
            next++;
        copies[k].end = next;
    }
    for (started = 1; started < wanted; started++)
        if (pthread_create(&copies[started].thread, NULL, copy_runs, &copies[started]) != 0)
            break;
    for (size_t k = started; k < wanted; k++)
        copy_runs(&copies[k]);
    copy_runs(&copies[0]);
    int r = 0;
    for (size_t k = 0; k < wanted; k++) {
        if (k > 0 && k < started)
            pthread_join(copies[k].thread, NULL);
        if (r == 0 && (r = copies[k].status) < 0 && err)
            *err = copies[k].err;
    }
    return r;
}

/* The branch's memory as a state; the branch is not changed but for its tracking. */
static int capture(struct ramet_memory_branch *branch, struct ramet_resident **ret, struct ramet_error *err)
{
    _cleanup_(ramet_page_runs_free) struct ramet_page_runs runs = {0};
    struct ramet_resident *under = NULL;
    int r = list_and_rearm(branch, &runs, err);
    if (r == 0)
        r = ramet_resident_under(branch->at, &runs, &under, err);
    if (r < 0)
        return r;
    _autoclose_ int fd = memfd_create("ramet-layer", MFD_CLOEXEC);
    if (fd < 0)
        return ramet_error_os(err, errno, "memory for a snapshot");
    r = copy_out(branch, &runs, fd, err);
    return r < 0 ? r : ramet_resident_derive(under, &runs, STEAL_FD(fd), ret, err);
}

int ramet_memory_snapshot(struct ramet_memory_branch *branch, const void *state, size_t state_bytes,
                          struct ramet_memory_image **ret, struct ramet_error *err)
{
    struct ramet_resident *resident = NULL;
    void *copy = state_bytes ? malloc(state_bytes) : NULL;
    if (state_bytes && !copy)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the device state");
    if (state_bytes)
        memcpy(copy, state, state_bytes);
    int r = branch->broken
                ? ramet_error_set(err, RAMET_CONFLICT, "the branch's memory is undefined: roll it back first")
                : capture(branch, &resident, err);
    if (r < 0) {
        free(copy);
        return r;
    }
    ramet_resident_ref(resident);
    r = ramet_memory_image_new(branch->store, resident, copy, state_bytes, NULL, ret, err);
    if (r < 0) {
        ramet_resident_unref(resident);
        return r;
    }
    ramet_resident_unref(branch->at);
    branch->at = resident;
    branch->tracked = branch->watched;
    return 0;
}

/* --- rollbacks --- */

/* Lets go of areas: all in one call where the kernel can (6.14), which is an eighth of the time of one call each. */
static int advise(const struct iovec *areas, size_t count, size_t bytes, struct ramet_error *err)
{
    enum { self = -10001 /* PIDFD_SELF_THREAD_GROUP, newer than Debian 12 */ };
    if (syscall(SYS_process_madvise, self, areas, count, MADV_DONTNEED, 0) == (long)bytes)
        return 0;
    for (size_t i = 0; i < count; i++)
        if (madvise(areas[i].iov_base, areas[i].iov_len, MADV_DONTNEED) < 0)
            return ramet_error_os(err, errno, "cannot roll a branch's memory back");
    return 0;
}

static int let_go(struct ramet_memory_branch *branch, const struct ramet_page_runs *runs, struct ramet_error *err)
{
    enum { batch = 512 };
    struct iovec areas[batch];
    int r = 0;
    for (size_t i = 0; i < runs->count && r == 0;) {
        size_t count = 0, bytes = 0;
        for (; i < runs->count && count < batch; i++, count++) {
            areas[count].iov_base = branch->address + runs->items[i].page * RAMET_PAGE_SIZE;
            areas[count].iov_len = runs->items[i].count * RAMET_PAGE_SIZE;
            bytes += areas[count].iov_len;
        }
        r = advise(areas, count, bytes, err);
    }
    return r;
}

/* To a state of the same root: only the pages that may differ are touched. */
static int return_to(struct ramet_memory_branch *branch, struct ramet_resident *state, struct ramet_error *err)
{
    _cleanup_(ramet_page_runs_free) struct ramet_page_runs runs = {0};
    bool tracked = branch->tracked;
    int r = scan(branch, tracked ? RAMET_SCAN_WRITTEN : RAMET_SCAN_PRIVATE, &runs, err);
    if (r == 0)
        r = ramet_resident_differ(branch->at, state, &runs, err);
    if (r < 0)
        return r;
    branch->broken = true;
    r = let_go(branch, &runs, err);
    bool places = ramet_resident_changed(state) > 0;
    if (places)
        watch(branch);
    for (size_t i = 0; i < runs.count && places && r == 0; i++)
        r = place(branch, state, runs.items[i].page, runs.items[i].count, err);
    branch->tracked = branch->watched;
    return r;
}

int ramet_memory_rollback(struct ramet_memory_branch *branch, struct ramet_memory_image *image, struct ramet_error *err)
{
    struct ramet_resident *wanted = image ? image->resident : branch->at;
    if (ramet_resident_size(wanted) != branch->size)
        return ramet_error_set(err, RAMET_INVALID, "an image of %llu bytes does not fit a branch of %llu",
                               (unsigned long long)ramet_resident_size(wanted), (unsigned long long)branch->size);
    struct ramet_resident *near = ramet_resident_on_root(wanted, ramet_resident_root(branch->at)), *state;
    int r;
    if (near && !branch->broken) {
        state = ramet_resident_ref(near);
        r = return_to(branch, state, err);
    } else {
        state = ramet_resident_for_branch(wanted);
        branch->broken = true;
        r = map_state(branch, state, err);
    }
    if (r < 0) {
        ramet_resident_unref(state);
        return r;
    }
    ramet_resident_unref(branch->at);
    branch->at = state;
    branch->broken = false;
    return 0;
}
