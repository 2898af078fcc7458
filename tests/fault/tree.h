/* SPDX-License-Identifier: Apache-2.0 */
/* A directory tree held in memory, to be put back as often as a test has damaged it. */
#ifndef RAMET_TESTS_TREE_H
#define RAMET_TESTS_TREE_H

#include <stddef.h>
#include <stdint.h>

struct tree_file {
    char name[128]; /* below the tree's root */
    uint8_t *bytes; /* owned */
    size_t size;
};

struct tree {
    struct tree_file *files; /* owned; in name order */
    size_t file_count;
    char (*dirs)[128]; /* owned; parents first */
    size_t dir_count;
};

/* All of them exit with a message when the file system fails. */
void tree_load(const char *root, struct tree *ret);
/* Makes `root` exactly what was loaded; pages of zeros become holes. */
void tree_restore(const char *root, const struct tree *tree);
void tree_remove(const char *root);
void tree_free(struct tree *tree);

#endif
