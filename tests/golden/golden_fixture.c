/* SPDX-License-Identifier: Apache-2.0 */
#include "golden_fixture.h"

#include "base/codec.h"
#include "base/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ramet_error err;

int golden_open(struct golden *golden)
{
    int r = ramet_store_open(golden->dir, NULL, &golden->store, &err);
    return r < 0 ? r : ramet_catalog_open(golden->store, &golden->catalog, &err);
}

void golden_close(struct golden *golden)
{
    ramet_catalog_close(golden->catalog);
    ramet_store_close(golden->store);
    golden->catalog = NULL;
    golden->store = NULL;
}

/* "NAME: VALUE" lines. */
static void load_expected(struct golden *golden, const char *name)
{
    char text[1024];
    snprintf(text, sizeof text, RAMET_GOLDEN "/%s.expected", name);
    FILE *file = fopen(text, "r");
    assert_non_null(file);
    while (fgets(text, sizeof text, file)) {
        char *value = strstr(text, ": ");
        assert_non_null(value);
        *value = '\0';
        value[strcspn(value + 2, "\n") + 2] = '\0';
        struct sample_line *line = sample_add(&golden->expected);
        snprintf(line->name, sizeof line->name, "%.159s", text);
        snprintf(line->value, sizeof line->value, "%.511s", value + 2);
    }
    fclose(file);
}

void golden_unpack(struct golden *golden, const char *name)
{
    char command[512];
    *golden = (struct golden){0};
    test_dir_make(golden->top);
    snprintf(golden->dir, sizeof golden->dir, "%s/store", golden->top);
    snprintf(command, sizeof command, "tar --zstd -xSf " RAMET_GOLDEN "/%s.tar.zst -C %s", name, golden->top);
    assert_int_equal(system(command), 0);
    load_expected(golden, name);
}

void golden_remove(struct golden *golden)
{
    sample_lines_free(&golden->expected);
    test_dir_remove(golden->top);
}

size_t golden_expect(const struct golden *golden, struct sample_lines *found, bool errors_allowed)
{
    size_t errors = 0;
    for (size_t i = 0; i < golden->expected.count; i++) {
        const struct sample_line *want = &golden->expected.lines[i], *got = sample_find(found, want->name);
        if (!got)
            fail_msg("%s is missing", want->name);
        if (got->status < 0 && (!errors_allowed || !strstr(got->err.msg, "pack ")))
            fail_msg("%s: %s", want->name, got->err.msg);
        if (got->status < 0)
            errors++;
        else if (strcmp(got->value, want->value) != 0)
            fail_msg("%s:\n%s\nnot\n%s", want->name, got->value, want->value);
    }
    assert_int_equal(found->count, golden->expected.count);
    sample_lines_free(found);
    return errors;
}

void golden_expect_clean(struct golden *golden)
{
    struct ramet_fsck_result fsck;
    check_ok(ramet_catalog_fsck(golden->catalog, &fsck, &err));
    assert_string_equal(fsck.report, "");
    free(fsck.report);
}

void golden_set_record(uint8_t *record, size_t size, uint16_t version, uint16_t flags)
{
    ramet_put_le16(record + 4, version ? version : ramet_get_le16(record + 4));
    ramet_put_le16(record + 6, flags);
    ramet_put_le64(record + 16, ramet_checksum(record, 16, record + RAMET_RECORD_HEADER, size - RAMET_RECORD_HEADER));
}

void golden_raise_version(uint8_t *record, size_t size) { golden_set_record(record, size, golden_future, 0); }
void golden_raise_flag(uint8_t *record, size_t size) { golden_set_record(record, size, 1, 0x8000); }

void golden_patch_family(struct golden *golden, enum ramet_kv_family family, void (*patch)(uint8_t *, size_t),
                         char name[32])
{
    char dir[128];
    struct ramet_kv *kv;
    const void *key, *value;
    size_t key_size, size;
    snprintf(dir, sizeof dir, "%s/index", golden->dir);
    check_ok(ramet_kv_open(dir, &kv, &err));
    struct ramet_kv_iter *iter = ramet_kv_iter_new(kv, family, NULL, 0);
    assert_true(ramet_kv_iter_next(iter, &key, &key_size, &value, &size));
    uint8_t *changed = malloc(size);
    memcpy(changed, value, size);
    patch(changed, size);
    snprintf(name, 32, "%.*s", (int)key_size, (const char *)key);
    struct ramet_kv_batch *batch = ramet_kv_batch_new(kv);
    ramet_kv_put(batch, family, key, key_size, changed, size);
    ramet_kv_iter_free(iter);
    check_ok(ramet_kv_write(kv, batch, true, &err));
    ramet_kv_batch_free(batch);
    ramet_kv_close(kv);
    free(changed);
}

void golden_expect_refusal(struct golden *golden, int status, int code, const char *what)
{
    assert_int_equal(status, -code);
    if (!strstr(err.msg, what))
        fail_msg("\"%s\" does not name \"%s\"", err.msg, what);
    golden_close(golden);
}
