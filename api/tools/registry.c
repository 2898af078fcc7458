/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of servers.
 *
 * `change` is held by whoever adds or removes one, across the writing of the configuration and the end of the old
 * server. `lock`, taken after it, guards the list; never held across I/O. A server in use is kept by its reference.
 */
#include "tools/registry.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "json.h"
#include "tools/catalogue.h"
#include "tools/config.h"
#include "tools/schema.h"
#include "tools/server.h"
#include "vmm/clock.h"

#include <limits.h>
#include <pthread.h>
#include <string.h>

enum { call_ms = 60000 };

struct ramet_tools {
    struct ramet_tools_catalogue *catalogue;
    pthread_mutex_t change, lock;
    struct ramet_tools_config *config; /* under `change` */
    struct ramet_tools_server **servers;
    size_t count;
};

/* ---- the list ---- */

/* Under the lock. */
static size_t index_of(const struct ramet_tools *tools, const char *name)
{
    size_t i = 0;
    while (i < tools->count && strcmp(ramet_tools_server_name(tools->servers[i]), name) != 0)
        i++;
    return i;
}

static int find(struct ramet_tools *tools, const char *name, struct ramet_tools_server **ret, struct ramet_error *err)
{
    pthread_mutex_lock(&tools->lock);
    size_t i = index_of(tools, name);
    if (i < tools->count)
        *ret = ramet_tools_server_ref(tools->servers[i]);
    bool found = i < tools->count;
    pthread_mutex_unlock(&tools->lock);
    if (found)
        return 0;
    ramet_error_set(err, RAMET_NOT_FOUND, "MCP server \"%.100s\" not found", name);
    return ramet_error_hint(err, "'ramet tools ls' lists them");
}

/* Under `change`. Takes over the caller's reference. */
static int insert(struct ramet_tools *tools, struct ramet_tools_server *server, struct ramet_error *err)
{
    pthread_mutex_lock(&tools->lock);
    struct ramet_tools_server **grown = reallocarray(tools->servers, tools->count + 1, sizeof(*grown));
    if (grown) {
        tools->servers = grown;
        size_t at = tools->count++;
        for (; at > 0 && strcmp(ramet_tools_server_name(grown[at - 1]), ramet_tools_server_name(server)) > 0; at--)
            grown[at] = grown[at - 1];
        grown[at] = server;
    }
    pthread_mutex_unlock(&tools->lock);
    return grown ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a server");
}

static void end(struct ramet_tools_server *server)
{
    ramet_tools_server_stop(server);
    ramet_tools_server_join(server);
    ramet_tools_server_unref(server);
}

/* Under `change`. Takes it off the list and ends it; none is no error. */
static void take_out(struct ramet_tools *tools, const char *name)
{
    struct ramet_tools_server *server = NULL;
    pthread_mutex_lock(&tools->lock);
    size_t i = index_of(tools, name);
    if (i < tools->count) {
        server = tools->servers[i];
        memmove(tools->servers + i, tools->servers + i + 1, (--tools->count - i) * sizeof *tools->servers);
    }
    pthread_mutex_unlock(&tools->lock);
    if (server)
        end(server);
}

/* ---- opening and closing ---- */

/* Under `change`. Takes over `launch`. */
static int start(struct ramet_tools *tools, const char *name, struct ramet_tools_launch *launch,
                 struct ramet_error *err)
{
    struct ramet_tools_server *server = NULL;
    int rc = ramet_tools_server_new(name, launch, tools->catalogue, &server, err);
    if (rc == 0 && (rc = insert(tools, server, err)) < 0)
        end(server);
    return rc;
}

/* An entry that cannot be used is named in the log and stays in the file. */
static int start_all(struct ramet_tools *tools, struct ramet_error *err)
{
    const struct ramet_json *entries = ramet_tools_config_entries(tools->config), *entry;
    const char *name;
    void *iter = NULL;
    int rc = 0;
    while (rc == 0 && ramet_json_next(entries, &iter, &name, &entry)) {
        struct ramet_tools_launch launch;
        struct ramet_error one = {0};
        if (ramet_tools_server_check(name, &one) < 0 || ramet_tools_launch_make(entry, &launch, &one) < 0)
            ramet_warn("tools: server \"%.100s\" in config.json: %s", name, one.msg);
        else
            rc = start(tools, name, &launch, err);
    }
    return rc;
}

int ramet_tools_open(const char *dir, struct ramet_tools_catalogue *catalogue, struct ramet_tools **ret,
                     struct ramet_error *err)
{
    struct ramet_tools *tools = calloc(1, sizeof *tools);
    if (!tools)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for MCP servers");
    tools->catalogue = catalogue;
    pthread_mutex_init(&tools->change, NULL);
    pthread_mutex_init(&tools->lock, NULL);
    int rc = ramet_tools_config_open(dir, &tools->config, err);
    if (rc == 0)
        rc = start_all(tools, err);
    if (rc < 0) {
        ramet_tools_close(tools);
        return rc;
    }
    *ret = tools;
    return 0;
}

void ramet_tools_close(struct ramet_tools *tools)
{
    if (!tools)
        return;
    for (size_t i = 0; i < tools->count; i++)
        ramet_tools_server_stop(tools->servers[i]);
    for (size_t i = 0; i < tools->count; i++) {
        ramet_tools_server_join(tools->servers[i]);
        ramet_tools_server_unref(tools->servers[i]);
    }
    free(tools->servers);
    ramet_tools_config_free(tools->config);
    pthread_mutex_destroy(&tools->lock);
    pthread_mutex_destroy(&tools->change);
    free(tools);
}

/* ---- changing ---- */

/* Under `change`. */
static int add(struct ramet_tools *tools, const char *name, const struct ramet_json *entry, bool replace,
               struct ramet_error *err)
{
    const struct ramet_json *entries = ramet_tools_config_entries(tools->config);
    struct ramet_tools_launch launch;
    int rc = ramet_tools_server_check(name, err);
    if (rc == 0 && ramet_json_get(entries, name) && !replace) {
        ramet_error_set(err, RAMET_EXISTS, "there is an MCP server \"%.100s\" already", name);
        return ramet_error_hint(err, "give it another name, or replace it with --replace");
    }
    if (rc == 0 && !ramet_json_get(entries, name) && ramet_json_count(entries) >= RAMET_TOOLS_SERVERS_MAX)
        rc = ramet_error_set(err, RAMET_TOO_LARGE, "there are %d MCP servers, and no more are kept",
                             RAMET_TOOLS_SERVERS_MAX);
    if (rc == 0)
        rc = ramet_tools_launch_make(entry, &launch, err);
    if (rc < 0)
        return rc;
    rc = ramet_tools_config_set(tools->config, name, entry, err);
    if (rc < 0) {
        ramet_tools_launch_free(&launch);
        return rc;
    }
    take_out(tools, name);
    return start(tools, name, &launch, err);
}

int ramet_tools_add(struct ramet_tools *tools, const char *server, const struct ramet_json *entry, bool replace,
                    struct ramet_error *err)
{
    pthread_mutex_lock(&tools->change);
    int rc = add(tools, server, entry, replace, err);
    pthread_mutex_unlock(&tools->change);
    return rc;
}

int ramet_tools_import(struct ramet_tools *tools, const struct ramet_json *file, bool replace, struct ramet_json **ret,
                       struct ramet_error *err)
{
    const struct ramet_json *servers, *entry;
    const char *name;
    void *iter = NULL;
    int rc = ramet_tools_config_find(file, &servers, err);
    if (rc < 0)
        return rc;
    struct ramet_json *done = ramet_json_array();
    while (ramet_json_next(servers, &iter, &name, &entry)) {
        struct ramet_error one = {0};
        struct ramet_json *item = ramet_json_object();
        int added = ramet_tools_add(tools, name, entry, replace, &one);
        ramet_json_set_string(item, "server", name);
        ramet_json_set_bool(item, "added", added == 0);
        ramet_json_set_string(item, "problem", added == 0 ? "" : one.msg);
        ramet_json_append(done, item);
    }
    if (!done)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for an answer");
    *ret = done;
    return 0;
}

int ramet_tools_remove(struct ramet_tools *tools, const char *server, struct ramet_error *err)
{
    int rc = 0;
    pthread_mutex_lock(&tools->change);
    if (!ramet_json_get(ramet_tools_config_entries(tools->config), server)) {
        ramet_error_set(err, RAMET_NOT_FOUND, "MCP server \"%.100s\" not found", server);
        rc = ramet_error_hint(err, "'ramet tools ls' lists them");
    }
    if (rc == 0)
        rc = ramet_tools_config_set(tools->config, server, NULL, err);
    if (rc == 0) {
        take_out(tools, server);
        rc = ramet_tools_catalogue_remove(tools->catalogue, server, err);
    }
    pthread_mutex_unlock(&tools->change);
    return rc;
}

/* ---- showing ---- */

static struct ramet_json *show(struct ramet_tools *tools, struct ramet_tools_server *server)
{
    static const char *const lists[] = {"tools", "prompts", "resources", "resourceTemplates"};
    const char *name = ramet_tools_server_name(server);
    _cleanup_(ramet_tools_doc_cleanup) struct ramet_tools_doc *doc =
        ramet_tools_catalogue_current(tools->catalogue, name);
    struct ramet_tools_health health = {0};
    struct ramet_json *to = ramet_json_object();
    const struct ramet_json *json = doc ? ramet_tools_doc_json(doc) : NULL;
    ramet_json_set_string(to, "server", name);
    ramet_tools_server_show(server, to);
    ramet_tools_catalogue_health(tools->catalogue, name, &health, NULL);
    ramet_json_set_string(to, "protocol_version", ramet_json_str(json, "protocolVersion", ""));
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        ramet_json_set_u64(to, strcmp(lists[i], "resourceTemplates") == 0 ? "resource_templates" : lists[i],
                           ramet_json_count(ramet_json_get(json, lists[i])));
    ramet_json_set_u64(to, "version", doc ? ramet_tools_doc_version(doc) : 0);
    ramet_json_set_i64(to, "fetched_ms", doc ? ramet_tools_doc_fetched_ms(doc) : 0);
    ramet_json_set_i64(to, "checked_ms", health.checked_ms);
    return to;
}

int ramet_tools_show(struct ramet_tools *tools, const char *name, struct ramet_json **ret, struct ramet_error *err)
{
    _cleanup_(ramet_tools_server_cleanup) struct ramet_tools_server *server = NULL;
    int rc = find(tools, name, &server, err);
    if (rc == 0)
        *ret = show(tools, server);
    return rc;
}

/* References to all, for their use without the lock. */
static int all(struct ramet_tools *tools, struct ramet_tools_server ***ret, size_t *ret_count, struct ramet_error *err)
{
    pthread_mutex_lock(&tools->lock);
    struct ramet_tools_server **servers = calloc(tools->count + 1, sizeof(*servers));
    for (size_t i = 0; servers && i < tools->count; i++)
        servers[i] = ramet_tools_server_ref(tools->servers[i]);
    *ret_count = tools->count;
    pthread_mutex_unlock(&tools->lock);
    *ret = servers;
    return servers ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list MCP servers");
}

int ramet_tools_show_all(struct ramet_tools *tools, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_tools_server **servers;
    size_t count;
    int rc = all(tools, &servers, &count, err);
    if (rc < 0)
        return rc;
    struct ramet_json *list = ramet_json_array();
    for (size_t i = 0; i < count; i++) {
        ramet_json_append(list, show(tools, servers[i]));
        ramet_tools_server_unref(servers[i]);
    }
    free(servers);
    *ret = list;
    return 0;
}

/* ---- asking ---- */

int ramet_tools_refresh(struct ramet_tools *tools, const char *name, unsigned timeout_ms, struct ramet_error *err)
{
    _cleanup_(ramet_tools_server_cleanup) struct ramet_tools_server *server = NULL;
    int rc = find(tools, name, &server, err);
    return rc < 0 ? rc : ramet_tools_server_refresh(server, ramet_deadline_us(timeout_ms ? timeout_ms : call_ms), err);
}

/* The document that holds the tool's definition; asks the server when it was never listed. */
static int find_tool(struct ramet_tools *tools, struct ramet_tools_server *server, const char *tool,
                     uint64_t deadline_us, struct ramet_tools_doc **ret, const struct ramet_json **ret_definition,
                     struct ramet_error *err)
{
    const char *name = ramet_tools_server_name(server);
    *ret = ramet_tools_catalogue_current(tools->catalogue, name);
    if (!*ret) {
        int rc = ramet_tools_server_refresh(server, deadline_us, err);
        if (rc < 0)
            return rc;
        *ret = ramet_tools_catalogue_current(tools->catalogue, name);
    }
    *ret_definition = *ret ? ramet_tools_doc_tool(*ret, tool) : NULL;
    if (*ret_definition)
        return 0;
    ramet_error_set(err, RAMET_NOT_FOUND, "server \"%.100s\" has no tool \"%.200s\"", name, tool);
    return ramet_error_hint(err, "'ramet tools ls %.100s' lists what it has", name);
}

int ramet_tools_call(struct ramet_tools *tools, const char *name, const char *tool, const struct ramet_json *arguments,
                     unsigned timeout_ms, struct ramet_rpc_answer *ret, struct ramet_error *err)
{
    _cleanup_(ramet_tools_server_cleanup) struct ramet_tools_server *server = NULL;
    _cleanup_(ramet_tools_doc_cleanup) struct ramet_tools_doc *doc = NULL;
    _cleanup_(ramet_json_cleanup) struct ramet_json *none = ramet_json_object();
    const struct ramet_json *definition = NULL, *given = arguments ? arguments : none;
    uint64_t deadline_us = ramet_deadline_us(timeout_ms ? timeout_ms : call_ms);
    int rc = find(tools, name, &server, err);
    if (rc == 0)
        rc = find_tool(tools, server, tool, deadline_us, &doc, &definition, err);
    if (rc == 0 && !ramet_json_is_object(given))
        rc = ramet_error_set(err, RAMET_INVALID, "\"arguments\" must be an object");
    if (rc == 0 && ramet_schema_check(ramet_json_get(definition, "inputSchema"), given, err) < 0)
        rc = ramet_error_hint(err, "'ramet tools ls %.60s/%.120s' shows what it takes", name, tool);
    return rc < 0 ? rc : ramet_tools_server_call(server, tool, definition, given, deadline_us, ret, err);
}
