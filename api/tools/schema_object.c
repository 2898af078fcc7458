/* SPDX-License-Identifier: Apache-2.0 */
/* The keywords of objects. */
#include "base/cleanup.h"
#include "tools/pattern.h"
#include "tools/schema_private.h"

#include <string.h>

enum { edit_max = 2, name_max = 40 };

/* ---- names that are wrong ---- */

/* How many letters must change, at least; more than edit_max: many. */
static unsigned distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    unsigned row[name_max + 1];
    if (n > name_max || m > name_max)
        return edit_max + 1;
    for (size_t k = 0; k <= m; k++)
        row[k] = (unsigned)k;
    for (size_t i = 1; i <= n; i++) {
        unsigned corner = row[0];
        row[0] = (unsigned)i;
        for (size_t k = 1; k <= m; k++) {
            unsigned swap = corner + (a[i - 1] != b[k - 1]), least = swap;
            corner = row[k];
            least = row[k] + 1 < least ? row[k] + 1 : least;
            row[k] = row[k - 1] + 1 < least ? row[k - 1] + 1 : least;
        }
    }
    return row[m];
}

/* The property that was probably meant; NULL when none is near. */
static const char *nearest(const struct ramet_json *properties, const char *name)
{
    const struct ramet_json *ignored;
    const char *key, *best = NULL;
    unsigned least = edit_max + 1;
    void *iter = NULL;
    while (ramet_json_next(properties, &iter, &key, &ignored))
        if (distance(key, name) < least) {
            least = distance(key, name);
            best = key;
        }
    return best;
}

static bool fail_unknown(const struct ramet_json *properties, const char *name, const struct schema_path *path,
                         struct schema_failure *failure)
{
    const char *meant = failure ? nearest(properties, name) : NULL;
    return meant ? ramet_schema_fail(failure, path, "is not known; is \"%s\" meant?", meant)
                 : ramet_schema_fail(failure, path, "is not known");
}

/* ---- members ---- */

/* One member against everything that speaks of it. */
static bool check_member(struct schema_check *check, const struct ramet_json *schema, const char *name,
                         const struct ramet_json *value, const struct schema_path *path, struct schema_failure *failure)
{
    const struct ramet_json *properties = ramet_json_get(schema, "properties");
    const struct ramet_json *patterns = ramet_json_get(schema, "patternProperties"), *pattern_schema;
    const struct ramet_json *own = ramet_json_get(properties, name), *rest;
    const char *pattern;
    void *iter = NULL;
    bool known = own != NULL;
    if (own && !ramet_schema_value(check, own, value, path, failure))
        return false;
    while (ramet_json_is_object(patterns) && ramet_json_next(patterns, &iter, &pattern, &pattern_schema)) {
        if (!ramet_schema_charge(check, SCHEMA_PATTERN_STEPS, failure, path))
            return false;
        enum ramet_pattern_result result = ramet_pattern_search(pattern, name, strlen(name));
        if (result == RAMET_PATTERN_COSTLY)
            return ramet_schema_fail(failure, path, "cannot be checked: the pattern %.100s is too complex", pattern);
        known |= result != RAMET_PATTERN_DIFFERS;
        if (result == RAMET_PATTERN_MATCHES && !ramet_schema_value(check, pattern_schema, value, path, failure))
            return false;
    }
    rest = known ? NULL : ramet_json_get(schema, "additionalProperties");
    if (ramet_json_kind(rest) == RAMET_JSON_BOOL && !ramet_json_is_true(rest))
        return fail_unknown(properties, name, path, failure);
    return !rest || ramet_schema_value(check, rest, value, path, failure);
}

static bool check_name(struct schema_check *check, const struct ramet_json *schema, const char *name,
                       const struct schema_path *path, struct schema_failure *failure)
{
    const struct ramet_json *names = ramet_json_get(schema, "propertyNames");
    if (!names)
        return true;
    _cleanup_(ramet_json_cleanup) struct ramet_json *text = ramet_json_string(name);
    return ramet_schema_value(check, names, text, path, NULL) ||
           ramet_schema_fail(failure, path, "has a name that is not allowed");
}

/* ---- what must be there ---- */

static bool check_required(struct schema_check *check, const struct ramet_json *names, const struct ramet_json *value,
                           const char *because, const struct schema_path *path, struct schema_failure *failure)
{
    if (!ramet_schema_charge(check, ramet_json_count(names) / 8, failure, path))
        return false;
    for (size_t i = 0, count = ramet_json_is_array(names) ? ramet_json_count(names) : 0; i < count; i++) {
        const char *name = ramet_json_string_value(ramet_json_at(names, i));
        const struct schema_path at = {.parent = path, .key = name, .depth = path->depth + 1};
        if (name && !ramet_json_get(value, name))
            return because ? ramet_schema_fail(failure, &at, "is missing: \"%.60s\" needs it", because)
                           : ramet_schema_fail(failure, &at, "is missing");
    }
    return true;
}

/* What one member asks of the others: "dependentRequired", "dependentSchemas", and "dependencies", which was both. */
static bool check_dependencies(struct schema_check *check, const struct ramet_json *schema,
                               const struct ramet_json *value, const struct schema_path *path,
                               struct schema_failure *failure)
{
    static const char *const keys[] = {"dependentRequired", "dependentSchemas", "dependencies"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct ramet_json *all = ramet_json_get(schema, keys[i]), *one;
        const char *name;
        void *iter = NULL;
        while (ramet_json_is_object(all) && ramet_json_next(all, &iter, &name, &one)) {
            if (!ramet_schema_charge(check, 1, failure, path))
                return false;
            if (!ramet_json_get(value, name))
                continue;
            if (ramet_json_is_array(one) ? !check_required(check, one, value, name, path, failure)
                                         : !ramet_schema_value(check, one, value, path, failure))
                return false;
        }
    }
    return true;
}

static bool check_count(const struct ramet_json *schema, size_t count, const struct schema_path *path,
                        struct schema_failure *failure)
{
    int64_t min = ramet_json_int(schema, "minProperties", 0), max = ramet_json_int(schema, "maxProperties", INT64_MAX);
    if ((int64_t)count < min)
        return ramet_schema_fail(failure, path, "must have at least %lld members, not %zu", (long long)min, count);
    return (int64_t)count <= max ||
           ramet_schema_fail(failure, path, "must have at most %lld members, not %zu", (long long)max, count);
}

bool ramet_schema_object(struct schema_check *check, const struct ramet_json *schema, const struct ramet_json *value,
                         const struct schema_path *path, struct schema_failure *failure)
{
    const struct ramet_json *member;
    const char *name;
    void *iter = NULL;
    while (ramet_json_next(value, &iter, &name, &member)) {
        const struct schema_path at = {.parent = path, .key = name, .depth = path->depth + 1};
        if (!ramet_schema_charge(check, 1, failure, path) || !check_name(check, schema, name, &at, failure) ||
            !check_member(check, schema, name, member, &at, failure))
            return false;
    }
    return check_required(check, ramet_json_get(schema, "required"), value, NULL, path, failure) &&
           check_count(schema, ramet_json_count(value), path, failure) &&
           check_dependencies(check, schema, value, path, failure);
}
