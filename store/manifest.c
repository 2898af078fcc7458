/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log is blocks of 32 KiB of records: u32 masked CRC-32C of type and payload, u16 payload
 * size, u8 type (1 to 4; higher ones belong to recycled logs), payload. None crosses a block;
 * a tail of less than seven bytes is padding. The checksum does not cover the size, so a
 * record whose size went bad still verifies at its true size, which is how it is told from
 * one that was never written to its end.
 */
#include "manifest.h"

#include "base/cleanup.h"
#include "base/codec.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { block_size = 32768, header_size = 7, type_max = 4, manifest_max = 256 << 20 };

/* Adds a byte to a CRC-32C (Castagnoli, reflected), bit by bit: a few KiB once an opening. */
static uint32_t crc_add(uint32_t crc, uint8_t byte)
{
    crc ^= byte;
    for (int bit = 0; bit < 8; bit++)
        crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    return crc;
}

static uint32_t crc_mask(uint32_t crc) { return (crc >> 15 | crc << 17) + 0xa282ead8u; }

/* Whether the record at `p` verifies at any size that `left` bytes of payload allow. */
static bool is_whole(const uint8_t *p, size_t left)
{
    uint32_t wanted = ramet_get_le32(p), crc = crc_add(0xffffffffu, p[6]);
    for (size_t size = 0;; size++) {
        if (crc_mask(~crc) == wanted)
            return true;
        if (size == left)
            return false;
        crc = crc_add(crc, p[header_size + size]);
    }
}

/* Where RocksDB would stop without a word though it should not; `size` when nowhere. */
static size_t find_damage(const uint8_t *bytes, size_t size)
{
    for (size_t block = 0; block < size; block += block_size) {
        size_t end = size - block < block_size ? size : block + block_size;
        for (size_t at = block; end - at >= header_size;) {
            size_t payload = ramet_get_le16(bytes + at + 4), room = end - at - header_size;
            if (bytes[at + 6] == 0 && payload == 0)
                break; /* made larger ahead of time */
            if (bytes[at + 6] > type_max || (payload > room && is_whole(bytes + at, room)))
                return at;
            if (payload > room)
                break;
            at += header_size + payload;
        }
    }
    return size;
}

/* The manifest in use; false when CURRENT does not say. */
static bool find_manifest(const char *dir, char path[PATH_MAX])
{
    char name[64] = "";
    snprintf(path, PATH_MAX, "%s/CURRENT", dir);
    _autoclose_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : pread(fd, name, sizeof name - 1, 0);
    if (size <= 0 || name[size - 1] != '\n')
        return false;
    name[size - 1] = '\0';
    snprintf(path, PATH_MAX, "%s/%s", dir, name);
    return strncmp(name, "MANIFEST-", 9) == 0 && !strchr(name, '/');
}

int ramet_manifest_check(const char *dir, struct ramet_error *err)
{
    char path[PATH_MAX];
    struct stat st;
    if (!find_manifest(dir, path))
        return 0;
    _autoclose_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size > manifest_max)
        return 0;
    size_t size = (size_t)st.st_size;
    _autofree_ uint8_t *bytes = malloc(size + 1);
    if (!bytes)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to read %s", path);
    int r = ramet_file_read(fd, path, bytes, size, 0, err);
    if (r < 0)
        return r;
    size_t at = find_damage(bytes, size);
    return at == size ? 0 : ramet_error_set(err, RAMET_CORRUPT, "the index's %s is damaged at byte %zu", path, at);
}
