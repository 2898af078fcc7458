/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POSIX ACLs, as the kernel keeps them in extended attributes: a version, then entries of
 * tag, permissions and id. The kernel checks them; here a new file inherits its directory's
 * default ACL, and mode and access ACL are kept in step.
 *
 * ACL and mode change one after the other, the mode first: a crash between leaves a file
 * whose mode already says what the owner and the others may, and whose group class is the
 * ACL's mask.
 */
#include "base/cleanup.h"
#include "workspace_ops.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { version = 2, user_obj = 0x01, group_obj = 0x04, mask_obj = 0x10, other_obj = 0x20 };

struct acl_entry {
    uint16_t tag, perm;
    uint32_t id;
};

static size_t count_of(size_t size) { return (size - 4) / sizeof(struct acl_entry); }

static bool is_acl(const void *value, size_t size)
{
    uint32_t first;
    if (size < 4 || (size - 4) % sizeof(struct acl_entry))
        return false;
    memcpy(&first, value, 4);
    return le32toh(first) == version;
}

static struct acl_entry get(const void *value, size_t i)
{
    struct acl_entry entry;
    memcpy(&entry, (const char *)value + 4 + i * sizeof entry, sizeof entry);
    return (struct acl_entry){le16toh(entry.tag), le16toh(entry.perm), le32toh(entry.id)};
}

static void set_perm(void *value, size_t i, uint32_t perm)
{
    uint16_t stored = htole16((uint16_t)(perm & 7));
    memcpy((char *)value + 4 + i * sizeof(struct acl_entry) + 2, &stored, sizeof stored);
}

static bool is_plain(const void *value, size_t size)
{
    for (size_t i = 0; i < count_of(size); i++) {
        uint16_t tag = get(value, i).tag;
        if (tag != user_obj && tag != group_obj && tag != other_obj)
            return false;
    }
    return true;
}

/* The bits of a mode that an entry stands for, given whether there is a mask; -1: none. */
static int shift_of(uint16_t tag, bool masked)
{
    if (tag == user_obj)
        return 6;
    if (tag == (masked ? mask_obj : group_obj))
        return 3;
    return tag == other_obj ? 0 : -1;
}

static bool has_mask(const void *value, size_t size)
{
    for (size_t i = 0; i < count_of(size); i++)
        if (get(value, i).tag == mask_obj)
            return true;
    return false;
}

/* Value of an attribute; NULL when there is none or it is no ACL. */
static int load(struct ramet_workspace *workspace, uint64_t ino, const char *name, void **ret, size_t *ret_size,
                struct ramet_error *err)
{
    void *value = NULL;
    size_t size = 0;
    int r = ramet_wfile_get_xattr(workspace, ino, name, &value, &size, err);
    if (r < 0 && err->os_errno != ENODATA && err->code != RAMET_NOT_FOUND)
        return r;
    if (r < 0 || !is_acl(value, size)) {
        free(r < 0 ? NULL : value);
        value = NULL;
    }
    *ret = value;
    *ret_size = size;
    return 0;
}

void ramet_wacl_free(struct ramet_wacl *acl)
{
    free(acl->access);
    free(acl->inherited);
}

int ramet_wacl_create(struct ramet_workspace *workspace, uint64_t dir, uint32_t umask, uint32_t *mode,
                      struct ramet_wacl *ret, struct ramet_error *err)
{
    _autofree_ void *acl = NULL;
    size_t size;
    int r = load(workspace, dir, RAMET_WACL_DEFAULT, &acl, &size, err);
    if (r < 0)
        return r;
    if (!acl) {
        *mode &= ~(umask & 0777);
        return 0;
    }
    if (S_ISDIR(*mode)) {
        if (!(ret->inherited = malloc(size)))
            return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for an ACL");
        memcpy(ret->inherited, acl, size);
        ret->inherited_size = size;
    }
    bool masked = has_mask(acl, size);
    for (size_t i = 0; i < count_of(size); i++) {
        struct acl_entry entry = get(acl, i);
        int shift = shift_of(entry.tag, masked);
        if (shift < 0)
            continue;
        uint32_t perm = entry.perm & (*mode >> shift & 7);
        set_perm(acl, i, perm);
        *mode &= ~((uint32_t)7 << shift) | perm << shift;
    }
    if (!is_plain(acl, size)) {
        ret->access = STEAL(acl);
        ret->access_size = size;
    }
    return 0;
}

int ramet_wacl_apply(struct ramet_workspace *workspace, uint64_t ino, const struct ramet_wacl *acl,
                     struct ramet_error *err)
{
    int r = 0;
    if (acl->access)
        r = ramet_wfile_set_xattr(workspace, ino, RAMET_WACL_ACCESS, acl->access, acl->access_size, 0, err);
    if (r == 0 && acl->inherited)
        r = ramet_wfile_set_xattr(workspace, ino, RAMET_WACL_DEFAULT, acl->inherited, acl->inherited_size, 0, err);
    return r;
}

int ramet_wacl_chmod(struct ramet_workspace *workspace, uint64_t ino, uint32_t mode, struct ramet_error *err)
{
    _autofree_ void *acl = NULL;
    size_t size;
    int r = load(workspace, ino, RAMET_WACL_ACCESS, &acl, &size, err);
    if (r < 0 || !acl)
        return r;
    bool masked = has_mask(acl, size);
    for (size_t i = 0; i < count_of(size); i++) {
        int shift = shift_of(get(acl, i).tag, masked);
        if (shift >= 0)
            set_perm(acl, i, mode >> shift);
    }
    return ramet_wfile_set_xattr(workspace, ino, RAMET_WACL_ACCESS, acl, size, 0, err);
}

int ramet_wacl_set(struct ramet_workspace *workspace, uint64_t ino, const void *value, size_t size, bool kill_sgid,
                   bool *ret_plain, struct ramet_error *err)
{
    struct ramet_wstat stat;
    if (!is_acl(value, size))
        return ramet_error_os(err, EINVAL, "not an ACL");
    int r = ramet_wfile_stat(workspace, ino, &stat, err);
    if (r < 0)
        return r;
    bool masked = has_mask(value, size);
    uint32_t mode = stat.mode & ~(uint32_t)(0777 | (kill_sgid ? S_ISGID : 0));
    for (size_t i = 0; i < count_of(size); i++) {
        struct acl_entry entry = get(value, i);
        int shift = shift_of(entry.tag, masked);
        if (shift >= 0)
            mode |= (uint32_t)(entry.perm & 7) << shift;
    }
    *ret_plain = is_plain(value, size);
    if (mode != stat.mode)
        r = ramet_wfile_set(workspace, ino, &(struct ramet_wstat){.mode = mode}, RAMET_WSET_MODE, &stat, err);
    if (r == 0 && *ret_plain) {
        RAMET_WERROR(ignored); /* there may have been none */
        ramet_wfile_remove_xattr(workspace, ino, RAMET_WACL_ACCESS, &ignored);
    }
    return r;
}
