/* SPDX-License-Identifier: Apache-2.0 */
/* The trees of workspaces as the last checkpoint stored them: for collections and for fsck, whether or not the set is
 * open. */
#ifndef RAMET_WORKSPACE_STORED_H
#define RAMET_WORKSPACE_STORED_H

#include "catalog.h"
#include "tree.h"

struct ramet_wvisitor {
    bool (*node)(void *ctx, ramet_chunk chunk); /* whether to go on into it */
    void (*page)(void *ctx, uint64_t ino, uint64_t page, ramet_chunk chunk);
    void *ctx;
};
/* Visits what is below a node, itself first. */
int ramet_wstored_walk(struct ramet_store *store, ramet_chunk node, const struct ramet_wvisitor *visitor,
                       struct ramet_error *err);
/* The same for the page of a leaf. */
void ramet_wstored_leaf(const uint8_t *page, const struct ramet_wvisitor *visitor);

struct ramet_wstored {
    char name[RAMET_CATALOG_NAME_SIZE], id[RAMET_CATALOG_ID_SIZE];
    bool is_state;
    uint64_t serial;
    ramet_chunk root, base; /* RAMET_CHUNK_ZERO: none */
};
/* Calls for each workspace and state that has a record; an error of `each` ends it. */
int ramet_wstored_each(struct ramet_store *store,
                       int (*each)(void *ctx, const struct ramet_wstored *stored, struct ramet_error *err), void *ctx,
                       struct ramet_error *err);
/* "/a/b", by one of its names; false when it has none or they cannot be read. */
bool ramet_wstored_path(struct ramet_store *store, ramet_chunk root, uint64_t ino, char *path, size_t size);

/* Marks everything that workspaces need: of the open set, or what is stored. */
int ramet_workspaces_mark(struct ramet_catalog *catalog, struct ramet_gc *gc, struct ramet_error *err);

#endif
