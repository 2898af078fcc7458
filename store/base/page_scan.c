/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PAGEMAP_SCAN walks page tables inside the kernel and returns ranges: 6 ms for a fully
 * populated GiB. Kernels before 6.7 answer ENOTTY; there each page's entry is read, which
 * costs about ten times that.
 */
#include "base/page_scan.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/ioctl.h>

/* <linux/fs.h> of Debian 12 is older than PAGEMAP_SCAN: the ABI as of Linux 6.7. */
struct scan_region {
    uint64_t start, end, categories;
};
struct scan_arg {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
_Static_assert(sizeof(struct scan_arg) == 96, "PAGEMAP_SCAN's argument is 96 bytes");
#define SCAN_IOCTL _IOWR('f', 16, struct scan_arg)
enum { IS_WRITTEN = 1 << 1, IS_FILE = 1 << 2, IS_PRESENT = 1 << 3, IS_SWAPPED = 1 << 4 };
enum { WP_MATCHING = 1 << 0, CHECK_WPASYNC = 1 << 1 };

/* Bits of one entry read from pagemap. */
#define ENTRY_FILE (1ULL << 61)
#define ENTRY_SWAPPED (1ULL << 62)
#define ENTRY_PRESENT (1ULL << 63)

static bool add_run(struct ramet_page_runs *runs, uint64_t page, uint64_t count)
{
    if (runs->count == runs->capacity) {
        size_t capacity = runs->capacity ? runs->capacity * 2 : 1024;
        struct ramet_page_run *grown = reallocarray(runs->items, capacity, sizeof *grown);
        if (!grown)
            return false;
        runs->items = grown;
        runs->capacity = capacity;
    }
    runs->items[runs->count++] = (struct ramet_page_run){.page = page, .at = runs->page_count, .count = count};
    runs->page_count += count;
    return true;
}

/* Cut into runs of bounded length so that copying can be shared out evenly. */
int ramet_page_runs_add(struct ramet_page_runs *runs, uint64_t page, uint64_t count, struct ramet_error *err)
{
    while (count > 0) {
        struct ramet_page_run *last = runs->count ? &runs->items[runs->count - 1] : NULL;
        bool joins = last && last->page + last->count == page && last->count < RAMET_RUN_PAGES;
        uint64_t room = joins ? RAMET_RUN_PAGES - last->count : RAMET_RUN_PAGES;
        uint64_t n = count < room ? count : room;
        if (joins)
            last->count += n, runs->page_count += n;
        else if (!add_run(runs, page, n))
            return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list private pages");
        page += n;
        count -= n;
    }
    return 0;
}

static int scan_ioctl(int fd, uint64_t address, uint64_t size, enum ramet_page_scan_how how,
                      struct ramet_page_runs *runs, struct ramet_error *err)
{
    enum { REGIONS = 4096 };
    _autofree_ struct scan_region *regions = malloc(REGIONS * sizeof *regions);
    if (!regions)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list private pages");
    bool rearms = how == RAMET_SCAN_REARM || how == RAMET_SCAN_TOUCHED, tracked = rearms || how == RAMET_SCAN_WRITTEN;
    uint64_t not_file = how == RAMET_SCAN_TOUCHED ? 0 : IS_FILE;
    struct scan_arg arg = {
        .size = sizeof arg,
        .flags = (tracked ? CHECK_WPASYNC : 0) | (rearms ? WP_MATCHING : 0),
        .start = address,
        .end = address + size,
        .vec = (uintptr_t)regions,
        .vec_len = REGIONS,
        .category_inverted = not_file,
        .category_mask = not_file | (tracked ? IS_WRITTEN : 0),
        .category_anyof_mask = IS_PRESENT | IS_SWAPPED,
        /* the same for all matches, so that neighbours come as one region */
        .return_mask = not_file ? IS_FILE : IS_WRITTEN,
    };
    while (arg.start < arg.end) {
        int n = ioctl(fd, SCAN_IOCTL, &arg);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EPERM)
            return ramet_error_set(err, RAMET_UNSUPPORTED, "writes to this memory are not tracked");
        if (n < 0)
            return ramet_error_os(err, errno, "PAGEMAP_SCAN");
        for (int i = 0; i < n; i++) {
            int r = ramet_page_runs_add(runs, (regions[i].start - address) / RAMET_PAGE_SIZE,
                                        (regions[i].end - regions[i].start) / RAMET_PAGE_SIZE, err);
            if (r < 0)
                return r;
        }
        /* Linux 6.18 may report a walk_end before the regions it just returned: going on there would list
         * them twice. */
        uint64_t last_end = n > 0 ? regions[n - 1].end : arg.start;
        uint64_t next = arg.walk_end > last_end ? arg.walk_end : last_end;
        if (next <= arg.start)
            return ramet_error_set(err, RAMET_INTERNAL, "PAGEMAP_SCAN does not advance");
        arg.start = next;
    }
    return 0;
}

static bool entry_is_private(uint64_t entry)
{
    return (entry & (ENTRY_PRESENT | ENTRY_SWAPPED)) != 0 && (entry & ENTRY_FILE) == 0;
}

static int add_entries(const uint64_t *entries, size_t count, uint64_t first_page, struct ramet_page_runs *runs,
                       struct ramet_error *err)
{
    for (size_t i = 0; i < count;) {
        size_t start = i;
        while (i < count && entry_is_private(entries[i]))
            i++;
        int r = ramet_page_runs_add(runs, first_page + start, i - start, err);
        if (r < 0)
            return r;
        while (i < count && !entry_is_private(entries[i]))
            i++;
    }
    return 0;
}

static int scan_entries(int fd, uint64_t address, uint64_t size, struct ramet_page_runs *runs, struct ramet_error *err)
{
    enum { ENTRIES = 32768 };
    _autofree_ uint64_t *entries = calloc(ENTRIES, sizeof *entries);
    if (!entries)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list private pages");
    uint64_t pages = size / RAMET_PAGE_SIZE;
    for (uint64_t page = 0; page < pages;) {
        uint64_t want = pages - page < ENTRIES ? pages - page : ENTRIES;
        off_t at = (off_t)((address / RAMET_PAGE_SIZE + page) * sizeof *entries);
        ssize_t got = pread(fd, entries, want * sizeof *entries, at);
        if (got < (ssize_t)sizeof *entries)
            return ramet_error_os(err, got < 0 ? errno : EIO, "reading pagemap");
        size_t count = (size_t)got / sizeof *entries;
        int r = add_entries(entries, count, page, runs, err);
        if (r < 0)
            return r;
        page += count;
    }
    return 0;
}

int ramet_page_scan(int pagemap_fd, uint64_t address, uint64_t size, enum ramet_page_scan_how how,
                    struct ramet_page_runs *ret, struct ramet_error *err)
{
    struct ramet_page_runs runs = {0};
    struct ramet_error failed = {0};
    int r = -RAMET_UNSUPPORTED;
    if (how != RAMET_SCAN_ENTRIES)
        r = scan_ioctl(pagemap_fd, address, size, how, &runs, &failed);
    if (how == RAMET_SCAN_ENTRIES || (how == RAMET_SCAN_PRIVATE && failed.os_errno == ENOTTY))
        r = scan_entries(pagemap_fd, address, size, &runs, &failed);
    if (r < 0) {
        ramet_page_runs_free(&runs);
        if (err)
            *err = failed;
        return r;
    }
    *ret = runs;
    return 0;
}

int ramet_page_runs_list(const struct ramet_page_runs *runs, uint64_t **ret, struct ramet_error *err)
{
    uint64_t *pages = calloc(runs->page_count ? runs->page_count : 1, sizeof *pages);
    if (!pages)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list captured pages");
    for (size_t i = 0; i < runs->count; i++)
        for (uint64_t k = 0; k < runs->items[i].count; k++)
            pages[runs->items[i].at + k] = runs->items[i].page + k;
    *ret = pages;
    return 0;
}

void ramet_page_runs_free(struct ramet_page_runs *runs)
{
    free(runs->items);
    *runs = (struct ramet_page_runs){0};
}
