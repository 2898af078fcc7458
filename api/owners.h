/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose is what: which principal made a sandbox, snapshot or workspace, by id. Only
 * agents' are kept; what nobody is recorded for is an admin's.
 *
 * On disk: a text file, a line "ID OWNER" for each, "ID" alone when it is forgotten;
 * synced before set returns. A line torn in a crash is dropped: its object is an
 * admin's then, which lets nobody in who was not before. The file is written anew at
 * each opening.
 *
 * Thread-safety: every function but open and close may be called from any thread.
 */
#ifndef RAMET_API_OWNERS_H
#define RAMET_API_OWNERS_H

#include "base/error.h"
#include "principal.h"

struct ramet_owners;

int ramet_owners_open(const char *path, struct ramet_owners **ret, struct ramet_error *err);
void ramet_owners_close(struct ramet_owners *owners); /* NULL is a no-op */

/* `id`: 1 to 63 letters, digits or "._-" */
int ramet_owners_set(struct ramet_owners *owners, const char *id, const char *owner, struct ramet_error *err);
/* "" when none is recorded. */
void ramet_owners_get(struct ramet_owners *owners, const char *id, char ret[static RAMET_PRINCIPAL_TEXT]);
/* Ids are never used again, so a failure to record it costs a line and no right. */
void ramet_owners_forget(struct ramet_owners *owners, const char *id);
/* Forgets every id of which `exists` says no. */
void ramet_owners_prune(struct ramet_owners *owners, bool (*exists)(void *context, const char *id), void *context);

#endif
