/* SPDX-License-Identifier: Apache-2.0 */
#include "tools_tree.h"

#include <stdlib.h>
#include <string.h>

void ramet_tools_text_ref(struct ramet_tools_text *text) { atomic_fetch_add(&text->refs, 1); }

void ramet_tools_text_unref(struct ramet_tools_text *text)
{
    if (text && atomic_fetch_sub(&text->refs, 1) == 1)
        text->free(text);
}

struct ramet_tools_node *ramet_tools_node_new(const char *name, enum ramet_tools_node_kind kind, uint64_t ino,
                                              struct ramet_tools_text *text)
{
    size_t length = strlen(name);
    struct ramet_tools_node *node = calloc(1, sizeof *node + length + 1);
    if (!node)
        return NULL;
    memcpy(node->name, name, length + 1);
    atomic_init(&node->refs, 1);
    atomic_init(&node->size, -1);
    node->kind = kind;
    node->ino = ino;
    node->text = text;
    if (text)
        ramet_tools_text_ref(text);
    return node;
}

struct ramet_tools_node *ramet_tools_node_ref(struct ramet_tools_node *node)
{
    atomic_fetch_add(&node->refs, 1);
    return node;
}

void ramet_tools_node_unref(struct ramet_tools_node *node)
{
    if (!node || atomic_fetch_sub(&node->refs, 1) != 1)
        return;
    for (size_t i = 0; i < node->count; i++)
        ramet_tools_node_unref(node->children[i]);
    free(node->children);
    free(node->dirs);
    ramet_tools_text_unref(node->text);
    free(node);
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct ramet_tools_node *const *)a)->name, (*(struct ramet_tools_node *const *)b)->name);
}

static int by_ino(const void *a, const void *b)
{
    uint64_t x = (*(struct ramet_tools_node *const *)a)->ino, y = (*(struct ramet_tools_node *const *)b)->ino;
    return x < y ? -1 : x > y;
}

int ramet_tools_node_fill(struct ramet_tools_node *dir, struct ramet_tools_node **children, size_t count,
                          struct ramet_error *err)
{
    dir->children = children;
    dir->count = count;
    if (count)
        qsort(children, count, sizeof(*children), by_name);
    for (size_t i = 1; i < count; i++)
        if (strcmp(children[i - 1]->name, children[i]->name) == 0)
            return ramet_error_set(err, RAMET_INTERNAL, "two files would be named %s/%s", dir->name, children[i]->name);
    return 0;
}

static size_t collect(struct ramet_tools_node *dir, struct ramet_tools_node **ret)
{
    size_t count = 0;
    if (ret)
        ret[count] = dir;
    count++;
    for (size_t i = 0; i < dir->count; i++)
        if (ramet_tools_is_dir(dir->children[i]))
            count += collect(dir->children[i], ret ? ret + count : NULL);
    return count;
}

int ramet_tools_root_seal(struct ramet_tools_node *root, struct ramet_error *err)
{
    root->dir_count = collect(root, NULL);
    root->dirs = calloc(root->dir_count, sizeof(*root->dirs));
    if (!root->dirs)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the directories of tools");
    collect(root, root->dirs);
    qsort(root->dirs, root->dir_count, sizeof(*root->dirs), by_ino);
    return 0;
}

struct ramet_tools_node *ramet_tools_child(const struct ramet_tools_node *dir, const char *name)
{
    size_t low = 0, high = dir->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, dir->children[middle]->name);
        if (order == 0)
            return dir->children[middle];
        *(order < 0 ? &high : &low) = order < 0 ? middle : middle + 1;
    }
    return NULL;
}

struct ramet_tools_node *ramet_tools_dir_by_ino(const struct ramet_tools_node *root, uint64_t ino)
{
    size_t low = 0, high = root->dir_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (root->dirs[middle]->ino == ino)
            return root->dirs[middle];
        *(ino < root->dirs[middle]->ino ? &high : &low) = ino < root->dirs[middle]->ino ? middle : middle + 1;
    }
    return NULL;
}

int ramet_tools_node_text(struct ramet_tools_node *node, struct ramet_buf *out, struct ramet_error *err)
{
    int r = node->text->make(node->text, node, out, err);
    if (r == 0 && out->failed)
        r = ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the text of %s", node->name);
    if (r == 0 && node->kind == RAMET_TOOLS_FILE)
        atomic_store(&node->size, (int64_t)out->size);
    return r;
}

int ramet_tools_node_size(struct ramet_tools_node *node, uint64_t *ret, struct ramet_error *err)
{
    int64_t known = node->kind == RAMET_TOOLS_FILE ? atomic_load(&node->size) : -1;
    struct ramet_buf text = {0};
    if (known >= 0) {
        *ret = (uint64_t)known;
        return 0;
    }
    int r = ramet_tools_node_text(node, &text, err);
    if (r == 0)
        *ret = text.size;
    ramet_buf_free(&text);
    return r;
}
