/* SPDX-License-Identifier: Apache-2.0 */
/* Images from files and to files, on several threads, holes staying holes. Thread-safe. */
#ifndef RAMET_COW_IMAGE_FILE_H
#define RAMET_COW_IMAGE_FILE_H

#include "image.h"

/*
 * Puts a file's bytes and gives the map. `base` (may be NULL) is an image the file is a later state of: its pages are
 * compared first, and pages much like them are stored as differences. One of another size is not used.
 */
int ramet_image_put_file(struct ramet_store *store, struct ramet_ingest *ingest, int fd, const char *name,
                         uint64_t size_bytes, const struct ramet_page_map *base, struct ramet_page_map *ret,
                         struct ramet_error *err);
/* Writes the image to an empty file, sparsely. */
int ramet_image_write_file(struct ramet_image *image, int fd, const char *name, uint64_t *ret_data_bytes,
                           struct ramet_error *err);

#endif
