/* SPDX-License-Identifier: Apache-2.0 */
/* A frame record: what decodes can be read, trimmed, and encoded to what decodes to the same. */
#include "fuzz.h"

#include "frame.h"

#include <stdlib.h>
#include <string.h>

static uint64_t sum; /* so that reads are not left out */

static void read_pages(const struct ramet_frame *frame)
{
    for (unsigned slot = 0; slot < RAMET_FRAME_SLOTS; slot++) {
        ramet_chunk base;
        const uint8_t *page = ramet_frame_page(frame, slot, &base);
        FUZZ_CHECK(!page == !(frame->slots & 1u << slot));
        for (size_t i = 0; page && i < RAMET_PAGE_SIZE; i += 64)
            sum += page[i] + base;
    }
}

static void encode_again(const struct ramet_frame *frame, int level)
{
    static uint8_t record[RAMET_FRAME_RECORD_MAX];
    struct ramet_frame *again;
    size_t size = ramet_frame_encode(frame, level, FUZZ_KEY, record);
    FUZZ_CHECK(ramet_frame_decode(record, size, frame->number, FUZZ_KEY, &again, NULL) == 0);
    FUZZ_CHECK(again->slots == frame->slots && again->flags == frame->flags && again->kind == frame->kind);
    FUZZ_CHECK(memcmp(again->pages, frame->pages, ramet_frame_bytes(frame) - sizeof *frame) == 0);
    ramet_frame_unref(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ramet_frame *frame;
    struct ramet_error err = {0};
    if (size < 2)
        return 0;
    size_t record_size = size - 2;
    uint8_t mode = data[0], keep = data[1], *record = malloc(record_size + 1);
    memcpy(record, data + 2, record_size);
    if (mode & 1 && mode & 2 && record_size >= RAMET_FRAME_HEADER)
        ramet_put_le32(record + 20, (uint32_t)(record_size - RAMET_FRAME_HEADER));
    if (mode & 1)
        fuzz_seal_frame(record, record_size);
    int r = ramet_frame_decode(record, record_size, 0, FUZZ_KEY, &frame, &err);
    FUZZ_CHECK(r == 0 || (err.code == -r && err.msg[0]));
    free(record);
    if (r < 0)
        return 0;
    read_pages(frame);
    encode_again(frame, mode >> 2 & 3);
    uint16_t kept = (uint16_t)(frame->slots & keep * 257u);
    struct ramet_frame *trimmed = kept ? ramet_frame_trim(frame, kept) : NULL;
    if (trimmed)
        read_pages(trimmed);
    ramet_frame_unref(trimmed);
    ramet_frame_unref(frame);
    return 0;
}
