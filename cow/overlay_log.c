/* SPDX-License-Identifier: Apache-2.0 */
#include "overlay_log.h"

#include "base/cleanup.h"
#include "base/codec.h"
#include "base/file.h"
#include "base/record.h"

#include <errno.h>
#include <sys/stat.h>

enum { magic = 0x4c4f4d52 /* "RMOL" */, version = 1 };

/* Applies one record's runs of (u64 first page, u32 count). */
static bool apply(struct ramet_reader *reader, uint64_t page_count, uint64_t *bitmap)
{
    while (reader->at < reader->size) {
        uint64_t first = ramet_reader_u64(reader);
        uint32_t count = ramet_reader_u32(reader);
        if (reader->failed || first > page_count || count > page_count - first)
            return false;
        for (uint64_t page = first; page < first + count; page++)
            ramet_bit_set(bitmap, page);
    }
    return true;
}

/* Opens the record at the start of `data`; *ret_size is all of its bytes. -CORRUPT when none is there. */
static int record_at(const uint8_t *data, uint64_t size, const char *name, struct ramet_reader *ret, uint64_t *ret_size,
                     struct ramet_error *err)
{
    uint16_t found;
    *ret_size = size < RAMET_RECORD_HEADER ? 0 : RAMET_RECORD_HEADER + (uint64_t)ramet_get_le32(data + 8);
    if (*ret_size == 0 || *ret_size > size || ramet_get_le32(data) != magic)
        return -RAMET_CORRUPT;
    return ramet_record_open(data, (size_t)*ret_size, magic, version, name, ret, &found, err);
}

static int damaged(const char *name, uint64_t offset, struct ramet_error *err)
{
    ramet_error_set(err, RAMET_CORRUPT, "%s is damaged at byte %llu: writes that were flushed are lost", name,
                    (unsigned long long)offset);
    return ramet_error_hint(err, "put the file back; without it the disk is what it was before them");
}

int ramet_overlay_log_read(int fd, const char *name, uint64_t page_count, uint64_t *bitmap, uint64_t *ret_end,
                           struct ramet_error *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return ramet_error_os(err, errno, "cannot read %s", name);
    _autofree_ uint8_t *data = malloc(st.st_size ? (size_t)st.st_size : 1);
    if (!data)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to read %s", name);
    int r = ramet_file_read(fd, name, data, (size_t)st.st_size, 0, err);
    if (r < 0)
        return r;
    uint64_t at = 0, size = (uint64_t)st.st_size, whole;
    struct ramet_reader reader;
    while ((r = record_at(data + at, size - at, name, &reader, &whole, err)) == 0) {
        if (!apply(&reader, page_count, bitmap))
            return damaged(name, at, err);
        at += whole;
    }
    if (r == -RAMET_UNSUPPORTED)
        return r;
    for (uint64_t next = at + 1; next < size; next++)
        if (record_at(data + next, size - next, name, &reader, &whole, NULL) == 0)
            return damaged(name, at, err);
    *ret_end = at;
    return 0;
}

static void encode_runs(struct ramet_buf *buf, uint64_t page_count, const uint64_t *fresh)
{
    for (uint64_t page = 0; page < page_count; page++) {
        if (page % 64 == 0 && fresh[page / 64] == 0) {
            page += 63;
            continue;
        }
        if (!ramet_bit_get(fresh, page))
            continue;
        uint64_t first = page;
        while (page + 1 < page_count && page + 1 - first < UINT32_MAX && ramet_bit_get(fresh, page + 1))
            page++;
        ramet_buf_put_u64(buf, first);
        ramet_buf_put_u32(buf, (uint32_t)(page + 1 - first));
    }
}

/* Puts the empty record behind one that is durable. Without it a damaged record passes for a torn one, as before. */
static void acknowledge(int fd, const char *name, uint64_t end)
{
    _cleanup_(ramet_buf_free) struct ramet_buf buf = {0};
    ramet_record_begin(&buf);
    if (ramet_record_end(&buf, magic, version, NULL) == 0)
        ramet_file_write(fd, name, buf.data, buf.size, end, NULL);
}

/* Drops what a torn record left behind `end`: past the next one it must not look like another. */
static int cut(int fd, const char *name, uint64_t end, struct ramet_error *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || ((uint64_t)st.st_size > end + RAMET_RECORD_HEADER && ftruncate(fd, (off_t)end) < 0))
        return ramet_error_os(err, errno, "cannot cut %s", name);
    return 0;
}

int ramet_overlay_log_append(int fd, const char *name, uint64_t page_count, const uint64_t *fresh, uint64_t *end,
                             struct ramet_error *err)
{
    _cleanup_(ramet_buf_free) struct ramet_buf buf = {0};
    ramet_record_begin(&buf);
    encode_runs(&buf, page_count, fresh);
    int r = ramet_record_end(&buf, magic, version, err);
    if (r == 0)
        r = cut(fd, name, *end, err);
    if (r == 0)
        r = ramet_file_write(fd, name, buf.data, buf.size, *end, err);
    if (r == 0)
        r = ramet_file_sync(fd, name, err);
    if (r < 0)
        return r;
    *end += buf.size;
    acknowledge(fd, name, *end);
    return 0;
}
