/* SPDX-License-Identifier: Apache-2.0 */
#include "base/record.h"

#include <string.h>
#if defined(__x86_64__)
#include <xxh_x86dispatch.h> /* picks AVX2 or AVX-512 at run time */
#else
#include <xxhash.h>
#endif

uint64_t ramet_checksum(const void *a, size_t a_size, const void *b, size_t b_size)
{
    uint64_t first = XXH3_64bits(a, a_size);
    return b_size ? XXH3_64bits_withSeed(b, b_size, first) : first;
}

void ramet_record_begin(struct ramet_buf *buf)
{
    static const uint8_t header[RAMET_RECORD_HEADER];
    ramet_buf_put(buf, header, sizeof header);
}

int ramet_record_end(struct ramet_buf *buf, uint32_t magic, uint16_t version, struct ramet_error *err)
{
    if (buf->failed)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a record");
    size_t size = buf->size - RAMET_RECORD_HEADER;
    ramet_put_le32(buf->data, magic);
    ramet_put_le16(buf->data + 4, version);
    ramet_put_le32(buf->data + 8, (uint32_t)size);
    ramet_put_le64(buf->data + 16, ramet_checksum(buf->data, 16, buf->data + RAMET_RECORD_HEADER, size));
    return 0;
}

int ramet_record_open(const void *data, size_t size, uint32_t magic, uint16_t max_version, const char *name,
                      struct ramet_reader *ret, uint16_t *ret_version, struct ramet_error *err)
{
    const uint8_t *p = data;
    if (size < RAMET_RECORD_HEADER || ramet_get_le32(p) != magic || ramet_get_le32(p + 12) != 0 ||
        ramet_get_le32(p + 8) != size - RAMET_RECORD_HEADER ||
        ramet_get_le64(p + 16) != ramet_checksum(p, 16, p + RAMET_RECORD_HEADER, size - RAMET_RECORD_HEADER)) {
        ramet_error_set(err, RAMET_CORRUPT, "%s: the record is damaged", name);
        return ramet_error_hint(err, "run 'ramet store fsck' to see what is affected");
    }
    uint16_t version = ramet_get_le16(p + 4), flags = ramet_get_le16(p + 6);
    if (version > max_version || flags) {
        ramet_error_set(err, RAMET_UNSUPPORTED, "%s: written by a newer Ramet (version %u, flags %#x)", name, version,
                        flags);
        return ramet_error_hint(err, "upgrade Ramet to open it");
    }
    *ret = (struct ramet_reader){.data = p + RAMET_RECORD_HEADER, .size = size - RAMET_RECORD_HEADER};
    *ret_version = version;
    return 0;
}
