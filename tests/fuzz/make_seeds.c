/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the seeds, what the real encoders make of small things: `fuzz_seeds tests/fuzz/corpus`. To be run again, and
 * the result committed, when a structure changes.
 */
#include "fuzz.h"

#include "base/file.h"
#include "base/record.h"
#include "journal.h"
#include "overlay_log.h"
#include "store_private.h"
#include "workspace/workspace_private.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { page = RAMET_PAGE_SIZE };

static const char *corpus;

/* Writes "corpus/TARGET/NAME": a prefix (the mode byte and what else a target wants), then the bytes. */
static void seed(const char *target, const char *name, const void *prefix, size_t prefix_size, const void *bytes,
                 size_t size)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", corpus, target);
    FUZZ_CHECK(ramet_dir_make(path, 0755, NULL) == 0);
    snprintf(path, sizeof path, "%s/%s/%s", corpus, target, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    FUZZ_CHECK(fd >= 0 && ramet_file_write(fd, path, prefix, prefix_size, 0, NULL) == 0);
    FUZZ_CHECK(ramet_file_write(fd, path, bytes, size, prefix_size, NULL) == 0);
    close(fd);
}

/* --- frames, packs --- */

static size_t make_frame(uint64_t number, uint16_t slots, uint8_t kind, uint8_t flags, int level, uint8_t *record)
{
    struct ramet_frame *frame = ramet_frame_new(number, slots, kind, flags);
    unsigned count = ramet_slot_count(slots);
    uint64_t word = number;
    for (size_t i = 0; i < (size_t)count * page; i += 8) {
        /* Level -1 stands for what does not compress. */
        word = level < 0 ? word * UINT64_C(6364136223846793005) + 1442695040888963407u : i / 512;
        ramet_put_le64(frame->pages + i, word);
    }
    for (unsigned i = 0; i < count && frame->bases; i++)
        frame->bases[i] = i ? ramet_chunk_make(7, i) : RAMET_CHUNK_ZERO;
    size_t size = ramet_frame_encode(frame, level < 0 ? 0 : level, FUZZ_KEY, record);
    ramet_frame_unref(frame);
    return size;
}

static size_t make_journal(uint32_t flags, uint8_t *to)
{
    struct ramet_buf entries = {0}, record = {0};
    ramet_journal_note(&entries, RAMET_KV_REFS, "base", 4, FUZZ_SNAPSHOT, 16);
    ramet_journal_note(&entries, RAMET_KV_SNAPSHOTS, FUZZ_SNAPSHOT, 16, "not a record", 12);
    ramet_journal_note(&entries, RAMET_KV_BRANCHES, "0123456789abcdef", 16, NULL, 0);
    FUZZ_CHECK(ramet_journal_encode(&entries, flags, FUZZ_KEY, &record, NULL) == 0);
    size_t size = record.size;
    memcpy(to, record.data, size);
    ramet_buf_free(&entries);
    ramet_buf_free(&record);
    return size;
}

static void frames(void)
{
    static uint8_t record[RAMET_FRAME_RECORD_MAX];
    static const struct {
        const char *name;
        uint16_t slots;
        uint8_t kind, flags;
        int level;
    } shapes[] = {{"lz4", 7, 0, 0, 0},
                  {"zstd", 0xff, 0, RAMET_FRAME_COLD, 15},
                  {"plain", 1, 0, 0, -1},
                  {"delta", 0x15, 0, RAMET_FRAME_DELTA, 1},
                  {"node", 0x8001, 1, RAMET_FRAME_DELTA | RAMET_FRAME_COLD, 3}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        size_t size = make_frame(i + 1, shapes[i].slots, shapes[i].kind, shapes[i].flags, shapes[i].level, record);
        seed("frame", shapes[i].name, (const uint8_t[]){(uint8_t)(i % 2 ? 3 : 1), 5}, 2, record, size);
    }
}

static void packs(void)
{
    static uint8_t bytes[64 << 10];
    size_t at = RAMET_PACK_HEADER;
    memcpy(bytes, "RAMETPK", 8);
    ramet_put_le16(bytes + 8, 1);
    memcpy(bytes + 16, "fuzz", 4);
    ramet_put_le32(bytes + 32, 1);
    ramet_put_le64(bytes + 40, ramet_checksum(bytes, 40, NULL, 0));
    at += make_frame(1, 0xf, 0, 0, 0, bytes + at);
    at += make_journal(0, bytes + at);
    size_t hole = at;
    at += 100;
    at += make_journal(RAMET_JOURNAL_BEGIN | RAMET_JOURNAL_END, bytes + at);
    at += make_frame(2, 0x15, 1, RAMET_FRAME_DELTA, 3, bytes + at);
    seed("pack", "hole", (const uint8_t[]){1}, 1, bytes, at);
    memcpy(bytes + hole, "RMFR damage RMJR", 16);
    seed("pack", "damage", (const uint8_t[]){0}, 1, bytes, at);
    seed("pack", "torn", (const uint8_t[]){0}, 1, bytes, at - 20);
}

static void journals(void)
{
    uint8_t bytes[1024];
    for (uint32_t flags = 0; flags < 3; flags++) {
        char name[16];
        snprintf(name, sizeof name, "flags-%u", flags);
        seed("journal", name, (const uint8_t[]){1}, 1, bytes, make_journal(flags, bytes));
    }
}

/* --- records --- */

static void snapshots(void)
{
    struct ramet_buf buf = {0};
    ramet_buf_put_u64(&buf, 9);
    ramet_buf_put_str(&buf, FUZZ_SNAPSHOT);
    ramet_buf_put_str(&buf, "00000000000000a1");
    ramet_buf_put_str(&buf, "box");
    ramet_buf_put_u64(&buf, 1700000000000);
    ramet_buf_put_u64(&buf, 1 << 20);
    ramet_buf_put_u32(&buf, 2);
    ramet_buf_put_str(&buf, "console=ttyS0");
    ramet_buf_put_u64(&buf, 12);
    ramet_buf_put_u64(&buf, 3456);
    ramet_buf_put_u32(&buf, 2);
    ramet_buf_put_str(&buf, "memory");
    ramet_buf_put_u64(&buf, 1000 * page);
    ramet_buf_put_u64(&buf, fuzz_chunk());
    ramet_buf_put_str(&buf, "disk0");
    ramet_buf_put_u64(&buf, 5000);
    ramet_buf_put_u64(&buf, 0);
    seed("snapshot", "two-images", (const uint8_t[]){1}, 1, buf.data, buf.size);
    seed("snapshot", "own-key",
         "\3\x0f"
         "0123456789abcdef",
         18, buf.data, buf.size);
    ramet_buf_free(&buf);
}

static void branches(void)
{
    struct ramet_buf buf = {0};
    ramet_buf_put_u64(&buf, 9);
    ramet_buf_put_str(&buf, "work");
    ramet_buf_put_str(&buf, NULL);
    ramet_buf_put_u64(&buf, 1700000000000);
    ramet_buf_put_u64(&buf, 1 << 20);
    ramet_buf_put_u32(&buf, 2);
    ramet_buf_put_str(&buf, FUZZ_SNAPSHOT);
    ramet_buf_put_str(&buf, FUZZ_SNAPSHOT);
    for (uint64_t i = 0; i < RAMET_BRANCH_DISKS_MAX; i++)
        ramet_buf_put_u64(&buf, i);
    seed("branch", "one-disk", (const uint8_t[]){1}, 1, buf.data, buf.size);
    seed("branch", "own-key",
         "\3\x0f"
         "0123456789abcdef",
         18, buf.data, buf.size);
    ramet_buf_free(&buf);
}

static void superblocks(void)
{
    uint8_t record[RAMET_RECORD_HEADER + RAMET_STORE_ID_SIZE + RAMET_HASH_SECRET];
    for (size_t i = 0; i < sizeof record; i++)
        record[i] = (uint8_t)i;
    fuzz_seal_record(record, sizeof record, 0x54534d52, 2);
    seed("superblock", "v2", (const uint8_t[]){1}, 1, record, sizeof record);
    fuzz_seal_record(record, sizeof record, 0x54534d52, 3);
    seed("superblock", "v3", (const uint8_t[]){1}, 1, record, sizeof record);
}

static void small_things(void)
{
    static const char tags[] = "\4base\xff\6latest\xff\3old\x10"
                               "0123456789abcdef";
    static const uint8_t map[] = {1, 9, 0, 0, 0,  0, 0, 0, 0,                   /* two levels, page 9 */
                                  2, 9, 0, 1, 10, 0, 2, 7, 0, 0, 0, 0, 0, 0, 0, /* data, and a number */
                                  2, 0, 0, 0, 0,  1, 0, 0, 0};                  /* the node, twice */
    const struct ramet_place_record record = {0xff, RAMET_FRAME_DELTA, {1, 200, 64}};
    uint8_t place[RAMET_PLACE_SIZE];
    ramet_place_encode(place, &record);
    seed("place", "delta", (const uint8_t[]){0}, 1, place, sizeof place);
    seed("tags", "three", NULL, 0, tags, sizeof tags - 1);
    seed("page_map", "two-levels", NULL, 0, map, sizeof map);
}

static void working_sets(void)
{
    static const uint32_t words[] = {77, 0, 3, 30, 2, 0, 1, 39, 1}; /* recorded, three runs */
    struct ramet_buf record = {0};
    ramet_record_begin(&record);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        ramet_buf_put_u32(&record, words[i]);
    FUZZ_CHECK(ramet_record_end(&record, 0x53574d52, 1, NULL) == 0);
    seed("working_set", "whole", (const uint8_t[]){0}, 1, record.data, record.size);
    seed("working_set", "payload", (const uint8_t[]){1}, 1, record.data + RAMET_RECORD_HEADER,
         record.size - RAMET_RECORD_HEADER);
    ramet_buf_free(&record);
}

static void overlay_logs(void)
{
    uint8_t bytes[4096];
    uint64_t fresh[4] = {0x8f, 0, 1, 0}, end = 0;
    int fd = memfd_create("log", MFD_CLOEXEC);
    for (int i = 0; i < 3; i++, fresh[i] = 3)
        FUZZ_CHECK(ramet_overlay_log_append(fd, "log", 250, fresh, &end, NULL) == 0);
    ssize_t size = pread(fd, bytes, sizeof bytes, 0);
    seed("overlay_log", "acknowledged", (const uint8_t[]){1, 250, 0}, 3, bytes, (size_t)size);
    seed("overlay_log", "torn", (const uint8_t[]){1, 250, 0}, 3, bytes, (size_t)end - 5);
    close(fd);
}

/* --- workspaces --- */

static void workspace_nodes(void)
{
    uint8_t leaf[page], inner[page], packed[page];
    uint8_t refs[24] = {0x21, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x31};
    struct ramet_wkey key = {.type = RAMET_WTYPE_BLOCKS, .sub_size = 8};
    struct ramet_wbytes bytes;
    ramet_wpage_init(leaf, 0);
    ramet_wpage_init(inner, 1);
    for (unsigned i = 0; i < 5; i++) {
        key.ino = i + 1;
        ramet_wbytes_set(&bytes, &key);
        FUZZ_CHECK(ramet_wpage_insert(leaf, i, bytes.bytes, bytes.size, refs, sizeof refs));
        FUZZ_CHECK(ramet_wpage_insert(inner, i, bytes.bytes, i ? bytes.size : 0u, refs, 8));
    }
    ramet_wpage_pack(leaf, packed);
    seed("workspace_node", "leaf", (const uint8_t[]){0}, 1, packed, page);
    ramet_wpage_pack(inner, packed);
    seed("workspace_node", "inner", (const uint8_t[]){0}, 1, packed, page);
}

static void begin_record(struct ramet_wjrecord **record, uint64_t sequence)
{
    *record = NULL;
    FUZZ_CHECK(ramet_wjrecord_grow(record, 1000));
    (*record)->sequence = sequence;
}

static void end_record(struct ramet_buf *journal, struct ramet_wjrecord *record)
{
    ramet_wjrecord_seal(record, record->sequence > 2 ? record->sequence - 2 : 0);
    ramet_buf_put(journal, record->bytes, record->size);
    free(record);
}

/* A workspace is made, filled, forked, renamed and removed. */
static void workspace_journals(void)
{
    struct ramet_workspace head = {.serial = 7, .id = "00000000000000a7", .name = "a"};
    struct ramet_wjrecord *record;
    struct ramet_buf journal = {0};
    begin_record(&record, 1);
    ramet_wjrecord_put_u8(record, RAMET_WITEM_BEGIN);
    ramet_wjrecord_put_u32(record, 1);
    end_record(&journal, record);
    begin_record(&record, 2);
    FUZZ_CHECK(ramet_whead_note(&head, 0, 0, &record, NULL) == 0);
    ramet_wjrecord_put_u8(record, RAMET_WITEM_TREE);
    ramet_wjrecord_put_u64(record, 7);
    for (uint8_t i = 1; i < 20; i++) {
        ramet_wjrecord_put_u8(record, i % 5 ? RAMET_WITEM_PUT : RAMET_WITEM_DELETE);
        ramet_wjrecord_put_u16(record, 9);
        if (i % 5)
            ramet_wjrecord_put_u16(record, 3);
        ramet_wjrecord_put(record, (uint8_t[]){0, 0, 0, 0, 0, 0, 0, i % 5 ? i : i - 1, 1}, 9);
        if (i % 5)
            ramet_wjrecord_put(record, "abc", 3);
    }
    end_record(&journal, record);
    begin_record(&record, 3);
    head.serial = 8;
    head.name[0] = 'b';
    FUZZ_CHECK(ramet_whead_note(&head, 7, 0, &record, NULL) == 0);
    end_record(&journal, record);
    begin_record(&record, 4);
    head.name[0] = 'c';
    FUZZ_CHECK(ramet_whead_note(&head, 8, 0, &record, NULL) == 0);
    FUZZ_CHECK(ramet_whead_note_drop(7, &record, NULL) == 0);
    end_record(&journal, record);
    seed("workspace_journal", "whole", (const uint8_t[]){1}, 1, journal.data, journal.size);
    seed("workspace_journal", "torn", (const uint8_t[]){0}, 1, journal.data, journal.size - 9);
    ramet_buf_free(&journal);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: fuzz_seeds CORPUS\n");
        return 2;
    }
    corpus = argv[1];
    frames();
    packs();
    journals();
    snapshots();
    branches();
    superblocks();
    small_things();
    working_sets();
    overlay_logs();
    workspace_nodes();
    workspace_journals();
    return 0;
}
