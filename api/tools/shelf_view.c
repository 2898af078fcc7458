/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One caller's tree, and the texts in it that tell what the caller sees: indexes, groups, searches.
 *
 *     README.md  INDEX  search/WORDS
 *     SERVER/INDEX STATUS TOOL.md ...  SERVER/groups/GROUP  SERVER/prompts/...  SERVER/resources/...
 *
 * A server of which all is seen is the one directory the server itself has; only what is seen in part is built here.
 */
#include "base/cleanup.h"
#include "json.h"
#include "tools/catalogue.h"
#include "tools/docs_text.h"
#include "tools/shelf_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* A query has hits for a screen, not for a survey. */
enum { file_hits = 4 };

static int no_memory(struct ramet_error *err) { return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for tools/"); }

/* --- texts --- */

static struct shelf_view *of_text(struct ramet_tools_text *text) { return (struct shelf_view *)text; }

const struct ramet_docs_search *shelf_view_search(struct shelf_view *view)
{
    pthread_mutex_lock(&view->lock);
    if (!view->search)
        view->search = ramet_docs_search_new(view->seen, view->count);
    const struct ramet_docs_search *search = view->search;
    pthread_mutex_unlock(&view->lock);
    return search;
}

static void put_hits(struct ramet_buf *out, struct shelf_view *view, const char *query)
{
    const struct ramet_docs_search *search = shelf_view_search(view);
    struct ramet_docs_hit hits[file_hits];
    out->failed |= !search;
    if (search)
        ramet_docs_put_hits(out, hits, ramet_docs_search_run(search, query, hits, file_hits));
}

static void put_time(struct ramet_buf *out, const char *what, int64_t when_ms, int64_t now_ms)
{
    time_t when = (time_t)(when_ms / 1000);
    int64_t age = (now_ms - when_ms) / 1000;
    const char *unit = age < 120 ? "seconds" : age < 7200 ? "minutes" : age < 172800 ? "hours" : "days";
    int64_t count = age < 120 ? age : age < 7200 ? age / 60 : age < 172800 ? age / 3600 : age / 86400;
    struct tm tm;
    char text[32];
    if (when_ms <= 0 || !gmtime_r(&when, &tm))
        return;
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    docs_putf(out, "%s: %s, %" PRId64 " %s ago\n", what, text, count < 0 ? 0 : count, unit);
}

/* How old the documents are, and why. */
static void put_status(struct ramet_buf *out, const struct shelf_view *view, const struct ramet_docs *docs)
{
    const struct ramet_tools_doc *doc = ramet_docs_doc(docs);
    struct ramet_tools_health health = {0};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t now_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    int r = ramet_tools_catalogue_health(view->catalogue, ramet_docs_server(docs), &health, NULL);
    docs_put(out, r < 0       ? "state: unknown\n"
                  : health.up ? "state: up\n"
                              : "state: down; these are the last good documents\n");
    if (r == 0 && !health.up && health.problem[0]) {
        docs_put(out, "problem: ");
        docs_put_line(out, health.problem, sizeof health.problem);
        docs_put(out, "\n");
    }
    docs_putf(out, "version: %" PRIu64 " (sha256 %.64s)\n", ramet_tools_doc_version(doc), ramet_tools_doc_digest(doc));
    put_time(out, "listed", ramet_tools_doc_fetched_ms(doc), now_ms);
    put_time(out, "checked", health.checked_ms, now_ms);
}

static int make_text(struct ramet_tools_text *text, const struct ramet_tools_node *node, struct ramet_buf *out,
                     struct ramet_error *err)
{
    struct shelf_view *view = of_text(text);
    const struct ramet_docs_seen *seen = &view->seen[node->form < view->count ? node->form : 0];
    (void)err;
    switch ((enum shelf_file)node->which) {
    case SHELF_README: ramet_docs_put_readme(out, view->seen, view->count); break;
    case SHELF_INDEX:
        for (size_t i = 0; i < view->count; i++)
            ramet_docs_put_server(out, &view->seen[i], view->up[i]);
        break;
    case SHELF_SERVER_INDEX: ramet_docs_put_index(out, seen, RAMET_DOCS_TOOL, NULL); break;
    case SHELF_STATUS: put_status(out, view, seen->docs); break;
    case SHELF_GROUP: ramet_docs_put_index(out, seen, RAMET_DOCS_TOOL, node->name); break;
    case SHELF_PROMPTS: ramet_docs_put_index(out, seen, RAMET_DOCS_PROMPT, NULL); break;
    case SHELF_RESOURCES: ramet_docs_put_index(out, seen, RAMET_DOCS_RESOURCE, NULL); break;
    case SHELF_QUERY: put_hits(out, view, node->name); break;
    }
    return 0;
}

static void free_text(struct ramet_tools_text *text)
{
    struct shelf_view *view = of_text(text);
    for (size_t i = 0; view->seen && i < view->count; i++) {
        free((void *)view->seen[i].items);
        ramet_docs_unref((struct ramet_docs *)view->seen[i].docs);
    }
    ramet_docs_search_free(view->search);
    pthread_mutex_destroy(&view->lock);
    free(view->seen);
    free(view->up);
    free(view);
}

int shelf_view_new(struct ramet_tools_catalogue *catalogue, struct shelf_seen *seen, size_t count,
                   struct shelf_view **ret, struct ramet_error *err)
{
    struct shelf_view *view = calloc(1, sizeof *view);
    bool good = view && (view->seen = calloc(count + 1, sizeof *view->seen)) &&
                (view->up = calloc(count + 1, sizeof *view->up));
    for (size_t i = 0; i < count; i++) {
        if (good) {
            view->seen[i] =
                (struct ramet_docs_seen){ramet_docs_ref(seen[i].server->docs), seen[i].items, seen[i].count};
            view->up[i] = seen[i].server->up;
        } else {
            free((void *)seen[i].items);
        }
        seen[i].items = NULL;
    }
    if (!good) {
        if (view) {
            free(view->seen);
            free(view);
        }
        return no_memory(err);
    }
    view->text = (struct ramet_tools_text){.refs = 1, .make = make_text, .free = free_text};
    view->catalogue = catalogue;
    view->count = count;
    pthread_mutex_init(&view->lock, NULL);
    *ret = view;
    return 0;
}

void shelf_view_unref(struct shelf_view *view)
{
    if (view)
        ramet_tools_text_unref(&view->text);
}

struct shelf_view *shelf_view_of(const struct ramet_tools_node *node)
{
    return node->text && node->text->make == make_text ? of_text(node->text) : NULL;
}

/* --- directories --- */

struct list {
    struct ramet_tools_node **nodes; /* held; goes to the directory */
    size_t count, capacity;
    bool failed;
};

/* Takes over the node, NULL being a failure. */
static struct ramet_tools_node *add(struct list *list, struct ramet_tools_node *node, uint64_t dir_ino)
{
    if (list->count == list->capacity && !list->failed) {
        size_t capacity = list->capacity ? 2 * list->capacity : 16;
        struct ramet_tools_node **nodes = reallocarray(list->nodes, capacity, sizeof(*nodes));
        list->failed = !nodes;
        list->nodes = nodes ? nodes : list->nodes;
        list->capacity = nodes ? capacity : list->capacity;
    }
    if (!node || list->failed) {
        list->failed = true;
        ramet_tools_node_unref(node);
        return NULL;
    }
    if (dir_ino)
        node->dir_ino = dir_ino;
    return list->nodes[list->count++] = node;
}

static void add_text(struct list *list, struct shelf_view *view, const char *name, enum shelf_file which,
                     unsigned server, uint64_t ino, uint64_t dir_ino, uint64_t owner)
{
    enum ramet_tools_node_kind kind = which == SHELF_STATUS ? RAMET_TOOLS_LIVE : RAMET_TOOLS_FILE;
    struct ramet_tools_node *node = add(list, ramet_tools_node_new(name, kind, ino, &view->text), dir_ino);
    if (!node)
        return;
    node->which = which;
    node->form = server;
    node->owner = owner;
    node->mtime_ms = view->count ? ramet_tools_doc_fetched_ms(ramet_docs_doc(view->seen[server].docs)) : 0;
}

/* A directory of the list's nodes, which go over. */
static int make_dir(struct list *list, const char *name, uint64_t ino, struct ramet_tools_node **ret,
                    struct ramet_error *err)
{
    struct ramet_tools_node *dir = list->failed ? NULL : ramet_tools_node_new(name, RAMET_TOOLS_DIR, ino, NULL);
    if (!dir) {
        for (size_t i = 0; i < list->count; i++)
            ramet_tools_node_unref(list->nodes[i]);
        free(list->nodes);
        return no_memory(err);
    }
    int r = ramet_tools_node_fill(dir, list->nodes, list->count, err);
    for (size_t i = 0; r == 0 && i < dir->count; i++)
        if (dir->children[i]->mtime_ms > dir->mtime_ms)
            dir->mtime_ms = dir->children[i]->mtime_ms;
    if (r < 0)
        ramet_tools_node_unref(dir);
    else
        *ret = dir;
    return r;
}

/* Adds a directory below `list` from what is in `below`. */
static void add_dir(struct list *list, struct list *below, const char *name, uint64_t ino, uint64_t dir_ino,
                    struct ramet_error *err)
{
    struct ramet_tools_node *dir = NULL;
    if (make_dir(below, name, ino, &dir, err) < 0)
        list->failed = true;
    else
        add(list, dir, dir_ino);
}

/* The files of what is seen, each kind into its list. */
static void add_files(struct list lists[RAMET_DOCS_KINDS], const struct ramet_docs_seen *seen,
                      const struct shelf_server *server)
{
    size_t count;
    const struct ramet_docs_item *first = ramet_docs_items(server->docs, &count);
    for (size_t i = 0; i < seen->count; i++)
        for (enum ramet_docs_form form = 0; form < RAMET_DOCS_FORMS; form++) {
            struct ramet_tools_node *file = server->files[(size_t)(seen->items[i] - first) * RAMET_DOCS_FORMS + form];
            if (file)
                add(&lists[seen->items[i]->kind], ramet_tools_node_ref(file), 0);
        }
}

int shelf_server_dir(struct shelf_view *view, size_t number, const struct shelf_server *server, uint64_t owner,
                     uint64_t *ino, struct ramet_tools_node **ret, struct ramet_error *err)
{
    const struct ramet_docs_seen *seen = &view->seen[number];
    struct list lists[RAMET_DOCS_KINDS] = {0}, *tools = &lists[RAMET_DOCS_TOOL], groups = {0};
    uint64_t base = server->dir_ino;
    unsigned n = (unsigned)number;
    add_files(lists, seen, server);
    add_text(tools, view, "INDEX", SHELF_SERVER_INDEX, n, (*ino)++, base, owner);
    add_text(tools, view, "STATUS", SHELF_STATUS, n, (*ino)++, base, owner);
    if (ramet_docs_is_grouped(seen)) {
        _autofree_ const char **names = ramet_docs_groups(seen);
        groups.failed = !names;
        for (size_t i = 0; names && names[i]; i++)
            add_text(&groups, view, names[i], SHELF_GROUP, n, (*ino)++, base + SHELF_DIR_GROUPS, owner);
        add_dir(tools, &groups, "groups", base + SHELF_DIR_GROUPS, base, err);
    }
    if (lists[RAMET_DOCS_PROMPT].count) {
        add_text(&lists[RAMET_DOCS_PROMPT], view, "INDEX", SHELF_PROMPTS, n, (*ino)++, base + SHELF_DIR_PROMPTS, owner);
        add_dir(tools, &lists[RAMET_DOCS_PROMPT], "prompts", base + SHELF_DIR_PROMPTS, base, err);
    }
    if (lists[RAMET_DOCS_RESOURCE].count) {
        add_text(&lists[RAMET_DOCS_RESOURCE], view, "INDEX", SHELF_RESOURCES, n, (*ino)++, base + SHELF_DIR_RESOURCES,
                 owner);
        add_dir(tools, &lists[RAMET_DOCS_RESOURCE], "resources", base + SHELF_DIR_RESOURCES, base, err);
    }
    int r = make_dir(tools, ramet_docs_file(server->docs), base, ret, err);
    if (r == 0)
        (*ret)->dir_ino = SHELF_INO_ROOT;
    return r;
}

/* A server's directory among others; one that is called as a file of ours has its first letter escaped. */
static struct ramet_tools_node *named_apart(struct ramet_tools_node *dir)
{
    static const char *const ours[] = {"README.md", "INDEX", "search"};
    char name[256];
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        if (strcmp(dir->name, ours[i]) != 0)
            continue;
        snprintf(name, sizeof name, "%%%02X%s", dir->name[0], dir->name + 1);
        struct ramet_tools_node *other = ramet_tools_node_new(name, RAMET_TOOLS_DIR, dir->ino, NULL);
        struct ramet_tools_node **children = other ? calloc(dir->count + 1, sizeof(*children)) : NULL;
        for (size_t j = 0; children && j < dir->count; j++)
            children[j] = ramet_tools_node_ref(dir->children[j]);
        if (children) {
            other->dir_ino = dir->dir_ino;
            other->mtime_ms = dir->mtime_ms;
            ramet_tools_node_fill(other, children, dir->count, NULL);
        } else {
            ramet_tools_node_unref(STEAL(other));
        }
        ramet_tools_node_unref(dir);
        return other;
    }
    return dir;
}

static void add_search(struct list *list, struct shelf_view *view)
{
    struct ramet_tools_node *dir =
        add(list, ramet_tools_node_new("search", RAMET_TOOLS_SEARCH, SHELF_INO_SEARCH, &view->text), SHELF_INO_ROOT);
    if (dir)
        dir->which = SHELF_QUERY;
}

int shelf_tree_new(struct ramet_tools_shelf *shelf, struct shelf_view *view, const struct shelf_seen *seen,
                   uint64_t owner, struct ramet_tools_node **ret, struct ramet_error *err)
{
    struct list list = {0};
    struct ramet_tools_node *root = NULL;
    size_t own = 16;
    for (size_t i = 0; i < view->count; i++)
        own += seen[i].whole ? 0 : view->seen[i].count + 8;
    uint64_t ino = shelf_numbers(shelf, own);
    add_text(&list, view, "README.md", SHELF_README, 0, ino++, SHELF_INO_ROOT, owner);
    add_text(&list, view, "INDEX", SHELF_INDEX, 0, ino++, SHELF_INO_ROOT, owner);
    add_search(&list, view);
    for (size_t i = 0; i < view->count; i++) {
        struct ramet_tools_node *dir = NULL;
        if (seen[i].whole)
            dir = ramet_tools_node_ref(seen[i].server->whole);
        else if (shelf_server_dir(view, i, seen[i].server, owner, &ino, &dir, err) < 0)
            list.failed = true;
        if (dir)
            add(&list, named_apart(dir), 0);
    }
    int r = make_dir(&list, "", SHELF_INO_ROOT, &root, err);
    if (r == 0) {
        root->owner = owner;
        r = ramet_tools_root_seal(root, err);
    }
    if (r < 0)
        ramet_tools_node_unref(root);
    else
        *ret = root;
    return r;
}
