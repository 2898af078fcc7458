/* SPDX-License-Identifier: Apache-2.0 */
/* What pages hold, by (seed, page, version), and what is in the store. */
#include "soak.h"

#include <string.h>

enum { words = RAMET_PAGE_SIZE / 8, variants = 8 };

/*
 * A version is a family and a variant: variants of a family differ in a few words, which a store keeps as differences.
 * A quarter of the families hold the same on every page, which it keeps once. Version 0 is zeros.
 */
void soak_page(const struct soak_model *model, uint64_t page, uint32_t version, uint8_t bytes[RAMET_PAGE_SIZE])
{
    uint64_t text[words], key = mix(model->seed ^ mix(version / variants));
    bool alike = key % 4 == 0, repeats = key / 4 % 2;
    memset(text, 0, sizeof text);
    if (!alike)
        key = mix(key + page);
    for (size_t i = 0; i < words && version; i++)
        text[i] = repeats && i % 8 ? key : (key + i) * UINT64_C(0x9e3779b97f4a7c15);
    for (uint64_t variant = 1; variant <= version % variants; variant++)
        text[mix(key - variant) % words] ^= mix(key ^ variant);
    memcpy(bytes, text, sizeof text);
}

uint32_t soak_version(struct soak *s, uint32_t now)
{
    uint64_t kind = soak_below(s, 8);
    if (kind == 0)
        return 0;
    if (kind < 4 && now)
        return now / variants * variants + (uint32_t)soak_below(s, variants);
    /* Families of both worlds are of the same numbers: they hold the same, once in the store. */
    return (s->world->family + 1) * variants;
}

void soak_check(struct soak *s, const char *what, uint64_t page, uint32_t version, const uint8_t *bytes)
{
    uint8_t wanted[RAMET_PAGE_SIZE];
    soak_page(s->model, page, version, wanted);
    atomic_fetch_add(&s->model->pages_checked, 1);
    if (memcmp(bytes, wanted, sizeof wanted) != 0)
        soak_fail(s->model, "%s: page %llu is not version %u", what, (unsigned long long)page, version);
}

struct soak_kept *soak_place(struct soak *s)
{
    for (size_t i = 0; i < soak_kept_max; i++)
        if (s->world->kept[i].stage == soak_free)
            return &s->world->kept[i];
    return NULL;
}

struct soak_kept *soak_draw_kept(struct soak *s, bool of_disk)
{
    size_t first = soak_below(s, soak_kept_max);
    for (size_t i = 0; i < soak_kept_max; i++) {
        struct soak_kept *kept = &s->world->kept[(first + i) % soak_kept_max];
        if (kept->stage == soak_there && kept->of_disk == of_disk)
            return kept;
    }
    return NULL;
}

bool soak_is_base(const struct soak_world *world, const char *id)
{
    for (size_t i = 0; i < soak_disks_max; i++) {
        const struct soak_disk *disk = &world->disks[i];
        if (disk->stage != soak_free && (strcmp(disk->bases[0], id) == 0 || strcmp(disk->bases[1], id) == 0))
            return true;
    }
    return false;
}

void soak_remove(struct soak *s, struct soak_kept *kept)
{
    struct ramet_error err = {0};
    kept->stage = soak_removing;
    soak_ok(s->model, ramet_memory_remove(s->store, kept->id, &err));
    kept->stage = soak_free;
}
