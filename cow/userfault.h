/* SPDX-License-Identifier: Apache-2.0 */
/*
 * userfaultfd: which pages of our own memory were written (asynchronous write protection,
 * Linux 6.7). Reading the list is base/page_scan.h's WRITTEN and REARM.
 *
 * Thread-safe.
 */
#ifndef RAMET_COW_USERFAULT_H
#define RAMET_COW_USERFAULT_H

#include "base/error.h"

#include <stdint.h>

/* The descriptor, or -RAMET_UNSUPPORTED where the kernel has or allows none. */
int ramet_userfault_open(struct ramet_error *err);
/* Tracks writes to a private mapping from here on; what was private before counts as written. Ends with the mapping. */
int ramet_userfault_track(int fd, void *address, uint64_t size, struct ramet_error *err);
/* Puts pages where none are: private ones that do not count as written. The range must be tracked. */
int ramet_userfault_place(int fd, void *address, const void *pages, uint64_t size, struct ramet_error *err);

#endif
