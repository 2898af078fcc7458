/* SPDX-License-Identifier: Apache-2.0 */
/* Where two types meet: what is of both. Objects are merged, unions distributed, scalars compared. */
#include "docs_type_private.h"

#include "json.h"

/* A literal is of a scalar type. */
static bool value_is(const struct ramet_json *value, enum docs_kind kind)
{
    switch (ramet_json_kind(value)) {
    case RAMET_JSON_STRING: return kind == DOCS_STRING;
    case RAMET_JSON_BOOL: return kind == DOCS_BOOL;
    case RAMET_JSON_INTEGER: return kind == DOCS_INTEGER || kind == DOCS_NUMBER;
    case RAMET_JSON_REAL: return kind == DOCS_NUMBER;
    default: return false;
    }
}

static const struct docs_type *meet_objects(struct docs_types *types, const struct docs_type *a,
                                            const struct docs_type *b, unsigned depth)
{
    struct docs_type *type = docs_type_make(types, DOCS_OBJECT, a->count + b->count);
    if (!type)
        return &docs_any;
    for (size_t i = 0; i < a->count; i++) {
        struct docs_member member = a->members[i];
        const struct docs_member *other = docs_member_find(b, member.name);
        if (other) {
            member.type = docs_meet(types, member.type, other->type, depth + 1);
            member.required |= other->required;
            member.schema = member.schema ? member.schema : other->schema;
        }
        type->members[type->count++] = member;
    }
    for (size_t i = 0; i < b->count; i++)
        if (!docs_member_find(a, b->members[i].name))
            type->members[type->count++] = b->members[i];
    type->open = a->open || b->open;
    type->item = !a->open ? b->item : !b->open ? a->item : docs_meet(types, a->item, b->item, depth + 1);
    type->listed = a->listed || b->listed;
    return type;
}

/* Each variant of the union `a` with `b`. */
static const struct docs_type *distribute(struct docs_types *types, const struct docs_type *a,
                                          const struct docs_type *b, unsigned depth)
{
    const struct docs_type **all = docs_alloc(types, a->count * sizeof(*all));
    if (!all)
        return &docs_any;
    for (size_t i = 0; i < a->count; i++)
        all[i] = docs_meet(types, a->members[i].type, b, depth + 1);
    return docs_union(types, all, a->count);
}

static const struct docs_type *meet_arrays(struct docs_types *types, const struct docs_type *a,
                                           const struct docs_type *b, unsigned depth)
{
    if (a->kind == DOCS_TUPLE || b->kind == DOCS_TUPLE)
        return a->kind == DOCS_TUPLE ? a : b;
    struct docs_type *type = docs_type_make(types, DOCS_ARRAY, 0);
    if (!type)
        return &docs_any;
    type->item = docs_meet(types, a->item, b->item, depth + 1);
    return type;
}

const struct docs_type *docs_meet(struct docs_types *types, const struct docs_type *a, const struct docs_type *b,
                                  unsigned depth)
{
    if (a == b || b->kind == DOCS_ANY || a->kind == DOCS_NEVER)
        return a;
    if (a->kind == DOCS_ANY || b->kind == DOCS_NEVER)
        return b;
    if (depth > DOCS_DEPTH_MAX || types->count > DOCS_TYPES_MAX)
        return &docs_any;
    /* A reference whose type is still being read stays one: the other side is forgotten, which is only wider. */
    if (a->kind == DOCS_REF)
        return a->named->type ? docs_meet(types, a->named->type, b, depth + 1) : a;
    if (b->kind == DOCS_REF)
        return b->named->type ? docs_meet(types, a, b->named->type, depth + 1) : b;
    if (a->kind == DOCS_UNION)
        return distribute(types, a, b, depth);
    if (b->kind == DOCS_UNION)
        return distribute(types, b, a, depth);
    if (a->kind == DOCS_OBJECT && b->kind == DOCS_OBJECT)
        return meet_objects(types, a, b, depth);
    if ((a->kind == DOCS_ARRAY || a->kind == DOCS_TUPLE) && (b->kind == DOCS_ARRAY || b->kind == DOCS_TUPLE))
        return meet_arrays(types, a, b, depth);
    if (a->kind == DOCS_VALUE)
        return (b->kind == DOCS_VALUE ? ramet_json_equal(a->value, b->value) : value_is(a->value, b->kind))
                   ? a
                   : &docs_never;
    if (b->kind == DOCS_VALUE)
        return value_is(b->value, a->kind) ? b : &docs_never;
    if (a->kind == DOCS_NUMBER && b->kind == DOCS_INTEGER)
        return b;
    if (a->kind == DOCS_INTEGER && b->kind == DOCS_NUMBER)
        return a;
    return a->kind == b->kind ? a : &docs_never;
}
