/* SPDX-License-Identifier: Apache-2.0 */
#include "base/codec.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

void ramet_put_le16(void *p, uint16_t v)
{
    v = htole16(v);
    memcpy(p, &v, sizeof v);
}
void ramet_put_le32(void *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, sizeof v);
}
void ramet_put_le64(void *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, sizeof v);
}
void ramet_put_be64(void *p, uint64_t v)
{
    v = htobe64(v);
    memcpy(p, &v, sizeof v);
}
uint16_t ramet_get_le16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return le16toh(v);
}
uint32_t ramet_get_le32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return le32toh(v);
}
uint64_t ramet_get_le64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return le64toh(v);
}
uint64_t ramet_get_be64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return be64toh(v);
}

void ramet_buf_free(struct ramet_buf *buf)
{
    free(buf->data);
    *buf = (struct ramet_buf){0};
}

void ramet_buf_put(struct ramet_buf *buf, const void *data, size_t size)
{
    if (buf->failed || size == 0)
        return;
    if (buf->size + size > buf->capacity) {
        size_t capacity = (buf->size + size) * 2;
        uint8_t *grown = realloc(buf->data, capacity);
        if (!grown) {
            buf->failed = true;
            return;
        }
        buf->data = grown;
        buf->capacity = capacity;
    }
    memcpy(buf->data + buf->size, data, size);
    buf->size += size;
}

void ramet_buf_put_u8(struct ramet_buf *buf, uint8_t v) { ramet_buf_put(buf, &v, 1); }

void ramet_buf_put_u32(struct ramet_buf *buf, uint32_t v)
{
    uint8_t bytes[4];
    ramet_put_le32(bytes, v);
    ramet_buf_put(buf, bytes, sizeof bytes);
}

void ramet_buf_put_u64(struct ramet_buf *buf, uint64_t v)
{
    uint8_t bytes[8];
    ramet_put_le64(bytes, v);
    ramet_buf_put(buf, bytes, sizeof bytes);
}

void ramet_buf_put_str(struct ramet_buf *buf, const char *s)
{
    size_t size = s ? strlen(s) : 0;
    ramet_buf_put_u32(buf, (uint32_t)size);
    ramet_buf_put(buf, s, size);
}

const uint8_t *ramet_reader_bytes(struct ramet_reader *r, size_t size)
{
    if (r->failed || r->size - r->at < size) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *p = r->data + r->at;
    r->at += size;
    return p;
}

uint8_t ramet_reader_u8(struct ramet_reader *r)
{
    const uint8_t *p = ramet_reader_bytes(r, 1);
    return p ? *p : 0;
}

uint32_t ramet_reader_u32(struct ramet_reader *r)
{
    const uint8_t *p = ramet_reader_bytes(r, 4);
    return p ? ramet_get_le32(p) : 0;
}

uint64_t ramet_reader_u64(struct ramet_reader *r)
{
    const uint8_t *p = ramet_reader_bytes(r, 8);
    return p ? ramet_get_le64(p) : 0;
}

char *ramet_reader_str(struct ramet_reader *r)
{
    uint32_t size = ramet_reader_u32(r);
    const uint8_t *p = ramet_reader_bytes(r, size);
    if (r->failed)
        return NULL;
    char *s = malloc((size_t)size + 1);
    if (!s) {
        r->failed = true;
        return NULL;
    }
    if (size)
        memcpy(s, p, size);
    s[size] = '\0';
    return s;
}

bool ramet_reader_field(struct ramet_reader *r, char *field, size_t size)
{
    uint32_t length = ramet_reader_u32(r);
    const uint8_t *p = length < size ? ramet_reader_bytes(r, length) : NULL;
    if (!p) {
        r->failed = true;
        return false;
    }
    memcpy(field, p, length);
    field[length] = '\0';
    return true;
}
