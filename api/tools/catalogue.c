/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalogue: entries in memory over the files of doc.c.
 *
 * Locking: `write` is held by whoever changes anything, across its I/O and across the subscribers' calls; it also
 * guards the list of subscribers and the files. `lock`, taken after it, guards the entries, and is never held across
 * I/O or a call: readers wait for neither. A change is first on disk, then under `lock` visible, then told.
 */
#include "tools/catalogue.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "json.h"
#include "tools/doc.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>

struct entry {
    char *server;
    struct ramet_tools_doc *newest; /* NULL: only its health is known */
    uint64_t *versions;             /* oldest first; those kept */
    size_t count;
    struct ramet_tools_health health;
    struct entry *next; /* by name */
};

struct subscriber {
    ramet_tools_changed *changed;
    void *context;
    struct subscriber *next;
};

struct ramet_tools_catalogue {
    char dir[PATH_MAX - 512];
    pthread_mutex_t write, lock;
    struct entry *entries;
    struct subscriber *subscribers;
};

static int no_memory(const char *server, struct ramet_error *err)
{
    return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the tools of \"%s\"", server);
}

/* ---- entries ---- */

static void entry_free(struct entry *entry)
{
    ramet_tools_doc_unref(entry->newest);
    free(entry->server);
    free(entry->versions);
    free(entry);
}

/* Where the entry of this name is or belongs. Under a lock. */
static struct entry **place_of(struct ramet_tools_catalogue *catalogue, const char *server)
{
    struct entry **at = &catalogue->entries;
    while (*at && strcmp((*at)->server, server) < 0)
        at = &(*at)->next;
    return at;
}

static struct entry *find(struct ramet_tools_catalogue *catalogue, const char *server)
{
    struct entry *entry = *place_of(catalogue, server);
    return entry && strcmp(entry->server, server) == 0 ? entry : NULL;
}

/* The entry, made when missing; NULL when memory ran out. Under `write`. */
static struct entry *obtain(struct ramet_tools_catalogue *catalogue, const char *server)
{
    struct entry *entry = find(catalogue, server);
    if (entry)
        return entry;
    entry = calloc(1, sizeof *entry);
    if (!entry || !(entry->server = strdup(server))) {
        free(entry);
        return NULL;
    }
    pthread_mutex_lock(&catalogue->lock);
    struct entry **at = place_of(catalogue, server);
    entry->next = *at;
    *at = entry;
    pthread_mutex_unlock(&catalogue->lock);
    return entry;
}

/* DIR/<escaped server>. */
static int dir_of(const struct ramet_tools_catalogue *catalogue, const char *server, char path[static PATH_MAX],
                  struct ramet_error *err)
{
    int rc = ramet_tools_server_check(server, err);
    if (rc < 0)
        return rc;
    _autofree_ char *escaped = ramet_tools_escape(server);
    if (!escaped)
        return no_memory(server, err);
    snprintf(path, PATH_MAX, "%s/%s", catalogue->dir, escaped);
    return 0;
}

/* ---- subscribers ---- */

/* Under `write`. */
static void tell(struct ramet_tools_catalogue *catalogue, const char *server, struct ramet_tools_doc *doc)
{
    for (struct subscriber *s = catalogue->subscribers; s; s = s->next)
        s->changed(s->context, server, doc);
}

int ramet_tools_catalogue_subscribe(struct ramet_tools_catalogue *catalogue, ramet_tools_changed *changed,
                                    void *context, struct ramet_error *err)
{
    struct subscriber *subscriber = calloc(1, sizeof *subscriber);
    if (!subscriber)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a subscription");
    *subscriber = (struct subscriber){.changed = changed, .context = context};
    pthread_mutex_lock(&catalogue->write);
    subscriber->next = catalogue->subscribers;
    catalogue->subscribers = subscriber;
    pthread_mutex_unlock(&catalogue->write);
    return 0;
}

void ramet_tools_catalogue_unsubscribe(struct ramet_tools_catalogue *catalogue, ramet_tools_changed *changed,
                                       void *context)
{
    pthread_mutex_lock(&catalogue->write);
    for (struct subscriber **at = &catalogue->subscribers; *at; at = &(*at)->next)
        if ((*at)->changed == changed && (*at)->context == context) {
            struct subscriber *gone = *at;
            *at = gone->next;
            free(gone);
            break;
        }
    pthread_mutex_unlock(&catalogue->write);
}

/* ---- opening ---- */

/* The newest version that verifies; those that do not are named in the log and stay where they are. */
static int load(struct ramet_tools_catalogue *catalogue, const char *server, struct ramet_error *err)
{
    char dir[PATH_MAX];
    int rc = dir_of(catalogue, server, dir, err);
    struct entry *entry = rc < 0 ? NULL : obtain(catalogue, server);
    if (!entry)
        return rc < 0 ? rc : no_memory(server, err);
    rc = ramet_tools_doc_versions(dir, &entry->versions, &entry->count, err);
    for (size_t i = entry->count; rc == 0 && i-- > 0 && !entry->newest;) {
        struct ramet_error one = {0};
        rc = ramet_tools_doc_read(dir, server, entry->versions[i], &entry->newest, &one);
        if (rc == 0)
            entry->health.checked_ms = ramet_tools_doc_checked(dir, entry->versions[i]);
        if (rc < 0 && rc != -RAMET_NO_MEMORY) {
            ramet_warn("tools: %s", one.msg);
            rc = 0;
        }
    }
    snprintf(entry->health.problem, sizeof entry->health.problem, "not asked since the daemon started");
    return rc;
}

static int load_all(struct ramet_tools_catalogue *catalogue, struct ramet_error *err)
{
    DIR *dir = opendir(catalogue->dir);
    const struct dirent *item;
    int rc = 0;
    if (!dir)
        return ramet_error_os(err, errno, "cannot list %.300s", catalogue->dir);
    while (rc == 0 && (item = readdir(dir))) {
        _autofree_ char *server = NULL;
        bool candidate = item->d_type == DT_DIR || item->d_type == DT_UNKNOWN;
        if (candidate && *item->d_name != '.' && ramet_tools_unescape(item->d_name, &server, NULL) == 0 &&
            ramet_tools_server_check(server, NULL) == 0)
            rc = load(catalogue, server, err);
    }
    closedir(dir);
    return rc;
}

int ramet_tools_catalogue_open(const char *dir, struct ramet_tools_catalogue **ret, struct ramet_error *err)
{
    struct ramet_tools_catalogue *catalogue = calloc(1, sizeof *catalogue);
    if (!catalogue)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the catalogue of tools");
    pthread_mutex_init(&catalogue->write, NULL);
    pthread_mutex_init(&catalogue->lock, NULL);
    int rc = (size_t)snprintf(catalogue->dir, sizeof catalogue->dir, "%s", dir) < sizeof catalogue->dir
                 ? ramet_dir_make(dir, 0700, err)
                 : ramet_error_set(err, RAMET_INVALID, "%.300s: the path is too long", dir);
    if (rc == 0)
        rc = load_all(catalogue, err);
    if (rc < 0) {
        ramet_tools_catalogue_close(catalogue);
        return rc;
    }
    *ret = catalogue;
    return 0;
}

void ramet_tools_catalogue_close(struct ramet_tools_catalogue *catalogue)
{
    if (!catalogue)
        return;
    while (catalogue->entries) {
        struct entry *entry = catalogue->entries;
        catalogue->entries = entry->next;
        entry_free(entry);
    }
    while (catalogue->subscribers) {
        struct subscriber *subscriber = catalogue->subscribers;
        catalogue->subscribers = subscriber->next;
        free(subscriber);
    }
    pthread_mutex_destroy(&catalogue->lock);
    pthread_mutex_destroy(&catalogue->write);
    free(catalogue);
}

/* ---- reading ---- */

int ramet_tools_catalogue_list(struct ramet_tools_catalogue *catalogue, struct ramet_tools_doc ***ret,
                               size_t *ret_count, struct ramet_error *err)
{
    size_t count = 0;
    pthread_mutex_lock(&catalogue->lock);
    for (const struct entry *e = catalogue->entries; e; e = e->next)
        count += e->newest != NULL;
    struct ramet_tools_doc **docs = calloc(count + 1, sizeof(struct ramet_tools_doc *));
    count = 0;
    for (const struct entry *e = catalogue->entries; docs && e; e = e->next)
        if (e->newest)
            docs[count++] = ramet_tools_doc_ref(e->newest);
    pthread_mutex_unlock(&catalogue->lock);
    if (!docs)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list servers");
    *ret = docs;
    *ret_count = count;
    return 0;
}

struct ramet_tools_doc *ramet_tools_catalogue_current(struct ramet_tools_catalogue *catalogue, const char *server)
{
    pthread_mutex_lock(&catalogue->lock);
    const struct entry *entry = find(catalogue, server);
    struct ramet_tools_doc *doc = entry ? ramet_tools_doc_ref(entry->newest) : NULL;
    pthread_mutex_unlock(&catalogue->lock);
    return doc;
}

static int unknown(const char *server, struct ramet_error *err)
{
    ramet_error_set(err, RAMET_NOT_FOUND, "server \"%.100s\" was never listed", server);
    return ramet_error_hint(err, "'ramet tools ls' shows the servers there are");
}

int ramet_tools_catalogue_version(struct ramet_tools_catalogue *catalogue, const char *server, uint64_t version,
                                  struct ramet_tools_doc **ret, struct ramet_error *err)
{
    char dir[PATH_MAX];
    struct ramet_tools_doc *newest = ramet_tools_catalogue_current(catalogue, server);
    if (newest && ramet_tools_doc_version(newest) == version) {
        *ret = newest;
        return 0;
    }
    ramet_tools_doc_unref(newest);
    if (!newest)
        return unknown(server, err);
    int rc = dir_of(catalogue, server, dir, err);
    if (rc == 0)
        rc = ramet_tools_doc_read(dir, server, version, ret, err);
    if (rc == -RAMET_NOT_FOUND)
        ramet_error_set(err, RAMET_NOT_FOUND, "version %" PRIu64 " of \"%s\" is not kept", version, server);
    return rc;
}

int ramet_tools_catalogue_versions(struct ramet_tools_catalogue *catalogue, const char *server, uint64_t **ret,
                                   size_t *ret_count, struct ramet_error *err)
{
    int rc = 0;
    pthread_mutex_lock(&catalogue->lock);
    const struct entry *entry = find(catalogue, server);
    if (!entry || !entry->newest) {
        rc = unknown(server, err);
    } else {
        uint64_t *copy = malloc(entry->count * sizeof *copy);
        if (copy) {
            memcpy(copy, entry->versions, entry->count * sizeof *copy);
            *ret = copy;
            *ret_count = entry->count;
        } else {
            rc = no_memory(server, err);
        }
    }
    pthread_mutex_unlock(&catalogue->lock);
    return rc;
}

int ramet_tools_catalogue_health(struct ramet_tools_catalogue *catalogue, const char *server,
                                 struct ramet_tools_health *ret, struct ramet_error *err)
{
    pthread_mutex_lock(&catalogue->lock);
    const struct entry *entry = find(catalogue, server);
    if (entry)
        *ret = entry->health;
    pthread_mutex_unlock(&catalogue->lock);
    return entry ? 0 : unknown(server, err);
}

/* ---- writing ---- */

/* Makes `doc` the newest, in memory; it is on disk. *ret_old is what it replaces. */
static int publish(struct ramet_tools_catalogue *catalogue, struct entry *entry, struct ramet_tools_doc *doc,
                   struct ramet_error *err)
{
    pthread_mutex_lock(&catalogue->lock);
    struct ramet_tools_doc *old = NULL;
    uint64_t *grown = reallocarray(entry->versions, entry->count + 1, sizeof *grown);
    if (grown) {
        entry->versions = grown;
        entry->versions[entry->count++] = ramet_tools_doc_version(doc);
        old = entry->newest;
        entry->newest = ramet_tools_doc_ref(doc);
        entry->health.checked_ms = ramet_tools_doc_fetched_ms(doc);
    }
    pthread_mutex_unlock(&catalogue->lock);
    ramet_tools_doc_unref(old);
    return grown ? 0 : no_memory(entry->server, err);
}

/* Lets go of versions beyond those kept. What cannot be removed is tried again with the next one. */
static void prune(struct ramet_tools_catalogue *catalogue, struct entry *entry, const char *dir)
{
    while (entry->count > RAMET_TOOLS_VERSIONS && ramet_tools_doc_remove(dir, entry->versions[0], NULL) == 0) {
        pthread_mutex_lock(&catalogue->lock);
        memmove(entry->versions, entry->versions + 1, --entry->count * sizeof *entry->versions);
        pthread_mutex_unlock(&catalogue->lock);
    }
}

static int put(struct ramet_tools_catalogue *catalogue, struct ramet_json *listed, bool *ret_changed,
               struct ramet_error *err)
{
    char dir[PATH_MAX];
    _cleanup_(ramet_tools_doc_cleanup) struct ramet_tools_doc *doc = NULL;
    struct entry *entry = obtain(catalogue, ramet_json_str(listed, "server", ""));
    int rc = entry ? dir_of(catalogue, entry->server, dir, err) : no_memory("a server", err);
    if (rc < 0) {
        ramet_json_free(listed);
        return rc;
    }
    /* Numbers go on after those of damaged files, which stay. */
    uint64_t version = entry->count ? entry->versions[entry->count - 1] + 1 : 1;
    rc = ramet_tools_doc_make(listed, version, ramet_now_ms(), &doc, err);
    if (rc < 0)
        return rc;
    *ret_changed = !entry->newest || strcmp(ramet_tools_doc_digest(entry->newest), ramet_tools_doc_digest(doc)) != 0;
    if (!*ret_changed) {
        pthread_mutex_lock(&catalogue->lock);
        entry->health.checked_ms = ramet_tools_doc_fetched_ms(doc);
        pthread_mutex_unlock(&catalogue->lock);
        ramet_tools_doc_note_checked(dir, ramet_tools_doc_version(entry->newest), ramet_tools_doc_fetched_ms(doc));
        return 0;
    }
    rc = ramet_dir_make(dir, 0700, err);
    if (rc == 0)
        rc = ramet_dir_sync(catalogue->dir, err);
    if (rc == 0)
        rc = ramet_tools_doc_write(doc, dir, err);
    if (rc == 0)
        rc = publish(catalogue, entry, doc, err);
    if (rc < 0)
        return rc;
    prune(catalogue, entry, dir);
    tell(catalogue, entry->server, doc);
    return 0;
}

int ramet_tools_catalogue_put(struct ramet_tools_catalogue *catalogue, struct ramet_json *listed, bool *ret_changed,
                              struct ramet_error *err)
{
    bool changed = false;
    int rc = ramet_tools_server_check(ramet_json_str(listed, "server", ""), err);
    if (rc < 0) {
        ramet_json_free(listed);
        return rc;
    }
    pthread_mutex_lock(&catalogue->write);
    rc = put(catalogue, listed, &changed, err);
    pthread_mutex_unlock(&catalogue->write);
    if (rc == 0 && ret_changed)
        *ret_changed = changed;
    return rc;
}

void ramet_tools_catalogue_set_health(struct ramet_tools_catalogue *catalogue, const char *server, const char *problem)
{
    pthread_mutex_lock(&catalogue->write);
    struct entry *entry = obtain(catalogue, server);
    if (entry) {
        char text[sizeof entry->health.problem];
        snprintf(text, sizeof text, "%s", problem ? problem : "");
        pthread_mutex_lock(&catalogue->lock);
        bool changed = entry->health.up != !problem || strcmp(entry->health.problem, text) != 0;
        entry->health.up = !problem;
        memcpy(entry->health.problem, text, sizeof text);
        pthread_mutex_unlock(&catalogue->lock);
        if (changed)
            tell(catalogue, server, entry->newest);
    }
    pthread_mutex_unlock(&catalogue->write);
}

int ramet_tools_catalogue_remove(struct ramet_tools_catalogue *catalogue, const char *server, struct ramet_error *err)
{
    char dir[PATH_MAX];
    int rc = dir_of(catalogue, server, dir, err);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&catalogue->write);
    rc = ramet_dir_remove(dir, err);
    if (rc == 0)
        rc = ramet_dir_sync(catalogue->dir, err);
    if (rc == 0 && find(catalogue, server)) {
        pthread_mutex_lock(&catalogue->lock);
        struct entry **at = place_of(catalogue, server), *gone = *at;
        *at = gone->next;
        pthread_mutex_unlock(&catalogue->lock);
        tell(catalogue, server, NULL);
        entry_free(gone);
    }
    pthread_mutex_unlock(&catalogue->write);
    return rc;
}
