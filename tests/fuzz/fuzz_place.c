/* SPDX-License-Identifier: Apache-2.0 */
/* The place record, by itself and as what reading a frame and verifying go by. */
#include "fuzz.h"

#include "store_private.h"

#include <string.h>

enum { frame = 1000 };

static void ignore(void *ctx, uint64_t number, const char *line)
{
    (void)ctx, (void)number;
    FUZZ_CHECK(line[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ramet_place_record record;
    const struct ramet_scrub_options options = {.problem = ignore};
    struct ramet_scrub_state state;
    struct ramet_error err = {0};
    uint8_t again[RAMET_PLACE_SIZE], key[8], page[RAMET_PAGE_SIZE];
    ramet_chunk chunk = ramet_chunk_make(frame, size ? data[0] % RAMET_FRAME_SLOTS : 0);
    if (size < 1)
        return 0;
    data++, size--;
    if (ramet_place_decode(data, size, &record, NULL) == 0) {
        ramet_place_encode(again, &record);
        FUZZ_CHECK(memcmp(again, data, sizeof again) == 0);
    }
    ramet_put_be64(key, frame);
    fuzz_put(RAMET_KV_FRAMES, key, sizeof key, data, size);
    /* No frame of that number is in any pack. */
    int r = ramet_store_read(fuzz_store(), &chunk, 1, page, &err);
    FUZZ_CHECK(r < 0 && err.code == -r && err.msg[0]);
    FUZZ_CHECK(ramet_store_scrub(fuzz_store(), &options, &state, NULL) == 0);
    FUZZ_CHECK(state.problems > 0);
    fuzz_put(RAMET_KV_FRAMES, key, sizeof key, NULL, 0);
    return 0;
}
