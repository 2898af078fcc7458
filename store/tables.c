/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table ends with a footer of 53 bytes: u8 checksum type, two block handles (varint offset,
 * varint size) padded to 40 bytes, u32 version, u64 magic. The first handle is that of the
 * metaindex block, which maps the name "rocksdb.properties" to the handle of that block.
 * A block is followed by five bytes of checksum; its own last word counts its restart
 * points, with the hash index's bit on top.
 */
#include "tables.h"

#include "base/cleanup.h"
#include "base/codec.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { footer_size = 53, metaindex_max = 4096, table_version = 5 /* kv.c asks for it */ };
static const uint64_t table_magic = UINT64_C(0x88e241b785f4cff7);
static const char name[] = "rocksdb.properties";

struct handle {
    uint64_t offset, size;
};

static bool take_varint(const uint8_t **at, const uint8_t *end, uint64_t *ret)
{
    *ret = 0;
    for (unsigned shift = 0; *at < end && shift < 63; shift += 7) {
        uint8_t byte = *(*at)++;
        *ret |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

static bool take_handle(const uint8_t *at, const uint8_t *end, struct handle *ret)
{
    return take_varint(&at, end, &ret->offset) && take_varint(&at, end, &ret->size);
}

/* Where the properties block lies; false when this is not understood. */
static bool find_properties(int fd, uint64_t size, const uint8_t footer[footer_size], struct handle *ret)
{
    uint8_t block[metaindex_max];
    struct handle metaindex;
    if (!take_handle(footer + 1, footer + 41, &metaindex) || metaindex.size > sizeof block || metaindex.offset > size ||
        pread(fd, block, (size_t)metaindex.size, (off_t)metaindex.offset) != (ssize_t)metaindex.size)
        return false;
    const uint8_t *end = block + metaindex.size, *found = memmem(block, metaindex.size, name, sizeof name - 1);
    return found && take_handle(found + sizeof name - 1, end, ret) && ret->offset < size && ret->size < size;
}

static bool is_safe(const char *path)
{
    struct stat st;
    struct handle properties;
    uint8_t footer[footer_size], last[4];
    _autoclose_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < footer_size ||
        pread(fd, footer, footer_size, st.st_size - footer_size) != footer_size ||
        ramet_get_le64(footer + 45) != table_magic)
        return true; /* RocksDB tells */
    if (ramet_get_le32(footer + 41) != table_version)
        return false;
    if (!find_properties(fd, (uint64_t)st.st_size, footer, &properties) || properties.size < sizeof last ||
        pread(fd, last, sizeof last, (off_t)(properties.offset + properties.size - sizeof last)) != sizeof last)
        return true;
    return ramet_get_le32(last) >> 31 == 0;
}

int ramet_tables_check(const char *dir, struct ramet_error *err)
{
    DIR *entries = opendir(dir);
    int r = 0;
    for (struct dirent *entry; entries && r == 0 && (entry = readdir(entries));) {
        char path[PATH_MAX];
        const char *suffix = strrchr(entry->d_name, '.');
        if (!suffix || strcmp(suffix, ".sst") != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        if (!is_safe(path))
            r = ramet_error_set(err, RAMET_CORRUPT, "the index's table %s is damaged", path);
    }
    if (entries)
        closedir(entries);
    return r;
}
