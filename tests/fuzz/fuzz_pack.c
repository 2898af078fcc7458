/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole pack: its header is checked, then it is walked. Records found lie in the file, one after the other, and what
 * lies between them is told of once.
 */
#include "fuzz.h"

#include "base/file.h"
#include "base/record.h"
#include "journal.h"
#include "walk.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct walked {
    uint64_t end, size;
};

static void advance(struct walked *walked, uint64_t offset, uint64_t size)
{
    FUZZ_CHECK(size > 0 && offset >= walked->end && size <= walked->size && offset <= walked->size - size);
    walked->end = offset + size;
}

static int see_frame(void *ctx, const struct ramet_place *place, const struct ramet_frame *frame,
                     struct ramet_error *err)
{
    (void)err;
    FUZZ_CHECK(frame->slots != 0);
    advance(ctx, place->offset, place->size);
    return 0;
}

static int see_journal(void *ctx, const struct ramet_place *place, const void *record, struct ramet_error *err)
{
    (void)err;
    advance(ctx, place->offset, place->size);
    struct ramet_kv_batch *batch = ramet_kv_batch_new(ramet_store_kv(fuzz_store()));
    ramet_journal_flags(record);
    ramet_journal_apply(record, place->size, batch, NULL);
    ramet_kv_batch_free(batch);
    return 0;
}

static void see_damage(void *ctx, uint32_t pack, uint64_t offset, uint64_t size)
{
    struct walked *walked = ctx;
    (void)pack;
    /* It is told of after the record behind it. */
    FUZZ_CHECK(size > 0 && size <= walked->size && offset <= walked->size - size);
}

static struct ramet_packs *open_packs(char path[PATH_MAX])
{
    static const uint8_t id[RAMET_STORE_ID_SIZE] = "fuzz";
    char dir[PATH_MAX];
    struct ramet_packs *packs;
    snprintf(dir, sizeof dir, "%s/packs", fuzz_dir());
    FUZZ_CHECK(ramet_dir_make(dir, 0700, NULL) == 0);
    snprintf(path, PATH_MAX, "%.200s/00000001.pack", dir);
    close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    FUZZ_CHECK(ramet_packs_open(dir, id, 1 << 20, &packs, NULL) == 0);
    FUZZ_CHECK(ramet_packs_key(packs) == ramet_get_le64(id));
    return packs;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ramet_packs *packs;
    static char path[PATH_MAX];
    if (!packs)
        packs = open_packs(path);
    if (size < 1)
        return 0;
    uint8_t mode = data[0], *bytes = malloc(size);
    size--;
    memcpy(bytes, data + 1, size);
    if (mode & 1 && size >= RAMET_PACK_HEADER) {
        ramet_put_le64(bytes + 40, ramet_checksum(bytes, 40, NULL, 0));
        fuzz_seal_pack(bytes + RAMET_PACK_HEADER, size - RAMET_PACK_HEADER);
    }
    int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    FUZZ_CHECK(fd >= 0 && ramet_file_write(fd, path, bytes, size, 0, NULL) == 0);
    close(fd);
    struct walked walked = {.end = RAMET_PACK_HEADER, .size = size};
    const struct ramet_walk walk = {.frame = see_frame, .journal = see_journal, .damage = see_damage, .ctx = &walked};
    struct ramet_error err = {0};
    uint64_t end;
    int r = ramet_packs_check(packs, 1, &err);
    FUZZ_CHECK(r == 0 || (err.code == -r && err.msg[0]));
    FUZZ_CHECK(ramet_pack_walk(packs, 1, &walk, &end, &err) == 0 && end == walked.end);
    free(bytes);
    return 0;
}
