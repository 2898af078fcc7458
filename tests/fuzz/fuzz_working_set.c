/* SPDX-License-Identifier: Apache-2.0 */
/* The working set record of a snapshot whose memory has 40 pages. The first byte's lowest bit has its envelope made. */
#include "fuzz.h"

#include "base/record.h"
#include "working_set.h"

#include <stdlib.h>
#include <string.h>

enum { magic = 0x53574d52, memory_pages = 40 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char key[] = "working-set/" FUZZ_SNAPSHOT;
    struct ramet_snapshot *snapshot = NULL;
    struct ramet_image *memory;
    struct ramet_working_set set;
    if (size < 1)
        return 0;
    bool sealed = data[0] & 1;
    data++, size--;
    uint8_t *record = malloc(RAMET_RECORD_HEADER + size);
    memcpy(record + RAMET_RECORD_HEADER, data, size);
    fuzz_seal_record(record, RAMET_RECORD_HEADER + size, magic, 1);
    fuzz_put(RAMET_KV_META, key, sizeof key - 1, sealed ? record : data, sealed ? RAMET_RECORD_HEADER + size : size);
    struct ramet_catalog *catalog = fuzz_catalog();
    FUZZ_CHECK(catalog && ramet_snapshot_new(catalog, &snapshot, NULL) == 0);
    memcpy(snapshot->id, FUZZ_SNAPSHOT, sizeof snapshot->id);
    FUZZ_CHECK(ramet_image_new_stored(ramet_catalog_images(catalog), memory_pages * RAMET_PAGE_SIZE, RAMET_CHUNK_ZERO,
                                      &memory, NULL) == 0);
    FUZZ_CHECK(ramet_snapshot_add_image(snapshot, "memory", memory, NULL) == 0);
    if (ramet_catalog_working_set_get(catalog, snapshot, &set, NULL) == 0) {
        uint64_t pages = 0;
        for (size_t i = 0; i < set.run_count; i++) {
            FUZZ_CHECK(set.runs[i].count > 0 && (uint64_t)set.runs[i].first + set.runs[i].count <= memory_pages);
            pages += set.runs[i].count;
        }
        FUZZ_CHECK(pages == set.page_count && pages <= RAMET_WORKING_SET_PAGES);
        ramet_working_set_free(&set);
    }
    ramet_snapshot_unref(snapshot);
    ramet_catalog_close(catalog);
    fuzz_put(RAMET_KV_META, key, sizeof key - 1, NULL, 0);
    free(record);
    return 0;
}
