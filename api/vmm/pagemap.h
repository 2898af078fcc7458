/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another process's guest memory: where it is mapped, which of its pages are private, and
 * copying those out.
 *
 * Guest memory is one MAP_PRIVATE mapping of one file. A page of it that is present or
 * swapped, and not backed by the file, was copied on write: the guest changed it.
 *
 * Thread-safety: functions share nothing.
 */
#ifndef RAMET_API_VMM_PAGEMAP_H
#define RAMET_API_VMM_PAGEMAP_H

#include "base/page_scan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The name the kernel shows for this file in /proc/PID/maps, its symbolic links resolved. Owned by the caller. */
int ramet_pagemap_name(const char *path, char **ret, struct ramet_error *err);

/*
 * Finds the private mapping of the file with this name, all `size` bytes of it, which may be split
 * into several areas but must lie contiguously. RAMET_NOT_FOUND when there is none or it is not whole.
 */
int ramet_pagemap_find(pid_t pid, const char *name, uint64_t size, uint64_t *ret_address, struct ramet_error *err);

/* Lists the private pages of [address, address + size). *ret must be zeroed; free it with ramet_page_runs_free. */
int ramet_pagemap_scan(pid_t pid, uint64_t address, uint64_t size, enum ramet_page_scan_how how,
                       struct ramet_page_runs *ret, struct ramet_error *err);
void ramet_page_runs_free(struct ramet_page_runs *runs);

/*
 * Copies the pages of `runs` from the process's mapping at `address` into the file `fd`, each to its place in it.
 * `held`: the process shares its pages copy-on-write with its parent; only then another way of reading is faster.
 */
int ramet_pagemap_copy(pid_t pid, uint64_t address, const struct ramet_page_runs *runs, bool held, int fd,
                       struct ramet_error *err);
/* Copies one range of memory. */
int ramet_pagemap_read(pid_t pid, uint64_t address, void *buf, size_t size, struct ramet_error *err);

#endif
