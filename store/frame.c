/* SPDX-License-Identifier: Apache-2.0 */
#include "frame.h"

#include "base/codec.h"
#include "base/record.h"
#include "compress.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { magic = 0x52464d52 /* "RMFR" */, version = 2, checksum_offset = 24 };

/* --- in memory --- */

/* Bytes of the unpacked payload: the pages, then the bases of a delta frame. */
static size_t plain_bytes(uint16_t slots, uint8_t flags)
{
    return ramet_slot_count(slots) * (RAMET_PAGE_SIZE + (flags & RAMET_FRAME_DELTA ? sizeof(ramet_chunk) : 0));
}

struct ramet_frame *ramet_frame_new(uint64_t number, uint16_t slots, uint8_t kind, uint8_t flags)
{
    struct ramet_frame *frame = malloc(sizeof *frame + plain_bytes(slots, flags));
    if (!frame)
        return NULL;
    *frame = (struct ramet_frame){.number = number, .slots = slots, .kind = kind, .flags = flags};
    atomic_init(&frame->refs, 1);
    if (flags & RAMET_FRAME_DELTA)
        frame->bases = (ramet_chunk *)(void *)(frame->pages + (size_t)ramet_slot_count(slots) * RAMET_PAGE_SIZE);
    return frame;
}

void ramet_frame_close(struct ramet_frame *frame, unsigned count, const ramet_chunk *bases)
{
    frame->slots = (uint16_t)((1u << count) - 1);
    frame->flags = bases ? RAMET_FRAME_DELTA : 0;
    frame->bases = bases ? (ramet_chunk *)(void *)(frame->pages + (size_t)count * RAMET_PAGE_SIZE) : NULL;
    if (bases)
        memcpy(frame->bases, bases, count * sizeof *bases);
}

struct ramet_frame *ramet_frame_shrink(struct ramet_frame *frame)
{
    struct ramet_frame *shrunk = realloc(frame, ramet_frame_bytes(frame));
    frame = shrunk ? shrunk : frame;
    if (frame->bases)
        frame->bases = (ramet_chunk *)(void *)(frame->pages + (size_t)ramet_slot_count(frame->slots) * RAMET_PAGE_SIZE);
    return frame;
}

struct ramet_frame *ramet_frame_ref(struct ramet_frame *frame)
{
    atomic_fetch_add_explicit(&frame->refs, 1, memory_order_relaxed);
    return frame;
}

void ramet_frame_unref(struct ramet_frame *frame)
{
    if (frame && atomic_fetch_sub(&frame->refs, 1) == 1)
        free(frame);
}

void ramet_frame_cleanup(struct ramet_frame **frame) { ramet_frame_unref(*frame); }

size_t ramet_frame_bytes(const struct ramet_frame *frame)
{
    return sizeof *frame + plain_bytes(frame->slots, frame->flags);
}

/* Position of a slot among those held. */
static unsigned position(uint16_t slots, unsigned slot)
{
    return (unsigned)__builtin_popcount(slots & ((1u << slot) - 1));
}

const uint8_t *ramet_frame_page(const struct ramet_frame *frame, unsigned slot, ramet_chunk *ret_base)
{
    if (!(frame->slots & 1u << slot))
        return NULL;
    unsigned at = position(frame->slots, slot);
    *ret_base = frame->bases ? frame->bases[at] : RAMET_CHUNK_ZERO;
    return frame->pages + (size_t)at * RAMET_PAGE_SIZE;
}

struct ramet_frame *ramet_frame_trim(const struct ramet_frame *frame, uint16_t keep)
{
    struct ramet_frame *trimmed = ramet_frame_new(frame->number, keep, frame->kind, frame->flags);
    unsigned to = 0;
    for (unsigned slot = 0; trimmed && slot < RAMET_FRAME_SLOTS; slot++) {
        if (!(keep & 1u << slot))
            continue;
        ramet_chunk base;
        memcpy(trimmed->pages + (size_t)to * RAMET_PAGE_SIZE, ramet_frame_page(frame, slot, &base), RAMET_PAGE_SIZE);
        if (trimmed->bases)
            trimmed->bases[to] = base;
        to++;
    }
    return trimmed;
}

/* --- on disk --- */

/* Of a record whose header is filled in up to the checksum. */
static uint64_t record_checksum(const uint8_t *record, uint64_t key, size_t payload_size)
{
    uint8_t head[checksum_offset + 8];
    memcpy(head, record, checksum_offset);
    ramet_put_le64(head + checksum_offset, key);
    return ramet_checksum(head, sizeof head, record + RAMET_FRAME_HEADER, payload_size);
}

size_t ramet_frame_encode(const struct ramet_frame *frame, int level, uint64_t key, void *record)
{
    _Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "bases are written as they lie in memory");
    uint8_t *p = record;
    enum ramet_codec codec;
    /* Differences and map nodes are few and shrink to little: LZ4 would save no time there. */
    int used = level == 0 && (frame->bases || frame->kind == RAMET_CHUNK_NODE) ? 1 : level;
    size_t size =
        ramet_compress(used, frame->pages, plain_bytes(frame->slots, frame->flags), p + RAMET_FRAME_HEADER, &codec);
    ramet_put_le32(p, magic);
    p[4] = version;
    p[5] = (uint8_t)codec;
    p[6] = frame->kind;
    p[7] = frame->flags;
    ramet_put_le64(p + 8, frame->number);
    ramet_put_le16(p + 16, frame->slots);
    ramet_put_le16(p + 18, 0);
    ramet_put_le32(p + 20, (uint32_t)size);
    ramet_put_le64(p + checksum_offset, record_checksum(p, key, size));
    return RAMET_FRAME_HEADER + size;
}

int ramet_frame_peek(const void *header, struct ramet_frame_info *ret, struct ramet_error *err)
{
    const uint8_t *p = header;
    struct ramet_frame_info info = {.number = ramet_get_le64(p + 8),
                                    .slots = ramet_get_le16(p + 16),
                                    .codec = p[5],
                                    .kind = p[6],
                                    .flags = p[7],
                                    .payload_size = ramet_get_le32(p + 20)};
    if (ramet_get_le32(p) != magic || p[4] != version || info.codec >= RAMET_CODEC_COUNT || info.slots == 0 ||
        info.kind > RAMET_CHUNK_NODE || info.flags > (RAMET_FRAME_DELTA | RAMET_FRAME_COLD) ||
        info.payload_size > plain_bytes(info.slots, info.flags) || ramet_get_le16(p + 18) != 0)
        return ramet_error_set(err, RAMET_CORRUPT, "no frame header");
    *ret = info;
    return 0;
}

int ramet_frame_decode(const void *record, size_t size, uint64_t number, uint64_t key, struct ramet_frame **ret,
                       struct ramet_error *err)
{
    const uint8_t *p = record;
    struct ramet_frame_info info;
    if (size < RAMET_FRAME_HEADER || ramet_frame_peek(p, &info, err) < 0 || (number && info.number != number) ||
        size != RAMET_FRAME_HEADER + (size_t)info.payload_size ||
        ramet_get_le64(p + checksum_offset) != record_checksum(p, key, info.payload_size))
        return ramet_error_set(err, RAMET_CORRUPT, "frame %" PRIu64 " fails its checksum", number);
    struct ramet_frame *frame = ramet_frame_new(info.number, info.slots, info.kind, info.flags);
    if (!frame)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a frame");
    int bad = ramet_decompress((enum ramet_codec)info.codec, p + RAMET_FRAME_HEADER, info.payload_size, frame->pages,
                               plain_bytes(info.slots, info.flags));
    if (bad) {
        ramet_frame_unref(frame);
        return bad == 1 ? ramet_error_set(err, RAMET_CORRUPT, "frame %" PRIu64 " does not decompress", info.number)
                        : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to decompress");
    }
    *ret = frame;
    return 0;
}
