/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records of a tree as structs, their keys, and the hash of names. docs/format.md has
 * the bytes.
 *
 * A name's *cookie* is its hash (57 bits, keyed for each workspace and its forks) and a
 * number from 1 to 63 that tells names of one directory with equal hashes apart. It stays
 * as long as the name does, in every fork.
 *
 * An inode tells one of its names (directory and cookie); further ones of a file with
 * hard links have NAME records. So each inode's paths are found from its number.
 */
#ifndef RAMET_WORKSPACE_RECORDS_H
#define RAMET_WORKSPACE_RECORDS_H

#include "data.h"
#include "files_state.h"
#include "tree.h"

#include <stdbool.h>

#define RAMET_WPAGE 4096u
#define RAMET_WINLINE_MAX 512u /* bytes of a file or of a link's target that are kept in the inode's record */
#define RAMET_WGROUP 64u       /* pages of a BLOCKS record */
#define RAMET_WNAME_MAX 255u
#define RAMET_WNONCE_BITS 6

struct ramet_winode {
    uint32_t mode, uid, gid, nlink, rdev_major, rdev_minor;
    uint64_t size;
    uint64_t pages; /* allocated; of a directory: entries */
    int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
    uint64_t parent, cookie; /* one of its names; both 0 without any. The root is its own parent */
    uint32_t xattr_bytes;    /* names and values */
    uint32_t xattr_names;    /* bytes of a list of names */
    bool in_record;          /* its content is `bytes`, as many as `size` tells */
    uint8_t bytes[RAMET_WINLINE_MAX];
};

struct ramet_winfo {
    uint64_t used_bytes, inodes;
    uint8_t hash_key[RAMET_WHASH_KEY];
};

/* What an entry's record holds. */
struct ramet_wname {
    uint64_t ino;
    uint32_t type; /* S_IFMT bits */
    uint8_t nonce;
};

/* Give the size of what they put into `bytes`. */
size_t ramet_winode_encode(const struct ramet_winode *inode, uint8_t bytes[RAMET_WVALUE_MAX]);
size_t ramet_winfo_encode(const struct ramet_winfo *info, uint8_t bytes[RAMET_WVALUE_MAX]);
size_t ramet_wname_encode(const struct ramet_wname *name, uint8_t bytes[RAMET_WVALUE_MAX]);
/* Without the holes at its end; 0: nothing but holes, no record then. */
size_t ramet_wgroup_encode(const ramet_wref refs[RAMET_WGROUP], uint8_t bytes[RAMET_WVALUE_MAX]);

/* CORRUPT when the shape is not one of ours. */
int ramet_winode_decode(const struct ramet_wvalue *value, uint64_t ino, struct ramet_winode *ret,
                        struct ramet_error *err);
int ramet_winfo_decode(const struct ramet_wvalue *value, struct ramet_winfo *ret, struct ramet_error *err);
int ramet_wname_decode(const struct ramet_wvalue *value, uint64_t dir, struct ramet_wname *ret,
                       struct ramet_error *err);
int ramet_wgroup_decode(const struct ramet_wvalue *value, uint64_t ino, ramet_wref ret[RAMET_WGROUP],
                        struct ramet_error *err);

/* st_blocks: pages, content in the record, and extended attributes, in units of 512 bytes. */
uint64_t ramet_winode_blocks(const struct ramet_winode *inode);

void ramet_wkey_inode(struct ramet_wkey *key, uint64_t ino);
void ramet_wkey_info(struct ramet_wkey *key);
void ramet_wkey_merged(struct ramet_wkey *key, uint64_t serial);
void ramet_wkey_orphan(struct ramet_wkey *key, uint64_t ino);
void ramet_wkey_group(struct ramet_wkey *key, uint64_t ino, uint64_t group);
/* The first key an entry with this hash may have when `name` is NULL. */
void ramet_wkey_entry(struct ramet_wkey *key, uint64_t dir, uint64_t hash, const char *name, size_t size);
void ramet_wkey_name(struct ramet_wkey *key, uint64_t ino, uint64_t dir, uint64_t cookie);
void ramet_wkey_xattr(struct ramet_wkey *key, uint64_t ino, const char *name, uint8_t part);
/* Where all records of this inode and type begin. */
void ramet_wkey_first(struct ramet_wkey *key, uint64_t ino, enum ramet_wtype type);
/* Becomes the least key above it. */
void ramet_wkey_after(struct ramet_wkey *key);

/* Of an entry's key. The name is not NUL-terminated. */
uint64_t ramet_wkey_hash(const struct ramet_wkey *key);
const char *ramet_wkey_entry_name(const struct ramet_wkey *key, size_t *ret_size);
/* Whether it is a NAME record of this inode, and what it tells. */
bool ramet_wkey_is_name(const struct ramet_wkey *key, uint64_t ino);
void ramet_wkey_name_parts(const struct ramet_wkey *key, uint64_t *ret_dir, uint64_t *ret_cookie);

uint64_t ramet_wname_hash(const uint8_t hash_key[RAMET_WHASH_KEY], const char *name, size_t size);
static inline uint64_t ramet_wcookie(uint64_t hash, uint8_t nonce) { return hash << RAMET_WNONCE_BITS | nonce; }

#endif
