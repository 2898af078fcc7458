/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees of files that somebody above makes: what one caller sees below tools/.
 *
 * A tree never changes; a newer one takes its place. Nodes are counted and may stand in many trees. A file's text is
 * made when it is wanted and must be the same each time, for as long as its number stays: an inode number stands for
 * one text, so that the kernel may keep its pages and a descriptor shows one version. A directory's number stays,
 * whatever is in it: a process may stand there while trees come and go.
 *
 * Thread-safety: nodes are immutable but for their counts.
 */
#ifndef RAMET_FUSE_TOOLS_TREE_H
#define RAMET_FUSE_TOOLS_TREE_H

#include "base/codec.h"
#include "base/error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct ramet_tools_node;

/* What makes the texts of some files; embedded in the maker's own struct, counted. */
struct ramet_tools_text {
    atomic_uint refs;
    int (*make)(struct ramet_tools_text *text, const struct ramet_tools_node *node, struct ramet_buf *out,
                struct ramet_error *err);
    void (*free)(struct ramet_tools_text *text); /* the last reference went */
};
void ramet_tools_text_ref(struct ramet_tools_text *text);
void ramet_tools_text_unref(struct ramet_tools_text *text); /* NULL is a no-op */

enum ramet_tools_node_kind {
    RAMET_TOOLS_DIR,
    RAMET_TOOLS_FILE,
    RAMET_TOOLS_LIVE,   /* a file whose text depends on when it is opened; its pages are never kept */
    RAMET_TOOLS_SEARCH, /* a directory in which every name is a file, made by `text` */
};

struct ramet_tools_node {
    atomic_uint refs;
    enum ramet_tools_node_kind kind;
    uint64_t ino;     /* from 2 on; 1 is the root */
    uint64_t dir_ino; /* of the directory it is in */
    int64_t mtime_ms;
    bool executable;
    struct ramet_tools_text *text;      /* held; NULL for plain directories */
    unsigned which, form;               /* for the maker */
    uint64_t owner;                     /* 0: the same for everybody; else a number for those who see the same */
    _Atomic int64_t size;               /* -1: not known yet */
    struct ramet_tools_node **children; /* held, sorted by name */
    size_t count;
    struct ramet_tools_node **dirs; /* of a root: all directories below it, sorted by number; borrowed */
    size_t dir_count;
    char name[];
};

/* NULL when memory ran out. Takes a reference on `text`. */
struct ramet_tools_node *ramet_tools_node_new(const char *name, enum ramet_tools_node_kind kind, uint64_t ino,
                                              struct ramet_tools_text *text);
struct ramet_tools_node *ramet_tools_node_ref(struct ramet_tools_node *node);
void ramet_tools_node_unref(struct ramet_tools_node *node); /* NULL is a no-op */

/* Gives a directory its children, which it takes over with the array, also when it fails: a name is there twice. */
int ramet_tools_node_fill(struct ramet_tools_node *dir, struct ramet_tools_node **children, size_t count,
                          struct ramet_error *err);
/* To be called on a root once all is filled. */
int ramet_tools_root_seal(struct ramet_tools_node *root, struct ramet_error *err);

/* Borrowed from the tree, NULL when there is none. */
struct ramet_tools_node *ramet_tools_child(const struct ramet_tools_node *dir, const char *name);
struct ramet_tools_node *ramet_tools_dir_by_ino(const struct ramet_tools_node *root, uint64_t ino);

static inline bool ramet_tools_is_dir(const struct ramet_tools_node *node)
{
    return node->kind == RAMET_TOOLS_DIR || node->kind == RAMET_TOOLS_SEARCH;
}

/* The file's text. */
int ramet_tools_node_text(struct ramet_tools_node *node, struct ramet_buf *out, struct ramet_error *err);
/* How long it is; the text is made for it once. */
int ramet_tools_node_size(struct ramet_tools_node *node, uint64_t *ret, struct ramet_error *err);

#endif
