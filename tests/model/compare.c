/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include "workspace/diff.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- reading a workspace --- */

struct loading {
    struct mtree *tree;
    struct ramet_workspace *ws;
    int dir, *found;
    size_t found_count;
};

static int by_ino(const struct mtree *tree, uint64_t ino)
{
    for (int i = 1; i < tree->count; i++)
        if (tree->nodes[i].id >= 0 && tree->nodes[i].ino == ino)
            return i;
    return MNONE;
}

static bool load_entry(void *ctx, const struct ramet_wentry *entry, const struct ramet_wstat *stat)
{
    struct loading *loading = ctx;
    int node = by_ino(loading->tree, entry->ino);
    if (strlen(entry->name) >= sizeof loading->tree->nodes->entries->name)
        fail("a name that nobody made: %s", entry->name);
    if (node != MNONE) {
        mtree_link(loading->tree, loading->dir, entry->name, node);
        return true;
    }
    node = mtree_make(loading->tree, loading->dir, entry->name, stat->mode, stat->uid, stat->gid, (int)entry->ino);
    struct mnode *n = &loading->tree->nodes[node];
    n->mode = stat->mode;
    n->gid = stat->gid;
    n->ino = entry->ino;
    n->mtime_ns = stat->mtime_ns;
    n->ctime_ns = stat->ctime_ns;
    n->atime_ns = stat->atime_ns;
    n->btime_ns = stat->btime_ns;
    if (!S_ISDIR(stat->mode))
        mnode_set_data(n, mblob_new(NULL, stat->size));
    loading->found = realloc(loading->found, (loading->found_count + 1) * sizeof *loading->found);
    loading->found[loading->found_count++] = node;
    return true;
}

static void load_content(struct mnode *node, struct ramet_workspace *ws)
{
    size_t got = 0;
    if (S_ISREG(node->mode)) {
        must(ramet_wfile_read(ws, node->ino, 0, node->data->bytes, node->data->size, &got, &err));
    } else if (S_ISLNK(node->mode)) {
        char target[4096];
        must(ramet_wfile_readlink(ws, node->ino, target, &got, &err));
        if (got == node->data->size)
            memcpy(node->data->bytes, target, got);
    }
    if (got != node->data->size)
        fail("a file of %zu bytes gives %zu", node->data->size, got);
}

static void load_xattrs(struct mnode *node, uint64_t ino, struct ramet_workspace *ws)
{
    char *list;
    size_t size, value_size;
    must(ramet_wfile_list_xattr(ws, ino, &list, &size, &err));
    for (const char *name = list; name < list + size; name += strlen(name) + 1) {
        void *value;
        must(ramet_wfile_get_xattr(ws, ino, name, &value, &value_size, &err));
        node->xattrs = realloc(node->xattrs, (size_t)(node->xattr_count + 1) * sizeof *node->xattrs);
        struct mxattr *xattr = &node->xattrs[node->xattr_count++];
        memset(xattr, 0, sizeof *xattr);
        strncpy(xattr->name, name, sizeof xattr->name - 1);
        xattr->value = mblob_new(value, value_size);
        free(value);
    }
    free(list);
}

static void load_dir(struct mtree *tree, struct ramet_workspace *ws, int dir)
{
    struct loading loading = {.tree = tree, .ws = ws, .dir = dir};
    uint64_t ino = dir == MROOT ? RAMET_WORKSPACE_ROOT : tree->nodes[dir].ino;
    must(ramet_wfile_list(ws, ino, 0, load_entry, &loading, true, &err));
    load_xattrs(&tree->nodes[dir], ino, ws);
    for (size_t i = 0; i < loading.found_count; i++) {
        int node = loading.found[i];
        if (S_ISDIR(tree->nodes[node].mode)) {
            load_dir(tree, ws, node);
            continue;
        }
        load_content(&tree->nodes[node], ws);
        load_xattrs(&tree->nodes[node], tree->nodes[node].ino, ws);
    }
    free(loading.found);
}

void mtree_load(struct mtree *tree, struct ramet_workspace *ws)
{
    struct ramet_workspace_info info;
    struct ramet_wstat stat;
    must(ramet_wfile_stat(ws, RAMET_WORKSPACE_ROOT, &stat, &err));
    mtree_init(tree, stat.uid, stat.gid);
    struct mnode *root = &tree->nodes[MROOT];
    root->mode = stat.mode;
    root->mtime_ns = stat.mtime_ns;
    root->ctime_ns = stat.ctime_ns;
    root->atime_ns = stat.atime_ns;
    root->btime_ns = stat.btime_ns;
    load_dir(tree, ws, MROOT);
    ramet_workspace_info(ws, &info);
    uint64_t inodes = 0;
    for (int i = 0; i < tree->count; i++) {
        const struct mnode *node = &tree->nodes[i];
        if (node->id < 0)
            continue;
        inodes++;
        must(ramet_wfile_stat(ws, i == MROOT ? RAMET_WORKSPACE_ROOT : node->ino, &stat, &err));
        if (stat.nlink != node->nlink)
            fail("inode %llu has %u links, not %u", (unsigned long long)stat.ino, stat.nlink, node->nlink);
    }
    if (inodes > info.inodes)
        fail("%llu inodes are counted, not %llu", (unsigned long long)info.inodes, (unsigned long long)inodes);
}

/* --- comparing --- */

static char difference[512];

static const char *differ(const char *path, const char *what)
{
    snprintf(difference, sizeof difference, "\"%s\": %s", path, what);
    return difference;
}

static bool same_blob(const struct mblob *a, const struct mblob *b)
{
    return a == b || (a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0);
}

static const char *compare_node(const struct mnode *a, const struct mnode *b, const char *path, bool times,
                                bool content)
{
    if (a->mode != b->mode || a->uid != b->uid || a->gid != b->gid)
        return differ(path, "mode or owner");
    if (a->nlink != b->nlink)
        return differ(path, "number of links");
    if (!S_ISDIR(a->mode) && a->data->size != b->data->size)
        return differ(path, "size");
    if (!S_ISDIR(a->mode) && content && !same_blob(a->data, b->data))
        return differ(path, "content");
    if (a->xattr_count != b->xattr_count)
        return differ(path, "attributes");
    for (int i = 0; i < a->xattr_count; i++) {
        const struct mxattr *other = mnode_xattr((struct mnode *)b, a->xattrs[i].name);
        if (!other || !same_blob(a->xattrs[i].value, other->value))
            return differ(path, a->xattrs[i].name);
    }
    if (times && (a->mtime_ns != b->mtime_ns || a->ctime_ns != b->ctime_ns || a->atime_ns != b->atime_ns ||
                  a->btime_ns != b->btime_ns))
        return differ(path, "times");
    return NULL;
}

/* `partner`: which node of the other tree each node was met with, 0: none yet, so that hard links must agree. */
static const char *compare_dir(const struct mtree *a, const struct mtree *b, int dir_a, int dir_b, const char *path,
                               int *partner, bool times, bool content)
{
    const struct mnode *in_a = &a->nodes[dir_a], *in_b = &b->nodes[dir_b];
    for (int i = 0; i < in_b->entry_count; i++)
        if (mtree_find(a, dir_a, in_b->entries[i].name) == MNONE) {
            char sub[400];
            snprintf(sub, sizeof sub, "%s/%s", path, in_b->entries[i].name);
            return differ(sub, "should not be there");
        }
    for (int i = 0; i < in_a->entry_count; i++) {
        char sub[400];
        snprintf(sub, sizeof sub, "%s/%s", path, in_a->entries[i].name);
        int x = in_a->entries[i].node, y = mtree_find(b, dir_b, in_a->entries[i].name);
        if (y == MNONE)
            return differ(sub, "is missing");
        if (partner[x] && partner[x] != y)
            return differ(sub, "is another file than its link");
        if (partner[x] && !S_ISDIR(a->nodes[x].mode))
            continue;
        partner[x] = y;
        const char *wrong = compare_node(&a->nodes[x], &b->nodes[y], sub, times, content);
        if (!wrong && S_ISDIR(a->nodes[x].mode))
            wrong = compare_dir(a, b, x, y, sub, partner, times, content);
        if (wrong)
            return wrong;
    }
    return NULL;
}

const char *mtree_compare(const struct mtree *model, const struct mtree *real, bool times, bool content)
{
    int *partner = calloc((size_t)model->count, sizeof *partner);
    const char *wrong = compare_node(&model->nodes[MROOT], &real->nodes[MROOT], "", times, content);
    if (!wrong)
        wrong = compare_dir(model, real, MROOT, MROOT, "", partner, times, content);
    free(partner);
    return wrong;
}

static void check_tree(const struct mtree *model, struct ramet_workspace *ws, const char *head, const char *state,
                       bool times)
{
    struct mtree real;
    mtree_load(&real, ws);
    const char *wrong = mtree_compare(model, &real, times, true);
    if (wrong)
        fail("workspace %s%s%s: %s", head, state ? " in state " : "", state ? state : "", wrong);
    mtree_free(&real);
}

void mworld_check(struct mworld *world)
{
    for (int i = 0; i < world->head_count; i++) {
        struct mhead *head = &world->heads[i];
        check_tree(&head->tree, head->ws, head->name, NULL, world->times);
        for (int k = 0; k < head->state_count; k++) {
            struct ramet_workspace *state;
            must(ramet_workspace_state_open(head->ws, head->states[k].name, &state, &err));
            check_tree(&head->states[k].tree, state, head->name, head->states[k].name, world->times);
            ramet_workspace_unref(state);
        }
    }
}

/* --- differences --- */

struct paths {
    char **items;
    int *nodes;
    int count;
};

static void list_paths(const struct mtree *tree, int dir, const char *path, struct paths *paths)
{
    const struct mnode *in = &tree->nodes[dir];
    for (int i = 0; i < in->entry_count; i++) {
        char *sub;
        if (asprintf(&sub, "%s%s%s", path, path[0] ? "/" : "", in->entries[i].name) < 0)
            abort();
        paths->items = realloc(paths->items, (size_t)(paths->count + 1) * sizeof *paths->items);
        paths->nodes = realloc(paths->nodes, (size_t)(paths->count + 1) * sizeof *paths->nodes);
        paths->items[paths->count] = sub;
        paths->nodes[paths->count++] = in->entries[i].node;
        if (S_ISDIR(tree->nodes[in->entries[i].node].mode))
            list_paths(tree, in->entries[i].node, sub, paths);
    }
}

static void free_paths(struct paths *paths)
{
    for (int i = 0; i < paths->count; i++)
        free(paths->items[i]);
    free(paths->items);
    free(paths->nodes);
}

/* Where a path of the first goes by the renames that were told: the longest one that leads to it counts. */
static void renamed(const struct ramet_wdiff *diff, const char *path, char *ret, size_t size)
{
    size_t longest = 0;
    snprintf(ret, size, "%s", path);
    for (size_t i = 0; i < diff->count; i++) {
        const struct ramet_wdiff_item *item = &diff->items[i];
        size_t length = item->old_path ? strlen(item->old_path) : 0;
        if (!(item->what & RAMET_WDIFF_RENAMED) || length < longest || strncmp(path, item->old_path, length) != 0 ||
            (path[length] != '\0' && path[length] != '/'))
            continue;
        longest = length;
        snprintf(ret, size, "%s%s", item->path, path + length);
    }
}

static const struct ramet_wdiff_item *item_at(const struct ramet_wdiff *diff, const char *path, bool removed)
{
    for (size_t i = 0; i < diff->count; i++)
        if (strcmp(diff->items[i].path, path) == 0 && !!(diff->items[i].what & RAMET_WDIFF_REMOVED) == removed)
            return &diff->items[i];
    return NULL;
}

static int path_index(const struct paths *paths, const char *path)
{
    for (int i = 0; i < paths->count; i++)
        if (strcmp(paths->items[i], path) == 0)
            return i;
    return MNONE;
}

static bool node_differs(const struct mnode *a, const struct mnode *b)
{
    struct mnode x = *a, y = *b;
    x.nlink = y.nlink = 1;
    return compare_node(&x, &y, "", false, true) != NULL;
}

static void print_items(const struct ramet_wdiff *diff)
{
    char words[128];
    for (size_t i = 0; i < diff->count; i++) {
        const struct ramet_wdiff_item *item = &diff->items[i];
        ramet_wdiff_words(item->what, words, sizeof words);
        fprintf(stderr, "    %s%s%s: %s\n", item->old_path ? item->old_path : "", item->old_path ? " > " : "",
                item->path, words);
    }
}

/* Each path of the first is removed, or where the renames lead it, and differs there exactly if that was told. */
static void check_diff(const struct mhead *a, const struct mhead *b, const struct ramet_wdiff *diff)
{
    struct paths in_a = {0}, in_b = {0};
    list_paths(&a->tree, MROOT, "", &in_a);
    list_paths(&b->tree, MROOT, "", &in_b);
    char *reached = calloc((size_t)in_b.count + 1, 1), path[1000];
    for (int i = 0; i < in_a.count; i++) {
        if (item_at(diff, in_a.items[i], true))
            continue;
        renamed(diff, in_a.items[i], path, sizeof path);
        int to = path_index(&in_b, path);
        if (to == MNONE)
            print_items(diff),
                fail("diff of %s and %s: \"%s\" is gone and was not told", a->name, b->name, in_a.items[i]);
        reached[to] = 1;
        const struct ramet_wdiff_item *item = item_at(diff, path, false);
        bool told = item && item->what & ~(unsigned)RAMET_WDIFF_RENAMED;
        if (told != node_differs(&a->tree.nodes[in_a.nodes[i]], &b->tree.nodes[in_b.nodes[to]]))
            fail("diff of %s and %s: \"%s\" %s", a->name, b->name, path, told ? "is the same" : "differs");
    }
    for (int i = 0; i < in_b.count; i++) {
        const struct ramet_wdiff_item *item = item_at(diff, in_b.items[i], false);
        if (!reached[i] != (item && item->what & RAMET_WDIFF_ADDED))
            fail("diff of %s and %s: \"%s\" is%s new", a->name, b->name, in_b.items[i], reached[i] ? " not" : "");
    }
    free(reached);
    free_paths(&in_a);
    free_paths(&in_b);
}

void mworld_check_diff(struct mworld *world)
{
    struct mhead *a = &world->heads[mbelow(world, (uint64_t)world->head_count)];
    struct mhead *b = &world->heads[mbelow(world, (uint64_t)world->head_count)];
    struct ramet_wdiff *diff;
    if (!a->ws)
        return;
    must(ramet_wdiff_make(a->ws, b->ws, &diff, &err));
    check_diff(a, b, diff);
    ramet_wdiff_free(diff);
}
