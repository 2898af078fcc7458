/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An overlay's log: read, then a record is appended where the reading said; what was read then is still read, and
 * what was appended, too.
 */
#include "fuzz.h"

#include "base/record.h"
#include "overlay_log.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { magic = 0x4c4f4d52, pages_max = 65536 };

/* All that looks like a record gets its checksum. */
static void seal_all(uint8_t *bytes, size_t size)
{
    for (size_t at = size; at-- > 0;) {
        size_t left = size - at;
        if (left < RAMET_RECORD_HEADER || ramet_get_le32(bytes + at) != magic ||
            ramet_get_le32(bytes + at + 8) > left - RAMET_RECORD_HEADER)
            continue;
        fuzz_seal_record(bytes + at, RAMET_RECORD_HEADER + (size_t)ramet_get_le32(bytes + at + 8), magic,
                         ramet_get_le16(bytes + at + 4));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static uint64_t bitmap[pages_max / 64], again[pages_max / 64], fresh[pages_max / 64];
    struct ramet_error err = {0};
    uint64_t end;
    if (fd < 0)
        fd = memfd_create("log", MFD_CLOEXEC);
    if (size < 3)
        return 0;
    uint8_t mode = data[0], *bytes = malloc(size);
    uint64_t page_count = 1 + (uint64_t)ramet_get_le16(data + 1);
    size -= 3;
    memcpy(bytes, data + 3, size);
    if (mode & 1)
        seal_all(bytes, size);
    FUZZ_CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, bytes, size, 0) == (ssize_t)size);
    free(bytes);
    memset(bitmap, 0, sizeof bitmap);
    int r = ramet_overlay_log_read(fd, "log", page_count, bitmap, &end, &err);
    FUZZ_CHECK(r == 0 || (err.code == -r && err.msg[0]));
    if (r < 0)
        return 0;
    FUZZ_CHECK(end <= size);
    for (uint64_t page = page_count; page < pages_max; page++)
        FUZZ_CHECK(!ramet_bit_get(bitmap, page));
    memset(fresh, 0, sizeof fresh);
    memset(again, 0, sizeof again);
    ramet_bit_set(fresh, page_count / 2);
    ramet_bit_set(fresh, page_count - 1);
    FUZZ_CHECK(ramet_overlay_log_append(fd, "log", page_count, fresh, &end, &err) == 0);
    FUZZ_CHECK(ramet_overlay_log_read(fd, "log", page_count, again, &end, &err) == 0);
    for (size_t i = 0; i < pages_max / 64; i++)
        FUZZ_CHECK(again[i] == (bitmap[i] | fresh[i]));
    return 0;
}
