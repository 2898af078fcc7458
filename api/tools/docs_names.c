/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/docs_names.h"

#include "tools/docs_stub.h"
#include "tools/docs_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the generated files use themselves, and what both languages have in their scope. */
static const char *const taken[] = {
    "Any",       "Args",   "Array",       "Boolean",     "Buffer",      "Content",   "Date",    "Error",
    "Exception", "False",  "Function",    "Infinity",    "JSON",        "Literal",   "Map",     "NaN",
    "Never",     "None",   "NotRequired", "Number",      "Object",      "Output",    "Promise", "Record",
    "Result",    "SOCKET", "Set",         "String",      "Symbol",      "ToolError", "True",    "TypeAlias",
    "TypedDict", "Union",  "call",        "httpRequest", "process",     "bool",      "dict",    "float",
    "int",       "list",   "object",      "str",         "annotations", NULL};

void docs_names_free(struct docs_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->items[i].name);
    free(names->items);
    *names = (struct docs_names){0};
}

bool docs_names_taken(const struct docs_names *names, const char *name)
{
    for (const char *const *one = taken; *one; one++)
        if (strcmp(*one, name) == 0)
            return true;
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->items[i].name, name) == 0)
            return true;
    return false;
}

const char *docs_names_set(struct docs_names *names, const void *of, const char *name)
{
    if (names->count == names->capacity) {
        size_t capacity = names->capacity ? 2 * names->capacity : 16;
        struct docs_name *items = reallocarray(names->items, capacity, sizeof *items);
        if (!items) {
            names->failed = true;
            return "";
        }
        names->items = items;
        names->capacity = capacity;
    }
    char *copy = strdup(name);
    if (!copy) {
        names->failed = true;
        return "";
    }
    names->items[names->count++] = (struct docs_name){.of = of, .name = copy};
    return copy;
}

const char *docs_names_give(struct docs_names *names, const void *of, const char *wanted)
{
    char name[128];
    snprintf(name, sizeof name, "%.80s", wanted);
    for (unsigned n = 2; docs_names_taken(names, name); n++)
        snprintf(name, sizeof name, "%.80s%u", wanted, n);
    return docs_names_set(names, of, name);
}

char *docs_function_name(const struct docs_tool *tool)
{
    static const struct docs_names none = {0};
    struct ramet_buf name = {0};
    docs_put_identifier(&name, tool->name);
    if (!name.failed && name.data[0] == '_') { /* what begins so is the files' own, or Python's */
        name.size = 0;
        docs_put(&name, "tool_");
        docs_put_identifier(&name, tool->name);
    }
    char *text = docs_text_take(&name);
    if (!text || !docs_names_taken(&none, text))
        return text;
    docs_putf(&name, "%s_", text);
    free(text);
    return docs_text_take(&name);
}

const char *docs_names_find(const struct docs_names *names, const void *of)
{
    for (size_t i = 0; i < names->count; i++)
        if (names->items[i].of == of)
            return names->items[i].name;
    return NULL;
}

void docs_names_give_named(struct docs_names *names, const struct docs_types *types, const char *root)
{
    for (const struct docs_named *named = docs_types_named(types); named; named = named->next) {
        struct ramet_buf wanted = {0};
        if (named->type == docs_types_root(types)) {
            docs_names_set(names, named, root);
            continue;
        }
        docs_put_type_name(&wanted, named->name);
        char *text = docs_text_take(&wanted);
        if (text)
            docs_names_give(names, named, text);
        names->failed |= !text;
        free(text);
    }
}
