/* SPDX-License-Identifier: Apache-2.0 */
/* Names of a generated file's types and function, each used once. */
#ifndef RAMET_API_TOOLS_DOCS_NAMES_H
#define RAMET_API_TOOLS_DOCS_NAMES_H

#include "tools/docs_type.h"

struct docs_names {
    struct docs_name {
        const void *of; /* a type, a docs_named, or NULL: just taken */
        char *name;
    } * items;
    size_t count, capacity;
    bool failed; /* memory ran out */
};

void docs_names_free(struct docs_names *names);
/* Gives `of` just this name. Both return it, "" when memory ran out. */
const char *docs_names_set(struct docs_names *names, const void *of, const char *name);
/* Gives `of` this name or one like it that nobody has. */
const char *docs_names_give(struct docs_names *names, const void *of, const char *wanted);
const char *docs_names_find(const struct docs_names *names, const void *of); /* NULL: it has none */
bool docs_names_taken(const struct docs_names *names, const char *name);

/* Names everything a $ref leads to in `types`; what is the root is called `root`. */
void docs_names_give_named(struct docs_names *names, const struct docs_types *types, const char *root);

#endif
