/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection to an MCP server, over either transport and in either era of the protocol: 2025-11-25 and before,
 * which begins with a handshake, and 2026-07-28, where every request stands alone.
 *
 * We declare no capabilities: a server that asks us for something is told that we do not know it, but for ping.
 * A newer server is recognised by its answer to server/discover; whoever knows the era from before says so.
 *
 * Thread-safety: ramet_peer_break from any thread, and once connected also calls and listing; connecting and closing
 * belong to one, closing when no call is under way.
 */
#ifndef RAMET_API_TOOLS_PEER_H
#define RAMET_API_TOOLS_PEER_H

#include "tools/redact.h"
#include "tools/rpc.h"

#include <sys/types.h>

struct ramet_json;
struct ramet_peer;

enum ramet_peer_era { RAMET_PEER_ERA_UNKNOWN, RAMET_PEER_ERA_LEGACY, RAMET_PEER_ERA_MODERN };

/* Borrowed for as long as the connection is open. Either argv or url. */
struct ramet_peer_options {
    const char *server; /* its name, for documents */
    const char *const *argv, *const *env;
    const char *directory;
    const char *url;
    const char *const *headers;
    const struct ramet_secrets *secrets; /* taken out of what it lists and of errors */
    size_t message_max;
    unsigned list_ms;         /* limit of each request of a listing */
    enum ramet_peer_era hint; /* what it was last time */
    /* Its lists have changed, perhaps a thousand times a second, or it has ended; on a thread of the connection. */
    void (*changed)(void *context);
    void *context;
};

int ramet_peer_new(const struct ramet_peer_options *options, struct ramet_peer **ret, struct ramet_error *err);
/* Starts it or connects, and finds out what it is; once. `deadline_us` is for all of that. */
int ramet_peer_connect(struct ramet_peer *peer, uint64_t deadline_us, struct ramet_error *err);
void ramet_peer_close(struct ramet_peer *peer);                  /* NULL is a no-op */
void ramet_peer_break(struct ramet_peer *peer, const char *why); /* connecting and every call end, now and later */

enum ramet_peer_era ramet_peer_era(const struct ramet_peer *peer);
bool ramet_peer_alive(struct ramet_peer *peer);      /* over HTTP: always, unless broken */
pid_t ramet_peer_pid(const struct ramet_peer *peer); /* 0 over HTTP */
/* As ramet_stdio_describe, without secrets, short enough for an error; "" when there is nothing to say. */
void ramet_peer_describe(struct ramet_peer *peer, char *to, size_t size);

/*
 * Everything it has, as a document of catalogue.h without its last three members. *ret_ttl_ms: for how long it says
 * that this holds, 0 when it does not say.
 */
int ramet_peer_list(struct ramet_peer *peer, struct ramet_json **ret, uint64_t *ret_ttl_ms, struct ramet_error *err);

/*
 * tools/call with `arguments`, an object's text; `definition` (may be NULL) names arguments that travel as headers.
 * An error of the server's is an answer. RAMET_CONFLICT: it has forgotten our session, and nothing was done.
 */
int ramet_peer_call(struct ramet_peer *peer, const char *tool, const struct ramet_json *definition,
                    const struct ramet_json *arguments, uint64_t deadline_us, struct ramet_rpc_answer *ret,
                    struct ramet_error *err);

/* Whether it still answers anything at all. */
int ramet_peer_ping(struct ramet_peer *peer, uint64_t deadline_us, struct ramet_error *err);

#endif
