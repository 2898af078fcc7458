/* SPDX-License-Identifier: Apache-2.0 */
/* What schema.c (one value against one schema), schema_values.c (by type) and schema_ref.c (references) share. */
#ifndef RAMET_API_TOOLS_SCHEMA_PRIVATE_H
#define RAMET_API_TOOLS_SCHEMA_PRIVATE_H

#include "json.h"
#include "tools/schema.h"

/* Where a value is: a member of what is at `parent`, or an element of it. */
struct schema_path {
    const struct schema_path *parent; /* NULL: the value as a whole */
    const char *key;                  /* NULL: element `index` */
    size_t index;
    unsigned depth;
};

struct schema_check {
    const struct ramet_json *root;
    bool old;            /* a draft before 2019-09: nothing counts beside $ref */
    bool exhausted;      /* it was given up */
    unsigned depth;      /* schemas that may still be nested */
    unsigned long steps; /* that may still be taken */
};

/* What is wrong, and how deep in the value. A NULL failure asks for no text. */
struct schema_failure {
    char text[360];
    unsigned depth;
};

/* Returns false after describing it. */
bool ramet_schema_fail(struct schema_failure *failure, const struct schema_path *path, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Counts work; false when there was too much of it. */
bool ramet_schema_charge(struct schema_check *check, unsigned long steps, struct schema_failure *failure,
                         const struct schema_path *path);
#define SCHEMA_PATTERN_STEPS 300 /* what a search for a pattern costs */
#define SCHEMA_ANCHOR_STEPS 300

bool ramet_schema_value(struct schema_check *check, const struct ramet_json *schema, const struct ramet_json *value,
                        const struct schema_path *path, struct schema_failure *failure);

/* schema_values.c: the keywords of one type of value; those of others are not looked at. */
bool ramet_schema_number(const struct ramet_json *schema, const struct ramet_json *value,
                         const struct schema_path *path, struct schema_failure *failure);
bool ramet_schema_string(struct schema_check *check, const struct ramet_json *schema, const struct ramet_json *value,
                         const struct schema_path *path, struct schema_failure *failure);
bool ramet_schema_array(struct schema_check *check, const struct ramet_json *schema, const struct ramet_json *value,
                        const struct schema_path *path, struct schema_failure *failure);

/* schema_object.c */
bool ramet_schema_object(struct schema_check *check, const struct ramet_json *schema, const struct ramet_json *value,
                         const struct schema_path *path, struct schema_failure *failure);

/* schema_ref.c: what a reference within the root means; NULL when it leads nowhere. */
const struct ramet_json *ramet_schema_ref(const struct ramet_json *root, const char *ref);

/* As JSON Schema has it: numbers by value, members in any order. */
bool ramet_schema_equal(struct schema_check *check, const struct ramet_json *a, const struct ramet_json *b);

#endif
