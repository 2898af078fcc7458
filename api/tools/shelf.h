/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shelf: every server's files as they are now, arranged for each caller, for the mount and for searches.
 *
 * It follows the catalogue: a new version, a removal or a change of health is there with the next request. What a
 * caller may not call is not in its tree, not counted in its indexes and not known to its searches; the policy in force
 * decides, and is asked again with each request. Reads are told to the audit, and so are attempts at what exists but is
 * hidden.
 *
 * Nothing here calls a server. Texts are made from documents when they are read.
 *
 * Thread-safety: every function from any thread, but open and close.
 */
#ifndef RAMET_API_TOOLS_SHELF_H
#define RAMET_API_TOOLS_SHELF_H

#include "base/error.h"

#include <stddef.h>

struct ramet_gate;
struct ramet_json;
struct ramet_principal;
struct ramet_tools_catalogue;
struct ramet_tools_shelf;

/* All borrowed; they must outlive the shelf. */
struct ramet_tools_shelf_config {
    struct ramet_tools_catalogue *catalogue;
    struct ramet_gate *gate;
    const char *socket;    /* that stubs call through */
    const char *mount_dir; /* the daemon's mount, in which tools/ is mounted; NULL: nowhere */
};

int ramet_tools_shelf_open(const struct ramet_tools_shelf_config *config, struct ramet_tools_shelf **ret,
                           struct ramet_error *err);
/* Unmounts; the daemon stops then, so nobody waits for the audit any more. NULL is a no-op. */
void ramet_tools_shelf_close(struct ramet_tools_shelf *shelf);

/*
 * The tools that fit the words best, of those the principal may call: an array of {"server", "tool", "description",
 * "file", "score"}, best first, `file` below the mount's tools/ and without an ending. Told to the audit. `max` from 1
 * to RAMET_DOCS_HITS_MAX.
 */
int ramet_tools_shelf_search(struct ramet_tools_shelf *shelf, const struct ramet_principal *principal,
                             const char *query, size_t max, struct ramet_json **ret, struct ramet_error *err);

#endif
