/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One MCP server over its life: started, listed, watched, started again.
 *
 * A thread of its own keeps it: connects, lists what it has into the catalogue, lists again when it says that something
 * changed (once a second at most, however often it says so), when it is asked to, or when what it listed has expired;
 * after a crash it waits 1, 2, 4, ... up to 60 seconds, less when somebody calls. A server that lets a call time out
 * is asked whether it lives, and started anew when it does not say so.
 *
 * Thread-safety: every function from any thread.
 */
#ifndef RAMET_API_TOOLS_SERVER_H
#define RAMET_API_TOOLS_SERVER_H

#include "tools/config.h"
#include "tools/rpc.h"

struct ramet_json;
struct ramet_tools_catalogue;
struct ramet_tools_server;

/* Takes over `launch`, also when it fails. Returns before it is connected. One reference is the caller's. */
int ramet_tools_server_new(const char *name, struct ramet_tools_launch *launch, struct ramet_tools_catalogue *catalogue,
                           struct ramet_tools_server **ret, struct ramet_error *err);
struct ramet_tools_server *ramet_tools_server_ref(struct ramet_tools_server *server);
void ramet_tools_server_unref(struct ramet_tools_server *server); /* NULL is a no-op */
void ramet_tools_server_cleanup(struct ramet_tools_server **server);

/* Tells it to end: calls fail from now on. Waiting for that is ramet_tools_server_join, once, by its owner. */
void ramet_tools_server_stop(struct ramet_tools_server *server);
void ramet_tools_server_join(struct ramet_tools_server *server);

const char *ramet_tools_server_name(const struct ramet_tools_server *server);
/* Members for people, added to `to`: how it is reached, its state, how often it was started. */
void ramet_tools_server_show(struct ramet_tools_server *server, struct ramet_json *to);

/* Lists it anew and waits for the end of that, but not beyond the deadline. */
int ramet_tools_server_refresh(struct ramet_tools_server *server, uint64_t deadline_us, struct ramet_error *err);

/*
 * Calls a tool with `arguments`, an object; `definition` as listed, may be NULL. Waits for a connection that is not
 * there yet. What the server answered, an error of its own included, is an answer; no secret of its configuration is in
 * it.
 */
int ramet_tools_server_call(struct ramet_tools_server *server, const char *tool, const struct ramet_json *definition,
                            const struct ramet_json *arguments, uint64_t deadline_us, struct ramet_rpc_answer *ret,
                            struct ramet_error *err);

#endif
