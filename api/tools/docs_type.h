/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A JSON Schema as a type that TypeScript and Python can express.
 *
 * Understood, of 2020-12 and of draft-07 alike: type, enum, const, properties, required, additionalProperties,
 * patternProperties, items, prefixItems, additionalItems, anyOf, oneOf, allOf, nullable, $ref and $dynamicRef to places
 * in the same document ($defs, definitions, #, any pointer, $anchor, $id), boolean schemas. What is not (if, not,
 * network references, bounds, formats) makes a type wider, never narrower or wrong. Where schemas meet (allOf, siblings
 * of $ref or anyOf), objects are merged and unions distributed, so a type has no intersections.
 *
 * Hostile schemas are bounded: nesting to DOCS_DEPTH_MAX, DOCS_TYPES_MAX types in all, DOCS_VARIANTS_MAX of a union;
 * beyond, a type is "any". A type that would consist of itself alone is cut with "any" too, since neither language
 * takes it.
 *
 * Types live in the docs_types they came from and borrow names and literals from the schema.
 */
#ifndef RAMET_API_TOOLS_DOCS_TYPE_H
#define RAMET_API_TOOLS_DOCS_TYPE_H

#include <stdbool.h>
#include <stddef.h>

#define DOCS_DEPTH_MAX 32
#define DOCS_TYPES_MAX 4000
#define DOCS_VARIANTS_MAX 256

struct ramet_json;

enum docs_kind {
    DOCS_ANY,
    DOCS_NEVER,
    DOCS_NULL,
    DOCS_BOOL,
    DOCS_INTEGER,
    DOCS_NUMBER,
    DOCS_STRING,
    DOCS_VALUE,  /* a literal string, number or boolean */
    DOCS_ARRAY,  /* of `item` */
    DOCS_TUPLE,  /* members without names, then any number of `item` (NULL: none) */
    DOCS_OBJECT, /* members, and others of type `item` where `open` */
    DOCS_UNION,  /* members without names, two or more, none a union */
    DOCS_REF,    /* to `named` */
};

struct docs_type {
    enum docs_kind kind;
    bool open;                      /* of an object: others than its members may be there */
    bool listed;                    /* of an object: the schema says what members there are, perhaps none */
    const struct ramet_json *value; /* the literal */
    const struct docs_type *item;
    struct docs_member *members;
    size_t count; /* of members */
    struct docs_named *named;
};

struct docs_member {
    const char *name; /* of an object's; borrowed */
    const struct docs_type *type;
    bool required;                   /* of an object's or a tuple's */
    const struct ramet_json *schema; /* of an object's, for its description and default; may be NULL */
};

/* What a $ref refers to. */
struct docs_named {
    const char *name; /* the last part of the reference; borrowed; not unique, perhaps "" */
    const struct ramet_json *schema;
    const struct docs_type *type;
    struct docs_named *next; /* in the order they were found */
    int mark;                /* for whoever walks */
};

struct docs_types;

/* The types of one document; NULL when memory ran out. The schema must outlive it. NULL stands for {}. */
struct docs_types *docs_types_new(const struct ramet_json *schema);
void docs_types_free(struct docs_types *types); /* NULL is a no-op */
void docs_types_cleanup(struct docs_types **types);
/* Of the whole document; NULL when memory ran out. */
const struct docs_type *docs_types_root(const struct docs_types *types);
struct docs_named *docs_types_named(const struct docs_types *types);

/* The type a reference stands for, itself no reference. */
const struct docs_type *docs_type_resolve(const struct docs_type *type);

#endif
