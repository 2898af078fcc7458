/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /v1/tree: who descends from whom, as nested nodes.
 *
 * A sandbox hangs below the snapshot it started from. A snapshot hangs below the
 * sandbox it was taken of while that one is still there and on the same base, else
 * below the snapshot it grew from, else it is a root. Every node repeats its parent's
 * id, because a chain longer than DEPTH_MAX continues as a root of its own: JSON
 * readers bound their nesting.
 *
 * Nodes are visited breadth first, newest first, and hung in reverse: oldest first,
 * and each node complete before its parent takes it over.
 */
#include "base/cleanup.h"
#include "json.h"
#include "routes_json.h"
#include "routes_table.h"

#include <string.h>

#define DEPTH_MAX 200

struct node {
    const struct ramet_snapshot_info *snapshot; /* one of the two */
    const struct ramet_sandbox_info *sandbox;
    const char *id;
    int64_t created_ms;
    size_t depth;
    struct node *parent, *first_child, *next_sibling;
    struct ramet_json *value, *children; /* value is owned until hung; children belongs to it */
};

struct lineage {
    struct ramet_snapshot_info *snapshots;
    struct ramet_sandbox_info *sandboxes;
    size_t snapshot_count, sandbox_count, count;
    struct node *nodes;  /* oldest first */
    struct node **by_id; /* sorted by kind and id */
    struct node **order; /* breadth first */
};

static void lineage_free(struct lineage *l)
{
    for (size_t i = 0; l->nodes && i < l->count; i++)
        ramet_json_free(l->nodes[i].value);
    free(l->by_id);
    free(l->order);
    free(l->nodes);
    free(l->snapshots);
    free(l->sandboxes);
}

/* ---- nodes ---- */

static int compare_age(const void *a, const void *b)
{
    const struct node *x = a, *y = b;
    return x->created_ms != y->created_ms ? (x->created_ms > y->created_ms) - (x->created_ms < y->created_ms)
                                          : strcmp(x->id, y->id);
}

static int compare_id(const void *a, const void *b)
{
    const struct node *x = *(struct node *const *)a, *y = *(struct node *const *)b;
    return !x->snapshot != !y->snapshot ? !x->snapshot - !y->snapshot : strcmp(x->id, y->id);
}

static int load(struct ramet_service *service, struct lineage *l, struct ramet_error *err)
{
    int rc = ramet_service_snapshots(service, &l->snapshots, &l->snapshot_count, err);
    if (rc == 0)
        rc = ramet_service_sandboxes(service, &l->sandboxes, &l->sandbox_count, err);
    if (rc < 0)
        return rc;
    size_t count = l->snapshot_count + l->sandbox_count;
    l->nodes = calloc(count + 1, sizeof *l->nodes);
    l->by_id = calloc(count + 1, sizeof(struct node *));
    l->order = calloc(count + 1, sizeof(struct node *));
    if (!l->nodes || !l->by_id || !l->order)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a tree of %zu nodes", count);
    l->count = count;
    return 0;
}

static void make_nodes(struct lineage *l)
{
    struct node *node = l->nodes;
    for (const struct ramet_snapshot_info *s = l->snapshots; s < l->snapshots + l->snapshot_count; s++)
        *node++ = (struct node){.snapshot = s, .id = s->id, .created_ms = s->created_ms};
    for (const struct ramet_sandbox_info *s = l->sandboxes; s < l->sandboxes + l->sandbox_count; s++)
        *node++ = (struct node){.sandbox = s, .id = s->id, .created_ms = s->created_ms};
    qsort(l->nodes, l->count, sizeof *l->nodes, compare_age);
    for (size_t i = 0; i < l->count; i++)
        l->by_id[i] = &l->nodes[i];
    qsort(l->by_id, l->count, sizeof *l->by_id, compare_id);
}

static struct node *find_snapshot(const struct lineage *l, const char *id)
{
    static const struct ramet_snapshot_info any;
    struct node key = {.snapshot = &any, .id = id}, *wanted = &key;
    struct node **at = bsearch(&wanted, l->by_id, l->count, sizeof *l->by_id, compare_id);
    return at ? *at : NULL;
}

static struct node *find_sandbox(const struct lineage *l, const char *id)
{
    struct node key = {.id = id}, *wanted = &key;
    struct node **at = bsearch(&wanted, l->by_id, l->count, sizeof *l->by_id, compare_id);
    return at ? *at : NULL;
}

static struct node *parent_of(const struct lineage *l, const struct node *node)
{
    if (node->sandbox)
        return find_snapshot(l, node->sandbox->base);
    struct node *sandbox = find_sandbox(l, node->snapshot->sandbox);
    bool same_base = sandbox && strcmp(sandbox->sandbox->base, node->snapshot->parent) == 0;
    return same_base ? sandbox : find_snapshot(l, node->snapshot->parent);
}

/* ---- order ---- */

/* Fills l->order and each depth; nodes deeper than DEPTH_MAX lose their parent. Returns how many were reached. */
static size_t walk(struct lineage *l)
{
    struct node *roots = NULL;
    size_t queued = 0;
    for (size_t i = 0; i < l->count; i++) {
        struct node *node = &l->nodes[i];
        node->parent = parent_of(l, node);
        struct node **list = node->parent ? &node->parent->first_child : &roots;
        node->next_sibling = *list;
        *list = node;
    }
    for (struct node *root = roots; root; root = root->next_sibling)
        l->order[queued++] = root;
    for (size_t i = 0; i < queued; i++) {
        struct node *node = l->order[i];
        node->depth = node->parent ? node->parent->depth + 1 : 1;
        if (node->depth > DEPTH_MAX) {
            node->parent = NULL;
            node->depth = 1;
        }
        for (struct node *child = node->first_child; child; child = child->next_sibling)
            l->order[queued++] = child;
    }
    return queued;
}

/* ---- JSON ---- */

static void describe(struct node *node)
{
    struct ramet_json *value = ramet_json_object(), *children = ramet_json_array();
    ramet_json_set_string(value, "kind", node->snapshot ? "snapshot" : "sandbox");
    ramet_json_set_string(value, "id", node->id);
    if (node->snapshot) {
        ramet_json_set(value, "tags", ramet_tags_json(node->snapshot));
        ramet_json_set_bool(value, "durable", node->snapshot->durable);
        ramet_json_set_string(value, "parent", node->snapshot->parent);
    } else {
        ramet_json_set_string(value, "name", node->sandbox->name);
        ramet_json_set_string(value, "state", ramet_sandbox_state_name(node->sandbox->state));
        ramet_json_set_string(value, "parent", node->sandbox->base);
    }
    ramet_json_set_i64(value, "created_ms", node->created_ms);
    ramet_json_set(value, "children", children);
    node->value = value;
    node->children = children;
}

int ramet_route_tree(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    _cleanup_(lineage_free) struct lineage l = {0};
    int rc = load(ramet_call_service(call), &l, err);
    if (rc < 0)
        return rc;
    make_nodes(&l);
    size_t reached = walk(&l);
    struct ramet_json *roots = ramet_json_array();
    for (size_t i = 0; i < reached; i++)
        describe(l.order[i]);
    while (reached-- > 0) {
        struct node *node = l.order[reached];
        ramet_json_append(node->parent ? node->parent->children : roots, STEAL(node->value));
    }
    *ret = ramet_json_object();
    ramet_json_set(*ret, "roots", roots);
    return 0;
}
