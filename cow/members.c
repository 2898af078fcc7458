/* SPDX-License-Identifier: Apache-2.0 */
#include "members.h"

#include <stdlib.h>
#include <string.h>

enum { id_digits = 16 };

struct numbered {
    uint64_t serial, object;
};

static bool parse_id(const char *id, uint64_t *ret)
{
    if (strspn(id, "0123456789abcdef") != id_digits || id[id_digits])
        return false;
    *ret = strtoull(id, NULL, 16);
    return true;
}

int ramet_members_add(struct ramet_members *members, const char *id, uint64_t serial, void *object,
                      struct ramet_error *err)
{
    uint64_t number, other;
    if (!parse_id(id, &number) || ramet_u64map_get(&members->ids, number, &other) ||
        ramet_u64map_get(&members->serials, serial, &other))
        return ramet_error_set(err, RAMET_CORRUPT, "\"%s\" is no id, or it or serial %llu is there twice", id,
                               (unsigned long long)serial);
    if (!ramet_u64map_put(&members->ids, number, (uintptr_t)object))
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for %s", id);
    if (!ramet_u64map_put(&members->serials, serial, (uintptr_t)object)) {
        ramet_u64map_remove(&members->ids, number);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for %s", id);
    }
    return 0;
}

void ramet_members_remove(struct ramet_members *members, const char *id, uint64_t serial)
{
    uint64_t number;
    if (parse_id(id, &number))
        ramet_u64map_remove(&members->ids, number);
    ramet_u64map_remove(&members->serials, serial);
}

void *ramet_members_by_id(const struct ramet_members *members, const char *id)
{
    uint64_t number, object = 0;
    if (!parse_id(id, &number) || !ramet_u64map_get(&members->ids, number, &object))
        return NULL;
    return (void *)(uintptr_t)object;
}

void *ramet_members_by_serial(const struct ramet_members *members, uint64_t serial)
{
    uint64_t object = 0;
    return ramet_u64map_get(&members->serials, serial, &object) ? (void *)(uintptr_t)object : NULL;
}

static int compare_serial(const void *a, const void *b)
{
    uint64_t x = ((const struct numbered *)a)->serial, y = ((const struct numbered *)b)->serial;
    return (x > y) - (x < y);
}

void **ramet_members_list(const struct ramet_members *members, size_t *ret_count)
{
    size_t count = 0, at = 0;
    struct numbered *numbered = calloc(members->serials.count + 1, sizeof *numbered);
    void **objects = calloc(members->serials.count + 1, sizeof *objects);
    if (numbered && objects) {
        while (ramet_u64map_next(&members->serials, &at, &numbered[count].serial, &numbered[count].object))
            count++;
        qsort(numbered, count, sizeof *numbered, compare_serial);
        for (size_t i = 0; i < count; i++)
            objects[i] = (void *)(uintptr_t)numbered[i].object;
        *ret_count = count;
    } else {
        free(objects);
        objects = NULL;
    }
    free(numbered);
    return objects;
}

void ramet_members_free(struct ramet_members *members)
{
    ramet_u64map_free(&members->ids);
    ramet_u64map_free(&members->serials);
}
