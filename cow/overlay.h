/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A writable disk: an image underneath, changed pages in a file of its own.
 *
 * Files of generation G in the branch's directory: "NAME.G" holds each changed page at
 * its own offset, "NAME.G.log" which pages are durable there. Freezing seals the
 * generation in O(1) and starts the next, so that the frozen image and the disk share
 * everything written so far.
 *
 * ramet_overlay_flush returns when all earlier writes are durable. What was written but
 * not flushed may be lost with the power or the daemon, as with any disk.
 *
 * Thread-safe. ramet_overlay_freeze excludes writers for a moment, readers not at all.
 */
#ifndef RAMET_COW_OVERLAY_H
#define RAMET_COW_OVERLAY_H

#include "image.h"

struct ramet_overlay;

/*
 * Opens NAME over `base` (referenced), its generations from `first_generation` on: those
 * found in `dir` are recovered, the newest is written to. A fresh directory starts one.
 */
int ramet_overlay_open(const char *dir, const char *name, struct ramet_image *base, uint64_t first_generation,
                       struct ramet_overlay **ret, struct ramet_error *err);
void ramet_overlay_close(struct ramet_overlay *overlay); /* keeps the files; NULL is a no-op */

uint64_t ramet_overlay_size(const struct ramet_overlay *overlay);
int ramet_overlay_read(struct ramet_overlay *overlay, uint64_t offset, void *buf, size_t size, struct ramet_error *err);
int ramet_overlay_write(struct ramet_overlay *overlay, uint64_t offset, const void *buf, size_t size,
                        struct ramet_error *err);
/* The range reads as zeros afterwards; whole pages give their space back. */
int ramet_overlay_discard(struct ramet_overlay *overlay, uint64_t offset, uint64_t size, struct ramet_error *err);
int ramet_overlay_flush(struct ramet_overlay *overlay, struct ramet_error *err);

/*
 * The disk as it is now, as an image owned by the caller. *ret_generation is the one now
 * written to: once the image is durable elsewhere, older files may go (ramet_overlay_trim).
 */
int ramet_overlay_freeze(struct ramet_overlay *overlay, struct ramet_image **ret, uint64_t *ret_generation,
                         struct ramet_error *err);
/* Removes the files of generations below `first_generation`. Their content must be durable in the store. */
void ramet_overlay_trim(struct ramet_overlay *overlay, uint64_t first_generation);

/*
 * A new beginning over another image of the same size, of which nothing written before is part. begin makes the files
 * of *ret_generation, far above those in use, so that no freeze of the old disk ever reaches it; commit, once a record
 * names that generation, turns to it and removes the older files; it cannot fail. abort forgets it. From begin to
 * commit or abort no other may begin.
 */
int ramet_overlay_reset_begin(struct ramet_overlay *overlay, struct ramet_image *base, uint64_t *ret_generation,
                              struct ramet_error *err);
void ramet_overlay_reset_commit(struct ramet_overlay *overlay);
void ramet_overlay_reset_abort(struct ramet_overlay *overlay); /* a no-op where none was begun */

uint64_t ramet_overlay_written_bytes(struct ramet_overlay *overlay); /* pages of the current generation */

#endif
