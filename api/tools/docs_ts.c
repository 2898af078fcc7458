/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FILE.ts: the tool's types and one function that calls it through the daemon's socket, with nothing but node.
 * Types come first: a reader needs no more than the top. Only syntax that can be erased is used, so that a runtime
 * which strips types can run the file as it is.
 */
#include "json.h"
#include "tools/docs_names.h"
#include "tools/docs_stub.h"
#include "tools/docs_text.h"

#include <stdlib.h>
#include <string.h>

enum { comment_max = 240, inline_max = 12, follow_max = 1 };

struct writer {
    struct ramet_buf *out;
    struct docs_names *names; /* NULL: one line, for people */
    unsigned depth;           /* of references followed then */
};

static void put_type(struct writer *w, const struct docs_type *type, unsigned indent);

static void put_value(struct ramet_buf *out, const struct ramet_json *value)
{
    const char *s = ramet_json_string_value(value);
    if (s)
        docs_put_literal(out, s, DOCS_TS);
    else
        docs_put_json(out, value);
}

static void put_indent(struct writer *w, unsigned indent) { docs_putf(w->out, "%*s", (int)(2 * indent), ""); }

static void put_key(struct ramet_buf *out, const char *name)
{
    if (docs_is_identifier(name))
        docs_put(out, name);
    else
        docs_put_literal(out, name, DOCS_TS);
}

/* What the schema says of a member beside its type. */
static void put_member_comment(struct writer *w, const struct docs_member *member, unsigned indent)
{
    const char *description = ramet_json_str(member->schema, "description", NULL);
    const struct ramet_json *value = ramet_json_get(member->schema, "default");
    struct ramet_buf text = {0};
    docs_put_comment(&text, description, comment_max);
    if (value) {
        struct ramet_buf json = {0};
        docs_put_json(&json, value);
        char *s = docs_text_take(&json);
        docs_put(&text, text.size ? " Default: " : "Default: ");
        docs_put_comment(&text, s, 80);
        free(s);
    }
    if (text.size) {
        put_indent(w, indent);
        docs_put(w->out, "/** ");
        ramet_buf_put(w->out, text.data, text.size);
        docs_put(w->out, " */\n");
    }
    w->out->failed |= text.failed;
    ramet_buf_free(&text);
}

static void put_object(struct writer *w, const struct docs_type *type, unsigned indent)
{
    if (!w->names) {
        docs_put(w->out, "object");
        return;
    }
    if (type->count == 0) {
        docs_put(w->out, "{ [key: string]: "); /* Record<> could not stand in a type that refers to itself */
        if (type->open)
            put_type(w, type->item, indent);
        else
            docs_put(w->out, type->listed ? "never" : "unknown");
        docs_put(w->out, " }");
        return;
    }
    docs_put(w->out, "{\n");
    for (size_t i = 0; i < type->count; i++) {
        put_member_comment(w, &type->members[i], indent + 1);
        put_indent(w, indent + 1);
        put_key(w->out, type->members[i].name);
        docs_put(w->out, type->members[i].required ? ": " : "?: ");
        put_type(w, type->members[i].type, indent + 1);
        docs_put(w->out, ";\n");
    }
    if (type->open) {
        put_indent(w, indent + 1);
        docs_put(w->out, "[key: string]: unknown;\n");
    }
    put_indent(w, indent);
    docs_put(w->out, "}");
}

static void put_item(struct writer *w, const struct docs_type *type, unsigned indent)
{
    bool union_item = type->kind == DOCS_UNION;
    docs_put(w->out, union_item ? "(" : "");
    put_type(w, type, indent);
    docs_put(w->out, union_item ? ")[]" : "[]");
}

static void put_tuple(struct writer *w, const struct docs_type *type, unsigned indent)
{
    docs_put(w->out, "[");
    for (size_t i = 0; i < type->count; i++) {
        docs_put(w->out, i ? ", " : "");
        bool union_item = !type->members[i].required && type->members[i].type->kind == DOCS_UNION;
        docs_put(w->out, union_item ? "(" : "");
        put_type(w, type->members[i].type, indent);
        docs_put(w->out, union_item ? ")" : "");
        docs_put(w->out, type->members[i].required ? "" : "?");
    }
    if (type->item) {
        docs_put(w->out, ", ...");
        put_item(w, type->item, indent);
    }
    docs_put(w->out, "]");
}

static void put_union(struct writer *w, const struct docs_type *type, unsigned indent)
{
    size_t shown = !w->names && type->count > inline_max ? inline_max : type->count;
    for (size_t i = 0; i < shown; i++) {
        docs_put(w->out, !i ? "" : w->names ? " | " : "|");
        put_type(w, type->members[i].type, indent);
    }
    if (shown < type->count)
        docs_put(w->out, "|...");
}

static void put_type(struct writer *w, const struct docs_type *type, unsigned indent)
{
    static const char *const plain[] = {
        [DOCS_ANY] = "unknown",    [DOCS_NEVER] = "never",   [DOCS_NULL] = "null",    [DOCS_BOOL] = "boolean",
        [DOCS_INTEGER] = "number", [DOCS_NUMBER] = "number", [DOCS_STRING] = "string"};
    const char *name;
    switch (type->kind) {
    case DOCS_VALUE: put_value(w->out, type->value); return;
    case DOCS_ARRAY: put_item(w, type->item, indent); return;
    case DOCS_TUPLE: put_tuple(w, type, indent); return;
    case DOCS_OBJECT: put_object(w, type, indent); return;
    case DOCS_UNION: put_union(w, type, indent); return;
    case DOCS_REF:
        name = w->names ? docs_names_find(w->names, type->named) : NULL;
        if (name) {
            docs_put(w->out, name);
        } else if (w->depth == follow_max) {
            docs_put(w->out, "...");
        } else {
            w->depth++;
            put_type(w, docs_type_resolve(type), indent);
            w->depth--;
        }
        return;
    default:
        docs_put(w->out, !w->names && type->kind == DOCS_INTEGER ? "integer"
                         : !w->names && type->kind == DOCS_ANY   ? "any"
                                                                 : plain[type->kind]);
    }
}

void docs_put_type_line(struct ramet_buf *out, const struct docs_type *type)
{
    struct writer w = {.out = out};
    put_type(&w, type, 0);
}

/* --- the file --- */

static void put_declared(struct writer *w, const char *name, const struct docs_type *type)
{
    docs_putf(w->out, "export type %s = ", name);
    put_type(w, type, 0);
    docs_put(w->out, ";\n");
}

static void put_declarations(struct writer *w, const struct docs_types *types, const char *root)
{
    docs_names_give_named(w->names, types, root);
    put_declared(w, root, docs_types_root(types));
    for (const struct docs_named *named = docs_types_named(types); named; named = named->next)
        if (named->type != docs_types_root(types))
            put_declared(w, docs_names_find(w->names, named), named->type);
}

static const char runtime[] =
    "export type Content = { type: string; text?: string; data?: string; mimeType?: string; [key: string]: unknown };\n"
    "\n"
    "/** The tool or the way to it failed; `result` is what the tool answered, where it did. */\n"
    "export class ToolError extends Error {\n"
    "  code: string;\n"
    "  result: unknown;\n"
    "  constructor(message: string, code: string, result?: unknown) {\n"
    "    super(message);\n"
    "    this.name = \"ToolError\";\n"
    "    this.code = code;\n"
    "    this.result = result;\n"
    "  }\n"
    "}\n"
    "\n"
    "function call(path: string, args: unknown): Promise<unknown> {\n"
    "  const token = process.env[\"RAMET_TOKEN\"];\n"
    "  const headers = { \"Content-Type\": \"application/json\", ...(token ? { Authorization: \"Bearer \" + token } : "
    "{}) };\n"
    "  const socketPath = process.env[\"RAMET_SOCKET\"] || SOCKET;\n"
    "  return new Promise((resolve, reject) => {\n"
    "    const lost = (e: Error) => reject(new ToolError(\"ramet does not answer: \" + e.message, \"unavailable\"));\n"
    "    const request = httpRequest({ socketPath, path, method: \"POST\", headers, agent: false }, (answer) => {\n"
    "      let text = \"\";\n"
    "      answer.setEncoding(\"utf8\");\n"
    "      answer.on(\"data\", (part: string) => (text += part));\n"
    "      answer.on(\"error\", lost);\n"
    "      answer.on(\"end\", () => {\n"
    "        let body: any;\n"
    "        try {\n"
    "          body = JSON.parse(text);\n"
    "        } catch (e) {\n"
    "          return lost(e as Error);\n"
    "        }\n"
    "        if (answer.statusCode !== 200) reject(new ToolError(body.error.message, body.error.code));\n"
    "        else if (body.isError !== true) resolve(body);\n"
    "        else {\n"
    "          const said = (body.content ?? []).filter((c: Content) => c.type === \"text\").map((c: Content) => "
    "c.text);\n"
    "          reject(new ToolError(said.join(\"\\n\") || \"the tool failed\", \"tool_error\", body));\n"
    "        }\n"
    "      });\n"
    "    });\n"
    "    request.on(\"error\", lost);\n"
    "    request.end(JSON.stringify(args));\n"
    "  });\n"
    "}\n";

static void put_head(struct ramet_buf *out, const struct docs_tool *tool)
{
    docs_put(out, "/// <reference types=\"node\" />\n// ");
    docs_put_comment(out, ramet_json_str(tool->definition, "description", tool->name), comment_max);
    docs_putf(out, "\nimport { request as httpRequest } from \"node:http\";\n\n");
}

static bool needs_arguments(const struct docs_type *type)
{
    type = docs_type_resolve(type);
    if (type->kind == DOCS_ANY)
        return false;
    for (size_t i = 0; type->kind == DOCS_OBJECT && i < type->count; i++)
        if (type->members[i].required)
            return true;
    return type->kind != DOCS_OBJECT;
}

void docs_put_ts(struct ramet_buf *out, const struct docs_tool *tool)
{
    struct docs_names names = {0};
    struct writer w = {.out = out, .names = &names};
    char *function = docs_function_name(tool);
    if (!function) {
        out->failed = true;
        return;
    }
    docs_names_set(&names, NULL, function);
    put_head(out, tool);
    put_declarations(&w, tool->input, "Args");
    if (tool->output)
        put_declarations(&w, tool->output, "Output");
    docs_put(out, "export type Result = { content: Content[]; ");
    docs_put(out, tool->output ? "structuredContent: Output; " : "");
    docs_put(out, "[key: string]: unknown };\n\n");
    docs_putf(out, "export async function %s(args: Args%s): Promise<Result> {\n  return (await call(", function,
              needs_arguments(docs_types_root(tool->input)) ? "" : " = {}");
    struct ramet_buf path = {0};
    docs_put_call_path(&path, tool);
    char *text = docs_text_take(&path);
    docs_put_literal(out, text ? text : "", DOCS_TS);
    docs_put(out, ", args)) as Result;\n}\n\nconst SOCKET = ");
    docs_put_literal(out, tool->socket, DOCS_TS);
    docs_put(out, ";\n");
    docs_put(out, runtime);
    out->failed |= names.failed || !text;
    free(text);
    free(function);
    docs_names_free(&names);
}
