/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MCP servers this daemon is a client of: which there are, their life, and calls to their tools. What they list is
 * in the catalogue, and only there.
 *
 * A configuration is durable before its server is started. Servers start when the registry is opened, in the
 * background: their documents of last time are there meanwhile.
 *
 * Thread-safety: every function from any thread, but open and close.
 */
#ifndef RAMET_API_TOOLS_REGISTRY_H
#define RAMET_API_TOOLS_REGISTRY_H

#include "tools/rpc.h"

struct ramet_json;
struct ramet_tools;
struct ramet_tools_catalogue;

#define RAMET_TOOLS_SERVERS_MAX 256

/* `dir` holds config.json; the catalogue is borrowed and must outlive the registry. */
int ramet_tools_open(const char *dir, struct ramet_tools_catalogue *catalogue, struct ramet_tools **ret,
                     struct ramet_error *err);
/* Ends every server; calls end with RAMET_UNAVAILABLE. NULL is a no-op. */
void ramet_tools_close(struct ramet_tools *tools);

/* `entry` as in config.h. RAMET_EXISTS, unless `replace`: then the old one is ended first. */
int ramet_tools_add(struct ramet_tools *tools, const char *server, const struct ramet_json *entry, bool replace,
                    struct ramet_error *err);
/* Every server of a file that people have. *ret, owned by the caller: an array of {"server", "added", "problem"}. */
int ramet_tools_import(struct ramet_tools *tools, const struct ramet_json *file, bool replace, struct ramet_json **ret,
                       struct ramet_error *err);
/* Ends it and removes its configuration and its documents. RAMET_NOT_FOUND. */
int ramet_tools_remove(struct ramet_tools *tools, const char *server, struct ramet_error *err);

/* An object each: how it is reached, its state, what it lists, how old that is. Owned by the caller. RAMET_NOT_FOUND.
 */
int ramet_tools_show(struct ramet_tools *tools, const char *server, struct ramet_json **ret, struct ramet_error *err);
int ramet_tools_show_all(struct ramet_tools *tools, struct ramet_json **ret, struct ramet_error *err); /* by name */

/* Lists it anew and waits for that. RAMET_NOT_FOUND. */
int ramet_tools_refresh(struct ramet_tools *tools, const char *server, unsigned timeout_ms, struct ramet_error *err);

/*
 * Calls a tool that is in the catalogue with `arguments`, an object (NULL: none), which are checked against the tool's
 * inputSchema first: RAMET_INVALID names the path of the value that is wrong. RAMET_NOT_FOUND: no such server or tool.
 * What the server answers is an answer, its errors included. `timeout_ms` 0: a minute.
 */
int ramet_tools_call(struct ramet_tools *tools, const char *server, const char *tool,
                     const struct ramet_json *arguments, unsigned timeout_ms, struct ramet_rpc_answer *ret,
                     struct ramet_error *err);

#endif
