/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FILE.md: what a model reads before it calls a tool, in few words: purpose, arguments, result, hints, an example.
 * All that the server wrote stands in a quotation or at the end of a list item: it cannot pass for ours.
 */
#include "json.h"
#include "tools/docs_stub.h"
#include "tools/docs_text.h"

#include <stdlib.h>
#include <string.h>

enum { purpose_max = 16384, member_max = 400, depth_max = 5, members_max = 200 };

/* The object whose members are worth listing below a line: the type itself, or what an array or union holds. */
static const struct docs_type *object_in(const struct docs_type *type)
{
    type = docs_type_resolve(type);
    for (unsigned i = 0; type->kind == DOCS_ARRAY && i < depth_max; i++) /* one may be an array of itself */
        type = docs_type_resolve(type->item);
    for (size_t i = 0; type->kind == DOCS_UNION && i < type->count; i++) {
        const struct docs_type *one = docs_type_resolve(type->members[i].type);
        if (one->kind == DOCS_OBJECT && one->count)
            return one;
    }
    return type->kind == DOCS_OBJECT && type->count ? type : NULL;
}

static void put_name(struct ramet_buf *out, const char *name)
{
    if (docs_is_identifier(name))
        docs_put(out, name);
    else
        docs_put_literal(out, name, DOCS_JSON);
}

static void put_default(struct ramet_buf *out, const struct ramet_json *value)
{
    struct ramet_buf json = {0};
    docs_put_json(&json, value);
    char *text = docs_text_take(&json);
    docs_put(out, ", default ");
    docs_put_line(out, text, 80);
    out->failed |= !text;
    free(text);
}

static void put_members(struct ramet_buf *out, const struct docs_type *type, unsigned depth, size_t *left)
{
    for (size_t i = 0; i < type->count; i++) {
        const struct docs_member *member = &type->members[i];
        const char *description = ramet_json_str(member->schema, "description", NULL);
        const struct docs_type *inner = object_in(member->type);
        if ((*left)-- == 0) {
            *left = 0;
            docs_putf(out, "%*s- ... (the .json file has all of them)\n", (int)(2 * depth), "");
            return;
        }
        docs_putf(out, "%*s- ", (int)(2 * depth), "");
        put_name(out, member->name);
        docs_put(out, ": ");
        docs_put_type_line(out, member->type);
        docs_put(out, member->required ? ", required" : "");
        if (ramet_json_get(member->schema, "default"))
            put_default(out, ramet_json_get(member->schema, "default"));
        if (description && *description) {
            docs_put(out, ". ");
            docs_put_line(out, description, member_max);
        }
        docs_put(out, "\n");
        if (inner && depth < depth_max)
            put_members(out, inner, depth + 1, left);
    }
}

/* A union of objects as one list each. */
static void put_arguments(struct ramet_buf *out, const struct docs_type *type)
{
    size_t left = members_max;
    type = docs_type_resolve(type);
    if (type->kind == DOCS_OBJECT && type->count) {
        docs_put(out, "\nArguments:\n");
        put_members(out, type, 0, &left);
    } else if (type->kind == DOCS_UNION) {
        for (size_t i = 0; i < type->count; i++) {
            const struct docs_type *one = docs_type_resolve(type->members[i].type);
            docs_put(out, i ? "\nor:\n" : "\nArguments, one of these:\n");
            if (one->kind == DOCS_OBJECT && one->count)
                put_members(out, one, 0, &left);
        }
    } else {
        docs_put(out, type->kind == DOCS_ANY || type->open ? "\nArguments: any\n" : "\nArguments: none\n");
    }
}

static void put_result(struct ramet_buf *out, const struct docs_types *output)
{
    const struct docs_type *object = output ? object_in(docs_types_root(output)) : NULL;
    size_t left = members_max;
    if (!output) {
        docs_put(out, "\nResult: content\n");
        return;
    }
    docs_put(out, "\nResult: content, structuredContent:");
    if (object) {
        docs_put(out, "\n");
        put_members(out, object, 0, &left);
    } else {
        docs_put(out, " ");
        docs_put_type_line(out, docs_types_root(output));
        docs_put(out, "\n");
    }
}

/* The hints a server gives of its own accord; those at their defaults are left out. */
static void put_hints(struct ramet_buf *out, const struct ramet_json *definition)
{
    const struct ramet_json *hints = ramet_json_get(definition, "annotations");
    const char *separator = "\nHints: ";
    bool read_only = ramet_json_bool(hints, "readOnlyHint", false);
    const struct {
        bool said;
        const char *text;
    } all[] = {{read_only, "read-only"},
               {!read_only && ramet_json_is_object(hints) && !ramet_json_bool(hints, "destructiveHint", true),
                "not destructive"},
               {!read_only && ramet_json_bool(hints, "destructiveHint", false), "destructive"},
               {!read_only && ramet_json_bool(hints, "idempotentHint", false), "idempotent"},
               {!ramet_json_bool(hints, "openWorldHint", true), "closed world"}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].said) {
            docs_put(out, separator);
            docs_put(out, all[i].text);
            separator = ", ";
        }
    docs_put(out, *separator == ',' ? "\n" : "");
}

void docs_put_md(struct ramet_buf *out, const struct docs_tool *tool)
{
    const char *title = ramet_json_str(tool->definition, "title", NULL);
    struct ramet_buf example = {0};
    docs_put(out, "# ");
    docs_put_line(out, *tool->name ? tool->name : "(no name)", 200);
    if (title && *title && strcmp(title, tool->name) != 0) {
        docs_put(out, ": ");
        docs_put_line(out, title, 100);
    }
    docs_put(out, "\n");
    docs_put_quoted(out, "> ", ramet_json_str(tool->definition, "description", NULL), purpose_max);
    put_arguments(out, docs_types_root(tool->input));
    put_result(out, tool->output);
    put_hints(out, tool->definition);
    docs_put(out, "\nExample: ./");
    docs_put(out, tool->file);
    docs_put(out, ".sh ");
    docs_put_example(&example, docs_types_root(tool->input));
    char *text = docs_text_take(&example);
    docs_put_shell(out, text ? text : "{}");
    docs_put(out, "\n");
    out->failed |= !text;
    free(text);
}
