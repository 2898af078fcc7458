/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resident memory: an image laid out so that a private mapping of it costs one mmap. A
 * resident is a *root*, a sealed memfd with every page, or a *later state* of one: a layer
 * of changed pages over another resident, with a list of all pages in which it differs
 * from its root.
 *
 * Immutable, reference-counted, thread-safe.
 */
#ifndef RAMET_COW_RESIDENT_H
#define RAMET_COW_RESIDENT_H

#include "base/page_scan.h"
#include "image.h"

struct ramet_resident;

/* A root, with all of the image's bytes; references the image. Reads with several threads. */
int ramet_resident_load(struct ramet_image *image, struct ramet_resident **ret, struct ramet_error *err);
/* A root whose file has no bytes yet; ramet_resident_fill brings them. Its mappings must be served (fault_server.h). */
int ramet_resident_lazy(struct ramet_image *image, struct ramet_resident **ret, struct ramet_error *err);
/* Whether its root is one. */
bool ramet_resident_is_lazy(const struct ramet_resident *resident);
/* Reads the page of a lazy root, and its neighbours, into the file; when they cannot be read, the page alone. By one
 * thread at a time. */
int ramet_resident_fill(struct ramet_resident *resident, uint64_t page, struct ramet_error *err);
/*
 * The state after `base` with the pages of `runs` changed; they lie packed in `fd`. Takes `fd` over in every case. Its
 * image is layered over that of `base`.
 */
int ramet_resident_derive(struct ramet_resident *base, const struct ramet_page_runs *runs, int fd,
                          struct ramet_resident **ret, struct ramet_error *err);
struct ramet_resident *ramet_resident_ref(struct ramet_resident *resident);
void ramet_resident_unref(struct ramet_resident *resident); /* NULL is a no-op */

struct ramet_image *ramet_resident_image(const struct ramet_resident *resident); /* borrowed */
uint64_t ramet_resident_size(const struct ramet_resident *resident);
struct ramet_resident *ramet_resident_root(struct ramet_resident *resident); /* borrowed */
int ramet_resident_fd(const struct ramet_resident *resident);                /* borrowed; of its root */
/* Borrowed: itself, or the root made of it, whichever has this root; NULL when neither has. */
struct ramet_resident *ramet_resident_on_root(struct ramet_resident *resident, const struct ramet_resident *root);
/* Pages in which it differs from its root. */
size_t ramet_resident_changed(const struct ramet_resident *resident);
/*
 * What a new branch maps: itself or, once its pages were copied so often that this had been cheaper, a root of its own
 * with the same content. A reference of the caller's.
 */
struct ramet_resident *ramet_resident_for_branch(struct ramet_resident *resident);
/*
 * The resident a next state is best laid over, borrowed: itself, or its root when the chain of layers has become long
 * or holds much that nobody sees. Then *runs gains the pages in which it differs from the root.
 */
int ramet_resident_under(struct ramet_resident *resident, struct ramet_page_runs *runs, struct ramet_resident **ret,
                         struct ramet_error *err);
/* Adds to *runs the pages in which two states of one root differ. */
int ramet_resident_differ(const struct ramet_resident *a, const struct ramet_resident *b, struct ramet_page_runs *runs,
                          struct ramet_error *err);
/* Of [page, page + limit), how many are alike in lying in one layer (*ret_layer, borrowed) or in the root (NULL). */
uint64_t ramet_resident_find(const struct ramet_resident *resident, uint64_t page, uint64_t limit,
                             struct ramet_layer **ret_layer);

#endif
