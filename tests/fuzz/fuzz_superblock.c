/* SPDX-License-Identifier: Apache-2.0 */
/* The superblock of a store that has a pack: opened, or refused with words; never replaced. */
#include "fuzz.h"

#include "base/file.h"
#include "base/record.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { magic = 0x54534d52 };

static void write_file(const char *path, const void *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FUZZ_CHECK(fd >= 0 && ramet_file_write(fd, path, data, size, 0, NULL) == 0);
    close(fd);
}

/* A directory with a pack's header in it. */
static void make_store(char root[PATH_MAX])
{
    uint8_t header[64] = "RAMETPK";
    char path[PATH_MAX];
    snprintf(root, PATH_MAX, "%s/other", fuzz_dir());
    snprintf(path, sizeof path, "%.200s/packs", root);
    FUZZ_CHECK(ramet_dir_make(path, 0700, NULL) == 0);
    ramet_put_le16(header + 8, 1);
    ramet_put_le64(header + 16, FUZZ_KEY);
    ramet_put_le32(header + 32, 1);
    ramet_put_le64(header + 40, ramet_checksum(header, 40, NULL, 0));
    snprintf(path, sizeof path, "%.200s/packs/00000001.pack", root);
    write_file(path, header, sizeof header);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char root[PATH_MAX];
    struct ramet_error err = {0};
    struct ramet_store *store;
    char path[PATH_MAX];
    if (!root[0])
        make_store(root);
    if (size < 1)
        return 0;
    uint8_t mode = data[0], *record = malloc(size);
    size--;
    memcpy(record, data + 1, size);
    if (mode & 1 && size >= 6)
        fuzz_seal_record(record, size, magic, ramet_get_le16(record + 4));
    snprintf(path, sizeof path, "%.200s/store", root);
    write_file(path, record, size);
    /* No index knows this pack: it must not be opened, whatever the superblock says. */
    int r = ramet_store_open(root, NULL, &store, &err);
    FUZZ_CHECK(r < 0 && err.code == -r && err.msg[0]);
    snprintf(path, sizeof path, "%.200s/packs/00000001.pack", root);
    FUZZ_CHECK(access(path, F_OK) == 0);
    free(record);
    return 0;
}
