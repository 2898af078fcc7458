/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { block = 4096 };

static void fail(const char *what, const char *path)
{
    fprintf(stderr, "tree: cannot %s %s: %m\n", what, path);
    exit(1);
}

static struct tree *loading;
static size_t root_size;

static void load_file(const char *path, const char *name, size_t size)
{
    struct tree_file *grown = reallocarray(loading->files, loading->file_count + 1, sizeof *grown);
    uint8_t *bytes = malloc(size + 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (!grown || !bytes || fd < 0 || read(fd, bytes, size) != (ssize_t)size)
        fail("load", path);
    close(fd);
    loading->files = grown;
    struct tree_file *file = &grown[loading->file_count++];
    *file = (struct tree_file){.bytes = bytes, .size = size};
    snprintf(file->name, sizeof file->name, "%s", name);
}

static int load_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)ftw;
    const char *name = path + root_size + (path[root_size] == '/');
    if (kind == FTW_F) {
        load_file(path, name, (size_t)st->st_size);
        return 0;
    }
    loading->dirs = reallocarray(loading->dirs, loading->dir_count + 1, sizeof *loading->dirs);
    if (!loading->dirs)
        fail("load", path);
    snprintf(loading->dirs[loading->dir_count++], sizeof *loading->dirs, "%s", name);
    return 0;
}

static int compare_name(const void *a, const void *b)
{
    return strcmp(((const struct tree_file *)a)->name, ((const struct tree_file *)b)->name);
}

void tree_load(const char *root, struct tree *ret)
{
    *ret = (struct tree){0};
    loading = ret;
    root_size = strlen(root);
    if (nftw(root, load_entry, 16, FTW_PHYS) != 0)
        fail("walk", root);
    qsort(ret->files, ret->file_count, sizeof *ret->files, compare_name);
}

static void restore_file(const char *path, const struct tree_file *file)
{
    static const uint8_t zeros[block];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)file->size) < 0)
        fail("make", path);
    for (size_t at = 0, some; at < file->size; at += some) {
        some = file->size - at < block ? file->size - at : block;
        if (memcmp(file->bytes + at, zeros, some) != 0 &&
            pwrite(fd, file->bytes + at, some, (off_t)at) != (ssize_t)some)
            fail("write", path);
    }
    close(fd);
}

void tree_restore(const char *root, const struct tree *tree)
{
    char path[512];
    tree_remove(root);
    for (size_t i = 0; i < tree->dir_count; i++) {
        snprintf(path, sizeof path, "%s/%s", root, tree->dirs[i]);
        if (mkdir(path, 0700) < 0)
            fail("make", path);
    }
    for (size_t i = 0; i < tree->file_count; i++) {
        snprintf(path, sizeof path, "%s/%s", root, tree->files[i].name);
        restore_file(path, &tree->files[i]);
    }
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

void tree_remove(const char *root)
{
    struct stat st;
    if (stat(root, &st) == 0 && nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0)
        fail("remove", root);
}

void tree_free(struct tree *tree)
{
    for (size_t i = 0; i < tree->file_count; i++)
        free(tree->files[i].bytes);
    free(tree->files);
    free(tree->dirs);
    *tree = (struct tree){0};
}
