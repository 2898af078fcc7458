/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer: some pages of an image, sealed. It lies over a base image and shows its
 * pages instead of the base's. Two forms: packed (a memory capture: page k of the file
 * is image page pages[k]) and spread (a frozen disk overlay: each page at its own
 * offset, a bitmap telling which are there).
 *
 * Immutable after creation, reference-counted, thread-safe.
 */
#ifndef RAMET_COW_LAYER_H
#define RAMET_COW_LAYER_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ramet_layer;

/* Takes over `fd` and `pages` (malloc'd, ascending) in every case. */
int ramet_layer_new_packed(int fd, uint64_t *pages, size_t count, struct ramet_layer **ret, struct ramet_error *err);
/* Takes over `fd` and `bitmap` (malloc'd, one bit a page) in every case. */
int ramet_layer_new_spread(int fd, uint64_t *bitmap, uint64_t page_count, struct ramet_layer **ret,
                           struct ramet_error *err);
struct ramet_layer *ramet_layer_ref(struct ramet_layer *layer);
void ramet_layer_unref(struct ramet_layer *layer); /* NULL is a no-op */

bool ramet_layer_has(const struct ramet_layer *layer, uint64_t page);
/* Pages from `page` on that are alike in being there or not, at most `limit`; *ret_has tells which. */
uint64_t ramet_layer_run(const struct ramet_layer *layer, uint64_t page, uint64_t limit, bool *ret_has);
/* First page at or after `from` that is there; UINT64_MAX when none. */
uint64_t ramet_layer_next(const struct ramet_layer *layer, uint64_t from);
uint64_t ramet_layer_count(const struct ramet_layer *layer);
/* Reads `count` pages from `page`, all of which must be there. */
int ramet_layer_read(const struct ramet_layer *layer, uint64_t page, uint64_t count, void *buf,
                     struct ramet_error *err);

#endif
