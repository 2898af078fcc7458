/* SPDX-License-Identifier: Apache-2.0 */
/*
 * userfaultfd: which pages of our own memory were written (asynchronous write protection,
 * Linux 6.7), and answering faults on pages that a file does not hold yet. Reading the list
 * of what was written is base/page_scan.h's WRITTEN and REARM.
 *
 * Thread-safe.
 */
#ifndef RAMET_COW_USERFAULT_H
#define RAMET_COW_USERFAULT_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* The descriptor, or -RAMET_UNSUPPORTED where the kernel has or allows none. */
int ramet_userfault_open(struct ramet_error *err);
/* Tracks writes to a private mapping from here on; what was private before counts as written. Ends with the mapping. */
int ramet_userfault_track(int fd, void *address, uint64_t size, struct ramet_error *err);
/* Puts pages where none are: private ones that do not count as written. The range must be tracked. */
int ramet_userfault_place(int fd, void *address, const void *pages, uint64_t size, struct ramet_error *err);

/* As ramet_userfault_open, also for serving; faults inside the kernel, as KVM's are, need a privilege. */
int ramet_userfault_open_serving(struct ramet_error *err);
/* Tracks, and sends a message for each touch of a page that the mapped file has no bytes for. */
int ramet_userfault_serve(int fd, void *address, uint64_t size, struct ramet_error *err);
/* The next message, if there is one: the address of a page somebody waits for. */
bool ramet_userfault_next(int fd, uintptr_t *ret_page);
/* Who waits for the page tries again. No error: the mapping may be gone. */
void ramet_userfault_wake(int fd, uintptr_t page);
/* Who touches the page gets SIGBUS, who waits for it too. */
void ramet_userfault_poison(int fd, uintptr_t page);

#endif
