/* SPDX-License-Identifier: Apache-2.0 */
/* The jansson wrapper: `struct ramet_json` is jansson's json_t under another name, never defined. */
#include "json.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static json_t *in(struct ramet_json *v) { return (json_t *)v; }
static const json_t *cin(const struct ramet_json *v) { return (const json_t *)v; }
static struct ramet_json *out(json_t *v) { return (struct ramet_json *)v; }
static const struct ramet_json *cout(const json_t *v) { return (const struct ramet_json *)v; }

int ramet_json_parse(const char *text, size_t size, struct ramet_json **ret, struct ramet_error *err)
{
    json_error_t at;
    json_t *value = json_loadb(text, size, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &at);
    if (!value)
        return ramet_error_set(err, RAMET_INVALID, "malformed JSON at line %d, column %d: %s", at.line, at.column,
                               at.text);
    *ret = out(value);
    return 0;
}

/* At least as many as the values in `text`: each but the first follows a comma or opens its container. */
static size_t count_values(const char *text, size_t size)
{
    size_t count = 1;
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '"')
            in_string = !in_string;
        else if (in_string && text[i] == '\\')
            i++;
        else if (!in_string)
            count += text[i] == ',' || text[i] == '[' || text[i] == '{';
    }
    return count;
}

int ramet_json_parse_lenient(const char *text, size_t size, size_t values_max, struct ramet_json **ret,
                             struct ramet_error *err)
{
    size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL;
    json_error_t at;
    if (count_values(text, size) > values_max)
        return ramet_error_set(err, RAMET_TOO_LARGE, "a JSON text of more than %zu values", values_max);
    json_t *value = json_loadb(text, size, flags, &at);
    if (!value && json_error_code(&at) == json_error_numeric_overflow)
        value = json_loadb(text, size, flags | JSON_DECODE_INT_AS_REAL, &at);
    if (!value)
        return ramet_error_set(err, RAMET_INVALID, "malformed JSON at line %d, column %d: %.100s", at.line, at.column,
                               at.text);
    *ret = out(value);
    return 0;
}

void ramet_json_free(struct ramet_json *value) { json_decref(in(value)); }
void ramet_json_cleanup(struct ramet_json **value) { ramet_json_free(*value); }

static char *text_of(const struct ramet_json *value, size_t flags)
{
    return value ? json_dumps(cin(value), flags | JSON_ENCODE_ANY) : NULL;
}

char *ramet_json_text(const struct ramet_json *value) { return text_of(value, JSON_COMPACT); }
char *ramet_json_pretty(const struct ramet_json *value) { return text_of(value, JSON_INDENT(2)); }

char *ramet_json_canonical(const struct ramet_json *value) { return text_of(value, JSON_COMPACT | JSON_SORT_KEYS); }

struct ramet_json *ramet_json_object(void) { return out(json_object()); }
struct ramet_json *ramet_json_array(void) { return out(json_array()); }
struct ramet_json *ramet_json_copy(const struct ramet_json *value) { return out(json_deep_copy(cin(value))); }

/* A string that is not UTF-8 has its non-ASCII bytes replaced, never refused; bytes that matter go as base64. */
struct ramet_json *ramet_json_string(const char *s)
{
    json_t *value = json_string(s);
    if (value || !s)
        return out(value);
    size_t size = strlen(s);
    char *clean = malloc(size + 1);
    if (!clean)
        return NULL;
    for (size_t i = 0; i <= size; i++)
        clean[i] = (unsigned char)s[i] < 0x80 ? s[i] : '?';
    value = json_string(clean);
    free(clean);
    return out(value);
}

void ramet_json_set(struct ramet_json *object, const char *key, struct ramet_json *child)
{
    json_object_set_new(in(object), key, child ? in(child) : json_null());
}

void ramet_json_set_string(struct ramet_json *object, const char *key, const char *s)
{
    ramet_json_set(object, key, s ? ramet_json_string(s) : NULL);
}

void ramet_json_set_u64(struct ramet_json *object, const char *key, uint64_t v)
{
    ramet_json_set_i64(object, key, v > INT64_MAX ? INT64_MAX : (int64_t)v);
}

void ramet_json_set_i64(struct ramet_json *object, const char *key, int64_t v)
{
    json_object_set_new(in(object), key, json_integer(v));
}

void ramet_json_set_bool(struct ramet_json *object, const char *key, bool v)
{
    json_object_set_new(in(object), key, json_boolean(v));
}

void ramet_json_append(struct ramet_json *array, struct ramet_json *child)
{
    json_array_append_new(in(array), in(child));
}

void ramet_json_remove(struct ramet_json *object, const char *key) { json_object_del(in(object), key); }

bool ramet_json_equal(const struct ramet_json *a, const struct ramet_json *b)
{
    return json_equal((json_t *)cin(a), (json_t *)cin(b));
}

enum ramet_json_kind ramet_json_kind(const struct ramet_json *value)
{
    static const enum ramet_json_kind kinds[] = {
        [JSON_OBJECT] = RAMET_JSON_OBJECT,   [JSON_ARRAY] = RAMET_JSON_ARRAY, [JSON_STRING] = RAMET_JSON_STRING,
        [JSON_INTEGER] = RAMET_JSON_INTEGER, [JSON_REAL] = RAMET_JSON_REAL,   [JSON_TRUE] = RAMET_JSON_BOOL,
        [JSON_FALSE] = RAMET_JSON_BOOL,      [JSON_NULL] = RAMET_JSON_NULL};
    return value ? kinds[json_typeof(cin(value))] : RAMET_JSON_ABSENT;
}

bool ramet_json_is_true(const struct ramet_json *value) { return json_is_true(cin(value)); }

double ramet_json_number(const struct ramet_json *value) { return json_number_value(cin(value)); }
int64_t ramet_json_integer(const struct ramet_json *value) { return json_integer_value(cin(value)); }
size_t ramet_json_string_size(const struct ramet_json *value) { return json_string_length(cin(value)); }

bool ramet_json_is_object(const struct ramet_json *value) { return json_is_object(cin(value)); }
bool ramet_json_is_array(const struct ramet_json *value) { return json_is_array(cin(value)); }

size_t ramet_json_count(const struct ramet_json *value)
{
    return json_is_array(cin(value)) ? json_array_size(cin(value)) : json_object_size(cin(value));
}

const struct ramet_json *ramet_json_at(const struct ramet_json *array, size_t index)
{
    return cout(json_array_get(cin(array), index));
}

const struct ramet_json *ramet_json_get(const struct ramet_json *object, const char *key)
{
    return cout(json_object_get(cin(object), key));
}

const char *ramet_json_string_value(const struct ramet_json *value) { return json_string_value(cin(value)); }

const char *ramet_json_str(const struct ramet_json *object, const char *key, const char *fallback)
{
    const char *s = json_string_value(json_object_get(cin(object), key));
    return s ? s : fallback;
}

int64_t ramet_json_int(const struct ramet_json *object, const char *key, int64_t fallback)
{
    const json_t *v = json_object_get(cin(object), key);
    return json_is_integer(v) ? json_integer_value(v) : fallback;
}

double ramet_json_real(const struct ramet_json *object, const char *key, double fallback)
{
    const json_t *v = json_object_get(cin(object), key);
    return json_is_number(v) ? json_number_value(v) : fallback;
}

bool ramet_json_bool(const struct ramet_json *object, const char *key, bool fallback)
{
    const json_t *v = json_object_get(cin(object), key);
    return json_is_boolean(v) ? json_is_true(v) : fallback;
}

int ramet_json_want_string(const struct ramet_json *object, const char *key, const char **ret, struct ramet_error *err)
{
    const json_t *v = json_object_get(cin(object), key);
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_string(v))
        return ramet_error_set(err, RAMET_INVALID, "\"%s\" must be a string", key);
    *ret = json_string_value(v);
    return 0;
}

int ramet_json_want_u64(const struct ramet_json *object, const char *key, uint64_t min, uint64_t max, uint64_t *ret,
                        struct ramet_error *err)
{
    const json_t *v = json_object_get(cin(object), key);
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_integer(v) || json_integer_value(v) < 0 || (uint64_t)json_integer_value(v) < min ||
        (uint64_t)json_integer_value(v) > max)
        return ramet_error_set(err, RAMET_INVALID, "\"%s\" must be an integer from %" PRIu64 " to %" PRIu64, key, min,
                               max);
    *ret = (uint64_t)json_integer_value(v);
    return 0;
}

int ramet_json_want_bool(const struct ramet_json *object, const char *key, bool *ret, struct ramet_error *err)
{
    const json_t *v = json_object_get(cin(object), key);
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_boolean(v))
        return ramet_error_set(err, RAMET_INVALID, "\"%s\" must be true or false", key);
    *ret = json_is_true(v);
    return 0;
}

int ramet_json_want_only(const struct ramet_json *object, const char *const *keys, struct ramet_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach (in((struct ramet_json *)object), key, value) {
        const char *const *known = keys;
        while (*known && strcmp(*known, key) != 0)
            known++;
        if (!*known)
            return ramet_error_set(err, RAMET_INVALID, "unknown member \"%s\"", key);
    }
    return 0;
}

bool ramet_json_next(const struct ramet_json *object, void **iter, const char **ret_key, const struct ramet_json **ret)
{
    json_t *o = in((struct ramet_json *)object);
    *iter = *iter ? json_object_iter_next(o, *iter) : json_object_iter(o);
    if (!*iter)
        return false;
    *ret_key = json_object_iter_key(*iter);
    *ret = cout(json_object_iter_value(*iter));
    return true;
}
