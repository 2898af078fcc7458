/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a schema. Where two types meet is in docs_meet.c, where a reference leads in docs_ref.c.
 *
 * Types are in an arena of blocks: they point to each other freely and go all at once. A
 * failed allocation sets `failed` and gives "any", which is a constant.
 */
#include "docs_type_private.h"

#include "json.h"

#include <stdlib.h>
#include <string.h>

const struct docs_type docs_any = {.kind = DOCS_ANY}, docs_never = {.kind = DOCS_NEVER};
static const struct docs_type null_type = {.kind = DOCS_NULL}, bool_type = {.kind = DOCS_BOOL},
                              integer_type = {.kind = DOCS_INTEGER}, number_type = {.kind = DOCS_NUMBER},
                              string_type = {.kind = DOCS_STRING};

struct block {
    struct block *next;
    max_align_t data[];
};

/* --- making types --- */

void *docs_alloc(struct docs_types *types, size_t size)
{
    struct block *block = calloc(1, sizeof *block + size);
    if (!block) {
        types->failed = true;
        return NULL;
    }
    block->next = types->blocks;
    types->blocks = block;
    return block->data;
}

struct docs_type *docs_type_make(struct docs_types *types, enum docs_kind kind, size_t members)
{
    if (++types->count > DOCS_TYPES_MAX)
        return NULL;
    struct docs_type *type = docs_alloc(types, sizeof *type);
    if (!type)
        return NULL;
    type->kind = kind;
    if (members && !(type->members = docs_alloc(types, members * sizeof *type->members)))
        return NULL;
    return type;
}

static bool same_type(const struct docs_type *a, const struct docs_type *b)
{
    if (a == b)
        return true;
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case DOCS_NULL:
    case DOCS_BOOL:
    case DOCS_INTEGER:
    case DOCS_NUMBER:
    case DOCS_STRING: return true;
    case DOCS_VALUE: return ramet_json_equal(a->value, b->value);
    case DOCS_REF: return a->named == b->named;
    case DOCS_ARRAY: return same_type(a->item, b->item);
    default: return false;
    }
}

/* Whether every value of b is one of a, as far as that is plain to see. */
static bool covers(const struct docs_type *a, const struct docs_type *b)
{
    if (same_type(a, b) || (a->kind == DOCS_NUMBER && b->kind == DOCS_INTEGER))
        return true;
    if (b->kind != DOCS_VALUE)
        return false;
    switch (ramet_json_kind(b->value)) {
    case RAMET_JSON_STRING: return a->kind == DOCS_STRING;
    case RAMET_JSON_BOOL: return a->kind == DOCS_BOOL;
    case RAMET_JSON_INTEGER: return a->kind == DOCS_INTEGER || a->kind == DOCS_NUMBER;
    case RAMET_JSON_REAL: return a->kind == DOCS_NUMBER;
    default: return false;
    }
}

static bool add_variant(struct docs_type *all, const struct docs_type *one)
{
    size_t kept = 0;
    for (size_t i = 0; i < all->count; i++)
        if (covers(all->members[i].type, one))
            return true;
    for (size_t i = 0; i < all->count; i++)
        if (!covers(one, all->members[i].type))
            all->members[kept++] = all->members[i];
    all->count = kept;
    if (all->count == DOCS_VARIANTS_MAX)
        return false;
    all->members[all->count++] = (struct docs_member){.type = one};
    return true;
}

const struct docs_type *docs_union(struct docs_types *types, const struct docs_type *const *list, size_t count)
{
    size_t room = 1;
    for (size_t i = 0; i < count; i++)
        room += list[i]->kind == DOCS_UNION ? list[i]->count : 1;
    struct docs_type *all = docs_type_make(types, DOCS_UNION, room < DOCS_VARIANTS_MAX ? room : DOCS_VARIANTS_MAX);
    if (!all)
        return &docs_any;
    for (size_t i = 0; i < count; i++) {
        const struct docs_type *one = list[i];
        size_t variants = one->kind == DOCS_UNION ? one->count : 1;
        if (one->kind == DOCS_ANY)
            return &docs_any;
        for (size_t j = 0; j < variants && one->kind != DOCS_NEVER; j++)
            if (!add_variant(all, one->kind == DOCS_UNION ? one->members[j].type : one))
                return &docs_any;
    }
    return all->count == 0 ? &docs_never : all->count == 1 ? all->members[0].type : all;
}

/* --- reading --- */

static const struct docs_type *read_schema(struct docs_types *types, const struct ramet_json *schema, unsigned depth);

static const struct docs_type *read_union(struct docs_types *types, const struct ramet_json *list, unsigned depth)
{
    size_t count = ramet_json_count(list);
    if (count > DOCS_VARIANTS_MAX)
        return &docs_any;
    const struct docs_type **all = docs_alloc(types, (count + 1) * sizeof(*all));
    if (!all)
        return &docs_any;
    for (size_t i = 0; i < count; i++)
        all[i] = read_schema(types, ramet_json_at(list, i), depth + 1);
    return docs_union(types, all, count);
}

static const struct docs_type *read_value(struct docs_types *types, const struct ramet_json *value)
{
    enum ramet_json_kind kind = ramet_json_kind(value);
    if (kind == RAMET_JSON_NULL)
        return &null_type;
    if (kind == RAMET_JSON_OBJECT || kind == RAMET_JSON_ARRAY || kind == RAMET_JSON_ABSENT)
        return &docs_any;
    struct docs_type *type = docs_type_make(types, DOCS_VALUE, 0);
    if (!type)
        return &docs_any;
    type->value = value;
    return type;
}

static const struct docs_type *read_enum(struct docs_types *types, const struct ramet_json *values)
{
    size_t count = ramet_json_count(values);
    if (count == 0 || count > DOCS_VARIANTS_MAX)
        return &docs_any;
    const struct docs_type **all = docs_alloc(types, count * sizeof(*all));
    if (!all)
        return &docs_any;
    for (size_t i = 0; i < count; i++)
        all[i] = read_value(types, ramet_json_at(values, i));
    return docs_union(types, all, count);
}

static bool has_string(const struct ramet_json *list, const char *s)
{
    for (size_t i = 0; i < ramet_json_count(list); i++) {
        const char *one = ramet_json_string_value(ramet_json_at(list, i));
        if (one && strcmp(one, s) == 0)
            return true;
    }
    return false;
}

/* The type of members that are not listed. */
static void read_others(struct docs_types *types, const struct ramet_json *schema, struct docs_type *type,
                        unsigned depth)
{
    const struct ramet_json *additional = ramet_json_get(schema, "additionalProperties");
    const struct ramet_json *patterns = ramet_json_get(schema, "patternProperties"), *pattern;
    const struct docs_type *all[16];
    size_t count = 0;
    void *iter = NULL;
    const char *key;
    bool closed = ramet_json_kind(additional) == RAMET_JSON_BOOL && !ramet_json_is_true(additional);
    if (additional && !closed)
        all[count++] = read_schema(types, additional, depth + 1);
    while (ramet_json_is_object(patterns) && ramet_json_next(patterns, &iter, &key, &pattern))
        if (count < sizeof all / sizeof *all)
            all[count++] = read_schema(types, pattern, depth + 1);
    type->item = count == sizeof all / sizeof *all ? &docs_any : docs_union(types, all, count);
    type->open = type->item->kind != DOCS_NEVER;
    type->listed = type->count > 0 || ramet_json_get(schema, "properties") || closed;
}

static const struct docs_type *read_object(struct docs_types *types, const struct ramet_json *schema, unsigned depth)
{
    const struct ramet_json *properties = ramet_json_get(schema, "properties"), *one;
    const struct ramet_json *required = ramet_json_get(schema, "required");
    size_t count = ramet_json_is_object(properties) ? ramet_json_count(properties) : 0;
    size_t extra = ramet_json_is_array(required) ? ramet_json_count(required) : 0;
    if (count + extra > DOCS_TYPES_MAX)
        return &docs_any;
    struct docs_type *type = docs_type_make(types, DOCS_OBJECT, count + extra);
    void *iter = NULL;
    const char *key;
    if (!type)
        return &docs_any;
    while (count && ramet_json_next(properties, &iter, &key, &one))
        type->members[type->count++] = (struct docs_member){.name = key,
                                                            .type = read_schema(types, one, depth + 1),
                                                            .required = has_string(required, key),
                                                            .schema = one};
    for (size_t i = 0; i < extra; i++) {
        const char *name = ramet_json_string_value(ramet_json_at(required, i));
        if (name && !docs_member_find(type, name))
            type->members[type->count++] = (struct docs_member){.name = name, .type = &docs_any, .required = true};
    }
    read_others(types, schema, type, depth);
    return type;
}

static const struct docs_type *read_array(struct docs_types *types, const struct ramet_json *schema, unsigned depth)
{
    const struct ramet_json *items = ramet_json_get(schema, "items"), *first = ramet_json_get(schema, "prefixItems");
    if (ramet_json_is_array(items)) { /* draft-07 */
        first = items;
        items = ramet_json_get(schema, "additionalItems");
    }
    const struct docs_type *item = items ? read_schema(types, items, depth + 1) : &docs_any;
    size_t count = ramet_json_is_array(first) ? ramet_json_count(first) : 0;
    struct docs_type *type =
        docs_type_make(types, count ? DOCS_TUPLE : DOCS_ARRAY, count > DOCS_VARIANTS_MAX ? 0 : count);
    if (!type || count > DOCS_VARIANTS_MAX)
        return &docs_any;
    int64_t min = ramet_json_int(schema, "minItems", 0);
    for (; type->count < count; type->count++)
        type->members[type->count] =
            (struct docs_member){.type = read_schema(types, ramet_json_at(first, type->count), depth + 1),
                                 .required = (int64_t)type->count < min};
    type->item = count && item->kind == DOCS_NEVER ? NULL : item;
    return type;
}

static const struct docs_type *read_named_type(struct docs_types *types, const struct ramet_json *schema,
                                               const char *name, unsigned depth)
{
    static const struct {
        const char *name;
        const struct docs_type *type;
    } simple[] = {{"string", &string_type},
                  {"number", &number_type},
                  {"integer", &integer_type},
                  {"boolean", &bool_type},
                  {"null", &null_type}};
    for (size_t i = 0; i < sizeof simple / sizeof *simple; i++)
        if (strcmp(simple[i].name, name) == 0)
            return simple[i].type;
    return strcmp(name, "object") == 0  ? read_object(types, schema, depth)
           : strcmp(name, "array") == 0 ? read_array(types, schema, depth)
                                        : &docs_any;
}

/* What "type" says, or the keywords that only make sense for objects or arrays. */
static const struct docs_type *read_type(struct docs_types *types, const struct ramet_json *schema, unsigned depth)
{
    static const char *const of_objects[] = {"properties", "required", "additionalProperties", "patternProperties",
                                             "propertyNames"};
    const struct ramet_json *type = ramet_json_get(schema, "type");
    const struct docs_type *all[8];
    size_t count = 0;
    if (ramet_json_string_value(type))
        return read_named_type(types, schema, ramet_json_string_value(type), depth);
    for (size_t i = 0; ramet_json_is_array(type) && i < ramet_json_count(type); i++) {
        const char *name = ramet_json_string_value(ramet_json_at(type, i));
        if (!name || count == sizeof all / sizeof *all)
            return &docs_any;
        all[count++] = read_named_type(types, schema, name, depth);
    }
    if (count)
        return docs_union(types, all, count);
    for (size_t i = 0; i < sizeof of_objects / sizeof *of_objects; i++)
        if (ramet_json_get(schema, of_objects[i]))
            return read_object(types, schema, depth);
    return ramet_json_get(schema, "items") || ramet_json_get(schema, "prefixItems") ? read_array(types, schema, depth)
                                                                                    : &docs_any;
}

static const struct docs_type *read_ref(struct docs_types *types, const char *ref, unsigned depth)
{
    const char *name = "";
    const struct ramet_json *target = docs_ref_find(types->schema, ref, &name);
    if (!target)
        return &docs_any;
    struct docs_named **last = &types->named;
    for (; *last; last = &(*last)->next)
        if ((*last)->schema == target)
            break;
    if (!*last) {
        struct docs_named *named = docs_alloc(types, sizeof *named);
        if (!named)
            return &docs_any;
        *named = (struct docs_named){.name = name, .schema = target};
        *last = named;
        if (target == types->schema)
            types->root_name = named; /* its type is being read */
        else
            named->type = read_schema(types, target, depth + 1);
        last = NULL;
        for (last = &types->named; *last != named;)
            last = &(*last)->next;
    }
    struct docs_type *type = docs_type_make(types, DOCS_REF, 0);
    if (!type)
        return &docs_any;
    type->named = *last;
    return type;
}

static const struct docs_type *read_all(struct docs_types *types, const struct ramet_json *schema, unsigned depth)
{
    const char *ref = ramet_json_str(schema, "$ref", ramet_json_str(schema, "$dynamicRef", NULL));
    const struct ramet_json *all = ramet_json_get(schema, "allOf"), *values = ramet_json_get(schema, "enum");
    const struct docs_type *type = &docs_any;
    if (ref)
        type = read_ref(types, ref, depth);
    if (ramet_json_get(schema, "const"))
        type = docs_meet(types, type, read_value(types, ramet_json_get(schema, "const")), depth);
    if (ramet_json_is_array(values))
        type = docs_meet(types, type, read_enum(types, values), depth);
    type = docs_meet(types, type, read_type(types, schema, depth), depth);
    for (size_t i = 0; ramet_json_is_array(all) && i < ramet_json_count(all); i++)
        type = docs_meet(types, type, read_schema(types, ramet_json_at(all, i), depth + 1), depth);
    if (ramet_json_count(ramet_json_get(schema, "anyOf")) > 0)
        type = docs_meet(types, type, read_union(types, ramet_json_get(schema, "anyOf"), depth), depth);
    if (ramet_json_count(ramet_json_get(schema, "oneOf")) > 0)
        type = docs_meet(types, type, read_union(types, ramet_json_get(schema, "oneOf"), depth), depth);
    const struct docs_type *or_null[] = {type, &null_type};
    return ramet_json_bool(schema, "nullable", false) ? docs_union(types, or_null, 2) : type;
}

static const struct docs_type *read_schema(struct docs_types *types, const struct ramet_json *schema, unsigned depth)
{
    if (ramet_json_kind(schema) == RAMET_JSON_BOOL)
        return ramet_json_is_true(schema) ? &docs_any : &docs_never;
    if (!ramet_json_is_object(schema) || depth > DOCS_DEPTH_MAX || types->count > DOCS_TYPES_MAX)
        return &docs_any;
    return read_all(types, schema, depth);
}

/* --- types that would consist of themselves --- */

enum { UNSEEN, ENTERED, DONE };

/* Names met without an object or array in between; one that is met again while it is entered is cut. */
static void cut_circles(struct docs_named *named);

static const struct docs_type *cut(const struct docs_type *type)
{
    if (type->kind == DOCS_REF) {
        if (type->named->mark == ENTERED)
            return &docs_any;
        cut_circles(type->named);
    }
    for (size_t i = 0; type->kind == DOCS_UNION && i < type->count; i++)
        type->members[i].type = cut(type->members[i].type);
    return type;
}

static void cut_circles(struct docs_named *named)
{
    if (named->mark != UNSEEN)
        return;
    named->mark = ENTERED;
    named->type = cut(named->type ? named->type : &docs_any);
    named->mark = DONE;
}

/* --- whole documents --- */

struct docs_types *docs_types_new(const struct ramet_json *schema)
{
    struct docs_types *types = calloc(1, sizeof *types);
    if (!types)
        return NULL;
    types->schema = schema;
    types->root = schema ? read_schema(types, schema, 0) : &docs_any;
    if (types->root_name)
        types->root_name->type = types->root;
    for (struct docs_named *named = types->named; named; named = named->next)
        cut_circles(named);
    if (types->root_name)
        types->root = types->root_name->type;
    if (types->failed) {
        docs_types_free(types);
        return NULL;
    }
    return types;
}

void docs_types_free(struct docs_types *types)
{
    if (!types)
        return;
    while (types->blocks) {
        struct block *block = types->blocks;
        types->blocks = block->next;
        free(block);
    }
    free(types);
}

void docs_types_cleanup(struct docs_types **types) { docs_types_free(*types); }
const struct docs_type *docs_types_root(const struct docs_types *types) { return types->root; }
struct docs_named *docs_types_named(const struct docs_types *types) { return types->named; }

const struct docs_type *docs_type_resolve(const struct docs_type *type)
{
    while (type->kind == DOCS_REF)
        type = type->named->type ? type->named->type : &docs_any;
    return type;
}

const struct docs_member *docs_member_find(const struct docs_type *type, const char *name)
{
    for (size_t i = 0; i < type->count; i++)
        if (strcmp(type->members[i].name, name) == 0)
            return &type->members[i];
    return NULL;
}
