/* SPDX-License-Identifier: Apache-2.0 */
/* The keywords of numbers, strings and arrays. */
#include "base/cleanup.h"
#include "tools/pattern.h"
#include "tools/schema_private.h"

#include <math.h>
#include <string.h>

/* ---- numbers ---- */

/* A numeric keyword; false when there is none. */
static bool bound(const struct ramet_json *schema, const char *key, const struct ramet_json **ret)
{
    *ret = ramet_json_get(schema, key);
    return ramet_json_kind(*ret) == RAMET_JSON_INTEGER || ramet_json_kind(*ret) == RAMET_JSON_REAL;
}

/* Below 0, 0, above: exact for integers. */
static int compare(const struct ramet_json *a, const struct ramet_json *b)
{
    bool integers = ramet_json_kind(a) == RAMET_JSON_INTEGER && ramet_json_kind(b) == RAMET_JSON_INTEGER;
    if (integers) {
        int64_t left = ramet_json_integer(a), right = ramet_json_integer(b);
        return left < right ? -1 : left > right;
    }
    double left = ramet_json_number(a), right = ramet_json_number(b);
    return left < right ? -1 : left > right;
}

static bool is_multiple(const struct ramet_json *value, const struct ramet_json *of)
{
    double divisor = ramet_json_number(of);
    if (!(divisor > 0))
        return true;
    if (ramet_json_kind(value) == RAMET_JSON_INTEGER && ramet_json_kind(of) == RAMET_JSON_INTEGER)
        return ramet_json_integer(value) % ramet_json_integer(of) == 0;
    double quotient = ramet_json_number(value) / divisor;
    return !isfinite(quotient) || fabs(quotient - round(quotient)) <= 1e-9 * fmax(1, fabs(quotient));
}

static bool fail_bound(struct schema_failure *failure, const struct schema_path *path, const char *what,
                       const struct ramet_json *limit)
{
    _autofree_ char *text = failure ? ramet_json_text(limit) : NULL;
    return ramet_schema_fail(failure, path, "must be %s %s", what, text ? text : "the limit");
}

bool ramet_schema_number(const struct ramet_json *schema, const struct ramet_json *value,
                         const struct schema_path *path, struct schema_failure *failure)
{
    const struct ramet_json *limit;
    /* Until draft-04 "exclusiveMinimum": true made "minimum" so. */
    bool above = ramet_json_bool(schema, "exclusiveMinimum", false);
    bool below = ramet_json_bool(schema, "exclusiveMaximum", false);
    if (bound(schema, "minimum", &limit) && compare(value, limit) < (above ? 1 : 0))
        return fail_bound(failure, path, above ? "greater than" : "at least", limit);
    if (bound(schema, "maximum", &limit) && compare(value, limit) > (below ? -1 : 0))
        return fail_bound(failure, path, below ? "less than" : "at most", limit);
    if (bound(schema, "exclusiveMinimum", &limit) && compare(value, limit) <= 0)
        return fail_bound(failure, path, "greater than", limit);
    if (bound(schema, "exclusiveMaximum", &limit) && compare(value, limit) >= 0)
        return fail_bound(failure, path, "less than", limit);
    if (bound(schema, "multipleOf", &limit) && !is_multiple(value, limit))
        return fail_bound(failure, path, "a multiple of", limit);
    return true;
}

/* ---- counts ---- */

/* A size against two keywords. */
static bool check_size(const struct ramet_json *schema, const char *min_key, const char *max_key, size_t size,
                       const char *unit, const struct schema_path *path, struct schema_failure *failure)
{
    const struct ramet_json *limit;
    if (bound(schema, min_key, &limit) && (double)size < ramet_json_number(limit))
        return ramet_schema_fail(failure, path, "must have at least %.0f %s, not %zu", ramet_json_number(limit), unit,
                                 size);
    if (bound(schema, max_key, &limit) && (double)size > ramet_json_number(limit))
        return ramet_schema_fail(failure, path, "must have at most %.0f %s, not %zu", ramet_json_number(limit), unit,
                                 size);
    return true;
}

/* ---- strings ---- */

static size_t code_points(const char *text, size_t size)
{
    size_t count = 0;
    for (size_t i = 0; i < size; i++)
        count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

bool ramet_schema_string(struct schema_check *check, const struct ramet_json *schema, const struct ramet_json *value,
                         const struct schema_path *path, struct schema_failure *failure)
{
    const char *text = ramet_json_string_value(value), *pattern = ramet_json_str(schema, "pattern", NULL);
    size_t size = ramet_json_string_size(value);
    if (!check_size(schema, "minLength", "maxLength", code_points(text, size), "characters", path, failure))
        return false;
    if (pattern && !ramet_schema_charge(check, SCHEMA_PATTERN_STEPS, failure, path))
        return false;
    switch (pattern ? ramet_pattern_search(pattern, text, size) : RAMET_PATTERN_MATCHES) {
    case RAMET_PATTERN_MATCHES:
    case RAMET_PATTERN_UNKNOWN: return true;
    case RAMET_PATTERN_DIFFERS: return ramet_schema_fail(failure, path, "must match %.160s", pattern);
    case RAMET_PATTERN_COSTLY: break;
    }
    return ramet_schema_fail(failure, path, "cannot be checked: the pattern %.100s is too complex", pattern);
}

/* ---- arrays ---- */

static bool check_unique(struct schema_check *check, const struct ramet_json *value, const struct schema_path *path,
                         struct schema_failure *failure)
{
    for (size_t i = 1, count = ramet_json_count(value); i < count; i++)
        for (size_t k = 0; k < i; k++) {
            if (!ramet_schema_charge(check, 1, failure, path))
                return false;
            if (ramet_schema_equal(check, ramet_json_at(value, i), ramet_json_at(value, k)))
                return ramet_schema_fail(failure, path, "must not hold anything twice, as elements %zu and %zu", k, i);
        }
    return true;
}

/* The schema of element `index`; NULL: any. */
static const struct ramet_json *element_schema(const struct ramet_json *schema, size_t index)
{
    const struct ramet_json *items = ramet_json_get(schema, "items"), *prefix = ramet_json_get(schema, "prefixItems");
    const struct ramet_json *rest = items;
    if (ramet_json_is_array(items)) { /* until 2019-09 */
        prefix = items;
        rest = ramet_json_get(schema, "additionalItems");
    }
    if (ramet_json_is_array(prefix) && index < ramet_json_count(prefix))
        return ramet_json_at(prefix, index);
    return rest;
}

static bool check_contains(struct schema_check *check, const struct ramet_json *schema, const struct ramet_json *value,
                           const struct schema_path *path, struct schema_failure *failure)
{
    const struct ramet_json *wanted = ramet_json_get(schema, "contains"), *limit;
    size_t found = 0, count = ramet_json_count(value);
    if (!wanted)
        return true;
    for (size_t i = 0; i < count; i++)
        found += ramet_schema_value(check, wanted, ramet_json_at(value, i), path, NULL);
    double min = bound(schema, "minContains", &limit) ? ramet_json_number(limit) : 1;
    double max = bound(schema, "maxContains", &limit) ? ramet_json_number(limit) : (double)count;
    return ((double)found >= min && (double)found <= max) ||
           ramet_schema_fail(failure, path, "holds %zu of the elements of which there must be %.0f to %.0f", found, min,
                             max);
}

bool ramet_schema_array(struct schema_check *check, const struct ramet_json *schema, const struct ramet_json *value,
                        const struct schema_path *path, struct schema_failure *failure)
{
    size_t count = ramet_json_count(value);
    if (!check_size(schema, "minItems", "maxItems", count, "elements", path, failure))
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct schema_path at = {.parent = path, .index = i, .depth = path->depth + 1};
        const struct ramet_json *element = element_schema(schema, i);
        if (element && !ramet_schema_value(check, element, ramet_json_at(value, i), &at, failure))
            return false;
    }
    return check_contains(check, schema, value, path, failure) &&
           (!ramet_json_bool(schema, "uniqueItems", false) || check_unique(check, value, path, failure));
}
