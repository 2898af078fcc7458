/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The branch record, through opening the catalog, which opens the branch's disks; they are read and written. With the
 * second bit of the first byte the key is the input's, too.
 */
#include "fuzz.h"

#include "base/record.h"

#include <stdlib.h>
#include <string.h>

enum { magic = 0x52424d52, key_max = 24 };

static void use_disks(struct ramet_branch *branch)
{
    uint8_t bytes[RAMET_PAGE_SIZE] = {1};
    for (size_t i = 0; i < branch->disk_count; i++) {
        struct ramet_overlay *disk = branch->disks[i];
        FUZZ_CHECK(ramet_overlay_read(disk, 100, bytes, sizeof bytes, NULL) == 0);
        FUZZ_CHECK(ramet_overlay_write(disk, 5000, bytes, 300, NULL) == 0);
        FUZZ_CHECK(ramet_overlay_flush(disk, NULL) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ramet_branch **branches;
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
    fuzz_put(RAMET_KV_BRANCHES, key, key_size, mode & 1 ? record : data, mode & 1 ? RAMET_RECORD_HEADER + size : size);
    struct ramet_catalog *catalog = fuzz_catalog();
    if (catalog) {
        FUZZ_CHECK(ramet_catalog_branches(catalog, &branches, &count, NULL) == 0);
        for (size_t i = 0; i < count; i++) {
            /* A name on the mount, and of a directory. */
            FUZZ_CHECK(ramet_name_check(branches[i]->name, "name", NULL) == 0);
            FUZZ_CHECK(strspn(branches[i]->id, "0123456789abcdef") == RAMET_CATALOG_ID_SIZE - 1);
            use_disks(branches[i]);
        }
        ramet_branches_free(branches, count);
        ramet_catalog_close(catalog);
    }
    free(record);
    fuzz_put(RAMET_KV_BRANCHES, key, key_size, NULL, 0);
    return 0;
}
