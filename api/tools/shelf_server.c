/* SPDX-License-Identifier: Apache-2.0 */
/* A server's document as nodes: one for each form of each item, and the directory for those who see all of it. */
#include "base/cleanup.h"
#include "json.h"
#include "tools/catalogue.h"
#include "tools/shelf_private.h"

#include <stdio.h>
#include <string.h>

struct server_text {
    struct ramet_tools_text text;
    struct ramet_docs *docs; /* held */
};

static int make_text(struct ramet_tools_text *text, const struct ramet_tools_node *node, struct ramet_buf *out,
                     struct ramet_error *err)
{
    const struct ramet_docs *docs = ((struct server_text *)text)->docs;
    size_t count;
    return ramet_docs_text(docs, &ramet_docs_items(docs, &count)[node->which], node->form, out, err);
}

static void free_text(struct ramet_tools_text *text)
{
    ramet_docs_unref(((struct server_text *)text)->docs);
    free(text);
}

bool shelf_node_item(const struct ramet_tools_node *node, const struct ramet_docs **ret,
                     const struct ramet_docs_item **ret_item)
{
    size_t count;
    if (!node->text || node->text->make != make_text)
        return false;
    *ret = ((struct server_text *)node->text)->docs;
    *ret_item = &ramet_docs_items(*ret, &count)[node->which];
    return true;
}

struct shelf_server *shelf_server_ref(struct shelf_server *server)
{
    atomic_fetch_add(&server->refs, 1);
    return server;
}

void shelf_server_unref(struct shelf_server *server)
{
    if (!server || atomic_fetch_sub(&server->refs, 1) != 1)
        return;
    ramet_tools_node_unref(server->whole);
    for (size_t i = 0; i < server->item_count * RAMET_DOCS_FORMS; i++)
        ramet_tools_node_unref(server->files[i]);
    free(server->files);
    ramet_docs_unref(server->docs);
    free(server);
}

void shelf_policy_name(const struct ramet_docs_item *item, char *ret, size_t size)
{
    static const char *const below[] = {"", "prompts/", "resources/"};
    snprintf(ret, size, "%s%s", below[item->kind], item->kind == RAMET_DOCS_TOOL ? item->name : item->file);
}

/* --- numbers that stay --- */

struct by_file {
    const char *file;
    enum ramet_docs_kind kind;
    size_t number;
};

static int compare_files(const void *a, const void *b)
{
    const struct by_file *x = a, *y = b;
    return x->kind != y->kind ? (x->kind < y->kind ? -1 : 1) : strcmp(x->file, y->file);
}

/* The old server's items by file; NULL when there is none, or no memory: then all get new numbers. */
static struct by_file *sorted(const struct shelf_server *old, size_t *ret_count)
{
    const struct ramet_docs_item *items = old ? ramet_docs_items(old->docs, ret_count) : NULL;
    struct by_file *all = old ? calloc(*ret_count + 1, sizeof *all) : NULL;
    for (size_t i = 0; all && i < *ret_count; i++)
        all[i] = (struct by_file){items[i].file, items[i].kind, i};
    if (all)
        qsort(all, *ret_count, sizeof *all, compare_files);
    return all;
}

/* Files of the same item before, when its definition did not change. */
static struct ramet_tools_node *const *same_before(const struct shelf_server *old, const struct by_file *all,
                                                   size_t count, const struct ramet_docs_item *item)
{
    const struct by_file key = {item->file, item->kind, 0};
    const struct by_file *found = all ? bsearch(&key, all, count, sizeof *all, compare_files) : NULL;
    const struct ramet_docs_item *items = old ? ramet_docs_items(old->docs, &count) : NULL;
    return found && ramet_json_equal(items[found->number].definition, item->definition)
               ? old->files + found->number * RAMET_DOCS_FORMS
               : NULL;
}

static int make_files(struct ramet_tools_shelf *shelf, struct shelf_server *server, const struct shelf_server *old,
                      struct ramet_tools_text *text, struct ramet_error *err)
{
    size_t count, old_count = 0;
    const struct ramet_docs_item *items = ramet_docs_items(server->docs, &count);
    int64_t when = ramet_tools_doc_fetched_ms(ramet_docs_doc(server->docs));
    _autofree_ struct by_file *before = sorted(old, &old_count);
    uint64_t ino = shelf_numbers(shelf, (count + 1) * RAMET_DOCS_FORMS);
    server->files = calloc(count * RAMET_DOCS_FORMS + 1, sizeof(*server->files));
    if (!server->files)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the files of %s", ramet_docs_server(server->docs));
    server->item_count = count;
    for (size_t i = 0; i < count; i++) {
        struct ramet_tools_node *const *same = same_before(old, before, old_count, &items[i]);
        for (enum ramet_docs_form form = 0; form < RAMET_DOCS_FORMS; form++) {
            char name[256];
            if (!ramet_docs_has(items[i].kind, form))
                continue;
            snprintf(name, sizeof name, "%s%s", items[i].file, ramet_docs_ending(form));
            struct ramet_tools_node *node =
                ramet_tools_node_new(name, RAMET_TOOLS_FILE, same ? same[form]->ino : ino++, text);
            if (!node)
                return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for %s", name);
            node->which = (unsigned)i;
            node->form = form;
            node->executable = form == RAMET_DOCS_SH;
            node->mtime_ms = same ? same[form]->mtime_ms : when;
            atomic_store(&node->size, same ? atomic_load(&same[form]->size) : -1);
            node->dir_ino = server->dir_ino + (items[i].kind == RAMET_DOCS_TOOL     ? SHELF_DIR_SERVER
                                               : items[i].kind == RAMET_DOCS_PROMPT ? SHELF_DIR_PROMPTS
                                                                                    : SHELF_DIR_RESOURCES);
            server->files[i * RAMET_DOCS_FORMS + form] = node;
        }
    }
    return 0;
}

/* --- the directory of those who see all --- */

static int make_whole(struct ramet_tools_shelf *shelf, struct shelf_server *server, struct ramet_error *err)
{
    struct shelf_view *view = NULL;
    struct shelf_seen seen = {.server = server};
    uint64_t ino = shelf_numbers(shelf, server->item_count + 8);
    const struct ramet_docs_item *items = ramet_docs_items(server->docs, &seen.count);
    seen.items = calloc(seen.count + 1, sizeof(*seen.items));
    if (!seen.items)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the index of %s", ramet_docs_server(server->docs));
    for (size_t i = 0; i < seen.count; i++)
        seen.items[i] = &items[i];
    int r = shelf_view_new(shelf->config.catalogue, &seen, 1, &view, err);
    if (r == 0)
        r = shelf_server_dir(view, 0, server, 0, &ino, &server->whole, err);
    shelf_view_unref(view);
    return r;
}

int shelf_server_new(struct ramet_tools_shelf *shelf, struct ramet_tools_doc *doc, const struct shelf_server *old,
                     bool up, uint64_t dir_ino, struct shelf_server **ret, struct ramet_error *err)
{
    struct shelf_server *server = calloc(1, sizeof *server);
    struct server_text *text = calloc(1, sizeof *text);
    if (!server || !text) {
        free(server);
        free(text);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the files of a server");
    }
    atomic_init(&server->refs, 1);
    server->dir_ino = dir_ino;
    server->up = up;
    text->text = (struct ramet_tools_text){.refs = 1, .make = make_text, .free = free_text};
    int r = ramet_docs_new(doc, shelf->config.socket, &server->docs, err);
    if (r == 0) {
        text->docs = ramet_docs_ref(server->docs);
        r = make_files(shelf, server, old, &text->text, err);
    }
    ramet_tools_text_unref(&text->text);
    if (r == 0)
        r = make_whole(shelf, server, err);
    if (r < 0) {
        shelf_server_unref(server);
        return r;
    }
    *ret = server;
    return 0;
}
