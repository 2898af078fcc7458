/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A journal of workspaces: replayed into an empty set, it is refused with a message, or gives trees that can be walked.
 */
#include "fuzz.h"

#include "base/codec.h"
#include "base/record.h"
#include "catalog_private.h"
#include "workspace/replay.h"

#include <stdlib.h>
#include <string.h>

static const uint32_t magic = 0x4a574d52;

/* All that looks like a record gets its checksum. */
static void seal_all(uint8_t *bytes, size_t size)
{
    for (size_t at = size; at-- > 0;) {
        uint8_t *record = bytes + at;
        if (size - at < RAMET_WJOURNAL_HEADER || ramet_get_le32(record) != magic)
            continue;
        size_t whole = ramet_get_le32(record + 4);
        if (whole < RAMET_WJOURNAL_HEADER || whole > size - at)
            continue;
        ramet_put_le64(record + 24,
                       ramet_checksum(record, 24, record + RAMET_WJOURNAL_HEADER, whole - RAMET_WJOURNAL_HEADER));
    }
}

static void walk(struct ramet_workspace *head)
{
    struct ramet_error err = {0};
    struct ramet_wkey key = {0};
    struct ramet_wvalue value;
    while (ramet_wtree_next(&head->tree, &key, &value, &err) == 0) {
        struct ramet_wvalue again;
        FUZZ_CHECK(ramet_wtree_get(&head->tree, &key, &again, &err) == 0 && again.size == value.size);
        if (key.sub_size == RAMET_WKEY_SUB_MAX)
            break;
        key.sub[key.sub_size++] = 0;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ramet_catalog catalog;
    static struct ramet_workspaces set;
    struct ramet_error err = {0};
    if (size < 1)
        return 0;
    if (!set.catalog) {
        set.catalog = &catalog;
        atomic_store(&catalog.next_serial, 1);
        ramet_wmaintain_init(&set.maintain);
    }
    struct ramet_wreplay replay = {.set = &set};
    uint8_t *bytes = malloc(size);
    size_t end = 0;
    memcpy(bytes, data + 1, size - 1);
    if (data[0] & 1)
        seal_all(bytes, size - 1);
    int r = ramet_wreplay_records(&replay, bytes, size - 1, "the journal", &end, &err);
    FUZZ_CHECK(r == 0 ? end < size : err.code == -r && err.msg[0]);
    for (size_t i = 0; i < set.head_count; i++)
        walk(set.heads[i]);
    while (set.head_count)
        ramet_whead_unlink(set.heads[set.head_count - 1]);
    while (set.state_count)
        ramet_whead_unlink(set.states[set.state_count - 1]);
    struct ramet_wmaintain *maintain = &set.maintain;
    ramet_wmaintain_destroy(maintain);
    ramet_wmaintain_init(maintain);
    ramet_wreplay_free(&replay);
    free(bytes);
    return 0;
}
