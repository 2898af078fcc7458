/* SPDX-License-Identifier: Apache-2.0 */
#include "frame.h"

#include "base/codec.h"
#include "base/record.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>
#include <zstd.h>

enum { magic = 0x52464d52 /* "RMFR" */, version = 1, codec_plain = 0, codec_zstd = 1 };

/* zstd contexts are costly to make: one pair a thread, freed when it ends. */
struct contexts {
    ZSTD_CCtx *c;
    ZSTD_DCtx *d;
};
static tss_t contexts_key;
static once_flag contexts_once = ONCE_FLAG_INIT;

static void contexts_free(void *p)
{
    struct contexts *contexts = p;
    ZSTD_freeCCtx(contexts->c);
    ZSTD_freeDCtx(contexts->d);
    free(contexts);
}

static void contexts_init(void) { tss_create(&contexts_key, contexts_free); }

static struct contexts *contexts_get(void)
{
    call_once(&contexts_once, contexts_init);
    struct contexts *contexts = tss_get(contexts_key);
    if (contexts)
        return contexts;
    contexts = calloc(1, sizeof *contexts);
    if (!contexts)
        return NULL;
    contexts->c = ZSTD_createCCtx();
    contexts->d = ZSTD_createDCtx();
    if (!contexts->c || !contexts->d || tss_set(contexts_key, contexts) != thrd_success) {
        contexts_free(contexts);
        return NULL;
    }
    return contexts;
}

int ramet_frame_encode(uint64_t number, const void *pages, unsigned slots, int level, void *record, size_t *ret_size,
                       struct ramet_error *err)
{
    struct contexts *contexts = contexts_get();
    if (!contexts)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to compress");
    uint8_t *p = record;
    size_t plain = (size_t)slots * RAMET_PAGE_SIZE;
    /* Room of one byte less than the plain size: what does not shrink is kept plain. */
    size_t size = ZSTD_compressCCtx(contexts->c, p + RAMET_FRAME_HEADER, plain - 1, pages, plain, level);
    int codec = codec_zstd;
    if (ZSTD_isError(size)) {
        memcpy(p + RAMET_FRAME_HEADER, pages, plain);
        size = plain;
        codec = codec_plain;
    }
    ramet_put_le32(p, magic);
    p[4] = version;
    p[5] = (uint8_t)codec;
    ramet_put_le16(p + 6, (uint16_t)slots);
    ramet_put_le64(p + 8, number);
    ramet_put_le32(p + 16, (uint32_t)size);
    ramet_put_le32(p + 20, 0);
    ramet_put_le64(p + 24, ramet_checksum(p, 24, p + RAMET_FRAME_HEADER, size));
    *ret_size = RAMET_FRAME_HEADER + size;
    return 0;
}

int ramet_frame_peek(const void *header, struct ramet_frame_info *ret, struct ramet_error *err)
{
    const uint8_t *p = header;
    struct ramet_frame_info info = {.number = ramet_get_le64(p + 8),
                                    .slots = ramet_get_le16(p + 6),
                                    .codec = p[5],
                                    .payload_size = ramet_get_le32(p + 16)};
    if (ramet_get_le32(p) != magic || p[4] != version || info.codec > codec_zstd || info.slots < 1 ||
        info.slots > RAMET_FRAME_SLOTS || info.payload_size > info.slots * RAMET_PAGE_SIZE ||
        ramet_get_le32(p + 20) != 0)
        return ramet_error_set(err, RAMET_CORRUPT, "no frame header");
    *ret = info;
    return 0;
}

int ramet_frame_decode(const void *record, size_t size, uint64_t number, void *pages, unsigned *ret_slots,
                       struct ramet_error *err)
{
    const uint8_t *p = record;
    struct ramet_frame_info info;
    if (size < RAMET_FRAME_HEADER || ramet_frame_peek(p, &info, err) < 0 || info.number != number ||
        size != RAMET_FRAME_HEADER + (size_t)info.payload_size ||
        ramet_get_le64(p + 24) != ramet_checksum(p, 24, p + RAMET_FRAME_HEADER, info.payload_size))
        return ramet_error_set(err, RAMET_CORRUPT, "frame %" PRIu64 " fails its checksum", number);
    size_t plain = (size_t)info.slots * RAMET_PAGE_SIZE;
    if (info.codec == codec_plain) {
        if (info.payload_size != plain)
            return ramet_error_set(err, RAMET_CORRUPT, "frame %" PRIu64 " has a wrong size", number);
        memcpy(pages, p + RAMET_FRAME_HEADER, plain);
    } else {
        struct contexts *contexts = contexts_get();
        if (!contexts)
            return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to decompress");
        size_t got = ZSTD_decompressDCtx(contexts->d, pages, plain, p + RAMET_FRAME_HEADER, info.payload_size);
        if (ZSTD_isError(got) || got != plain)
            return ramet_error_set(err, RAMET_CORRUPT, "frame %" PRIu64 " does not decompress", number);
    }
    *ret_slots = info.slots;
    return 0;
}
