/* SPDX-License-Identifier: Apache-2.0 */
#include "journal.h"

#include "base/codec.h"

#include <stdlib.h>
#include <string.h>

bool ramet_wjrecord_grow(struct ramet_wjrecord **record, size_t size)
{
    size_t used = *record ? (*record)->size : RAMET_WJOURNAL_HEADER, capacity = *record ? (*record)->capacity : 1000;
    if (*record && used + size <= capacity)
        return true;
    while (used + size > capacity)
        capacity *= 2;
    struct ramet_wjrecord *grown = realloc(*record, sizeof *grown + capacity);
    if (!grown)
        return false;
    if (!*record)
        *grown = (struct ramet_wjrecord){.size = RAMET_WJOURNAL_HEADER};
    grown->capacity = capacity;
    *record = grown;
    return true;
}

void ramet_wjrecord_put(struct ramet_wjrecord *record, const void *bytes, size_t size)
{
    memcpy(record->bytes + record->size, bytes, size);
    record->size += size;
}

void ramet_wjrecord_put_u8(struct ramet_wjrecord *record, uint8_t v) { record->bytes[record->size++] = v; }

void ramet_wjrecord_put_u16(struct ramet_wjrecord *record, size_t v)
{
    ramet_put_le16(record->bytes + record->size, (uint16_t)v);
    record->size += 2;
}

void ramet_wjrecord_put_u32(struct ramet_wjrecord *record, uint32_t v)
{
    ramet_put_le32(record->bytes + record->size, v);
    record->size += 4;
}

void ramet_wjrecord_put_u64(struct ramet_wjrecord *record, uint64_t v)
{
    ramet_put_le64(record->bytes + record->size, v);
    record->size += 8;
}
