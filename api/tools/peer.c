/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection: which transport, which era, and one request at a time on it.
 *
 * Over stdio a server that is asked server/discover before the handshake may end or hang; it is started again then and
 * asked the old way. Over HTTP any refusal but of our credentials means the old way.
 *
 * Notifications come on the transport's thread over stdio, and within the streams of calls over HTTP; servers over
 * HTTP that announce changes of their lists are also listened to, on a thread of the connection.
 */
#include "tools/peer.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "json.h"
#include "tools/peer_private.h"
#include "vmm/clock.h"

#include <string.h>

enum {
    probe_ms = 10000,
    hello_values_max = 100000,
    relisten_min_ms = 1000,
    relisten_max_ms = 60000,
    description_size = RAMET_STDIO_DESCRIPTION,
};

static const char *const legacy_versions[] = {RAMET_MCP_LEGACY, "2025-06-18", "2025-03-26", "2024-11-05", NULL};

/* ---- requests ---- */

static const char *stateless_version(const struct ramet_peer *peer)
{
    return peer->era == RAMET_PEER_ERA_MODERN ? peer->version : NULL;
}

static int web_request(struct ramet_peer *peer, const struct peer_request *request, uint64_t id, const char *text,
                       struct ramet_rpc_answer *ret, int *ret_status, struct ramet_error *err)
{
    bool modern = peer->era == RAMET_PEER_ERA_MODERN;
    _autofree_ char *name = modern && request->name ? ramet_web_header_value(request->name) : NULL;
    if (modern && request->name && !name)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a call");
    const struct ramet_web_call call = {.id = id,
                                        .body = text,
                                        .version = *peer->version ? peer->version : NULL,
                                        .method = modern ? request->method : NULL,
                                        .name = name,
                                        .more = modern ? request->headers : NULL,
                                        .deadline_us = request->deadline_us};
    return ramet_web_call(peer->web, &call, ret, ret_status, err);
}

int ramet_peer_request(struct ramet_peer *peer, const struct peer_request *request, struct ramet_rpc_answer *ret,
                       int *ret_status, struct ramet_error *err)
{
    uint64_t id = atomic_fetch_add(&peer->next_id, 1);
    _autofree_ char *text = ramet_rpc_request(id, request->method, stateless_version(peer), request->members);
    if (!text)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a call");
    if (peer->web)
        return web_request(peer, request, id, text, ret, ret_status, err);
    if (ret_status)
        *ret_status = 0;
    return ramet_stdio_call(peer->stdio, id, text, request->deadline_us, ret, err);
}

static int notify(struct ramet_peer *peer, const char *method, uint64_t deadline_us, struct ramet_error *err)
{
    _autofree_ char *text = ramet_rpc_notification(method, stateless_version(peer), "");
    if (!text)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a message");
    if (peer->stdio)
        return ramet_stdio_send(peer->stdio, text, err);
    struct ramet_rpc_answer none = {0};
    const struct peer_request request = {.method = method, .deadline_us = deadline_us};
    int rc = web_request(peer, &request, UINT64_MAX, text, &none, NULL, err);
    ramet_rpc_answer_free(&none);
    return rc;
}

static void heard(void *context, const struct ramet_rpc_message *notification)
{
    const struct ramet_peer *peer = context;
    static const char *const changes[] = {"\"notifications/tools/list_changed\"",
                                          "\"notifications/prompts/list_changed\"",
                                          "\"notifications/resources/list_changed\""};
    for (size_t i = 0; i < 3; i++)
        if (!notification || ramet_span_is(notification->method, changes[i]))
            peer->options.changed(peer->options.context);
}

/* ---- the transport ---- */

static int start_transport(struct ramet_peer *peer, struct ramet_stdio **ret_stdio, struct ramet_web **ret_web,
                           struct ramet_error *err)
{
    const struct ramet_peer_options *o = &peer->options;
    if (o->url)
        return ramet_web_new(
            &(struct ramet_web_options){
                .url = o->url, .headers = o->headers, .message_max = o->message_max, .heard = heard, .context = peer},
            ret_web, err);
    return ramet_stdio_start(&(struct ramet_stdio_options){.argv = o->argv,
                                                           .env = o->env,
                                                           .directory = o->directory,
                                                           .message_max = o->message_max,
                                                           .heard = heard,
                                                           .context = peer},
                             ret_stdio, err);
}

/* Whoever breaks the connection meanwhile finds the transport, or keeps it from being used. */
static int connect_transport(struct ramet_peer *peer, struct ramet_error *err)
{
    struct ramet_stdio *stdio = NULL;
    struct ramet_web *web = NULL;
    int rc = start_transport(peer, &stdio, &web, err);
    pthread_mutex_lock(&peer->lock);
    if (rc == 0 && atomic_load(&peer->broken)) {
        rc = ramet_error_set(err, RAMET_UNAVAILABLE, "it is being let go");
    } else if (rc == 0) {
        peer->stdio = STEAL(stdio);
        peer->web = STEAL(web);
    }
    pthread_mutex_unlock(&peer->lock);
    ramet_stdio_stop(stdio);
    ramet_web_free(web);
    return rc;
}

/* ---- the handshakes ---- */

/* Keeps an answer's result as what the server said of itself. */
static int keep_hello(struct ramet_peer *peer, const struct ramet_rpc_answer *answer, struct ramet_error *err)
{
    _autofree_ char *clean = ramet_redact(peer->options.secrets, answer->result.at, answer->result.size, false);
    _cleanup_(ramet_json_cleanup) struct ramet_json *hello = NULL;
    if (!clean)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for what it says of itself");
    int rc = ramet_json_parse_lenient(clean, strlen(clean), hello_values_max, &hello, err);
    if (rc == 0 && !ramet_json_is_object(hello))
        rc = ramet_error_set(err, RAMET_UNAVAILABLE, "what it says of itself is no object");
    if (rc < 0)
        return rc;
    ramet_json_free(peer->hello);
    peer->hello = STEAL(hello);
    return 0;
}

static bool supports(const struct ramet_json *versions, const char *version)
{
    for (size_t i = 0, count = ramet_json_count(versions); i < count; i++) {
        const char *one = ramet_json_string_value(ramet_json_at(versions, i));
        if (one && strcmp(one, version) == 0)
            return true;
    }
    return false;
}

/* What server/discover came to. */
enum probe { PROBE_MODERN, PROBE_LEGACY, PROBE_RESTART, PROBE_FAILED };

static enum probe probe_failed(struct ramet_peer *peer, int rc, int status)
{
    if (peer->stdio)
        return rc == -RAMET_TIMEOUT || rc == -RAMET_UNAVAILABLE ? PROBE_RESTART : PROBE_FAILED;
    return status >= 400 && status < 500 && rc != -RAMET_DENIED ? PROBE_LEGACY : PROBE_FAILED;
}

static enum probe discover(struct ramet_peer *peer, uint64_t deadline_us, struct ramet_error *err)
{
    struct ramet_rpc_answer answer = {0};
    int status = 0;
    uint64_t probe_us = peer->stdio ? ramet_deadline_us(probe_ms) : deadline_us;
    const struct peer_request request = {
        .method = "server/discover", .members = "", .deadline_us = probe_us < deadline_us ? probe_us : deadline_us};
    peer->era = RAMET_PEER_ERA_MODERN;
    snprintf(peer->version, sizeof peer->version, "%s", RAMET_MCP_MODERN);
    int rc = ramet_peer_request(peer, &request, &answer, &status, err);
    enum probe outcome = rc < 0 ? probe_failed(peer, rc, status) : PROBE_LEGACY;
    if (rc == 0 && answer.result.at && keep_hello(peer, &answer, err) == 0 &&
        supports(ramet_json_get(peer->hello, "supportedVersions"), RAMET_MCP_MODERN))
        outcome = PROBE_MODERN;
    ramet_rpc_answer_free(&answer);
    if (outcome != PROBE_MODERN) {
        peer->era = RAMET_PEER_ERA_LEGACY;
        *peer->version = '\0';
    }
    return outcome;
}

static int take_version(struct ramet_peer *peer, struct ramet_error *err)
{
    const char *version = ramet_json_str(peer->hello, "protocolVersion", "");
    for (const char *const *known = legacy_versions; *known; known++)
        if (strcmp(*known, version) == 0) {
            snprintf(peer->version, sizeof peer->version, "%s", version);
            return 0;
        }
    return ramet_error_set(err, RAMET_UNSUPPORTED, "it speaks version \"%.40s\" of the protocol, which we do not",
                           version);
}

static int initialize(struct ramet_peer *peer, uint64_t deadline_us, struct ramet_error *err)
{
    static const char members[] = "\"protocolVersion\":\"" RAMET_MCP_LEGACY "\",\"capabilities\":{},"
                                  "\"clientInfo\":{\"name\":\"ramet\",\"version\":\"" RAMET_VERSION "\"}";
    struct ramet_rpc_answer answer = {0};
    const struct peer_request request = {.method = "initialize", .members = members, .deadline_us = deadline_us};
    peer->era = RAMET_PEER_ERA_LEGACY;
    int rc = ramet_peer_request(peer, &request, &answer, NULL, err);
    if (rc == 0)
        rc = answer.result.at ? keep_hello(peer, &answer, err) : ramet_rpc_error_set(&answer, "initialize", err);
    ramet_rpc_answer_free(&answer);
    if (rc == 0)
        rc = take_version(peer, err);
    return rc < 0 ? rc : notify(peer, "notifications/initialized", deadline_us, err);
}

/* The server's process anew. */
static int restart(struct ramet_peer *peer, struct ramet_error *err)
{
    pthread_mutex_lock(&peer->lock);
    struct ramet_stdio *old = STEAL(peer->stdio);
    pthread_mutex_unlock(&peer->lock);
    ramet_stdio_stop(old);
    return connect_transport(peer, err);
}

static int greet(struct ramet_peer *peer, uint64_t deadline_us, struct ramet_error *err)
{
    if (peer->options.hint == RAMET_PEER_ERA_LEGACY && initialize(peer, deadline_us, err) == 0)
        return 0;
    int rc = peer->options.hint == RAMET_PEER_ERA_LEGACY && peer->stdio ? restart(peer, err) : 0;
    if (rc < 0)
        return rc;
    switch (discover(peer, deadline_us, err)) {
    case PROBE_MODERN: return 0;
    case PROBE_LEGACY: break;
    case PROBE_RESTART: rc = restart(peer, err); break;
    case PROBE_FAILED: return -err->code;
    }
    return rc < 0 ? rc : initialize(peer, deadline_us, err);
}

/* ---- listening ---- */

static bool announces_changes(const struct ramet_peer *peer)
{
    const struct ramet_json *capabilities = ramet_json_get(peer->hello, "capabilities");
    static const char *const kinds[] = {"tools", "prompts", "resources"};
    for (size_t i = 0; i < 3; i++)
        if (ramet_json_bool(ramet_json_get(capabilities, kinds[i]), "listChanged", false))
            return true;
    return false;
}

static const char listen_members[] =
    "\"notifications\":{\"toolsListChanged\":true,\"promptsListChanged\":true,\"resourcesListChanged\":true}";

static int listen_once(struct ramet_peer *peer, struct ramet_error *err)
{
    struct ramet_rpc_answer answer = {0};
    if (peer->era == RAMET_PEER_ERA_LEGACY)
        return ramet_web_listen(peer->web, peer->version, err);
    const struct peer_request request = {
        .method = "subscriptions/listen", .members = listen_members, .deadline_us = UINT64_MAX};
    int rc = ramet_peer_request(peer, &request, &answer, NULL, err);
    if (rc == 0 && answer.error.at)
        rc = ramet_error_set(err, RAMET_UNSUPPORTED, "it offers no subscriptions");
    ramet_rpc_answer_free(&answer);
    return rc;
}

/* Until the connection is broken or the server says that it has nothing to say. Changes between two streams are missed,
 * so each new one counts as a change. */
static void *listener(void *arg)
{
    struct ramet_peer *peer = arg;
    unsigned wait_ms = relisten_min_ms;
    while (!atomic_load(&peer->broken)) {
        struct ramet_error err = {0};
        uint64_t began_us = ramet_now_us();
        int rc = listen_once(peer, &err);
        if (rc == -RAMET_UNSUPPORTED || atomic_load(&peer->broken))
            break;
        bool held = ramet_now_us() - began_us > relisten_max_ms * UINT64_C(1000);
        wait_ms = held ? relisten_min_ms : wait_ms * 2 < relisten_max_ms ? wait_ms * 2 : relisten_max_ms;
        for (uint64_t until_us = ramet_deadline_us(wait_ms); ramet_left_us(until_us) && !atomic_load(&peer->broken);)
            ramet_sleep_us(50000);
        if (!atomic_load(&peer->broken))
            peer->options.changed(peer->options.context);
    }
    return NULL;
}

static int start_listening(struct ramet_peer *peer, struct ramet_error *err)
{
    if (!announces_changes(peer))
        return 0;
    if (peer->stdio && peer->era == RAMET_PEER_ERA_LEGACY)
        return 0;
    if (peer->stdio) {
        /* Its answer comes at the end of the subscription, and nobody waits for it. */
        uint64_t id = atomic_fetch_add(&peer->next_id, 1);
        _autofree_ char *text = ramet_rpc_request(id, "subscriptions/listen", peer->version, listen_members);
        return text ? ramet_stdio_send(peer->stdio, text, err)
                    : ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a message");
    }
    peer->listens = pthread_create(&peer->listener, NULL, listener, peer) == 0;
    return peer->listens ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "cannot start a thread");
}

/* ---- open and close ---- */

/* Adds what the server itself has to say to an error. */
static void explain(struct ramet_peer *peer, struct ramet_error *err)
{
    char more[sizeof err->msg];
    ramet_peer_describe(peer, more, sizeof more);
    size_t used = err ? strlen(err->msg) : 0;
    if (err && *more && !strstr(err->msg, more))
        snprintf(err->msg + used, sizeof err->msg - used, "; %s", more);
    ramet_redact_error(peer->options.secrets, err);
}

int ramet_peer_new(const struct ramet_peer_options *options, struct ramet_peer **ret, struct ramet_error *err)
{
    struct ramet_peer *peer = calloc(1, sizeof *peer);
    if (!peer)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a connection");
    peer->options = *options;
    pthread_mutex_init(&peer->lock, NULL);
    atomic_init(&peer->next_id, 1);
    *ret = peer;
    return 0;
}

int ramet_peer_connect(struct ramet_peer *peer, uint64_t deadline_us, struct ramet_error *err)
{
    struct ramet_error own = {0};
    int rc = connect_transport(peer, &own);
    if (rc == 0)
        rc = greet(peer, deadline_us, &own);
    if (rc == 0)
        rc = start_listening(peer, &own);
    if (rc < 0) {
        explain(peer, &own);
        if (err)
            *err = own;
    }
    return rc;
}

void ramet_peer_break(struct ramet_peer *peer, const char *why)
{
    pthread_mutex_lock(&peer->lock);
    atomic_store(&peer->broken, true);
    if (peer->stdio)
        ramet_stdio_break(peer->stdio, why);
    if (peer->web)
        ramet_web_cancel(peer->web);
    pthread_mutex_unlock(&peer->lock);
}

void ramet_peer_close(struct ramet_peer *peer)
{
    if (!peer)
        return;
    bool was_broken = atomic_exchange(&peer->broken, true);
    if (peer->web && !was_broken && peer->era == RAMET_PEER_ERA_LEGACY)
        ramet_web_end_session(peer->web, peer->version);
    if (peer->web)
        ramet_web_cancel(peer->web);
    if (peer->listens)
        pthread_join(peer->listener, NULL);
    ramet_stdio_stop(peer->stdio);
    ramet_web_free(peer->web);
    ramet_json_free(peer->hello);
    pthread_mutex_destroy(&peer->lock);
    free(peer);
}

/* ---- how it stands ---- */

enum ramet_peer_era ramet_peer_era(const struct ramet_peer *peer) { return peer->era; }
pid_t ramet_peer_pid(const struct ramet_peer *peer) { return peer->stdio ? ramet_stdio_pid(peer->stdio) : 0; }

bool ramet_peer_alive(struct ramet_peer *peer)
{
    return !atomic_load(&peer->broken) && (!peer->stdio || ramet_stdio_alive(peer->stdio));
}

void ramet_peer_describe(struct ramet_peer *peer, char *to, size_t size)
{
    char said[description_size] = "";
    if (peer->stdio)
        ramet_stdio_describe(peer->stdio, said, sizeof said);
    _autofree_ char *clean = ramet_redact(peer->options.secrets, said, strlen(said), true);
    snprintf(to, size, "%s", clean ? clean : "");
}

int ramet_peer_ping(struct ramet_peer *peer, uint64_t deadline_us, struct ramet_error *err)
{
    struct ramet_rpc_answer answer = {0};
    const struct peer_request request = {.method = peer->era == RAMET_PEER_ERA_MODERN ? "server/discover" : "ping",
                                         .members = "",
                                         .deadline_us = deadline_us};
    int rc = ramet_peer_request(peer, &request, &answer, NULL, err);
    ramet_rpc_answer_free(&answer);
    return rc;
}

/* ---- calls ---- */

int ramet_peer_call(struct ramet_peer *peer, const char *tool, const struct ramet_json *definition,
                    const struct ramet_json *arguments, uint64_t deadline_us, struct ramet_rpc_answer *ret,
                    struct ramet_error *err)
{
    _autofree_ char *name = ramet_rpc_quote(tool);
    _autofree_ char *text = ramet_json_text(arguments);
    _autofree_ char *members = NULL;
    char **headers = NULL;
    if (!name || !text || asprintf(&members, "\"name\":%s,\"arguments\":%s", name, text) < 0) {
        members = NULL;
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a call");
    }
    int rc = peer->web && peer->era == RAMET_PEER_ERA_MODERN && definition
                 ? ramet_peer_param_headers(ramet_json_get(definition, "inputSchema"), arguments, &headers, err)
                 : 0;
    const struct peer_request request = {.method = "tools/call",
                                         .members = members,
                                         .name = tool,
                                         .headers = (const char *const *)headers,
                                         .deadline_us = deadline_us};
    if (rc == 0)
        rc = ramet_peer_request(peer, &request, ret, NULL, err);
    ramet_peer_param_headers_free(headers);
    return rc;
}
