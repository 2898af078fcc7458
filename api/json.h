/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON values: the one wrapper around jansson, whose types stay in json.c.
 *
 * Ownership: constructors and parse return a value the caller frees; *_set and
 * *_append take over the child, also when they fail; getters return borrowed
 * values. NULL parents and children are accepted, so builders need no check at each
 * step: a child that could not be allocated becomes null, or is left out of an array,
 * and the text of a NULL value is NULL.
 * Thread-safety: a value belongs to one thread at a time.
 */
#ifndef RAMET_API_JSON_H
#define RAMET_API_JSON_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ramet_json;

/* Parses one whole JSON text of `size` bytes. RAMET_INVALID names line and column. */
int ramet_json_parse(const char *text, size_t size, struct ramet_json **ret, struct ramet_error *err);
/*
 * The same for texts of strangers, read as JavaScript does: of members with one name the last counts, strings may hold
 * NUL (getters see what is before it, texts keep it), integers beyond 64 bits become reals. Refuses more than
 * `values_max` values, before any is made: RAMET_TOO_LARGE.
 */
int ramet_json_parse_lenient(const char *text, size_t size, size_t values_max, struct ramet_json **ret,
                             struct ramet_error *err);
void ramet_json_free(struct ramet_json *value);
void ramet_json_cleanup(struct ramet_json **value); /* for _cleanup_ */

/* Compact text, or indented for people. Owned by the caller; NULL when memory ran out. */
char *ramet_json_text(const struct ramet_json *value);
char *ramet_json_pretty(const struct ramet_json *value);
char *ramet_json_canonical(const struct ramet_json *value); /* compact, members sorted: equal for equal values */

struct ramet_json *ramet_json_object(void);
struct ramet_json *ramet_json_array(void);
struct ramet_json *ramet_json_string(const char *s);
struct ramet_json *ramet_json_copy(const struct ramet_json *value); /* deep */

void ramet_json_set(struct ramet_json *object, const char *key, struct ramet_json *child);
void ramet_json_set_string(struct ramet_json *object, const char *key, const char *s); /* NULL gives null */
void ramet_json_set_u64(struct ramet_json *object, const char *key, uint64_t v);       /* above 2^63-1: as that */
void ramet_json_set_i64(struct ramet_json *object, const char *key, int64_t v);
void ramet_json_set_bool(struct ramet_json *object, const char *key, bool v);
void ramet_json_append(struct ramet_json *array, struct ramet_json *child);
void ramet_json_remove(struct ramet_json *object, const char *key);            /* absent: nothing */
bool ramet_json_equal(const struct ramet_json *a, const struct ramet_json *b); /* order of members aside */

enum ramet_json_kind {
    RAMET_JSON_ABSENT, /* of NULL */
    RAMET_JSON_NULL,
    RAMET_JSON_BOOL,
    RAMET_JSON_INTEGER,
    RAMET_JSON_REAL,
    RAMET_JSON_STRING,
    RAMET_JSON_ARRAY,
    RAMET_JSON_OBJECT,
};
enum ramet_json_kind ramet_json_kind(const struct ramet_json *value);
bool ramet_json_is_true(const struct ramet_json *value); /* the value true itself */

double ramet_json_number(const struct ramet_json *value);      /* of an integer or a real, else 0 */
int64_t ramet_json_integer(const struct ramet_json *value);    /* of an integer, else 0 */
size_t ramet_json_string_size(const struct ramet_json *value); /* bytes of a string, NULs included, else 0 */

bool ramet_json_is_object(const struct ramet_json *value);
bool ramet_json_is_array(const struct ramet_json *value);
size_t ramet_json_count(const struct ramet_json *array); /* elements of an array, members of an object */
const struct ramet_json *ramet_json_at(const struct ramet_json *array, size_t index);
const struct ramet_json *ramet_json_get(const struct ramet_json *object, const char *key); /* NULL when absent */
const char *ramet_json_string_value(const struct ramet_json *value);                       /* NULL when no string */

/* Lenient getters for answers we trust to be well-formed: the fallback when absent or of another type. */
const char *ramet_json_str(const struct ramet_json *object, const char *key, const char *fallback);
int64_t ramet_json_int(const struct ramet_json *object, const char *key, int64_t fallback);
double ramet_json_real(const struct ramet_json *object, const char *key, double fallback); /* takes integers too */
bool ramet_json_bool(const struct ramet_json *object, const char *key, bool fallback);

/* Strict getters for requests: absent leaves *ret as it is; a wrong type or range is RAMET_INVALID naming the key. */
int ramet_json_want_string(const struct ramet_json *object, const char *key, const char **ret, struct ramet_error *err);
int ramet_json_want_u64(const struct ramet_json *object, const char *key, uint64_t min, uint64_t max, uint64_t *ret,
                        struct ramet_error *err);
int ramet_json_want_bool(const struct ramet_json *object, const char *key, bool *ret, struct ramet_error *err);
/* Rejects members that are not in the NULL-terminated list. */
int ramet_json_want_only(const struct ramet_json *object, const char *const *keys, struct ramet_error *err);

/* Iterates an object's members: start with *iter = NULL, ends with false. */
bool ramet_json_next(const struct ramet_json *object, void **iter, const char **ret_key, const struct ramet_json **ret);

#endif
