/* SPDX-License-Identifier: Apache-2.0 */
/* What docs_type.c, docs_meet.c and docs_ref.c share. */
#ifndef RAMET_API_TOOLS_DOCS_TYPE_PRIVATE_H
#define RAMET_API_TOOLS_DOCS_TYPE_PRIVATE_H

#include "tools/docs_type.h"

struct docs_types {
    const struct ramet_json *schema;
    const struct docs_type *root;
    struct docs_named *named;
    struct docs_named *root_name; /* set when something refers to the whole */
    struct block *blocks;
    size_t count; /* types made */
    bool failed;  /* memory ran out */
};

extern const struct docs_type docs_any, docs_never;

void *docs_alloc(struct docs_types *types, size_t size); /* zeroed; NULL when memory ran out, which is noted */
/* With room for `members`, none there yet. NULL when there are too many types, or no memory. */
struct docs_type *docs_type_make(struct docs_types *types, enum docs_kind kind, size_t members);
const struct docs_type *docs_union(struct docs_types *types, const struct docs_type *const *list, size_t count);
const struct docs_member *docs_member_find(const struct docs_type *type, const char *name); /* NULL: none */

/* docs_meet.c: what is of both types. */
const struct docs_type *docs_meet(struct docs_types *types, const struct docs_type *a, const struct docs_type *b,
                                  unsigned depth);

/* docs_ref.c: what a $ref leads to inside of the document, NULL when nothing; *ret_name is its last part. */
const struct ramet_json *docs_ref_find(const struct ramet_json *document, const char *ref, const char **ret_name);

#endif
