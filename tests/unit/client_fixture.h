/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of the client library share: a server with routes of the test's own whose answers are canned. */
#ifndef RAMET_TESTS_CLIENT_FIXTURE_H
#define RAMET_TESTS_CLIENT_FIXTURE_H

#include "testing.h"

#include "http.h"
#include "json.h"
#include "ramet.h"
#include "routes.h"

#include <stdlib.h>
#include <string.h>

struct fixture {
    char dir[64];
    struct ramet_http_socket *sock;
    struct ramet_http *http;
    struct ramet_router router;
    struct ramet_client *client;
};

extern char seen[1024];    /* "METHOD path?query body" of the last request */
extern const char *canned; /* JSON to answer, or NULL for an error: conflict */

void see(const struct ramet_call *call);
/* A route's handler: sees the call and gives what is canned. */
int answer(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err);

/* Serves the routes; bodies are streamed where a route says so. *state: a struct fixture. */
int client_setup(void **state, const struct ramet_route *routes, size_t count);
int client_teardown(void **state);

#endif
