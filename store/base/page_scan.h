/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages of a private mapping are private: a page that is present or swapped, and not
 * backed by the file, was copied on write. Only what stands still can be scanned.
 *
 * Thread-safety: functions share nothing.
 */
#ifndef RAMET_BASE_PAGE_SCAN_H
#define RAMET_BASE_PAGE_SCAN_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

#define RAMET_PAGE_SIZE 4096
#define RAMET_RUN_PAGES 256

/* Consecutive private pages, at most RAMET_RUN_PAGES of them. */
struct ramet_page_run {
    uint64_t page;  /* index of the first one in the mapping */
    uint64_t at;    /* how many listed pages come before it: its place in a packed copy */
    uint64_t count; /* pages */
};

struct ramet_page_runs {
    struct ramet_page_run *items; /* owned, ascending */
    size_t count, capacity;
    uint64_t page_count; /* over all runs */
};

enum ramet_page_scan_how {
    RAMET_SCAN_PRIVATE, /* the PAGEMAP_SCAN ioctl where the kernel has it (6.7), else as ENTRIES */
    RAMET_SCAN_ENTRIES, /* one 8-byte entry per page of the mapping */
    /* For ranges that a userfaultfd tracks (RAMET_UNSUPPORTED where none does): only those written since the last
     * REARM, which lists them and begins anew. A failed REARM has forgotten some: scan for PRIVATE then. */
    RAMET_SCAN_WRITTEN,
    RAMET_SCAN_REARM,
    /* As REARM, and may list pages of the file that were only read since: it does not look at the pages themselves,
     * which takes a third of the time. */
    RAMET_SCAN_TOUCHED,
};

/* `pagemap_fd`: /proc/PID/pagemap, open for reading. *ret must be zeroed; free it with ramet_page_runs_free. */
int ramet_page_scan(int pagemap_fd, uint64_t address, uint64_t size, enum ramet_page_scan_how how,
                    struct ramet_page_runs *ret, struct ramet_error *err);
/* Appends pages after those that are there. */
int ramet_page_runs_add(struct ramet_page_runs *runs, uint64_t page, uint64_t count, struct ramet_error *err);
/* All pages, one by one: owned by the caller (free). */
int ramet_page_runs_list(const struct ramet_page_runs *runs, uint64_t **ret, struct ramet_error *err);
void ramet_page_runs_free(struct ramet_page_runs *runs);

#endif
