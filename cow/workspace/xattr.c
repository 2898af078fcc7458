/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extended attributes: a value lies in parts of up to 1 KiB, the first of which begins with
 * the size of the whole. The inode counts bytes of names and values (they are charged) and
 * the bytes of a list of names, which has to stay below what listxattr can give.
 */
#include "task.h"
#include "workspace_private.h"

#include "base/cleanup.h"
#include "base/codec.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

enum {
    value_most = 65536,
    names_most = 65536,
    first_room = RAMET_WVALUE_MAX - 4,
};

static int check_name(const char *name, uint64_t ino, struct ramet_error *err)
{
    size_t size = strnlen(name, RAMET_WNAME_MAX + 1);
    return size == 0 || size > RAMET_WNAME_MAX ? ramet_wfail(err, ERANGE, ino) : 0;
}

static unsigned parts_of(size_t size)
{
    return size <= first_room ? 1 : 1 + (unsigned)((size - first_room + RAMET_WVALUE_MAX - 1) / RAMET_WVALUE_MAX);
}

/* Puts part `part` of a value and gives how many bytes of it that took. */
static size_t put_part(struct ramet_wtask *task, uint64_t ino, const char *name, unsigned part, const uint8_t *value,
                       size_t left, size_t size)
{
    struct ramet_wkey key;
    uint8_t bytes[RAMET_WVALUE_MAX];
    size_t head = part == 0 ? 4 : 0, some = left < sizeof bytes - head ? left : sizeof bytes - head;
    ramet_put_le32(bytes, (uint32_t)size);
    memcpy(bytes + head, value, some);
    ramet_wkey_xattr(&key, ino, name, (uint8_t)part);
    ramet_wchange_put(task->change, &key, bytes, head + some);
    return some;
}

static void delete_parts(struct ramet_wtask *task, uint64_t ino, const char *name, unsigned from, unsigned to)
{
    struct ramet_wkey key;
    for (unsigned part = from; part < to; part++) {
        ramet_wkey_xattr(&key, ino, name, (uint8_t)part);
        ramet_wchange_delete(task->change, &key);
    }
}

/* The size of a value and its first part; ENODATA. */
static int get_first(struct ramet_workspace *workspace, uint64_t ino, const char *name, struct ramet_wvalue *ret,
                     size_t *ret_size, struct ramet_error *err)
{
    struct ramet_wkey key;
    ramet_wkey_xattr(&key, ino, name, 0);
    int r = ramet_wtree_get(ramet_workspace_tree(workspace), &key, ret, err);
    if (r == -RAMET_NOT_FOUND)
        return ramet_wfail(err, ENODATA, ino);
    if (r < 0)
        return r;
    *ret_size = ret->size >= 4 ? ramet_get_le32(ret->bytes) : SIZE_MAX;
    size_t here = *ret_size < first_room ? *ret_size : first_room;
    if (*ret_size > value_most || ret->size != here + 4)
        return ramet_error_set(err, RAMET_CORRUPT, "an attribute of inode %llu is damaged", (unsigned long long)ino);
    return 0;
}

static int set_xattr(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, const char *name,
                     const uint8_t *value, size_t size, int flags, struct ramet_error *err)
{
    struct ramet_wvalue first;
    size_t old_size = 0, name_size = strlen(name), done = 0;
    uint64_t blocks = ramet_winode_blocks(inode);
    int r = inode->xattr_names > 0 ? get_first(task->workspace, ino, name, &first, &old_size, err) : -RAMET_NOT_FOUND;
    bool there = r == 0;
    if (r < 0 && r != -RAMET_NOT_FOUND)
        return r;
    if (there ? flags & XATTR_CREATE : flags & XATTR_REPLACE)
        return ramet_wfail(err, there ? EEXIST : ENODATA, ino);
    if (!there && inode->xattr_names + name_size + 1 > names_most)
        return ramet_wfail(err, ENOSPC, ino);
    inode->xattr_bytes += (uint32_t)(size - old_size + (there ? 0 : name_size));
    inode->xattr_names += there ? 0 : (uint32_t)name_size + 1;
    r = ramet_wtask_charge_inode(task, blocks, inode, err);
    if (r < 0)
        return r;
    for (unsigned part = 0; part < parts_of(size); part++)
        done += put_part(task, ino, name, part, value + done, size - done, size);
    if (there)
        delete_parts(task, ino, name, parts_of(size), parts_of(old_size));
    return 0;
}

int ramet_wfile_set_xattr(struct ramet_workspace *workspace, uint64_t ino, const char *name, const void *value,
                          size_t size, int flags, struct ramet_error *err)
{
    struct ramet_winode inode;
    struct ramet_wtask task;
    int r = check_name(name, ino, err);
    if (r == 0 && size > value_most)
        r = ramet_wfail(err, E2BIG, ino);
    if (r == 0)
        r = ramet_wtask_begin(&task, workspace, err);
    if (r < 0)
        return r;
    r = ramet_wtask_inode(&task, ino, &inode, err);
    if (r == 0)
        r = set_xattr(&task, ino, &inode, name, size > 0 ? value : "", size, flags, err);
    if (r == 0) {
        inode.ctime_ns = task.now_ns;
        ramet_wtask_put_inode(&task, ino, &inode);
    }
    return ramet_wtask_end(&task, r, err);
}

int ramet_wtask_remove_xattr(struct ramet_wtask *task, uint64_t ino, struct ramet_winode *inode, const char *name,
                             bool *ret_found, struct ramet_error *err)
{
    struct ramet_wvalue first;
    size_t size = 0, name_size = strlen(name);
    uint64_t blocks = ramet_winode_blocks(inode);
    int r = inode->xattr_names > 0 ? get_first(task->workspace, ino, name, &first, &size, err) : -RAMET_NOT_FOUND;
    if (ret_found)
        *ret_found = r == 0;
    if (r < 0)
        return r == -RAMET_NOT_FOUND ? 0 : r;
    delete_parts(task, ino, name, 0, parts_of(size));
    inode->xattr_bytes -= (uint32_t)(size + name_size);
    inode->xattr_names -= (uint32_t)name_size + 1;
    return ramet_wtask_charge_inode(task, blocks, inode, err);
}

int ramet_wfile_remove_xattr(struct ramet_workspace *workspace, uint64_t ino, const char *name, struct ramet_error *err)
{
    struct ramet_winode inode;
    struct ramet_wtask task;
    bool found = false;
    int r = check_name(name, ino, err);
    if (r == 0)
        r = ramet_wtask_begin(&task, workspace, err);
    if (r < 0)
        return r;
    r = ramet_wtask_inode(&task, ino, &inode, err);
    if (r == 0)
        r = ramet_wtask_remove_xattr(&task, ino, &inode, name, &found, err);
    if (r == 0 && !found)
        r = ramet_wfail(err, ENODATA, ino);
    if (r == 0) {
        inode.ctime_ns = task.now_ns;
        ramet_wtask_put_inode(&task, ino, &inode);
    }
    return ramet_wtask_end(&task, r, err);
}

/* --- reading --- */

static int get_value(struct ramet_workspace *workspace, uint64_t ino, const char *name, uint8_t **ret, size_t *ret_size,
                     struct ramet_error *err)
{
    struct ramet_wvalue part;
    struct ramet_wkey key;
    size_t size = 0, done;
    int r = get_first(workspace, ino, name, &part, &size, err);
    if (r < 0)
        return r;
    _autofree_ uint8_t *value = malloc(size > 0 ? size : 1);
    if (!value)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for an attribute");
    done = part.size - 4u;
    memcpy(value, part.bytes + 4, done);
    for (unsigned i = 1; i < parts_of(size); i++) {
        ramet_wkey_xattr(&key, ino, name, (uint8_t)i);
        r = ramet_wtree_get(ramet_workspace_tree(workspace), &key, &part, err);
        if (r == -RAMET_NOT_FOUND || (r == 0 && part.size > size - done))
            return ramet_error_set(err, RAMET_CORRUPT, "an attribute of inode %llu is damaged",
                                   (unsigned long long)ino);
        if (r < 0)
            return r;
        memcpy(value + done, part.bytes, part.size);
        done += part.size;
    }
    *ret = STEAL(value);
    *ret_size = done;
    return 0;
}

int ramet_wfile_get_xattr(struct ramet_workspace *workspace, uint64_t ino, const char *name, void **ret,
                          size_t *ret_size, struct ramet_error *err)
{
    struct ramet_winode inode;
    uint8_t *value = NULL;
    int r = check_name(name, ino, err);
    if (r == 0)
        r = ramet_wread_begin(workspace, err);
    if (r < 0)
        return r;
    r = ramet_winode_get(workspace, ino, &inode, err);
    if (r == 0)
        r = inode.xattr_names > 0 ? get_value(workspace, ino, name, &value, ret_size, err)
                                  : ramet_wfail(err, ENODATA, ino);
    ramet_wread_end(workspace);
    if (r == 0)
        *ret = value;
    return r;
}

/* The names of an inode that has some; the list has room for `room` bytes. */
static int list_names(struct ramet_workspace *workspace, uint64_t ino, char *list, size_t room, size_t *ret_size,
                      struct ramet_error *err)
{
    struct ramet_wvalue value;
    struct ramet_wkey key;
    size_t used = 0;
    ramet_wkey_first(&key, ino, RAMET_WTYPE_XATTR);
    for (;;) {
        int r = ramet_wtree_next(ramet_workspace_tree(workspace), &key, &value, err);
        if (r == -RAMET_NOT_FOUND || (r == 0 && (key.ino != ino || key.type != RAMET_WTYPE_XATTR)))
            break;
        if (r < 0)
            return r;
        size_t size = key.sub_size > 0 ? key.sub_size - 1u : 0; /* with its NUL */
        if (size == 0 || key.sub[size - 1] != '\0' || size > room - used)
            return ramet_error_set(err, RAMET_CORRUPT, "the attributes of inode %llu are damaged",
                                   (unsigned long long)ino);
        memcpy(list + used, key.sub, size);
        used += size;
        key.sub[size] = UINT8_MAX; /* behind its last part */
    }
    *ret_size = used;
    return 0;
}

int ramet_wfile_list_xattr(struct ramet_workspace *workspace, uint64_t ino, char **ret, size_t *ret_size,
                           struct ramet_error *err)
{
    struct ramet_winode inode;
    _autofree_ char *list = NULL;
    int r = ramet_wread_begin(workspace, err);
    if (r < 0)
        return r;
    r = ramet_winode_get(workspace, ino, &inode, err);
    if (r == 0) {
        list = malloc(inode.xattr_names + 1u);
        r = list ? list_names(workspace, ino, list, inode.xattr_names, ret_size, err)
                 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a list of attributes");
    }
    ramet_wread_end(workspace);
    if (r == 0)
        *ret = STEAL(list);
    return r;
}
