/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes to structs and back; everything read is checked, since it comes from a disk. */
#include "records.h"

#include "base/codec.h"
#include "base/record.h"

#include <string.h>
#include <sys/stat.h>

#ifndef RAMET_WHASH_BITS
#define RAMET_WHASH_BITS 57 /* fewer in a test, so that names collide */
#endif

enum {
    inode_size = 112, /* before content in the record */
    inode_in_record = 1,
    info_size = 16 + RAMET_WHASH_KEY,
    name_size = 10,
};
_Static_assert(inode_size + RAMET_WINLINE_MAX <= RAMET_WVALUE_MAX, "an inode fits a value");
_Static_assert(RAMET_WGROUP * 8 <= RAMET_WVALUE_MAX, "a group fits a value");
_Static_assert(8 + RAMET_WNAME_MAX <= RAMET_WKEY_SUB_MAX, "a name fits a key");

size_t ramet_winode_encode(const struct ramet_winode *inode, uint8_t bytes[RAMET_WVALUE_MAX])
{
    size_t content = inode->in_record ? (size_t)inode->size : 0;
    ramet_put_le32(bytes, inode->mode);
    ramet_put_le32(bytes + 4, inode->uid);
    ramet_put_le32(bytes + 8, inode->gid);
    ramet_put_le32(bytes + 12, inode->nlink);
    ramet_put_le32(bytes + 16, inode->rdev_major);
    ramet_put_le32(bytes + 20, inode->rdev_minor);
    ramet_put_le64(bytes + 24, inode->size);
    ramet_put_le64(bytes + 32, inode->pages);
    ramet_put_le64(bytes + 40, (uint64_t)inode->atime_ns);
    ramet_put_le64(bytes + 48, (uint64_t)inode->mtime_ns);
    ramet_put_le64(bytes + 56, (uint64_t)inode->ctime_ns);
    ramet_put_le64(bytes + 64, (uint64_t)inode->btime_ns);
    ramet_put_le64(bytes + 72, inode->parent);
    ramet_put_le64(bytes + 80, inode->cookie);
    ramet_put_le32(bytes + 88, inode->xattr_bytes);
    ramet_put_le32(bytes + 92, inode->xattr_names);
    ramet_put_le32(bytes + 96, inode->in_record ? inode_in_record : 0);
    memset(bytes + 100, 0, inode_size - 100);
    memcpy(bytes + inode_size, inode->bytes, content);
    return inode_size + content;
}

int ramet_winode_decode(const struct ramet_wvalue *value, uint64_t ino, struct ramet_winode *ret,
                        struct ramet_error *err)
{
    const uint8_t *bytes = value->bytes;
    uint32_t flags = value->size >= inode_size ? ramet_get_le32(bytes + 96) : 0;
    size_t content = value->size >= inode_size ? value->size - inode_size : 0;
    bool in_record = flags & inode_in_record;
    if (value->size < inode_size || flags > inode_in_record || content > RAMET_WINLINE_MAX ||
        content != (in_record ? ramet_get_le64(bytes + 24) : 0))
        return ramet_error_set(err, RAMET_CORRUPT, "the record of inode %llu is damaged", (unsigned long long)ino);
    *ret = (struct ramet_winode){
        .mode = ramet_get_le32(bytes),
        .uid = ramet_get_le32(bytes + 4),
        .gid = ramet_get_le32(bytes + 8),
        .nlink = ramet_get_le32(bytes + 12),
        .rdev_major = ramet_get_le32(bytes + 16),
        .rdev_minor = ramet_get_le32(bytes + 20),
        .size = ramet_get_le64(bytes + 24),
        .pages = ramet_get_le64(bytes + 32),
        .atime_ns = (int64_t)ramet_get_le64(bytes + 40),
        .mtime_ns = (int64_t)ramet_get_le64(bytes + 48),
        .ctime_ns = (int64_t)ramet_get_le64(bytes + 56),
        .btime_ns = (int64_t)ramet_get_le64(bytes + 64),
        .parent = ramet_get_le64(bytes + 72),
        .cookie = ramet_get_le64(bytes + 80),
        .xattr_bytes = ramet_get_le32(bytes + 88),
        .xattr_names = ramet_get_le32(bytes + 92),
        .in_record = in_record,
    };
    memcpy(ret->bytes, bytes + inode_size, content);
    return 0;
}

size_t ramet_winfo_encode(const struct ramet_winfo *info, uint8_t bytes[RAMET_WVALUE_MAX])
{
    ramet_put_le64(bytes, info->used_bytes);
    ramet_put_le64(bytes + 8, info->inodes);
    memcpy(bytes + 16, info->hash_key, RAMET_WHASH_KEY);
    return info_size;
}

int ramet_winfo_decode(const struct ramet_wvalue *value, struct ramet_winfo *ret, struct ramet_error *err)
{
    if (value->size != info_size)
        return ramet_error_set(err, RAMET_CORRUPT, "the record of a workspace's counts is damaged");
    ret->used_bytes = ramet_get_le64(value->bytes);
    ret->inodes = ramet_get_le64(value->bytes + 8);
    memcpy(ret->hash_key, value->bytes + 16, RAMET_WHASH_KEY);
    return 0;
}

size_t ramet_wname_encode(const struct ramet_wname *name, uint8_t bytes[RAMET_WVALUE_MAX])
{
    ramet_put_le64(bytes, name->ino);
    bytes[8] = (uint8_t)((name->type & S_IFMT) >> 12);
    bytes[9] = name->nonce;
    return name_size;
}

int ramet_wname_decode(const struct ramet_wvalue *value, uint64_t dir, struct ramet_wname *ret, struct ramet_error *err)
{
    if (value->size != name_size || value->bytes[9] == 0 || value->bytes[9] >> RAMET_WNONCE_BITS != 0)
        return ramet_error_set(err, RAMET_CORRUPT, "an entry of directory %llu is damaged", (unsigned long long)dir);
    ret->ino = ramet_get_le64(value->bytes);
    ret->type = (uint32_t)value->bytes[8] << 12;
    ret->nonce = value->bytes[9];
    return 0;
}

size_t ramet_wgroup_encode(const ramet_wref refs[RAMET_WGROUP], uint8_t bytes[RAMET_WVALUE_MAX])
{
    size_t count = RAMET_WGROUP;
    while (count > 0 && refs[count - 1] == RAMET_WREF_HOLE)
        count--;
    for (size_t i = 0; i < count; i++)
        ramet_put_le64(bytes + i * 8, refs[i]);
    return count * 8;
}

int ramet_wgroup_decode(const struct ramet_wvalue *value, uint64_t ino, ramet_wref ret[RAMET_WGROUP],
                        struct ramet_error *err)
{
    size_t count = value->size / 8;
    if (value->size % 8 != 0 || count > RAMET_WGROUP)
        return ramet_error_set(err, RAMET_CORRUPT, "a record of inode %llu's pages is damaged",
                               (unsigned long long)ino);
    for (size_t i = 0; i < count; i++)
        ret[i] = ramet_get_le64(value->bytes + i * 8);
    memset(ret + count, 0, (RAMET_WGROUP - count) * sizeof *ret);
    return 0;
}

uint64_t ramet_winode_blocks(const struct ramet_winode *inode)
{
    uint64_t pages = S_ISREG(inode->mode) || S_ISLNK(inode->mode) ? inode->pages : 0;
    uint64_t content = S_ISREG(inode->mode) && inode->in_record ? inode->size : 0;
    return pages * (RAMET_WPAGE / 512) + (content + 511) / 512 + ((uint64_t)inode->xattr_bytes + 511) / 512;
}

/* --- keys --- */

void ramet_wkey_first(struct ramet_wkey *key, uint64_t ino, enum ramet_wtype type)
{
    key->ino = ino;
    key->type = (uint8_t)type;
    key->sub_size = 0;
}

void ramet_wkey_inode(struct ramet_wkey *key, uint64_t ino) { ramet_wkey_first(key, ino, RAMET_WTYPE_INODE); }
void ramet_wkey_info(struct ramet_wkey *key) { ramet_wkey_first(key, 0, RAMET_WTYPE_INFO); }

static void put_sub(struct ramet_wkey *key, uint64_t number)
{
    ramet_put_be64(key->sub + key->sub_size, number);
    key->sub_size += 8;
}

void ramet_wkey_merged(struct ramet_wkey *key, uint64_t serial)
{
    ramet_wkey_first(key, 0, RAMET_WTYPE_MERGED);
    put_sub(key, serial);
}

void ramet_wkey_orphan(struct ramet_wkey *key, uint64_t ino)
{
    ramet_wkey_first(key, 0, RAMET_WTYPE_ORPHAN);
    put_sub(key, ino);
}

void ramet_wkey_group(struct ramet_wkey *key, uint64_t ino, uint64_t group)
{
    ramet_wkey_first(key, ino, RAMET_WTYPE_BLOCKS);
    put_sub(key, group);
}

void ramet_wkey_entry(struct ramet_wkey *key, uint64_t dir, uint64_t hash, const char *name, size_t size)
{
    ramet_wkey_first(key, dir, RAMET_WTYPE_ENTRY);
    put_sub(key, hash);
    if (!name)
        return;
    memcpy(key->sub + key->sub_size, name, size);
    key->sub_size = (uint16_t)(key->sub_size + size);
}

void ramet_wkey_name(struct ramet_wkey *key, uint64_t ino, uint64_t dir, uint64_t cookie)
{
    ramet_wkey_first(key, ino, RAMET_WTYPE_NAME);
    put_sub(key, dir);
    put_sub(key, cookie);
}

void ramet_wkey_xattr(struct ramet_wkey *key, uint64_t ino, const char *name, uint8_t part)
{
    size_t size = strlen(name) + 1;
    ramet_wkey_first(key, ino, RAMET_WTYPE_XATTR);
    memcpy(key->sub, name, size);
    key->sub[size] = part;
    key->sub_size = (uint16_t)(size + 1);
}

void ramet_wkey_after(struct ramet_wkey *key)
{
    if (key->sub_size < RAMET_WKEY_SUB_MAX) /* as all of ours are */
        key->sub[key->sub_size++] = 0;
}

uint64_t ramet_wkey_hash(const struct ramet_wkey *key) { return key->sub_size < 8 ? 0 : ramet_get_be64(key->sub); }

const char *ramet_wkey_entry_name(const struct ramet_wkey *key, size_t *ret_size)
{
    *ret_size = key->sub_size < 8 ? 0 : (size_t)key->sub_size - 8;
    return (const char *)key->sub + 8;
}

bool ramet_wkey_is_name(const struct ramet_wkey *key, uint64_t ino)
{
    return key->ino == ino && key->type == RAMET_WTYPE_NAME && key->sub_size == 16;
}

void ramet_wkey_name_parts(const struct ramet_wkey *key, uint64_t *ret_dir, uint64_t *ret_cookie)
{
    *ret_dir = ramet_get_be64(key->sub);
    *ret_cookie = ramet_get_be64(key->sub + 8);
}

uint64_t ramet_wname_hash(const uint8_t hash_key[RAMET_WHASH_KEY], const char *name, size_t size)
{
    return ramet_checksum(hash_key, RAMET_WHASH_KEY, name, size) >> (64 - RAMET_WHASH_BITS);
}
