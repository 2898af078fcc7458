/* SPDX-License-Identifier: Apache-2.0 */
/* What shelf.c (publishing, asking), shelf_server.c (a server's nodes) and shelf_view.c (a caller's tree) share. */
#ifndef RAMET_API_TOOLS_SHELF_PRIVATE_H
#define RAMET_API_TOOLS_SHELF_PRIVATE_H

#include "policy.h"
#include "principal.h"
#include "tools/docs.h"
#include "tools/docs_search.h"
#include "tools/shelf.h"
#include "tools_mount.h"

#include <pthread.h>

/* Inode numbers of a server's directories, the same for ever: a process may stand in one. */
enum shelf_dir { SHELF_DIR_SERVER, SHELF_DIR_GROUPS, SHELF_DIR_PROMPTS, SHELF_DIR_RESOURCES, SHELF_DIRS };

/* Numbers of the directories that are always there; servers' follow. */
enum { SHELF_INO_ROOT = 1, SHELF_INO_SEARCH = 2, SHELF_INO_FIRST = 1024 };

/* One server as it is now. Immutable once published; counted. */
struct shelf_server {
    atomic_uint refs;
    struct ramet_docs *docs; /* held */
    uint64_t dir_ino;        /* and the next ones, by enum shelf_dir */
    bool up;
    /* Files of all items: RAMET_DOCS_FORMS of each, NULL where it has none. Held. */
    struct ramet_tools_node **files;
    size_t item_count;
    /* The directory for those who see all of it: nothing in it is a caller's own. Held. */
    struct ramet_tools_node *whole;
};

/* What one caller sees of one server. */
struct shelf_seen {
    struct shelf_server *server;          /* held; of a view: NULL once the tree is made */
    const struct ramet_docs_item **items; /* owned */
    size_t count;
    bool whole; /* all there is */
};

/* Makes the texts that depend on what is seen. Immutable; counted. */
struct shelf_view {
    struct ramet_tools_text text;
    struct ramet_tools_catalogue *catalogue; /* for the health, asked when it is read */
    struct ramet_docs_seen *seen;            /* owned, with docs held and lists of items owned */
    bool *up;
    size_t count;
    pthread_mutex_t lock;             /* guards the making of the index */
    struct ramet_docs_search *search; /* made with the first search */
};

/* What a node of a view is, in `which`; `form` is the number of the server. */
enum shelf_file {
    SHELF_README,
    SHELF_INDEX,
    SHELF_SERVER_INDEX,
    SHELF_STATUS,
    SHELF_GROUP,
    SHELF_PROMPTS,
    SHELF_RESOURCES,
    SHELF_QUERY,
};

struct ramet_tools_shelf {
    struct ramet_tools_shelf_config config;
    struct ramet_tools_mount *mount;
    bool subscribed;
    pthread_mutex_t lock;          /* guards what follows; taken for moments */
    struct shelf_server **servers; /* held, sorted by name */
    size_t server_count;
    uint64_t generation; /* counts what was published */
    uint64_t last_ino, last_owner;
    struct shelf_place { /* directories of every server there ever was */
        char *server;
        uint64_t dir_ino;
    } * places;
    size_t place_count;
    struct shelf_cached { /* trees of callers, the oldest use goes first */
        char who[RAMET_PRINCIPAL_TEXT], policy[RAMET_POLICY_ID_SIZE];
        uint64_t generation, owner, used;
        struct ramet_tools_node *root; /* held */
        struct shelf_view *view;       /* held by it */
    } * cache;
    uint64_t uses;
};

uint64_t shelf_numbers(struct ramet_tools_shelf *shelf, size_t count); /* the first of `count` fresh ones */

/*
 * shelf_server.c: the nodes of a document. `old` is what it replaces, or NULL: files whose definition is the same keep
 * number and time.
 */
int shelf_server_new(struct ramet_tools_shelf *shelf, struct ramet_tools_doc *doc, const struct shelf_server *old,
                     bool up, uint64_t dir_ino, struct shelf_server **ret, struct ramet_error *err);
struct shelf_server *shelf_server_ref(struct shelf_server *server);
void shelf_server_unref(struct shelf_server *server); /* NULL is a no-op */
/* The documents and item whose file a node is; false when it is none. */
bool shelf_node_item(const struct ramet_tools_node *node, const struct ramet_docs **ret,
                     const struct ramet_docs_item **ret_item);
/* "tool", "prompts/file" or "resources/file": what the policy's patterns are compared with. */
void shelf_policy_name(const struct ramet_docs_item *item, char *ret, size_t size);

/* shelf_view.c: `items` of each of `seen` go over, also when it fails. */
int shelf_view_new(struct ramet_tools_catalogue *catalogue, struct shelf_seen *seen, size_t count,
                   struct shelf_view **ret, struct ramet_error *err);
void shelf_view_unref(struct shelf_view *view); /* NULL is a no-op */
/* The directory of one server of the view; numbers of files that are the view's own begin at *ino. */
int shelf_server_dir(struct shelf_view *view, size_t number, const struct shelf_server *server, uint64_t owner,
                     uint64_t *ino, struct ramet_tools_node **ret, struct ramet_error *err);
/* The whole tree, sealed, of the servers that `seen` has, in the view's order. */
int shelf_tree_new(struct ramet_tools_shelf *shelf, struct shelf_view *view, const struct shelf_seen *seen,
                   uint64_t owner, struct ramet_tools_node **ret, struct ramet_error *err);
/* The index, made with its first use; borrowed from the view, NULL when memory ran out. */
const struct ramet_docs_search *shelf_view_search(struct shelf_view *view);
/* The view that makes a node's text, or NULL. */
struct shelf_view *shelf_view_of(const struct ramet_tools_node *node);

#endif
