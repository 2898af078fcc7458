/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images: fixed-size, sparse, immutable arrays of pages. An image is backed by a map in
 * the store, or, while it is fresh, by a layer over another image. When what a layered
 * image holds has become durable it is settled: the map takes the layer's place under
 * everyone who reads it, and memory is given back.
 *
 * Reference-counted and thread-safe. Every image belongs to a set; the set is what
 * garbage collection takes as its roots.
 */
#ifndef RAMET_COW_IMAGE_H
#define RAMET_COW_IMAGE_H

#include "layer.h"
#include "page_map.h"

struct ramet_image;
struct ramet_image_set;

struct ramet_image_set *ramet_image_set_new(struct ramet_store *store); /* NULL when memory ran out */
void ramet_image_set_free(struct ramet_image_set *set);                 /* no image may be left */
/* Marks everything any image of the set needs. */
int ramet_image_set_mark(struct ramet_image_set *set, struct ramet_gc *gc, struct ramet_error *err);

/* The size need not be a multiple of the page size; bytes past it read as zeros within the last page. */
int ramet_image_new_stored(struct ramet_image_set *set, uint64_t size_bytes, ramet_chunk root, struct ramet_image **ret,
                           struct ramet_error *err);
/* Takes over `layer` in every case; references `base`. */
int ramet_image_new_layered(struct ramet_image *base, struct ramet_layer *layer, struct ramet_image **ret,
                            struct ramet_error *err);
/* An image of `size_bytes` that lies in a file of its own, a memfd as a rule. Takes over `fd` in every case. */
int ramet_image_new_whole(struct ramet_image_set *set, int fd, uint64_t size_bytes, struct ramet_image **ret,
                          struct ramet_error *err);
struct ramet_image *ramet_image_ref(struct ramet_image *image);
void ramet_image_unref(struct ramet_image *image); /* NULL is a no-op */

uint64_t ramet_image_size(const struct ramet_image *image);
struct ramet_store *ramet_image_store(const struct ramet_image *image); /* borrowed */
/* Reads any range within the size. On failure buf holds nothing that may be used. */
int ramet_image_read(struct ramet_image *image, uint64_t offset, void *buf, size_t size, struct ramet_error *err);
/* Reads `count` pages, in any order, one after the other to `buf`; those of the store in one go. */
int ramet_image_read_list(struct ramet_image *image, const uint64_t *pages, size_t count, void *buf,
                          struct ramet_error *err);
/* First byte at or after `offset` that may be data, in whole pages; the size when there is none. */
int ramet_image_next_data(struct ramet_image *image, uint64_t offset, uint64_t *ret, struct ramet_error *err);
/* The map, when the image is settled: 0; -RAMET_CONFLICT while it is layered. */
int ramet_image_map(struct ramet_image *image, struct ramet_page_map *ret, struct ramet_error *err);
/* Pages held by the image's own layers, not by the store. */
uint64_t ramet_image_resident_pages(struct ramet_image *image);

/* Puts a layered image's pages into the store and gives its map; a settled one just gives its map. */
int ramet_image_put(struct ramet_image *image, struct ramet_ingest *ingest, struct ramet_page_map *ret,
                    struct ramet_error *err);
/* After the ingest's commit: the map from ramet_image_put takes the layers' place. */
void ramet_image_settle(struct ramet_image *image, const struct ramet_page_map *map);

#endif
