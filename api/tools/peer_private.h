/* SPDX-License-Identifier: Apache-2.0 */
/* What peer.c (a connection), peer_list.c (listings) and peer_headers.c (arguments as headers) share. */
#ifndef RAMET_API_TOOLS_PEER_PRIVATE_H
#define RAMET_API_TOOLS_PEER_PRIVATE_H

#include "tools/peer.h"
#include "tools/stdio.h"
#include "tools/web.h"

#include <pthread.h>
#include <stdatomic.h>

struct ramet_peer {
    struct ramet_peer_options options;
    pthread_mutex_t lock;      /* guards the two pointers while it connects; never across I/O */
    struct ramet_stdio *stdio; /* one of these two */
    struct ramet_web *web;
    atomic_uint_least64_t next_id;
    atomic_bool broken;
    enum ramet_peer_era era;
    char version[32];         /* of the protocol */
    struct ramet_json *hello; /* what it said of itself: the result of server/discover or initialize */
    bool listens;             /* a thread waits for its notifications */
    pthread_t listener;
};

/* What a request needs besides its method; zeroed members are left out. */
struct peer_request {
    const char *method;
    const char *members; /* of params, without braces; "" for none */
    const char *name;    /* of the tool */
    const char *const *headers;
    uint64_t deadline_us;
};

/* One request, whatever it is answered. *ret_status as ramet_web_call's; may be NULL. */
int ramet_peer_request(struct ramet_peer *peer, const struct peer_request *request, struct ramet_rpc_answer *ret,
                       int *ret_status, struct ramet_error *err);

/* "Mcp-Param-X: value" for the arguments that the schema marks with x-mcp-header; NULL-terminated, each and all to be
 * freed. */
int ramet_peer_param_headers(const struct ramet_json *schema, const struct ramet_json *arguments, char ***ret,
                             struct ramet_error *err);
void ramet_peer_param_headers_free(char **headers);

#endif
