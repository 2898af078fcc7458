/* SPDX-License-Identifier: Apache-2.0 */
#include "client_fixture.h"

#include "base/cleanup.h"

#include <stdio.h>

char seen[1024];
const char *canned;

void see(const struct ramet_call *call)
{
    _autofree_ char *body = call->body ? ramet_json_text(call->body) : NULL;
    int at = snprintf(seen, sizeof seen, "%s %s", call->request->method, call->request->path);
    for (size_t i = 0; i < call->request->query_count; i++)
        at += snprintf(seen + at, sizeof seen - (size_t)at, "%c%s=%s", i ? '&' : '?', call->request->query[i].name,
                       call->request->query[i].value);
    snprintf(seen + at, sizeof seen - (size_t)at, " %s", body ? body : "-");
}

int answer(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    see(call);
    if (canned)
        return ramet_json_parse(canned, strlen(canned), ret, err);
    ramet_error_set(err, RAMET_CONFLICT, "it is paused");
    return ramet_error_hint(err, "resume it");
}

int client_setup(void **state, const struct ramet_route *routes, size_t count)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct ramet_error err = {0};
    char path[96];
    test_dir_make(f->dir);
    snprintf(path, sizeof path, "%s/s", f->dir);
    f->router = (struct ramet_router){.routes = routes, .count = count};
    check_ok(ramet_http_listen(path, &f->sock, &err));
    check_ok(ramet_http_start_for(f->sock, ramet_router_admit, ramet_router_handle, &f->router, &f->http, &err));
    check_ok(ramet_client_new(path, &f->client, &err));
    *state = f;
    return 0;
}

int client_teardown(void **state)
{
    struct fixture *f = *state;
    ramet_client_free(f->client);
    ramet_http_free(f->http);
    ramet_http_socket_free(f->sock);
    test_dir_remove(f->dir);
    free(f);
    return 0;
}
