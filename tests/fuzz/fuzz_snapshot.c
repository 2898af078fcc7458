/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record envelope and the snapshot record, through opening the catalog; then the images it names are read, whatever
 * their sizes and roots. With the second bit of the first byte the key is the input's, too.
 */
#include "fuzz.h"

#include "base/record.h"

#include <stdlib.h>
#include <string.h>

enum { magic = 0x4e534d52, key_max = 24 };

static void read_image(struct ramet_image *image)
{
    static uint8_t bytes[3 * RAMET_PAGE_SIZE];
    uint64_t size = ramet_image_size(image), some = size < sizeof bytes ? size : sizeof bytes, next;
    ramet_image_read(image, 0, bytes, (size_t)some, NULL);
    ramet_image_read(image, size - some, bytes, (size_t)some, NULL);
    if (ramet_image_next_data(image, size / 2, &next, NULL) == 0)
        FUZZ_CHECK(next <= size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ramet_snapshot **snapshots;
    size_t count, key_size = 16;
    uint8_t key[key_max] = "0123456789abcdef";
    if (size < 1)
        return 0;
    uint8_t mode = data[0];
    data++, size--;
    if (mode & 2 && size > key_max) {
        key_size = 1 + data[0] % key_max;
        memcpy(key, data + 1, key_size);
        data += key_size, size -= key_size;
    }
    uint8_t *record = malloc(RAMET_RECORD_HEADER + size);
    memcpy(record + RAMET_RECORD_HEADER, data, size);
    fuzz_seal_record(record, RAMET_RECORD_HEADER + size, magic, 1);
    fuzz_put(RAMET_KV_SNAPSHOTS, key, key_size, mode & 1 ? record : data, mode & 1 ? RAMET_RECORD_HEADER + size : size);
    struct ramet_catalog *catalog = fuzz_catalog();
    if (catalog) {
        FUZZ_CHECK(ramet_catalog_snapshots(catalog, &snapshots, &count, NULL) == 0);
        for (size_t i = 0; i < count; i++)
            for (size_t image = 0; image < snapshots[i]->image_count; image++)
                read_image(snapshots[i]->images[image].image);
        ramet_snapshots_free(snapshots, count);
        ramet_catalog_close(catalog);
    }
    free(record);
    fuzz_put(RAMET_KV_SNAPSHOTS, key, key_size, NULL, 0);
    return 0;
}
