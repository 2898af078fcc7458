/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding guest memory and its private pages through /proc/PID/maps and /proc/PID/pagemap.
 * Copying them is in pagemap_copy.c.
 *
 * PAGEMAP_SCAN walks page tables inside the kernel and returns ranges: 6 ms for a fully
 * populated GiB. Kernels before 6.7 answer ENOTTY; there each page's entry is read, which
 * costs about ten times that. The scanned process may run on or die; then the result is
 * of no use, so the caller scans only what stands still.
 */
#include "vmm/pagemap.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
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
enum { IS_FILE = 1 << 2, IS_PRESENT = 1 << 3, IS_SWAPPED = 1 << 4 };

/* Bits of one entry read from pagemap. */
#define ENTRY_FILE (1ULL << 61)
#define ENTRY_SWAPPED (1ULL << 62)
#define ENTRY_PRESENT (1ULL << 63)

static const char deleted_mark[] = " (deleted)";

static void strip_deleted(char *name)
{
    size_t size = strlen(name), mark = sizeof deleted_mark - 1;
    if (size > mark && strcmp(name + size - mark, deleted_mark) == 0)
        name[size - mark] = '\0';
}

int ramet_pagemap_name(const char *path, char **ret, struct ramet_error *err)
{
    _autoclose_ int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return ramet_error_os(err, errno, "memory file \"%s\"", path);
    char link[40], name[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, name, sizeof name - 1);
    if (size < 0)
        return ramet_error_os(err, errno, "memory file \"%s\": its name", path);
    name[size] = '\0';
    strip_deleted(name);
    if (strchr(name, '\n'))
        return ramet_error_set(err, RAMET_INVALID, "the memory file's path holds a newline");
    *ret = strdup(name);
    return *ret ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a path");
}

static int open_proc(pid_t pid, const char *what, struct ramet_error *err)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, what);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    if (errno == ENOENT || errno == ESRCH)
        return ramet_error_set(err, RAMET_VMM, "process %d is gone", (int)pid);
    return ramet_error_os(err, errno, "%s", path);
}

/* One line of /proc/PID/maps. */
struct area {
    uint64_t start, end, offset;
    bool private;
    char *name; /* inside the line */
};

static bool parse_area(char *line, struct area *ret)
{
    char permissions[5];
    int name_at = 0;
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*s %*u %n", &ret->start, &ret->end, permissions,
               &ret->offset, &name_at) != 4 ||
        name_at == 0)
        return false;
    ret->private = permissions[3] == 'p';
    ret->name = line + name_at;
    ret->name[strcspn(ret->name, "\n")] = '\0';
    strip_deleted(ret->name);
    return true;
}

int ramet_pagemap_find(pid_t pid, const char *name, uint64_t size, uint64_t *ret_address, struct ramet_error *err)
{
    int fd = open_proc(pid, "maps", err);
    if (fd < 0)
        return fd;
    FILE *maps = fdopen(fd, "re");
    if (!maps) {
        close(fd);
        return ramet_error_os(err, errno, "/proc/%d/maps", (int)pid);
    }
    _autofree_ char *line = NULL;
    size_t capacity = 0;
    uint64_t base = 0, covered = 0; /* file bytes [0, covered) are mapped at base */
    while (covered < size && getline(&line, &capacity, maps) > 0) {
        struct area area;
        if (!parse_area(line, &area) || !area.private || strcmp(area.name, name) != 0)
            continue;
        if (area.offset == 0)
            base = area.start;
        else if (covered == 0 || area.offset != covered || area.start != base + covered)
            continue;
        covered = area.offset + (area.end - area.start);
    }
    fclose(maps);
    if (covered < size)
        return ramet_error_set(err, RAMET_NOT_FOUND, "process %d does not map all of \"%s\" privately", (int)pid, name);
    *ret_address = base;
    return 0;
}

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

/* Appends pages, cut into runs of bounded length so that copying can be shared out evenly. */
static int add_pages(struct ramet_page_runs *runs, uint64_t page, uint64_t count, struct ramet_error *err)
{
    while (count > 0) {
        uint64_t n = count < RAMET_RUN_PAGES ? count : RAMET_RUN_PAGES;
        if (!add_run(runs, page, n))
            return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list private pages");
        page += n;
        count -= n;
    }
    return 0;
}

static int scan_ioctl(int fd, uint64_t address, uint64_t size, struct ramet_page_runs *runs, struct ramet_error *err)
{
    enum { REGIONS = 4096 };
    _autofree_ struct scan_region *regions = calloc(REGIONS, sizeof *regions);
    if (!regions)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list private pages");
    struct scan_arg arg = {
        .size = sizeof arg,
        .start = address,
        .end = address + size,
        .vec = (uintptr_t)regions,
        .vec_len = REGIONS,
        .category_inverted = IS_FILE,
        .category_mask = IS_FILE,
        .category_anyof_mask = IS_PRESENT | IS_SWAPPED,
        .return_mask = IS_FILE, /* the same for all matches, so that neighbours come as one region */
    };
    while (arg.start < arg.end) {
        int n = ioctl(fd, SCAN_IOCTL, &arg);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return ramet_error_os(err, errno, "PAGEMAP_SCAN");
        for (int i = 0; i < n; i++) {
            int r = add_pages(runs, (regions[i].start - address) / RAMET_PAGE_SIZE,
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

static int scan_entries(const uint64_t *entries, size_t count, uint64_t first_page, struct ramet_page_runs *runs,
                        struct ramet_error *err)
{
    for (size_t i = 0; i < count;) {
        size_t start = i;
        while (i < count && entry_is_private(entries[i]))
            i++;
        int r = add_pages(runs, first_page + start, i - start, err);
        if (r < 0)
            return r;
        while (i < count && !entry_is_private(entries[i]))
            i++;
    }
    return 0;
}

static int scan_read(int fd, uint64_t address, uint64_t size, struct ramet_page_runs *runs, struct ramet_error *err)
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
        int r = scan_entries(entries, count, page, runs, err);
        if (r < 0)
            return r;
        page += count;
    }
    return 0;
}

int ramet_pagemap_scan(pid_t pid, uint64_t address, uint64_t size, enum ramet_pagemap_method method,
                       struct ramet_page_runs *ret, struct ramet_error *err)
{
    _autoclose_ int fd = open_proc(pid, "pagemap", err);
    if (fd < 0)
        return fd;
    struct ramet_page_runs runs = {0};
    struct ramet_error failed = {0};
    int r = -RAMET_UNSUPPORTED;
    if (method == RAMET_PAGEMAP_AUTO)
        r = scan_ioctl(fd, address, size, &runs, &failed);
    if (method == RAMET_PAGEMAP_READ || failed.os_errno == ENOTTY)
        r = scan_read(fd, address, size, &runs, &failed);
    if (r < 0) {
        ramet_page_runs_free(&runs);
        if (err)
            *err = failed;
        return ramet_error_prefix(err, "scanning the memory of process %d", (int)pid), r;
    }
    *ret = runs;
    return 0;
}

void ramet_page_runs_free(struct ramet_page_runs *runs)
{
    free(runs->items);
    *runs = (struct ramet_page_runs){0};
}
