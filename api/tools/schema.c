/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One value against one schema: references, types, enumerations, combinations.
 *
 * Depth and steps are counted through everything. When either is used up, `exhausted` makes every check that is under
 * way fail, "not" and "oneOf" included: what was not decided is refused.
 */
#include "tools/schema.h"

#include "base/cleanup.h"
#include "tools/schema_private.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

enum { depth_max = 128, steps_max = 300000 };

/* ---- failures ---- */

static size_t print_path(const struct schema_path *path, char *to, size_t size)
{
    size_t used = path->parent ? print_path(path->parent, to, size) : 0;
    if (used >= size)
        return used;
    int n = 0;
    if (!path->parent)
        *to = '\0';
    else if (path->key)
        n = snprintf(to + used, size - used, "%s%.60s", used ? "." : "", path->key);
    else
        n = snprintf(to + used, size - used, "[%zu]", path->index);
    return used + (n > 0 ? (size_t)n : 0);
}

bool ramet_schema_fail(struct schema_failure *failure, const struct schema_path *path, const char *fmt, ...)
{
    va_list ap;
    char where[160];
    if (!failure)
        return false;
    print_path(path, where, sizeof where);
    int used = snprintf(failure->text, sizeof failure->text, *where ? "\"%s\" " : "arguments ", where);
    va_start(ap, fmt);
    vsnprintf(failure->text + used, sizeof failure->text - (size_t)used, fmt, ap);
    va_end(ap);
    failure->depth = path->depth;
    return false;
}

bool ramet_schema_charge(struct schema_check *check, unsigned long steps, struct schema_failure *failure,
                         const struct schema_path *path)
{
    check->exhausted |= check->steps < steps;
    check->steps -= check->exhausted ? 0 : steps;
    return !check->exhausted || ramet_schema_fail(failure, path, "cannot be checked: the schema is too complex");
}

/* ---- equality ---- */

static bool is_number(const struct ramet_json *value)
{
    enum ramet_json_kind kind = ramet_json_kind(value);
    return kind == RAMET_JSON_INTEGER || kind == RAMET_JSON_REAL;
}

static bool equal_objects(struct schema_check *check, const struct ramet_json *a, const struct ramet_json *b)
{
    const struct ramet_json *value;
    const char *key;
    void *iter = NULL;
    if (ramet_json_count(a) != ramet_json_count(b))
        return false;
    while (ramet_json_next(a, &iter, &key, &value)) {
        const struct ramet_json *other = ramet_json_get(b, key);
        if (!other || !ramet_schema_equal(check, value, other))
            return false;
    }
    return true;
}

bool ramet_schema_equal(struct schema_check *check, const struct ramet_json *a, const struct ramet_json *b)
{
    static const struct schema_path nowhere = {0};
    if (!ramet_schema_charge(check, 1, NULL, &nowhere))
        return false;
    if (is_number(a) && is_number(b)) {
        bool integers = ramet_json_kind(a) == RAMET_JSON_INTEGER && ramet_json_kind(b) == RAMET_JSON_INTEGER;
        return integers ? ramet_json_integer(a) == ramet_json_integer(b) : ramet_json_number(a) == ramet_json_number(b);
    }
    if (ramet_json_kind(a) != ramet_json_kind(b))
        return false;
    if (ramet_json_is_object(a))
        return equal_objects(check, a, b);
    if (!ramet_json_is_array(a))
        return ramet_json_equal(a, b);
    bool same = ramet_json_count(a) == ramet_json_count(b);
    for (size_t i = 0, count = ramet_json_count(a); same && i < count; i++)
        same = ramet_schema_equal(check, ramet_json_at(a, i), ramet_json_at(b, i));
    return same;
}

/* ---- types and enumerations ---- */

static bool is_type(const struct ramet_json *value, const char *type)
{
    switch (ramet_json_kind(value)) {
    case RAMET_JSON_NULL: return strcmp(type, "null") == 0;
    case RAMET_JSON_BOOL: return strcmp(type, "boolean") == 0;
    case RAMET_JSON_STRING: return strcmp(type, "string") == 0;
    case RAMET_JSON_ARRAY: return strcmp(type, "array") == 0;
    case RAMET_JSON_OBJECT: return strcmp(type, "object") == 0;
    case RAMET_JSON_INTEGER: return strcmp(type, "integer") == 0 || strcmp(type, "number") == 0;
    case RAMET_JSON_REAL:
        return strcmp(type, "number") == 0 ||
               (strcmp(type, "integer") == 0 && floor(ramet_json_number(value)) == ramet_json_number(value));
    case RAMET_JSON_ABSENT: break;
    }
    return false;
}

/* Types that nobody defined say nothing. */
static bool known_type(const char *type)
{
    static const char *const types[] = {"null", "boolean", "string", "array", "object", "integer", "number"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i], type) == 0)
            return true;
    return false;
}

static const char *kind_name(const struct ramet_json *value)
{
    static const char *const names[] = {"nothing",  "null",     "a boolean", "an integer",
                                        "a number", "a string", "an array",  "an object"};
    return names[ramet_json_kind(value)];
}

static bool check_type(const struct ramet_json *schema, const struct ramet_json *value, const struct schema_path *path,
                       struct schema_failure *failure)
{
    const struct ramet_json *type = ramet_json_get(schema, "type");
    const char *one = ramet_json_string_value(type);
    char list[120] = "";
    if (ramet_json_kind(value) == RAMET_JSON_NULL && ramet_json_bool(schema, "nullable", false))
        return true;
    if (one)
        return !known_type(one) || is_type(value, one) ||
               ramet_schema_fail(failure, path, "must be of type %s, not %s", one, kind_name(value));
    size_t count = ramet_json_is_array(type) ? ramet_json_count(type) : 0, used = 0;
    for (size_t i = 0; i < count; i++) {
        const char *name = ramet_json_string_value(ramet_json_at(type, i));
        if (!name || !known_type(name) || is_type(value, name))
            return true;
        if (used < sizeof list)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", used ? " or " : "", name);
    }
    return count == 0 || ramet_schema_fail(failure, path, "must be of type %s, not %s", list, kind_name(value));
}

static bool check_enum(struct schema_check *check, const struct ramet_json *schema, const struct ramet_json *value,
                       const struct schema_path *path, struct schema_failure *failure)
{
    const struct ramet_json *allowed = ramet_json_get(schema, "enum"), *only = ramet_json_get(schema, "const");
    if (only && !ramet_schema_equal(check, only, value)) {
        _autofree_ char *text = failure ? ramet_json_text(only) : NULL;
        return ramet_schema_fail(failure, path, "must be %.120s", text ? text : "what the schema says");
    }
    if (!ramet_json_is_array(allowed))
        return true;
    for (size_t i = 0, count = ramet_json_count(allowed); i < count; i++)
        if (ramet_schema_equal(check, ramet_json_at(allowed, i), value))
            return true;
    _autofree_ char *text = failure ? ramet_json_text(allowed) : NULL;
    return ramet_schema_fail(failure, path, "must be one of %.160s", text ? text : "those in the schema");
}

/* ---- combinations ---- */

/* How many of `schemas` hold; at most `enough` are looked for. */
static size_t count_valid(struct schema_check *check, const struct ramet_json *schemas, const struct ramet_json *value,
                          const struct schema_path *path, size_t enough)
{
    size_t valid = 0;
    for (size_t i = 0, count = ramet_json_count(schemas); i < count && valid < enough; i++)
        valid += ramet_schema_value(check, ramet_json_at(schemas, i), value, path, NULL);
    return valid;
}

/* None holds: says why the one failed that came farthest. */
static bool fail_nearest(struct schema_check *check, const struct ramet_json *schemas, const struct ramet_json *value,
                         const struct schema_path *path, struct schema_failure *failure)
{
    struct schema_failure best = {0}, one;
    for (size_t i = 0, count = failure ? ramet_json_count(schemas) : 0; i < count; i++) {
        one = (struct schema_failure){0};
        ramet_schema_value(check, ramet_json_at(schemas, i), value, path, &one);
        if (!*best.text || one.depth > best.depth)
            best = one;
    }
    if (failure && best.depth > path->depth)
        *failure = best;
    else
        ramet_schema_fail(failure, path, "fits none of %zu alternatives; the first: %.200s", ramet_json_count(schemas),
                          best.text);
    return false;
}

static bool check_alternatives(struct schema_check *check, const struct ramet_json *schema,
                               const struct ramet_json *value, const struct schema_path *path,
                               struct schema_failure *failure)
{
    const struct ramet_json *any = ramet_json_get(schema, "anyOf"), *one = ramet_json_get(schema, "oneOf");
    if (ramet_json_is_array(any) && ramet_json_count(any) && count_valid(check, any, value, path, 1) == 0)
        return fail_nearest(check, any, value, path, failure);
    if (!ramet_json_is_array(one) || !ramet_json_count(one))
        return true;
    size_t valid = count_valid(check, one, value, path, 2);
    if (valid == 0)
        return fail_nearest(check, one, value, path, failure);
    return valid == 1 || ramet_schema_fail(failure, path,
                                           "fits more than one of %zu alternatives, of which just one "
                                           "may hold",
                                           ramet_json_count(one));
}

static bool is_schema(const struct ramet_json *schema)
{
    return ramet_json_is_object(schema) || ramet_json_kind(schema) == RAMET_JSON_BOOL;
}

static bool check_combinations(struct schema_check *check, const struct ramet_json *schema,
                               const struct ramet_json *value, const struct schema_path *path,
                               struct schema_failure *failure)
{
    const struct ramet_json *all = ramet_json_get(schema, "allOf"), *not = ramet_json_get(schema, "not");
    const struct ramet_json *condition = ramet_json_get(schema, "if");
    if (ramet_json_is_array(all))
        for (size_t i = 0, count = ramet_json_count(all); i < count; i++)
            if (!ramet_schema_value(check, ramet_json_at(all, i), value, path, failure))
                return false;
    if (is_schema(not ) && ramet_schema_value(check, not, value, path, NULL))
        return ramet_schema_fail(failure, path, "is what the schema excludes");
    if (is_schema(condition)) {
        bool holds = ramet_schema_value(check, condition, value, path, NULL);
        const struct ramet_json *then = ramet_json_get(schema, holds ? "then" : "else");
        if (is_schema(then) && !ramet_schema_value(check, then, value, path, failure))
            return false;
    }
    return check_alternatives(check, schema, value, path, failure);
}

/* ---- a schema ---- */

static bool check_by_kind(struct schema_check *check, const struct ramet_json *schema, const struct ramet_json *value,
                          const struct schema_path *path, struct schema_failure *failure)
{
    switch (ramet_json_kind(value)) {
    case RAMET_JSON_INTEGER:
    case RAMET_JSON_REAL: return ramet_schema_number(schema, value, path, failure);
    case RAMET_JSON_STRING: return ramet_schema_string(check, schema, value, path, failure);
    case RAMET_JSON_ARRAY: return ramet_schema_array(check, schema, value, path, failure);
    case RAMET_JSON_OBJECT: return ramet_schema_object(check, schema, value, path, failure);
    default: return true;
    }
}

static bool check_reference(struct schema_check *check, const struct ramet_json *schema, const struct ramet_json *value,
                            const struct schema_path *path, struct schema_failure *failure, bool *ret_alone)
{
    const char *ref = ramet_json_str(schema, "$ref", ramet_json_str(schema, "$dynamicRef", NULL));
    *ret_alone = ref && check->old;
    if (ref && *ref == '#' && ref[1] && ref[1] != '/' &&
        !ramet_schema_charge(check, SCHEMA_ANCHOR_STEPS, failure, path))
        return false;
    const struct ramet_json *target = ref ? ramet_schema_ref(check->root, ref) : NULL;
    return !target || ramet_schema_value(check, target, value, path, failure);
}

static bool check_object_schema(struct schema_check *check, const struct ramet_json *schema,
                                const struct ramet_json *value, const struct schema_path *path,
                                struct schema_failure *failure)
{
    bool alone;
    if (!check_reference(check, schema, value, path, failure, &alone))
        return false;
    return alone || (check_type(schema, value, path, failure) && check_enum(check, schema, value, path, failure) &&
                     check_by_kind(check, schema, value, path, failure) &&
                     check_combinations(check, schema, value, path, failure));
}

bool ramet_schema_value(struct schema_check *check, const struct ramet_json *schema, const struct ramet_json *value,
                        const struct schema_path *path, struct schema_failure *failure)
{
    if (!ramet_schema_charge(check, 1, failure, path))
        return false;
    if (ramet_json_kind(schema) == RAMET_JSON_BOOL)
        return ramet_json_is_true(schema) || ramet_schema_fail(failure, path, "may not be there");
    if (!ramet_json_is_object(schema))
        return true;
    check->exhausted |= check->depth == 0;
    if (!ramet_schema_charge(check, 0, failure, path))
        return false;
    check->depth--;
    bool good = check_object_schema(check, schema, value, path, failure);
    check->depth++;
    return check->exhausted ? ramet_schema_charge(check, 0, failure, path) : good;
}

/* Drafts in which nothing beside $ref counts. */
static bool is_old(const struct ramet_json *root)
{
    const char *dialect = ramet_json_str(root, "$schema", "");
    return strstr(dialect, "draft-07") || strstr(dialect, "draft-06") || strstr(dialect, "draft-04");
}

int ramet_schema_check(const struct ramet_json *schema, const struct ramet_json *value, struct ramet_error *err)
{
    struct schema_check check = {.root = schema, .old = is_old(schema), .depth = depth_max, .steps = steps_max};
    const struct schema_path path = {0};
    struct schema_failure failure = {0};
    if (ramet_schema_value(&check, schema, value, &path, &failure))
        return 0;
    return ramet_error_set(err, RAMET_INVALID, "%s", failure.text);
}
