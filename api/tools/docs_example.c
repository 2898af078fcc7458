/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments that fit a type, as an example: what the schema suggests, else the plainest. */
#include "json.h"
#include "tools/docs_stub.h"
#include "tools/docs_text.h"

#include <string.h>

enum { depth_max = 6, suggestion_max = 80 };

static void put_example(struct ramet_buf *out, const struct docs_type *type, unsigned depth);

/* A value that the schema's author gave, unless it is long. */
static bool put_suggested(struct ramet_buf *out, const struct ramet_json *schema)
{
    const struct ramet_json *value = ramet_json_at(ramet_json_get(schema, "examples"), 0);
    size_t before = out->size;
    value = value ? value : ramet_json_get(schema, "default");
    if (!value)
        return false;
    docs_put_json(out, value);
    if (out->size - before <= suggestion_max)
        return true;
    if (!out->failed)
        out->size = before;
    return false;
}

static void put_object(struct ramet_buf *out, const struct docs_type *type, unsigned depth)
{
    bool any = false;
    docs_put(out, "{");
    for (size_t i = 0; i < type->count && depth < depth_max; i++) {
        const struct docs_member *member = &type->members[i];
        if (!member->required)
            continue;
        docs_put(out, any ? "," : "");
        docs_put_literal(out, member->name, DOCS_JSON);
        docs_put(out, ":");
        if (!put_suggested(out, member->schema)) {
            int64_t min = ramet_json_int(member->schema, "minimum", 1);
            enum docs_kind kind = docs_type_resolve(member->type)->kind;
            if (min > 1 && (kind == DOCS_INTEGER || kind == DOCS_NUMBER))
                docs_putf(out, "%lld", (long long)min);
            else
                put_example(out, member->type, depth + 1);
        }
        any = true;
    }
    docs_put(out, "}");
}

static void put_tuple(struct ramet_buf *out, const struct docs_type *type, unsigned depth)
{
    docs_put(out, "[");
    for (size_t i = 0; i < type->count && (type->members[i].required || i == 0); i++) {
        docs_put(out, i ? "," : "");
        put_example(out, type->members[i].type, depth + 1);
    }
    docs_put(out, "]");
}

static void put_example(struct ramet_buf *out, const struct docs_type *type, unsigned depth)
{
    type = docs_type_resolve(type);
    switch (type->kind) {
    case DOCS_BOOL: docs_put(out, "true"); break;
    case DOCS_INTEGER:
    case DOCS_NUMBER: docs_put(out, "1"); break;
    case DOCS_STRING: docs_put(out, "\"...\""); break;
    case DOCS_VALUE:
        if (ramet_json_string_value(type->value))
            docs_put_literal(out, ramet_json_string_value(type->value), DOCS_JSON);
        else
            docs_put_json(out, type->value);
        break;
    case DOCS_ARRAY:
        docs_put(out, "[");
        if (depth < depth_max && type->item->kind != DOCS_ANY)
            put_example(out, type->item, depth + 1);
        docs_put(out, "]");
        break;
    case DOCS_TUPLE: put_tuple(out, type, depth); break;
    case DOCS_OBJECT: put_object(out, type, depth); break;
    case DOCS_UNION: put_example(out, type->members[0].type, depth + 1); break;
    default: docs_put(out, "null");
    }
}

void docs_put_example(struct ramet_buf *out, const struct docs_type *type)
{
    if (docs_type_resolve(type)->kind == DOCS_ANY)
        docs_put(out, "{}");
    else
        put_example(out, type, 0);
}
