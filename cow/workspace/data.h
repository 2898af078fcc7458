/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages of files. A page is named by a reference: a hole, a chunk of the store, or a
 * slot of the staging file of an epoch, where fresh pages lie until the next checkpoint
 * puts them into the store. References are values: copying one shares the page.
 *
 * A staged page that only one head can see (it was written since that head was last
 * forked) is overwritten in place; any other is left alone and the new content gets a
 * slot of its own.
 *
 * The workspace's lock is held: shared to read, exclusively to write.
 */
#ifndef RAMET_WORKSPACE_DATA_H
#define RAMET_WORKSPACE_DATA_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct ramet_workspace;

typedef uint64_t ramet_wref;
#define RAMET_WREF_HOLE ((ramet_wref)0)
#define RAMET_WREF_STAGED (UINT64_C(1) << 63) /* then 31 bits of epoch, 32 of slot; otherwise a chunk number */

/* Reads `count` whole pages, holes as zeros; staged and stored ones in as few calls as it can. */
int ramet_wdata_read(struct ramet_workspace *workspace, const ramet_wref *refs, size_t count, void *buf,
                     struct ramet_error *err);
/* Writes `count` whole pages; refs[i] is what page i was and becomes what it is. On failure refs are as they were,
 * except that pages written in place may hold either content. */
int ramet_wdata_write(struct ramet_workspace *workspace, ramet_wref *refs, size_t count, const void *buf,
                      struct ramet_error *err);
/* Writes a part of one page, the rest stays. */
int ramet_wdata_write_part(struct ramet_workspace *workspace, ramet_wref *ref, size_t offset, const void *buf,
                           size_t size, struct ramet_error *err);
/* Records of this head are about to name these more than once: from now on no head owns their slots, so that nobody
 * overwrites them in place or uses them again before the epoch ends. */
void ramet_wdata_share(struct ramet_workspace *workspace, const ramet_wref *refs, size_t count);
/* No record of this head names these any more (after the change was applied): slots nobody else can see are used again
 * once that is durable. Also for new pages whose change failed. */
void ramet_wdata_release(struct ramet_workspace *workspace, const ramet_wref *refs, size_t count);

/* What the reference means now: the chunk that a page of an earlier epoch has become, if it has. */
ramet_wref ramet_wdata_resolve(struct ramet_workspace *workspace, ramet_wref ref);

#endif
