/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries of the table of tags: "key size, key, value size, value", each size a byte; a value size of 255 stands for
 * the id of a snapshot that is there.
 */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

enum { entries_max = 16, there = 255 };

struct entry {
    const uint8_t *key;
    size_t key_size;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ramet_reader reader = {.data = data, .size = size};
    struct entry entries[entries_max];
    struct ramet_tag *tags;
    size_t entry_count = 0, count;
    while (reader.at < reader.size && entry_count < entries_max) {
        struct entry *entry = &entries[entry_count];
        entry->key_size = ramet_reader_u8(&reader);
        entry->key = ramet_reader_bytes(&reader, entry->key_size);
        size_t value_size = ramet_reader_u8(&reader);
        const uint8_t *value =
            value_size == there ? (const uint8_t *)FUZZ_SNAPSHOT : ramet_reader_bytes(&reader, value_size);
        if (reader.failed)
            break;
        fuzz_put(RAMET_KV_REFS, entry->key, entry->key_size, value, value_size == there ? 16 : value_size);
        entry_count++;
    }
    struct ramet_catalog *catalog = fuzz_catalog();
    if (catalog) {
        FUZZ_CHECK(ramet_catalog_tags(catalog, &tags, &count, NULL) == 0);
        for (size_t i = 0; i < count; i++) {
            struct ramet_snapshot *snapshot;
            FUZZ_CHECK(ramet_name_check(tags[i].name, "tag", NULL) == 0);
            FUZZ_CHECK(i == 0 || strcmp(tags[i - 1].name, tags[i].name) < 0);
            FUZZ_CHECK(ramet_catalog_find(catalog, tags[i].name, &snapshot, NULL) == 0);
            ramet_snapshot_unref(snapshot);
        }
        free(tags);
        ramet_catalog_close(catalog);
    }
    for (size_t i = 0; i < entry_count; i++)
        fuzz_put(RAMET_KV_REFS, entries[i].key, entries[i].key_size, NULL, 0);
    return 0;
}
