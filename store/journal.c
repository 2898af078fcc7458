/* SPDX-License-Identifier: Apache-2.0 */
#include "journal.h"

#include "base/record.h"

#include <string.h>

enum { magic = 0x524a4d52 /* "RMJR" */, version = 1, operation_put = 0, operation_delete = 1 };

void ramet_journal_note(struct ramet_buf *entries, enum ramet_kv_family family, const void *key, size_t key_size,
                        const void *value, size_t value_size)
{
    ramet_buf_put_u8(entries, value ? operation_put : operation_delete);
    ramet_buf_put_u8(entries, (uint8_t)family);
    ramet_buf_put_u32(entries, (uint32_t)key_size);
    ramet_buf_put_u32(entries, (uint32_t)value_size);
    ramet_buf_put(entries, key, key_size);
    ramet_buf_put(entries, value, value_size);
}

int ramet_journal_encode(const struct ramet_buf *entries, uint32_t flags, uint64_t key, struct ramet_buf *record,
                         struct ramet_error *err)
{
    ramet_record_begin(record);
    ramet_buf_put_u32(record, flags);
    ramet_buf_put_u64(record, key);
    ramet_buf_put(record, entries->data, entries->size);
    if (entries->failed)
        record->failed = true;
    return ramet_record_end(record, magic, version, err);
}

bool ramet_journal_begins(const void *header) { return ramet_get_le32(header) == magic; }

uint32_t ramet_journal_flags(const void *record)
{
    return ramet_get_le32((const uint8_t *)record + RAMET_RECORD_HEADER);
}

size_t ramet_journal_peek(const void *data, size_t size, uint64_t key)
{
    const uint8_t *p = data;
    struct ramet_reader reader;
    uint16_t found;
    if (size < RAMET_RECORD_HEADER || !ramet_journal_begins(p))
        return 0;
    uint64_t whole = RAMET_RECORD_HEADER + (uint64_t)ramet_get_le32(p + 8);
    if (whole > size || ramet_record_open(data, (size_t)whole, magic, version, "journal", &reader, &found, NULL) < 0)
        return 0;
    ramet_reader_u32(&reader);
    return ramet_reader_u64(&reader) == key ? (size_t)whole : 0;
}

int ramet_journal_apply(const void *record, size_t size, struct ramet_kv_batch *batch, struct ramet_error *err)
{
    struct ramet_reader reader;
    uint16_t found;
    int r = ramet_record_open(record, size, magic, version, "journal", &reader, &found, err);
    if (r < 0)
        return r;
    ramet_reader_u32(&reader); /* flags */
    ramet_reader_u64(&reader); /* the key, which peek compares */
    while (!reader.failed && reader.at < reader.size) {
        uint8_t operation = ramet_reader_u8(&reader), family = ramet_reader_u8(&reader);
        uint32_t key_size = ramet_reader_u32(&reader), value_size = ramet_reader_u32(&reader);
        const uint8_t *key = ramet_reader_bytes(&reader, key_size);
        const uint8_t *value = ramet_reader_bytes(&reader, value_size);
        if (reader.failed || operation > operation_delete || !ramet_kv_is_journaled((enum ramet_kv_family)family))
            return ramet_error_set(err, RAMET_CORRUPT, "a journal record is damaged");
        if (operation == operation_put)
            ramet_kv_put(batch, (enum ramet_kv_family)family, key, key_size, value, value_size);
        else
            ramet_kv_delete(batch, (enum ramet_kv_family)family, key, key_size);
    }
    if (reader.failed)
        return ramet_error_set(err, RAMET_CORRUPT, "a journal record is damaged");
    return 0;
}
