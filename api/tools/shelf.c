/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Publishing and asking. Publishing makes a server's nodes with no lock held and swaps them in; the catalogue tells of
 * one change after the other. A caller's tree is made when it asks for the first time after a change, and kept for the
 * next requests of all who are the same principal under the same policy.
 */
#include "audit.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "gate.h"
#include "json.h"
#include "policy_source.h"
#include "tools/catalogue.h"
#include "tools/docs_text.h"
#include "tools/shelf_private.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { cached_max = 32 };

uint64_t shelf_numbers(struct ramet_tools_shelf *shelf, size_t count)
{
    pthread_mutex_lock(&shelf->lock);
    uint64_t first = shelf->last_ino;
    shelf->last_ino += count;
    pthread_mutex_unlock(&shelf->lock);
    return first;
}

/* --- publishing --- */

/* Where the server of this name is in the list, or would be; with the lock held. */
static size_t place_of(const struct ramet_tools_shelf *shelf, const char *name, bool *ret_there)
{
    size_t i = 0;
    int order = 1;
    while (i < shelf->server_count && (order = strcmp(ramet_docs_server(shelf->servers[i]->docs), name)) < 0)
        i++;
    *ret_there = i < shelf->server_count && order == 0;
    return i;
}

static struct shelf_server *server_by_name(struct ramet_tools_shelf *shelf, const char *name)
{
    bool there;
    pthread_mutex_lock(&shelf->lock);
    size_t i = place_of(shelf, name, &there);
    struct shelf_server *server = there ? shelf_server_ref(shelf->servers[i]) : NULL;
    pthread_mutex_unlock(&shelf->lock);
    return server;
}

/* Puts the server, taken over, in the place of the one before; NULL takes that away. False when memory ran out. */
static bool put_server(struct ramet_tools_shelf *shelf, const char *name, struct shelf_server *server)
{
    struct shelf_server *gone = NULL;
    bool there;
    pthread_mutex_lock(&shelf->lock);
    size_t i = place_of(shelf, name, &there);
    if (there && server &&
        ramet_tools_doc_version(ramet_docs_doc(server->docs)) <
            ramet_tools_doc_version(ramet_docs_doc(shelf->servers[i]->docs))) {
        gone = STEAL(server); /* the list at the start was overtaken by a change */
    } else if (there && server) {
        gone = shelf->servers[i];
        shelf->servers[i] = STEAL(server);
    } else if (there) {
        gone = shelf->servers[i];
        memmove(shelf->servers + i, shelf->servers + i + 1, (--shelf->server_count - i) * sizeof(*shelf->servers));
    } else if (server) {
        struct shelf_server **servers = reallocarray(shelf->servers, shelf->server_count + 1, sizeof(*shelf->servers));
        if (servers) {
            memmove(servers + i + 1, servers + i, (shelf->server_count++ - i) * sizeof(*servers));
            servers[i] = STEAL(server);
            shelf->servers = servers;
        }
    }
    shelf->generation++;
    pthread_mutex_unlock(&shelf->lock);
    shelf_server_unref(gone);
    bool failed = server;
    shelf_server_unref(server);
    return !failed;
}

/* The server's numbers for directories, the same as ever; 0 when memory ran out. */
static uint64_t dir_numbers(struct ramet_tools_shelf *shelf, const char *name)
{
    uint64_t ino = 0;
    pthread_mutex_lock(&shelf->lock);
    for (size_t i = 0; i < shelf->place_count && !ino; i++)
        if (strcmp(shelf->places[i].server, name) == 0)
            ino = shelf->places[i].dir_ino;
    if (!ino) {
        struct shelf_place *places = reallocarray(shelf->places, shelf->place_count + 1, sizeof *places);
        char *copy = places ? strdup(name) : NULL;
        shelf->places = places ? places : shelf->places;
        if (copy) {
            ino = shelf->last_ino;
            shelf->last_ino += SHELF_DIRS;
            shelf->places[shelf->place_count++] = (struct shelf_place){copy, ino};
        }
    }
    pthread_mutex_unlock(&shelf->lock);
    return ino;
}

static int publish(struct ramet_tools_shelf *shelf, const char *name, struct ramet_tools_doc *doc,
                   struct ramet_error *err)
{
    struct shelf_server *old = NULL, *server = NULL;
    struct ramet_tools_health health = {0};
    if (!doc) {
        put_server(shelf, name, NULL);
        return 0;
    }
    uint64_t dir_ino = dir_numbers(shelf, name);
    if (!dir_ino)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for server \"%s\"", name);
    bool up = ramet_tools_catalogue_health(shelf->config.catalogue, name, &health, NULL) < 0 || health.up;
    old = server_by_name(shelf, name);
    int r = 0;
    if (!old || ramet_docs_doc(old->docs) != doc || old->up != up)
        r = shelf_server_new(shelf, doc, old, up, dir_ino, &server, err);
    shelf_server_unref(old);
    if (r == 0 && server && !put_server(shelf, name, server))
        r = ramet_error_set(err, RAMET_NO_MEMORY, "no memory for server \"%s\"", name);
    return r;
}

/* Of the catalogue. What cannot be published leaves what was there. */
static void changed(void *context, const char *server, struct ramet_tools_doc *doc)
{
    struct ramet_error err = {0};
    if (publish(context, server, doc, &err) < 0)
        ramet_warn("tools/: server \"%s\" stays as it was: %s", server, err.msg);
}

static int publish_all(struct ramet_tools_shelf *shelf, struct ramet_error *err)
{
    struct ramet_tools_doc **docs = NULL;
    size_t count = 0;
    int r = ramet_tools_catalogue_list(shelf->config.catalogue, &docs, &count, err);
    for (size_t i = 0; i < count && r == 0; i++)
        r = publish(shelf, ramet_tools_doc_server(docs[i]), docs[i], err);
    ramet_tools_docs_free(docs, count);
    return r;
}

/* --- trees of callers --- */

static bool may_see(const struct ramet_policy *policy, const struct ramet_principal *principal,
                    const struct ramet_docs *docs, const struct ramet_docs_item *item)
{
    char name[1024];
    shelf_policy_name(item, name, sizeof name);
    return ramet_policy_allows_tool(policy, principal, RAMET_ACTION_READ_TOOL, ramet_docs_server(docs), name, NULL);
}

/* What the principal sees of the server, nothing being no failure. Takes over the reference on it. */
static int see(const struct ramet_policy *policy, const struct ramet_principal *principal, struct shelf_server *server,
               struct shelf_seen *ret, struct ramet_error *err)
{
    size_t count;
    const struct ramet_docs_item *items = ramet_docs_items(server->docs, &count);
    bool admin = ramet_policy_is_admin(policy, principal);
    *ret = (struct shelf_seen){.server = server, .items = calloc(count + 1, sizeof(*ret->items))};
    if (!ret->items)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for tools/");
    for (size_t i = 0; i < count; i++)
        if (admin || may_see(policy, principal, server->docs, &items[i]))
            ret->items[ret->count++] = &items[i];
    ret->whole = ret->count == count;
    return 0;
}

static void seen_free(struct shelf_seen *seen, size_t count)
{
    for (size_t i = 0; seen && i < count; i++) {
        free(seen[i].items);
        shelf_server_unref(seen[i].server);
    }
    free(seen);
}

/* All servers of which the principal sees anything, or, an admin, all. */
static int see_all(struct ramet_tools_shelf *shelf, const struct ramet_policy *policy,
                   const struct ramet_principal *principal, struct shelf_seen **ret, size_t *ret_count,
                   uint64_t *ret_generation, struct ramet_error *err)
{
    pthread_mutex_lock(&shelf->lock);
    size_t count = shelf->server_count, kept = 0;
    struct shelf_seen *seen = calloc(count + 1, sizeof *seen);
    for (size_t i = 0; seen && i < count; i++)
        seen[i].server = shelf_server_ref(shelf->servers[i]);
    *ret_generation = shelf->generation;
    pthread_mutex_unlock(&shelf->lock);
    int r = seen ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory for tools/");
    for (size_t i = 0; i < count && r == 0; i++)
        r = see(policy, principal, seen[i].server, &seen[i], err);
    if (r < 0) {
        seen_free(seen, count);
        return r;
    }
    for (size_t i = 0; i < count; i++) {
        if (seen[i].count || (seen[i].whole && ramet_policy_is_admin(policy, principal))) {
            seen[kept++] = seen[i];
        } else {
            free(seen[i].items);
            shelf_server_unref(seen[i].server);
        }
    }
    *ret = seen;
    *ret_count = kept;
    return 0;
}

/* With the lock held: the caller's tree as it is now, or NULL. */
static struct shelf_cached *cached(struct ramet_tools_shelf *shelf, const char *who, const char *policy)
{
    for (size_t i = 0; i < cached_max; i++) {
        struct shelf_cached *one = &shelf->cache[i];
        if (one->root && strcmp(one->who, who) == 0 && strcmp(one->policy, policy) == 0)
            return one;
    }
    return NULL;
}

/* With the lock held: the place of this caller, else the one whose last use is the longest ago. */
static struct shelf_cached *place_in_cache(struct ramet_tools_shelf *shelf, const char *who, const char *policy)
{
    struct shelf_cached *one = cached(shelf, who, policy);
    for (size_t i = 0; !one && i < cached_max; i++)
        if (!shelf->cache[i].root)
            one = &shelf->cache[i];
    if (one)
        return one;
    one = &shelf->cache[0];
    for (size_t i = 1; i < cached_max; i++)
        if (shelf->cache[i].used < one->used)
            one = &shelf->cache[i];
    return one;
}

/* Keeps the tree and the view, of which the caller keeps its references. */
static void keep(struct ramet_tools_shelf *shelf, const char *who, const char *policy, uint64_t generation,
                 uint64_t owner, struct ramet_tools_node *root, struct shelf_view *view)
{
    pthread_mutex_lock(&shelf->lock);
    struct shelf_cached *place = place_in_cache(shelf, who, policy), gone = *place;
    *place = (struct shelf_cached){.generation = generation,
                                   .owner = owner,
                                   .used = ++shelf->uses,
                                   .root = ramet_tools_node_ref(root),
                                   .view = view};
    ramet_tools_text_ref(&view->text);
    snprintf(place->who, sizeof place->who, "%s", who);
    snprintf(place->policy, sizeof place->policy, "%s", policy);
    pthread_mutex_unlock(&shelf->lock);
    ramet_tools_node_unref(gone.root);
    shelf_view_unref(gone.view);
}

/* A caller's tree and view, held. */
static int tree_for(struct ramet_tools_shelf *shelf, const struct ramet_policy *policy,
                    const struct ramet_principal *principal, struct ramet_tools_node **ret_root,
                    struct shelf_view **ret_view, struct ramet_error *err)
{
    char who[RAMET_PRINCIPAL_TEXT];
    const char *policy_id = ramet_policy_id(policy);
    uint64_t owner = 0, generation;
    struct shelf_seen *seen = NULL;
    struct shelf_view *view = NULL;
    size_t count = 0;
    ramet_principal_text(principal, who);
    pthread_mutex_lock(&shelf->lock);
    struct shelf_cached *one = cached(shelf, who, policy_id);
    owner = one ? one->owner : ++shelf->last_owner;
    bool current = one && one->generation == shelf->generation;
    if (current) {
        one->used = ++shelf->uses;
        *ret_root = ramet_tools_node_ref(one->root);
        *ret_view = one->view;
        ramet_tools_text_ref(&one->view->text);
    }
    pthread_mutex_unlock(&shelf->lock);
    if (current)
        return 0;
    int r = see_all(shelf, policy, principal, &seen, &count, &generation, err);
    if (r < 0)
        return r;
    r = shelf_view_new(shelf->config.catalogue, seen, count, &view, err);
    if (r == 0)
        r = shelf_tree_new(shelf, view, seen, owner, ret_root, err);
    seen_free(seen, count);
    if (r < 0) {
        shelf_view_unref(view);
        return r;
    }
    keep(shelf, who, policy_id, generation, owner, *ret_root, view);
    *ret_view = view;
    return 0;
}

/* --- the mount's questions --- */

static int identify(struct ramet_tools_shelf *shelf, const struct ramet_tools_caller *caller,
                    struct ramet_policy **ret_policy, struct ramet_principal *ret)
{
    *ret_policy = ramet_policy_source_get(ramet_gate_policies(shelf->config.gate));
    return ramet_principal_of_uid(*ret_policy, caller->uid, caller->pid, ret, NULL);
}

static struct ramet_tools_node *tree(void *context, const struct ramet_tools_caller *caller)
{
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy = NULL;
    struct ramet_principal principal;
    struct ramet_tools_node *root = NULL;
    struct shelf_view *view = NULL;
    if (identify(context, caller, &policy, &principal) < 0)
        return NULL;
    tree_for(context, policy, &principal, &root, &view, NULL);
    shelf_view_unref(view);
    return root;
}

/* Tells the audit of what is no tool: an index, a list, a search. */
static int tell(struct ramet_tools_shelf *shelf, const struct ramet_policy *policy,
                const struct ramet_principal *principal, const char *action, const char *object, const char *query,
                struct ramet_error *err)
{
    struct ramet_audit *audit = ramet_gate_audit(shelf->config.gate);
    char hash[RAMET_AUDIT_HASH_SIZE];
    if (query)
        ramet_audit_hash(audit, query, strlen(query), hash);
    const struct ramet_audit_line line = {.principal = principal,
                                          .action = action,
                                          .object = object,
                                          .allowed = true,
                                          .policy = ramet_policy_id(policy),
                                          .arguments = query ? hash : NULL};
    return ramet_audit_add(audit, &line, false, NULL, err);
}

static int opening(void *context, const struct ramet_tools_caller *caller, const struct ramet_tools_node *node,
                   struct ramet_error *err)
{
    struct ramet_tools_shelf *shelf = context;
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy = NULL;
    const struct ramet_docs *docs;
    const struct ramet_docs_item *item;
    struct ramet_principal principal;
    char object[320], name[1024];
    identify(shelf, caller, &policy, &principal);
    if (shelf_node_item(node, &docs, &item)) {
        shelf_policy_name(item, name, sizeof name);
        return ramet_gate_judge_tool(shelf->config.gate, &principal, RAMET_ACTION_READ_TOOL, ramet_docs_server(docs),
                                     name, err);
    }
    bool query = shelf_view_of(node) && node->which == SHELF_QUERY && node->kind == RAMET_TOOLS_FILE;
    snprintf(object, sizeof object, "tools:%.200s", query ? "search" : node->name);
    return tell(shelf, policy, &principal, query ? RAMET_ACTION_SEARCH_TOOLS : RAMET_ACTION_LIST_TOOLS, object,
                query ? node->name : NULL, err);
}

/* A name with one of our endings, without it. */
static bool is_file_of(const struct ramet_docs_item *item, const char *name)
{
    size_t size = strlen(item->file);
    if (strncmp(name, item->file, size) != 0)
        return false;
    for (enum ramet_docs_form form = 0; form < RAMET_DOCS_FORMS; form++)
        if (strcmp(name + size, ramet_docs_ending(form)) == 0)
            return true;
    return false;
}

/* An attempt at a server or a tool that exists, by somebody who may not know. */
static void missed(void *context, const struct ramet_tools_caller *caller, const struct ramet_tools_node *dir,
                   const char *name)
{
    struct ramet_tools_shelf *shelf = context;
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy = NULL;
    struct ramet_principal principal;
    struct shelf_server *server = NULL;
    const char *tool = NULL;
    char policy_name[1024];
    size_t count;
    uint64_t dir_ino = dir ? dir->ino : SHELF_INO_ROOT;
    pthread_mutex_lock(&shelf->lock);
    for (size_t i = 0; i < shelf->server_count && !server; i++)
        if (dir_ino == SHELF_INO_ROOT
                ? strcmp(ramet_docs_file(shelf->servers[i]->docs), name) == 0
                : dir_ino >= shelf->servers[i]->dir_ino && dir_ino < shelf->servers[i]->dir_ino + SHELF_DIRS)
            server = shelf_server_ref(shelf->servers[i]);
    pthread_mutex_unlock(&shelf->lock);
    if (!server)
        return;
    const struct ramet_docs_item *items = ramet_docs_items(server->docs, &count);
    for (size_t i = 0; dir_ino != SHELF_INO_ROOT && i < count && !tool; i++)
        if (is_file_of(&items[i], name)) {
            shelf_policy_name(&items[i], policy_name, sizeof policy_name);
            tool = policy_name;
        }
    if (dir_ino == SHELF_INO_ROOT || tool) {
        identify(shelf, caller, &policy, &principal);
        ramet_gate_judge_tool(shelf->config.gate, &principal, tool ? RAMET_ACTION_READ_TOOL : RAMET_ACTION_LIST_TOOLS,
                              ramet_docs_server(server->docs), tool ? tool : "", NULL);
    }
    shelf_server_unref(server);
}

static int start_mount(struct ramet_tools_shelf *shelf, struct ramet_error *err)
{
    const struct ramet_tools_source source = {.context = shelf, .tree = tree, .opening = opening, .missed = missed};
    char dir[PATH_MAX];
    if (!shelf->config.mount_dir)
        return 0;
    if ((size_t)snprintf(dir, sizeof dir, "%s/tools", shelf->config.mount_dir) >= sizeof dir)
        return ramet_error_set(err, RAMET_INVALID, "the mount's name is too long");
    return ramet_tools_mount_start(dir, &source, &shelf->mount, err);
}

/* --- searches --- */

static struct ramet_json *hit_json(const struct ramet_docs_hit *hit)
{
    struct ramet_json *one = ramet_json_object();
    struct ramet_buf text = {0};
    char file[512];
    snprintf(file, sizeof file, "%s/%s", ramet_docs_file(hit->docs), hit->item->file);
    docs_put_summary(&text, ramet_json_str(hit->item->definition, "description", ""), 200);
    _autofree_ char *description = docs_text_take(&text);
    ramet_json_set_string(one, "server", ramet_docs_server(hit->docs));
    ramet_json_set_string(one, "tool", hit->item->name);
    ramet_json_set_string(one, "description", description ? description : "");
    ramet_json_set_string(one, "file", file);
    ramet_json_set_u64(one, "score", (uint64_t)(hit->score * 1000));
    return one;
}

int ramet_tools_shelf_search(struct ramet_tools_shelf *shelf, const struct ramet_principal *principal,
                             const char *query, size_t max, struct ramet_json **ret, struct ramet_error *err)
{
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy =
        ramet_policy_source_get(ramet_gate_policies(shelf->config.gate));
    struct ramet_docs_hit hits[RAMET_DOCS_HITS_MAX];
    struct ramet_tools_node *root = NULL;
    struct shelf_view *view = NULL;
    int r = tree_for(shelf, policy, principal, &root, &view, err);
    if (r < 0)
        return r;
    const struct ramet_docs_search *search = shelf_view_search(view);
    size_t count =
        search ? ramet_docs_search_run(search, query, hits, max < RAMET_DOCS_HITS_MAX ? max : RAMET_DOCS_HITS_MAX) : 0;
    struct ramet_json *all = search ? ramet_json_array() : NULL;
    for (size_t i = 0; i < count; i++)
        ramet_json_append(all, hit_json(&hits[i]));
    ramet_tools_node_unref(root);
    shelf_view_unref(view);
    *ret = all;
    return all ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to search tools");
}

/* --- life --- */

int ramet_tools_shelf_open(const struct ramet_tools_shelf_config *config, struct ramet_tools_shelf **ret,
                           struct ramet_error *err)
{
    struct ramet_tools_shelf *shelf = calloc(1, sizeof *shelf);
    struct shelf_cached *cache = calloc(cached_max, sizeof *cache);
    if (!shelf || !cache) {
        free(shelf);
        free(cache);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for tools/");
    }
    shelf->config = *config;
    shelf->cache = cache;
    shelf->last_ino = SHELF_INO_FIRST;
    pthread_mutex_init(&shelf->lock, NULL);
    int r = ramet_tools_catalogue_subscribe(config->catalogue, changed, shelf, err);
    if (r == 0) {
        shelf->subscribed = true;
        r = publish_all(shelf, err);
    }
    if (r == 0)
        r = start_mount(shelf, err);
    if (r < 0) {
        ramet_tools_shelf_close(shelf);
        return r;
    }
    *ret = shelf;
    return 0;
}

void ramet_tools_shelf_close(struct ramet_tools_shelf *shelf)
{
    if (!shelf)
        return;
    if (shelf->mount)
        ramet_audit_give_up(ramet_gate_audit(shelf->config.gate)); /* who looks may wait for a full disk */
    ramet_tools_mount_stop(shelf->mount);
    if (shelf->subscribed)
        ramet_tools_catalogue_unsubscribe(shelf->config.catalogue, changed, shelf);
    for (size_t i = 0; i < cached_max; i++) {
        ramet_tools_node_unref(shelf->cache[i].root);
        shelf_view_unref(shelf->cache[i].view);
    }
    for (size_t i = 0; i < shelf->server_count; i++)
        shelf_server_unref(shelf->servers[i]);
    for (size_t i = 0; i < shelf->place_count; i++)
        free(shelf->places[i].server);
    free(shelf->places);
    free(shelf->servers);
    free(shelf->cache);
    pthread_mutex_destroy(&shelf->lock);
    free(shelf);
}
