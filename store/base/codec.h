/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Little-endian codecs and a growing byte buffer for records.
 *
 * A buffer never fails half-way: the first failed allocation sets `failed`, later
 * puts do nothing, and the caller checks once. A reader likewise: the first read
 * past the end sets `failed` and everything after reads as zero.
 */
#ifndef RAMET_BASE_CODEC_H
#define RAMET_BASE_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void ramet_put_le16(void *p, uint16_t v);
void ramet_put_le32(void *p, uint32_t v);
void ramet_put_le64(void *p, uint64_t v);
uint16_t ramet_get_le16(const void *p);
uint32_t ramet_get_le32(const void *p);
uint64_t ramet_get_le64(const void *p);
void ramet_put_be64(void *p, uint64_t v); /* for keys that sort by number */
uint64_t ramet_get_be64(const void *p);

struct ramet_buf {
    uint8_t *data; /* owned; free with ramet_buf_free */
    size_t size;
    size_t capacity;
    bool failed;
};

void ramet_buf_free(struct ramet_buf *buf);
void ramet_buf_put(struct ramet_buf *buf, const void *data, size_t size);
void ramet_buf_put_u8(struct ramet_buf *buf, uint8_t v);
void ramet_buf_put_u32(struct ramet_buf *buf, uint32_t v);
void ramet_buf_put_u64(struct ramet_buf *buf, uint64_t v);
void ramet_buf_put_str(struct ramet_buf *buf, const char *s); /* u32 length, bytes; NULL is written as "" */

struct ramet_reader {
    const uint8_t *data; /* borrowed */
    size_t size;
    size_t at;
    bool failed;
};

/* The next `size` bytes, borrowed; NULL on failure. */
const uint8_t *ramet_reader_bytes(struct ramet_reader *r, size_t size);
uint8_t ramet_reader_u8(struct ramet_reader *r);
uint32_t ramet_reader_u32(struct ramet_reader *r);
uint64_t ramet_reader_u64(struct ramet_reader *r);
char *ramet_reader_str(struct ramet_reader *r); /* owned by the caller; NULL on failure */
/* Reads a string into a field of `size` bytes; false, and the reader failed, when it does not fit. */
bool ramet_reader_field(struct ramet_reader *r, char *field, size_t size);

#endif
