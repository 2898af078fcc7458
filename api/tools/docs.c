/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/docs.h"

#include "base/cleanup.h"
#include "json.h"
#include "tools/catalogue.h"
#include "tools/docs_stub.h"
#include "tools/docs_text.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct ramet_docs {
    atomic_uint refs;
    struct ramet_tools_doc *doc;
    char *file, *socket;
    struct ramet_docs_item *items;
    size_t count;
};

static const char *const endings[] = {".md", ".json", ".ts", ".py", ".sh"};

static int no_memory(const struct ramet_docs *docs, struct ramet_error *err)
{
    return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the files of server \"%s\"", ramet_docs_server(docs));
}

/* --- groups --- */

/* Bytes of the words that all tools begin with: "browser_" of Playwright's. */
static size_t common_prefix(const struct ramet_docs *docs, size_t tools)
{
    size_t length = tools > 1 ? strlen(docs->items[0].name) : 0;
    for (size_t i = 1; i < tools; i++) {
        size_t same = 0;
        while (same < length && docs->items[0].name[same] == docs->items[i].name[same])
            same++;
        length = same;
    }
    while (length > 0 && !strchr("_-./", docs->items[0].name[length - 1]))
        length--;
    return length;
}

static char *group_of(const char *name, size_t prefix)
{
    size_t length = strcspn(name + prefix, "_-./");
    if (length == 0)
        return strdup("other");
    _autofree_ char *word = strndup(name + prefix, length < 40 ? length : 40);
    return word ? docs_file_name(word) : NULL;
}

/* --- making and freeing --- */

static size_t bytes_of(const struct ramet_json *definition)
{
    struct ramet_buf text = {0};
    docs_put_json(&text, definition);
    size_t size = text.size;
    ramet_buf_free(&text);
    return size;
}

static bool is_listed(const struct ramet_docs *docs, size_t from, const char *name)
{
    for (size_t i = from; i < docs->count; i++)
        if (strcmp(docs->items[i].name, name) == 0)
            return true;
    return false;
}

static int add_list(struct ramet_docs *docs, enum ramet_docs_kind kind, const char *list, const char *key, size_t from,
                    struct ramet_error *err)
{
    const struct ramet_json *all = ramet_json_get(ramet_tools_doc_json(docs->doc), list);
    for (size_t i = 0; ramet_json_is_array(all) && i < ramet_json_count(all); i++) {
        const struct ramet_json *one = ramet_json_at(all, i);
        const char *name = ramet_json_string_value(ramet_json_get(one, key));
        if (!name || is_listed(docs, from, name))
            continue;
        struct ramet_docs_item *item = &docs->items[docs->count++];
        *item = (struct ramet_docs_item){.kind = kind, .name = name, .file = docs_file_name(name), .definition = one};
        if (!item->file)
            return no_memory(docs, err);
    }
    return 0;
}

static int add_items(struct ramet_docs *docs, struct ramet_error *err)
{
    static const char *const lists[] = {"tools", "prompts", "resources", "resourceTemplates"};
    size_t room = 1;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        room += ramet_json_count(ramet_json_get(ramet_tools_doc_json(docs->doc), lists[i]));
    docs->items = calloc(room, sizeof *docs->items);
    if (!docs->items)
        return no_memory(docs, err);
    int r = add_list(docs, RAMET_DOCS_TOOL, "tools", "name", 0, err);
    size_t tools = docs->count;
    if (r == 0)
        r = add_list(docs, RAMET_DOCS_PROMPT, "prompts", "name", tools, err);
    size_t others = docs->count;
    if (r == 0)
        r = add_list(docs, RAMET_DOCS_RESOURCE, "resources", "uri", others, err);
    if (r == 0)
        r = add_list(docs, RAMET_DOCS_RESOURCE, "resourceTemplates", "uriTemplate", others, err);
    size_t prefix = common_prefix(docs, tools);
    for (size_t i = 0; i < tools; i++)
        docs->items[i].bytes = bytes_of(docs->items[i].definition);
    for (size_t i = 0; i < tools && r == 0; i++)
        if (!(docs->items[i].group = group_of(docs->items[i].name, prefix)))
            r = no_memory(docs, err);
    return r;
}

int ramet_docs_new(struct ramet_tools_doc *doc, const char *socket, struct ramet_docs **ret, struct ramet_error *err)
{
    struct ramet_docs *docs = calloc(1, sizeof *docs);
    if (!docs)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for files of tools");
    atomic_init(&docs->refs, 1);
    docs->doc = ramet_tools_doc_ref(doc);
    docs->file = docs_file_name(ramet_tools_doc_server(doc));
    docs->socket = strdup(socket);
    int r = docs->file && docs->socket ? add_items(docs, err) : no_memory(docs, err);
    if (r < 0) {
        ramet_docs_unref(docs);
        return r;
    }
    *ret = docs;
    return 0;
}

struct ramet_docs *ramet_docs_ref(struct ramet_docs *docs)
{
    atomic_fetch_add(&docs->refs, 1);
    return docs;
}

void ramet_docs_unref(struct ramet_docs *docs)
{
    if (!docs || atomic_fetch_sub(&docs->refs, 1) != 1)
        return;
    for (size_t i = 0; i < docs->count; i++) {
        free(docs->items[i].file);
        free(docs->items[i].group);
    }
    free(docs->items);
    free(docs->file);
    free(docs->socket);
    ramet_tools_doc_unref(docs->doc);
    free(docs);
}

void ramet_docs_cleanup(struct ramet_docs **docs) { ramet_docs_unref(*docs); }

const char *ramet_docs_server(const struct ramet_docs *docs) { return ramet_tools_doc_server(docs->doc); }
const char *ramet_docs_file(const struct ramet_docs *docs) { return docs->file; }
const struct ramet_tools_doc *ramet_docs_doc(const struct ramet_docs *docs) { return docs->doc; }
const char *ramet_docs_ending(enum ramet_docs_form form) { return endings[form]; }

const struct ramet_docs_item *ramet_docs_items(const struct ramet_docs *docs, size_t *ret_count)
{
    *ret_count = docs->count;
    return docs->items;
}

bool ramet_docs_has(enum ramet_docs_kind kind, enum ramet_docs_form form)
{
    return kind == RAMET_DOCS_TOOL || form == RAMET_DOCS_MD || form == RAMET_DOCS_JSON;
}

/* --- texts --- */

/* Prompts and resources: the server's words, and what else the definition says in a line each. */
static void put_other_md(struct ramet_buf *out, const struct ramet_docs_item *item)
{
    const struct ramet_json *arguments = ramet_json_get(item->definition, "arguments");
    const char *type = ramet_json_str(item->definition, "mimeType", NULL);
    const char *name = ramet_json_str(item->definition, "title", ramet_json_str(item->definition, "name", NULL));
    docs_put(out, "# ");
    docs_put_line(out, item->name, 400);
    docs_put(out, "\n");
    if (name && strcmp(name, item->name) != 0) {
        docs_put(out, "Name: ");
        docs_put_line(out, name, 200);
        docs_put(out, "\n");
    }
    if (type) {
        docs_put(out, "Type: ");
        docs_put_line(out, type, 100);
        docs_put(out, "\n");
    }
    docs_put_quoted(out, "> ", ramet_json_str(item->definition, "description", NULL), 16384);
    if (item->kind == RAMET_DOCS_PROMPT)
        docs_put(out, ramet_json_count(arguments) ? "\nArguments:\n" : "\nArguments: none\n");
    for (size_t i = 0; ramet_json_is_array(arguments) && i < ramet_json_count(arguments); i++) {
        const struct ramet_json *one = ramet_json_at(arguments, i);
        docs_put(out, "- ");
        docs_put_line(out, ramet_json_str(one, "name", ""), 100);
        docs_put(out, ramet_json_bool(one, "required", false) ? ": string, required. " : ": string. ");
        docs_put_line(out, ramet_json_str(one, "description", NULL), 400);
        docs_put(out, "\n");
    }
}

static void put_stub(struct ramet_buf *out, const struct docs_tool *tool, enum ramet_docs_form form)
{
    static void (*const put[])(struct ramet_buf *, const struct docs_tool *) = {[RAMET_DOCS_MD] = docs_put_md,
                                                                                [RAMET_DOCS_TS] = docs_put_ts,
                                                                                [RAMET_DOCS_PY] = docs_put_py,
                                                                                [RAMET_DOCS_SH] = docs_put_sh};
    put[form](out, tool);
}

int ramet_docs_text(const struct ramet_docs *docs, const struct ramet_docs_item *item, enum ramet_docs_form form,
                    struct ramet_buf *out, struct ramet_error *err)
{
    const struct ramet_json *output = ramet_json_get(item->definition, "outputSchema");
    if (form == RAMET_DOCS_JSON) {
        docs_put_json(out, item->definition);
        docs_put(out, "\n");
        return out->failed ? no_memory(docs, err) : 0;
    }
    if (item->kind != RAMET_DOCS_TOOL) {
        put_other_md(out, item);
        return out->failed ? no_memory(docs, err) : 0;
    }
    _cleanup_(docs_types_cleanup) struct docs_types *in =
        docs_types_new(ramet_json_get(item->definition, "inputSchema"));
    _cleanup_(docs_types_cleanup) struct docs_types *result = output ? docs_types_new(output) : NULL;
    if (!in || (output && !result))
        return no_memory(docs, err);
    const struct docs_tool tool = {.server = ramet_docs_server(docs),
                                   .name = item->name,
                                   .server_file = docs->file,
                                   .file = item->file,
                                   .socket = docs->socket,
                                   .definition = item->definition,
                                   .input = in,
                                   .output = result};
    put_stub(out, &tool, form);
    return out->failed ? no_memory(docs, err) : 0;
}
