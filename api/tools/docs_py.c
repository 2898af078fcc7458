/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FILE.py: the same for Python 3.11 and later, with nothing but its standard library; as a program it takes the
 * arguments as JSON and prints the result.
 *
 * Every object with members is a TypedDict with a name: first all get names, then all are written. Names in types are
 * quoted wherever Python evaluates them, so their order does not matter. A class cannot have members that are no
 * identifiers, that Python would mangle, or that hide a name the annotations use: those objects are written as calls.
 */
#include "json.h"
#include "tools/docs_names.h"
#include "tools/docs_stub.h"
#include "tools/docs_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { comment_max = 240 };

struct writer {
    struct ramet_buf *out;
    struct docs_names *names;
    bool quoted; /* names of types are in quotes */
};

static bool is_class(const struct docs_type *type)
{
    return type->kind == DOCS_OBJECT && (type->count > 0 || (type->listed && !type->open));
}

/* --- names --- */

static void name_types(struct docs_names *names, const struct docs_type *type, const char *wanted)
{
    char next[160];
    if (type->kind == DOCS_ARRAY || type->kind == DOCS_TUPLE || (type->kind == DOCS_OBJECT && type->open)) {
        snprintf(next, sizeof next, "%.100sItem", wanted);
        if (type->item)
            name_types(names, type->item, next);
    }
    if (is_class(type)) {
        if (docs_names_find(names, type))
            return;
        wanted = docs_names_give(names, type, wanted);
    }
    for (size_t i = 0; i < type->count; i++) {
        struct ramet_buf name = {0};
        docs_putf(&name, "%.100s", wanted);
        if (type->kind == DOCS_OBJECT)
            docs_put_type_name(&name, type->members[i].name);
        char *text = docs_text_take(&name);
        name_types(names, type->members[i].type, text ? text : wanted);
        names->failed |= !text;
        free(text);
    }
}

static void name_all(struct docs_names *names, const struct docs_types *types, const char *root)
{
    const struct docs_type *type = docs_types_root(types);
    docs_names_give_named(names, types, root);
    if (is_class(type))
        docs_names_set(names, type, root);
    for (size_t i = 0; i < type->count; i++) {
        struct ramet_buf name = {0};
        docs_put(&name, root);
        if (type->kind == DOCS_OBJECT)
            docs_put_type_name(&name, type->members[i].name);
        char *text = docs_text_take(&name);
        name_types(names, type->members[i].type, text ? text : root);
        names->failed |= !text;
        free(text);
    }
    if (!is_class(type))
        name_types(names, type, root);
    for (const struct docs_named *named = docs_types_named(types); named; named = named->next) {
        const char *name = docs_names_find(names, named);
        if (is_class(named->type) && named->type != type && !docs_names_find(names, named->type) && name)
            docs_names_set(names, named->type, name);
        name_types(names, named->type, name ? name : root);
    }
}

/* --- types --- */

static void put_type(struct writer *w, const struct docs_type *type);

static void put_name(struct writer *w, const char *name) { docs_putf(w->out, w->quoted ? "\"%s\"" : "%s", name); }

/* Python has no literal types of fractions. */
static bool is_literal(const struct docs_type *type)
{
    return type->kind == DOCS_VALUE && ramet_json_kind(type->value) != RAMET_JSON_REAL;
}

static void put_value(struct ramet_buf *out, const struct ramet_json *value)
{
    if (ramet_json_kind(value) == RAMET_JSON_BOOL)
        docs_put(out, ramet_json_is_true(value) ? "True" : "False");
    else if (ramet_json_string_value(value))
        docs_put_literal(out, ramet_json_string_value(value), DOCS_PY);
    else
        docs_put_json(out, value);
}

/* All literals of a union in one, or the one. */
static void put_literals(struct ramet_buf *out, const struct docs_type *type)
{
    bool any = false;
    docs_put(out, "Literal[");
    if (type->kind == DOCS_VALUE)
        put_value(out, type->value);
    for (size_t i = 0; i < type->count; i++)
        if (is_literal(type->members[i].type)) {
            docs_put(out, any ? ", " : "");
            put_value(out, type->members[i].type->value);
            any = true;
        }
    docs_put(out, "]");
}

static void put_union(struct writer *w, const struct docs_type *type)
{
    size_t literals = 0, others = 0, put = 0;
    for (size_t i = 0; i < type->count; i++)
        *(is_literal(type->members[i].type) ? &literals : &others) += 1;
    if (others == 0) {
        put_literals(w->out, type);
        return;
    }
    docs_put(w->out, "Union[");
    for (size_t i = 0; i < type->count; i++) {
        bool literal = is_literal(type->members[i].type);
        if (literal && literals == 0)
            continue; /* put with the first */
        docs_put(w->out, put++ ? ", " : "");
        if (literal) {
            put_literals(w->out, type);
            literals = 0;
        } else {
            put_type(w, type->members[i].type);
        }
    }
    docs_put(w->out, "]");
}

/* JSON's arrays are lists: what may be at any place of it. */
static void put_tuple(struct writer *w, const struct docs_type *type)
{
    docs_put(w->out, "list[Union[");
    for (size_t i = 0; i < type->count; i++) {
        docs_put(w->out, i ? ", " : "");
        put_type(w, type->members[i].type);
    }
    if (type->item) {
        docs_put(w->out, ", ");
        put_type(w, type->item);
    }
    docs_put(w->out, "]]");
}

static void put_type(struct writer *w, const struct docs_type *type)
{
    static const char *const plain[] = {
        [DOCS_ANY] = "Any",     [DOCS_NEVER] = "Never",  [DOCS_NULL] = "None", [DOCS_BOOL] = "bool",
        [DOCS_INTEGER] = "int", [DOCS_NUMBER] = "float", [DOCS_STRING] = "str"};
    const char *name;
    switch (type->kind) {
    case DOCS_VALUE:
        if (is_literal(type))
            put_literals(w->out, type);
        else
            docs_put(w->out, "float");
        return;
    case DOCS_ARRAY:
        docs_put(w->out, "list[");
        put_type(w, type->item);
        docs_put(w->out, "]");
        return;
    case DOCS_TUPLE: put_tuple(w, type); return;
    case DOCS_OBJECT:
        name = docs_names_find(w->names, type);
        if (name) {
            put_name(w, name);
            return;
        }
        docs_put(w->out, "dict[str, ");
        put_type(w, type->open ? type->item : &(const struct docs_type){.kind = DOCS_ANY});
        docs_put(w->out, "]");
        return;
    case DOCS_UNION: put_union(w, type); return;
    case DOCS_REF:
        name = docs_names_find(w->names, type->named->type);
        name = name ? name : docs_names_find(w->names, type->named);
        put_name(w, name ? name : "Any");
        return;
    default: docs_put(w->out, plain[type->kind]);
    }
}

/* --- declarations --- */

static void put_comment(struct writer *w, const struct docs_member *member)
{
    const struct ramet_json *value = ramet_json_get(member->schema, "default");
    struct ramet_buf text = {0};
    docs_put_comment(&text, ramet_json_str(member->schema, "description", NULL), comment_max);
    if (value) {
        struct ramet_buf json = {0};
        docs_put_json(&json, value);
        char *s = docs_text_take(&json);
        docs_put(&text, text.size ? " Default: " : "Default: ");
        docs_put_comment(&text, s, 80);
        free(s);
    }
    if (text.size) {
        docs_put(w->out, "    # ");
        ramet_buf_put(w->out, text.data, text.size);
        docs_put(w->out, "\n");
    }
    w->out->failed |= text.failed;
    ramet_buf_free(&text);
}

static void put_member_type(struct writer *w, const struct docs_member *member)
{
    docs_put(w->out, member->required ? "" : "NotRequired[");
    put_type(w, member->type);
    docs_put(w->out, member->required ? "" : "]");
}

static bool fits_class(const struct writer *w, const struct docs_type *type)
{
    for (size_t i = 0; i < type->count; i++) {
        const char *name = type->members[i].name;
        if (!docs_is_identifier(name) || strncmp(name, "__", 2) == 0 || docs_names_taken(w->names, name))
            return false;
    }
    return true;
}

static void put_class(struct writer *w, const char *name, const struct docs_type *type)
{
    bool class = fits_class(w, type);
    w->quoted = !class;
    docs_putf(w->out, class ? "\n\nclass %s(TypedDict):\n" : "\n\n%s = TypedDict(\"%s\", {\n", name, name);
    for (size_t i = 0; i < type->count; i++) {
        put_comment(w, &type->members[i]);
        docs_put(w->out, "    ");
        if (class)
            docs_put(w->out, type->members[i].name);
        else
            docs_put_literal(w->out, type->members[i].name, DOCS_PY);
        docs_put(w->out, ": ");
        put_member_type(w, &type->members[i]);
        docs_put(w->out, class ? "\n" : ",\n");
    }
    docs_put(w->out, !class ? "})\n" : type->count ? "" : "    pass\n");
}

static void put_alias(struct writer *w, const char *name, const struct docs_type *type)
{
    w->quoted = true;
    docs_putf(w->out, "\n\n%s: TypeAlias = ", name);
    put_type(w, type);
    docs_put(w->out, "\n");
}

static void put_declarations(struct writer *w, const struct docs_types *types, const char *root, size_t from)
{
    const struct docs_type *type = docs_types_root(types);
    if (is_class(type))
        put_class(w, root, type);
    else
        put_alias(w, root, type);
    for (const struct docs_named *named = docs_types_named(types); named; named = named->next)
        if (named->type != type && !is_class(named->type))
            put_alias(w, docs_names_find(w->names, named), named->type);
    for (size_t i = from; i < w->names->count; i++) {
        const struct docs_type *one = w->names->items[i].of;
        bool named = false;
        for (const struct docs_named *n = docs_types_named(types); n; n = n->next)
            named |= (const void *)n == (const void *)one;
        if (one && !named && one != type)
            put_class(w, w->names->items[i].name, one);
    }
}

static const char runtime_class[] =
    "\n\nclass ToolError(Exception):\n"
    "    \"\"\"The tool or the way to it failed; `result` is what the tool answered, where it did.\"\"\"\n"
    "\n"
    "    def __init__(self, message: str, code: str, result: Any = None) -> None:\n"
    "        super().__init__(message)\n"
    "        self.code = code\n"
    "        self.result = result\n";

static const char runtime[] =
    "\n\nclass _Daemon(_client.HTTPConnection):\n"
    "    def connect(self) -> None:\n"
    "        self.sock = _socket.socket(_socket.AF_UNIX)\n"
    "        self.sock.connect(_os.environ.get(\"RAMET_SOCKET\") or _SOCKET)\n"
    "\n\n"
    "def _call(path: str, args: object) -> Any:\n"
    "    headers = {\"Content-Type\": \"application/json\"}\n"
    "    token = _os.environ.get(\"RAMET_TOKEN\")\n"
    "    if token:\n"
    "        headers[\"Authorization\"] = \"Bearer \" + token\n"
    "    daemon = _Daemon(\"localhost\")\n"
    "    try:\n"
    "        daemon.request(\"POST\", path, _json.dumps(args), headers)\n"
    "        answer = daemon.getresponse()\n"
    "        body = _json.loads(answer.read())\n"
    "    except (OSError, ValueError, _client.HTTPException) as e:\n"
    "        raise ToolError(f\"ramet does not answer: {e}\", \"unavailable\") from e\n"
    "    finally:\n"
    "        daemon.close()\n"
    "    if answer.status != 200:\n"
    "        raise ToolError(body[\"error\"][\"message\"], body[\"error\"][\"code\"])\n"
    "    if body.get(\"isError\") is True:\n"
    "        said = [part.get(\"text\", \"\") for part in body.get(\"content\", []) if part.get(\"type\") == "
    "\"text\"]\n"
    "        raise ToolError(\"\\n\".join(said) or \"the tool failed\", \"tool_error\", body)\n"
    "    return body\n";

/* Files beside this one have names that servers chose: as a program it must not import them for Python's own. */
static const char head[] = "from __future__ import annotations\n"
                           "\n"
                           "import sys as _sys\n"
                           "\n"
                           "if __name__ == \"__main__\" and not _sys.flags.safe_path:\n"
                           "    del _sys.path[0]  # files beside this one are named as a server pleased\n"
                           "import http.client as _client\n"
                           "import json as _json\n"
                           "import os as _os\n"
                           "import socket as _socket\n"
                           "from typing import Any, Literal, Never, NotRequired, TypeAlias, TypedDict, Union\n";

static bool needs_arguments(const struct docs_type *type)
{
    type = docs_type_resolve(type);
    for (size_t i = 0; type->kind == DOCS_OBJECT && i < type->count; i++)
        if (type->members[i].required)
            return true;
    return type->kind != DOCS_OBJECT && type->kind != DOCS_ANY;
}

static void put_function(struct writer *w, const struct docs_tool *tool, const char *function)
{
    struct ramet_buf path = {0};
    docs_put_call_path(&path, tool);
    char *text = docs_text_take(&path);
    docs_put(w->out, "\n\nclass Result(TypedDict):\n    content: list[dict[str, Any]]\n");
    docs_put(w->out, tool->output ? "    structuredContent: Output\n" : "    structuredContent: NotRequired[Any]\n");
    docs_put(w->out, "    _meta: NotRequired[dict[str, Any]]\n");
    if (needs_arguments(docs_types_root(tool->input)))
        docs_putf(w->out, "\n\ndef %s(args: Args) -> Result:\n    result: Result = _call(", function);
    else
        docs_putf(w->out, "\n\ndef %s(args: Args = {}) -> Result:\n    result: Result = _call(", function);
    docs_put_literal(w->out, text ? text : "", DOCS_PY);
    docs_put(w->out, ", args)\n    return result\n");
    w->out->failed |= !text;
    free(text);
}

void docs_put_py(struct ramet_buf *out, const struct docs_tool *tool)
{
    struct docs_names names = {0};
    struct writer w = {.out = out, .names = &names};
    char *function = docs_function_name(tool);
    if (!function) {
        out->failed = true;
        return;
    }
    docs_names_set(&names, NULL, function);
    docs_put(out, "# ");
    docs_put_comment(out, ramet_json_str(tool->definition, "description", tool->name), comment_max);
    docs_put(out, "\n");
    docs_put(out, head);
    name_all(&names, tool->input, "Args");
    size_t inputs = names.count;
    if (tool->output)
        name_all(&names, tool->output, "Output");
    size_t all = names.count;
    names.count = inputs;
    put_declarations(&w, tool->input, "Args", 1);
    names.count = all;
    if (tool->output)
        put_declarations(&w, tool->output, "Output", inputs);
    put_function(&w, tool, function);
    docs_put(out, runtime_class);
    docs_put(out, "\n\n_SOCKET = ");
    docs_put_literal(out, tool->socket, DOCS_PY);
    docs_put(out, "\n");
    docs_put(out, runtime);
    docs_putf(out,
              "\n\nif __name__ == \"__main__\":\n"
              "    try:\n"
              "        print(_json.dumps(%s(_json.loads(_sys.argv[1] if len(_sys.argv) > 1 else \"{}\")), "
              "ensure_ascii=False))\n"
              "    except ToolError as error:\n"
              "        if error.result is not None:\n"
              "            print(_json.dumps(error.result, ensure_ascii=False))\n"
              "        _sys.exit(f\"{error.code}: {error}\")\n",
              function);
    out->failed |= names.failed;
    free(function);
    docs_names_free(&names);
}
