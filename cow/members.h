/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalog's snapshots, or its branches, by id and by serial, each in O(1). Holds
 * pointers only: what they refer to is the caller's. Not thread-safe; the catalog's lock
 * guards it.
 */
#ifndef RAMET_COW_MEMBERS_H
#define RAMET_COW_MEMBERS_H

#include "base/error.h"
#include "base/u64map.h"

struct ramet_members {
    struct ramet_u64map ids; /* the 16 hex digits as a number -> object */
    struct ramet_u64map serials;
};

/* CORRUPT when `id` is not 16 lower-case hex digits or is taken; nothing changes on failure. */
int ramet_members_add(struct ramet_members *members, const char *id, uint64_t serial, void *object,
                      struct ramet_error *err);
void ramet_members_remove(struct ramet_members *members, const char *id, uint64_t serial);
/* NULL when there is none, or `id` is no id. */
void *ramet_members_by_id(const struct ramet_members *members, const char *id);
void *ramet_members_by_serial(const struct ramet_members *members, uint64_t serial);
/* All, in the order of serials: oldest first. Owned by the caller (free); NULL when memory ran out. */
void **ramet_members_list(const struct ramet_members *members, size_t *ret_count);
void ramet_members_free(struct ramet_members *members);

#endif
