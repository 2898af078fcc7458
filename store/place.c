/* SPDX-License-Identifier: Apache-2.0 */
/* The value of the frames table: where a frame lies and which slots it holds. docs/format.md has the layout. */
#include "base/codec.h"
#include "store_private.h"

enum { version = 2 };

void ramet_place_encode(uint8_t value[RAMET_PLACE_SIZE], const struct ramet_place_record *record)
{
    value[0] = version;
    value[1] = record->flags;
    ramet_put_le16(value + 2, record->slots);
    ramet_put_le32(value + 4, record->place.pack);
    ramet_put_le32(value + 8, record->place.size);
    ramet_put_le64(value + 12, record->place.offset);
}

int ramet_place_decode(const void *value, size_t size, struct ramet_place_record *ret, struct ramet_error *err)
{
    const uint8_t *p = value;
    if (size != RAMET_PLACE_SIZE || p[0] != version || p[1] > (RAMET_FRAME_DELTA | RAMET_FRAME_COLD) ||
        ramet_get_le16(p + 2) == 0 || ramet_get_le32(p + 8) > RAMET_FRAME_RECORD_MAX ||
        ramet_get_le32(p + 8) < RAMET_FRAME_HEADER)
        return ramet_error_set(err, RAMET_CORRUPT, "a frame's place record is damaged");
    *ret = (struct ramet_place_record){.slots = ramet_get_le16(p + 2),
                                       .flags = p[1],
                                       .place = {ramet_get_le32(p + 4), ramet_get_le32(p + 8), ramet_get_le64(p + 12)}};
    return 0;
}
