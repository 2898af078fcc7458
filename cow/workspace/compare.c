/* SPDX-License-Identifier: Apache-2.0 */
#include "compare.h"

#include "base/cleanup.h"
#include "base/codec.h"
#include "diff.h"
#include "epoch.h"
#include "pages.h"
#include "task.h"
#include "workspace_private.h"

#include <stdlib.h>
#include <string.h>

/* --- records --- */

static int add_name(struct ramet_wcompared *compared, const struct ramet_wkey *key, const struct ramet_wname *before,
                    const struct ramet_wname *after, struct ramet_error *err)
{
    size_t size;
    const char *text = ramet_wkey_entry_name(key, &size);
    if (compared->name_count == compared->name_capacity) {
        size_t capacity = compared->name_capacity ? compared->name_capacity * 2 : 64;
        struct ramet_wcompared_name *grown = reallocarray(compared->names, capacity, sizeof *grown);
        if (!grown)
            return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to compare workspaces");
        compared->names = grown;
        compared->name_capacity = capacity;
    }
    char *name = strndup(text, size);
    if (!name)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to compare workspaces");
    compared->names[compared->name_count++] =
        (struct ramet_wcompared_name){key->ino, before->ino, after->ino, before->type, after->type, name};
    return 0;
}

static int see_name(struct ramet_wcompared *compared, const struct ramet_wkey *key, const struct ramet_wvalue *before,
                    const struct ramet_wvalue *after, struct ramet_error *err)
{
    struct ramet_wname a = {0}, b = {0};
    int r = before ? ramet_wname_decode(before, key->ino, &a, err) : 0;
    if (r == 0 && after)
        r = ramet_wname_decode(after, key->ino, &b, err);
    if (r < 0 || a.ino == b.ino) /* only the nonce differs */
        return r;
    return add_name(compared, key, &a, &b, err);
}

/* A comparison holds the gate, which others may want for writing: so many records at a time. */
enum { records_at_once = 10000, interrupted = 1 };

struct comparing {
    struct ramet_wcompared *compared;
    struct ramet_wkey next;
    unsigned left;
};

static int see_record(struct ramet_wcompared *compared, const struct ramet_wkey *key, const struct ramet_wvalue *before,
                      const struct ramet_wvalue *after, struct ramet_error *err)
{
    uint64_t what = 0, more = 0;
    switch (key->type) {
    case RAMET_WTYPE_ENTRY: return see_name(compared, key, before, after, err);
    case RAMET_WTYPE_INODE: more = RAMET_WCOMPARED_INODE; break;
    case RAMET_WTYPE_XATTR: more = RAMET_WCOMPARED_XATTR; break;
    case RAMET_WTYPE_BLOCKS: more = RAMET_WCOMPARED_BLOCKS; break;
    default: return 0;
    }
    ramet_u64map_get(&compared->inodes, key->ino, &what);
    if ((what & more) == 0 && !ramet_u64map_put(&compared->inodes, key->ino, what | more))
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to compare workspaces");
    return 0;
}

static int see(void *ctx, const struct ramet_wkey *key, const struct ramet_wvalue *before,
               const struct ramet_wvalue *after, struct ramet_error *err)
{
    struct comparing *comparing = ctx;
    if (comparing->left-- == 0) {
        comparing->next = *key;
        return interrupted;
    }
    return see_record(comparing->compared, key, before, after, err);
}

int ramet_wcompare(struct ramet_workspace *before, struct ramet_workspace *after, struct ramet_wcompared *ret,
                   struct ramet_error *err)
{
    struct ramet_wcompared compared = {0};
    struct comparing comparing = {.compared = &compared};
    int r;
    ramet_wkey_first(&comparing.next, 0, 0);
    do {
        /* The gate, which comes with the lock, keeps both trees in memory as they are; neither ever changes. */
        if ((r = ramet_workspace_lock_shared(before, err)) < 0)
            break;
        comparing.left = records_at_once;
        r = ramet_wtree_diff_from(ramet_workspace_tree(before), ramet_workspace_tree(after), &comparing.next, see,
                                  &comparing, err);
        ramet_workspace_unlock(before);
    } while (r == interrupted);
    if (r < 0)
        ramet_wcompared_free(&compared);
    else
        *ret = compared;
    return r;
}

void ramet_wcompared_free(struct ramet_wcompared *compared)
{
    for (size_t i = 0; i < compared->name_count; i++)
        free(compared->names[i].name);
    free(compared->names);
    ramet_u64map_free(&compared->inodes);
    *compared = (struct ramet_wcompared){0};
}

/* --- paths --- */

int ramet_wview_inode(struct ramet_workspace *view, uint64_t ino, struct ramet_winode *ret, struct ramet_error *err)
{
    struct ramet_wkey key;
    struct ramet_wvalue value;
    int r = ramet_workspace_lock_shared(view, err);
    if (r < 0)
        return r;
    ramet_wkey_inode(&key, ino);
    r = ramet_wtree_get(ramet_workspace_tree(view), &key, &value, err);
    ramet_workspace_unlock(view);
    return r < 0 ? r : ramet_winode_decode(&value, ino, ret, err);
}

/* The name that a cookie stands for; the lock is held. */
static int name_of(struct ramet_workspace *view, uint64_t dir, uint64_t cookie, char ret[RAMET_WNAME_MAX + 1],
                   struct ramet_error *err)
{
    struct ramet_wvalue value;
    struct ramet_wname entry;
    struct ramet_wkey key;
    uint64_t hash = cookie >> RAMET_WNONCE_BITS;
    ramet_wkey_entry(&key, dir, hash, NULL, 0);
    for (;;) {
        int r = ramet_wtree_next(ramet_workspace_tree(view), &key, &value, err);
        if (r == -RAMET_NOT_FOUND ||
            (r == 0 && (key.ino != dir || key.type != RAMET_WTYPE_ENTRY || ramet_wkey_hash(&key) != hash)))
            return ramet_error_set(err, RAMET_CORRUPT, "directory %llu lacks a name that a file of it has",
                                   (unsigned long long)dir);
        if (r == 0)
            r = ramet_wname_decode(&value, dir, &entry, err);
        if (r < 0)
            return r;
        if (ramet_wcookie(hash, entry.nonce) == cookie) {
            size_t size;
            const char *text = ramet_wkey_entry_name(&key, &size);
            memcpy(ret, text, size);
            ret[size] = '\0';
            return 0;
        }
        ramet_wkey_after(&key);
    }
}

/* Puts "name/" before what is in the buffer, which ends at `end`. */
static bool put_before(char **buf, size_t *start, size_t *capacity, const char *name, bool slash)
{
    size_t size = strlen(name), need = size + slash, used = *capacity - *start;
    if (need > *start || !*buf) {
        size_t capacity_now = (*capacity + need) * 2;
        char *grown = malloc(capacity_now);
        if (!grown)
            return false;
        if (used > 0)
            memcpy(grown + capacity_now - used, *buf + *start, used);
        free(*buf);
        *buf = grown;
        *start = capacity_now - used;
        *capacity = capacity_now;
    }
    *start -= need;
    memcpy(*buf + *start, name, size);
    if (slash)
        (*buf)[*start + size] = '/';
    return true;
}

/* The path to `ino`, which the root has none of, with what `name` (NULL: nothing) is in it. */
static int path_to(struct ramet_workspace *view, uint64_t ino, const char *name, char **ret, struct ramet_error *err)
{
    _autofree_ char *buf = NULL;
    size_t start = 0, capacity = 0;
    char text[RAMET_WNAME_MAX + 1];
    struct ramet_winode inode;
    bool fits = put_before(&buf, &start, &capacity, name ? name : "", false), slash = name;
    int r = ramet_wread_begin(view, err);
    if (r < 0)
        return r;
    for (; fits && r == 0 && ino != RAMET_WORKSPACE_ROOT; ino = inode.parent, slash = true) {
        r = ramet_winode_get(view, ino, &inode, err);
        if (r == 0 && inode.parent == 0)
            r = ramet_error_set(err, RAMET_NOT_FOUND, "inode %llu has no name any more", (unsigned long long)ino);
        if (r == 0)
            r = name_of(view, inode.parent, inode.cookie, text, err);
        if (r == 0)
            fits = put_before(&buf, &start, &capacity, text, slash);
    }
    ramet_wread_end(view);
    if (r == 0 && fits)
        *ret = strndup(buf + start, capacity - start);
    return r < 0 ? r : fits && *ret ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a path");
}

int ramet_wview_path(struct ramet_workspace *view, uint64_t dir, const char *name, char **ret, struct ramet_error *err)
{
    return path_to(view, dir, name, ret, err);
}

int ramet_wfile_path(struct ramet_workspace *workspace, uint64_t ino, char **ret, struct ramet_error *err)
{
    return path_to(workspace, ino, NULL, ret, err);
}

/* The name of a NAME record at or after *key, which moves behind it. 1: no more. */
static int next_name(struct ramet_workspace *view, uint64_t ino, struct ramet_wkey *key, uint64_t *ret_dir,
                     char name[RAMET_WNAME_MAX + 1], struct ramet_error *err)
{
    struct ramet_wvalue value;
    uint64_t cookie;
    int r = ramet_wread_begin(view, err);
    if (r < 0)
        return r;
    r = ramet_wtree_next(ramet_workspace_tree(view), key, &value, err);
    if (r == -RAMET_NOT_FOUND || (r == 0 && !ramet_wkey_is_name(key, ino)))
        r = 1;
    if (r == 0) {
        ramet_wkey_name_parts(key, ret_dir, &cookie);
        r = name_of(view, *ret_dir, cookie, name, err);
        ramet_wkey_after(key);
    }
    ramet_wread_end(view);
    return r;
}

int ramet_wview_names(struct ramet_workspace *view, uint64_t ino,
                      int (*each)(void *ctx, uint64_t dir, const char *name, struct ramet_error *err), void *ctx,
                      struct ramet_error *err)
{
    char name[RAMET_WNAME_MAX + 1];
    struct ramet_winode inode;
    struct ramet_wkey key;
    int r = ramet_wview_inode(view, ino, &inode, err);
    if (r < 0 || inode.parent == 0 || ino == RAMET_WORKSPACE_ROOT)
        return r == -RAMET_NOT_FOUND ? 0 : r;
    if ((r = ramet_wread_begin(view, err)) < 0)
        return r;
    r = name_of(view, inode.parent, inode.cookie, name, err);
    ramet_wread_end(view);
    if (r == 0)
        r = each(ctx, inode.parent, name, err);
    ramet_wkey_first(&key, ino, RAMET_WTYPE_NAME);
    while (r == 0) {
        uint64_t dir;
        r = next_name(view, ino, &key, &dir, name, err);
        if (r == 0)
            r = each(ctx, dir, name, err);
    }
    return r == 1 ? 0 : r;
}

/* --- content --- */

int ramet_wview_content(struct ramet_workspace *view, uint64_t ino, size_t most, char **ret, size_t *ret_size,
                        struct ramet_error *err)
{
    struct ramet_winode inode;
    int r = ramet_wread_begin(view, err);
    if (r < 0)
        return r;
    _autofree_ char *buf = NULL;
    r = ramet_winode_get(view, ino, &inode, err);
    if (r == 0 && inode.size > most)
        r = ramet_error_set(err, RAMET_TOO_LARGE, "inode %llu holds more than %zu bytes", (unsigned long long)ino,
                            most);
    if (r == 0 && !(buf = malloc(inode.size + 1)))
        r = ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the content of a file");
    if (r == 0)
        r = ramet_winode_read(view, ino, &inode, 0, buf, inode.size, ret_size, err);
    ramet_wread_end(view);
    if (r == 0)
        *ret = STEAL(buf);
    return r;
}

enum { compare_bytes = RAMET_WGROUP * RAMET_WPAGE };

/* The references of a group and, when they are not all the same ones, its bytes. */
static int group_refs(struct ramet_workspace *view, uint64_t ino, uint64_t group, ramet_wref refs[RAMET_WGROUP],
                      struct ramet_error *err)
{
    int r = ramet_wread_begin(view, err);
    if (r < 0)
        return r;
    r = ramet_wpages_refs(view, ino, group * RAMET_WGROUP, RAMET_WGROUP, refs, err);
    for (size_t i = 0; i < RAMET_WGROUP && r == 0; i++)
        refs[i] = ramet_wdata_resolve(view, refs[i]);
    ramet_wread_end(view);
    return r;
}

static int same_group(struct ramet_workspace *a, uint64_t ino_a, struct ramet_workspace *b, uint64_t ino_b,
                      uint64_t group, uint8_t *buf, bool *ret, struct ramet_error *err)
{
    ramet_wref refs_a[RAMET_WGROUP], refs_b[RAMET_WGROUP];
    size_t got_a, got_b;
    int r = group_refs(a, ino_a, group, refs_a, err);
    if (r == 0)
        r = group_refs(b, ino_b, group, refs_b, err);
    *ret = true;
    if (r < 0 || memcmp(refs_a, refs_b, sizeof refs_a) == 0)
        return r;
    r = ramet_wfile_read(a, ino_a, group * compare_bytes, buf, compare_bytes, &got_a, err);
    if (r == 0)
        r = ramet_wfile_read(b, ino_b, group * compare_bytes, buf + compare_bytes, compare_bytes, &got_b, err);
    if (r == 0)
        *ret = got_a == got_b && memcmp(buf, buf + compare_bytes, got_a) == 0;
    return r;
}

/* The next group that has a record in either of them, at or after *group; UINT64_MAX: none. */
static int next_group(struct ramet_workspace *view, uint64_t ino, uint64_t group, uint64_t *ret,
                      struct ramet_error *err)
{
    struct ramet_wvalue value;
    struct ramet_wkey key;
    int r = ramet_wread_begin(view, err);
    if (r < 0)
        return r;
    ramet_wkey_group(&key, ino, group);
    r = ramet_wtree_next(ramet_workspace_tree(view), &key, &value, err);
    ramet_wread_end(view);
    bool there = r == 0 && key.ino == ino && key.type == RAMET_WTYPE_BLOCKS;
    uint64_t found = there ? ramet_get_be64(key.sub) : UINT64_MAX;
    if (found < *ret)
        *ret = found;
    return r == -RAMET_NOT_FOUND ? 0 : r;
}

static int same_pages(struct ramet_workspace *a, uint64_t ino_a, struct ramet_workspace *b, uint64_t ino_b, bool *ret,
                      struct ramet_error *err)
{
    _autofree_ uint8_t *buf = malloc(2 * compare_bytes);
    int r = buf ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to compare files");
    *ret = true;
    for (uint64_t group = 0; r == 0 && *ret; group++) {
        uint64_t next = UINT64_MAX;
        r = next_group(a, ino_a, group, &next, err);
        if (r == 0)
            r = next_group(b, ino_b, group, &next, err);
        if (next == UINT64_MAX)
            break;
        group = next;
        if (r == 0)
            r = same_group(a, ino_a, b, ino_b, group, buf, ret, err);
    }
    return r;
}

int ramet_wview_same_content(struct ramet_workspace *a, uint64_t ino_a, struct ramet_workspace *b, uint64_t ino_b,
                             bool *ret, struct ramet_error *err)
{
    struct ramet_winode in_a, in_b;
    int r = ramet_wview_inode(a, ino_a, &in_a, err);
    if (r == 0)
        r = ramet_wview_inode(b, ino_b, &in_b, err);
    if (r < 0)
        return r;
    bool file = S_ISREG(in_a.mode), link = S_ISLNK(in_a.mode);
    if ((in_a.mode & S_IFMT) != (in_b.mode & S_IFMT) || ((file || link) && in_a.size != in_b.size) ||
        in_a.rdev_major != in_b.rdev_major || in_a.rdev_minor != in_b.rdev_minor) {
        *ret = false;
        return 0;
    }
    *ret = true;
    if (in_a.in_record && in_b.in_record)
        *ret = memcmp(in_a.bytes, in_b.bytes, in_a.size) == 0;
    else if (file && !in_a.in_record && !in_b.in_record)
        return same_pages(a, ino_a, b, ino_b, ret, err);
    else if (file || link) { /* short, and one of them is in its record */
        _autofree_ char *text_a = NULL, *text_b = NULL;
        size_t size_a, size_b;
        r = ramet_wview_content(a, ino_a, RAMET_WPAGE, &text_a, &size_a, err);
        if (r == 0)
            r = ramet_wview_content(b, ino_b, RAMET_WPAGE, &text_b, &size_b, err);
        if (r == 0)
            *ret = size_a == size_b && memcmp(text_a, text_b, size_a) == 0;
    }
    return r;
}

int ramet_wview_same_xattrs(struct ramet_workspace *a, uint64_t ino_a, struct ramet_workspace *b, uint64_t ino_b,
                            bool *ret, struct ramet_error *err)
{
    _autofree_ char *names_a = NULL, *names_b = NULL;
    size_t size_a, size_b, got_a, got_b;
    int r = ramet_wfile_list_xattr(a, ino_a, &names_a, &size_a, err);
    if (r == 0)
        r = ramet_wfile_list_xattr(b, ino_b, &names_b, &size_b, err);
    if (r < 0)
        return r;
    *ret = size_a == size_b && memcmp(names_a, names_b, size_a) == 0;
    for (const char *name = names_a; *ret && r == 0 && name < names_a + size_a; name += strlen(name) + 1) {
        _autofree_ void *value_a = NULL, *value_b = NULL;
        r = ramet_wfile_get_xattr(a, ino_a, name, &value_a, &got_a, err);
        if (r == 0)
            r = ramet_wfile_get_xattr(b, ino_b, name, &value_b, &got_b, err);
        if (r == 0)
            *ret = got_a == got_b && memcmp(value_a, value_b, got_a) == 0;
    }
    return r;
}

int ramet_wview_differences(struct ramet_workspace *a, uint64_t ino_a, struct ramet_workspace *b, uint64_t ino_b,
                            unsigned touched, unsigned *what, struct ramet_error *err)
{
    struct ramet_winode in_a, in_b;
    bool same = true;
    int r = ramet_wview_inode(a, ino_a, &in_a, err);
    if (r == 0)
        r = ramet_wview_inode(b, ino_b, &in_b, err);
    if (r < 0)
        return r;
    if ((in_a.mode & S_IFMT) != (in_b.mode & S_IFMT)) {
        *what |= RAMET_WDIFF_TYPE;
        return 0;
    }
    if (in_a.mode != in_b.mode)
        *what |= RAMET_WDIFF_MODE;
    if (in_a.uid != in_b.uid || in_a.gid != in_b.gid)
        *what |= RAMET_WDIFF_OWNER;
    if (touched & (RAMET_WCOMPARED_INODE | RAMET_WCOMPARED_BLOCKS))
        r = ramet_wview_same_content(a, ino_a, b, ino_b, &same, err);
    if (!same)
        *what |= RAMET_WDIFF_CONTENT;
    same = true;
    if (r == 0 && touched & RAMET_WCOMPARED_XATTR)
        r = ramet_wview_same_xattrs(a, ino_a, b, ino_b, &same, err);
    if (!same)
        *what |= RAMET_WDIFF_XATTR;
    return r;
}
