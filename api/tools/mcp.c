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
#include "tools/mcp.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "json.h"
#include "tools/mcp_private.h"
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

static const char *stateless_version(const struct ramet_mcp *mcp)
{
    return mcp->era == RAMET_MCP_ERA_MODERN ? mcp->version : NULL;
}

static int web_request(struct ramet_mcp *mcp, const struct mcp_request *request, uint64_t id, const char *text,
                       struct ramet_rpc_answer *ret, int *ret_status, struct ramet_error *err)
{
    bool modern = mcp->era == RAMET_MCP_ERA_MODERN;
    _autofree_ char *name = modern && request->name ? ramet_web_header_value(request->name) : NULL;
    if (modern && request->name && !name)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a call");
    const struct ramet_web_call call = {.id = id,
                                        .body = text,
                                        .version = *mcp->version ? mcp->version : NULL,
                                        .method = modern ? request->method : NULL,
                                        .name = name,
                                        .more = modern ? request->headers : NULL,
                                        .deadline_us = request->deadline_us};
    return ramet_web_call(mcp->web, &call, ret, ret_status, err);
}

int ramet_mcp_request(struct ramet_mcp *mcp, const struct mcp_request *request, struct ramet_rpc_answer *ret,
                      int *ret_status, struct ramet_error *err)
{
    uint64_t id = atomic_fetch_add(&mcp->next_id, 1);
    _autofree_ char *text = ramet_rpc_request(id, request->method, stateless_version(mcp), request->members);
    if (!text)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a call");
    if (mcp->web)
        return web_request(mcp, request, id, text, ret, ret_status, err);
    if (ret_status)
        *ret_status = 0;
    return ramet_stdio_call(mcp->stdio, id, text, request->deadline_us, ret, err);
}

static int notify(struct ramet_mcp *mcp, const char *method, uint64_t deadline_us, struct ramet_error *err)
{
    _autofree_ char *text = ramet_rpc_notification(method, stateless_version(mcp), "");
    if (!text)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a message");
    if (mcp->stdio)
        return ramet_stdio_send(mcp->stdio, text, err);
    struct ramet_rpc_answer none = {0};
    const struct mcp_request request = {.method = method, .deadline_us = deadline_us};
    int rc = web_request(mcp, &request, UINT64_MAX, text, &none, NULL, err);
    ramet_rpc_answer_free(&none);
    return rc;
}

static void heard(void *context, const struct ramet_rpc_message *notification)
{
    const struct ramet_mcp *mcp = context;
    static const char *const changes[] = {"\"notifications/tools/list_changed\"",
                                          "\"notifications/prompts/list_changed\"",
                                          "\"notifications/resources/list_changed\""};
    for (size_t i = 0; i < 3; i++)
        if (!notification || ramet_span_is(notification->method, changes[i]))
            mcp->options.changed(mcp->options.context);
}

/* ---- the transport ---- */

static int start_transport(struct ramet_mcp *mcp, struct ramet_stdio **ret_stdio, struct ramet_web **ret_web,
                           struct ramet_error *err)
{
    const struct ramet_mcp_options *o = &mcp->options;
    if (o->url)
        return ramet_web_new(
            &(struct ramet_web_options){
                .url = o->url, .headers = o->headers, .message_max = o->message_max, .heard = heard, .context = mcp},
            ret_web, err);
    return ramet_stdio_start(&(struct ramet_stdio_options){.argv = o->argv,
                                                           .env = o->env,
                                                           .directory = o->directory,
                                                           .message_max = o->message_max,
                                                           .heard = heard,
                                                           .context = mcp},
                             ret_stdio, err);
}

/* Whoever breaks the connection meanwhile finds the transport, or keeps it from being used. */
static int connect_transport(struct ramet_mcp *mcp, struct ramet_error *err)
{
    struct ramet_stdio *stdio = NULL;
    struct ramet_web *web = NULL;
    int rc = start_transport(mcp, &stdio, &web, err);
    pthread_mutex_lock(&mcp->lock);
    if (rc == 0 && atomic_load(&mcp->broken)) {
        rc = ramet_error_set(err, RAMET_UNAVAILABLE, "it is being let go");
    } else if (rc == 0) {
        mcp->stdio = STEAL(stdio);
        mcp->web = STEAL(web);
    }
    pthread_mutex_unlock(&mcp->lock);
    ramet_stdio_stop(stdio);
    ramet_web_free(web);
    return rc;
}

/* ---- the handshakes ---- */

/* Keeps an answer's result as what the server said of itself. */
static int keep_hello(struct ramet_mcp *mcp, const struct ramet_rpc_answer *answer, struct ramet_error *err)
{
    _autofree_ char *clean = ramet_redact(mcp->options.secrets, answer->result.at, answer->result.size, false);
    _cleanup_(ramet_json_cleanup) struct ramet_json *hello = NULL;
    if (!clean)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for what it says of itself");
    int rc = ramet_json_parse_lenient(clean, strlen(clean), hello_values_max, &hello, err);
    if (rc == 0 && !ramet_json_is_object(hello))
        rc = ramet_error_set(err, RAMET_UNAVAILABLE, "what it says of itself is no object");
    if (rc < 0)
        return rc;
    ramet_json_free(mcp->hello);
    mcp->hello = STEAL(hello);
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

static enum probe probe_failed(struct ramet_mcp *mcp, int rc, int status)
{
    if (mcp->stdio)
        return rc == -RAMET_TIMEOUT || rc == -RAMET_UNAVAILABLE ? PROBE_RESTART : PROBE_FAILED;
    return status >= 400 && status < 500 && rc != -RAMET_DENIED ? PROBE_LEGACY : PROBE_FAILED;
}

static enum probe discover(struct ramet_mcp *mcp, uint64_t deadline_us, struct ramet_error *err)
{
    struct ramet_rpc_answer answer = {0};
    int status = 0;
    uint64_t probe_us = mcp->stdio ? ramet_deadline_us(probe_ms) : deadline_us;
    const struct mcp_request request = {
        .method = "server/discover", .members = "", .deadline_us = probe_us < deadline_us ? probe_us : deadline_us};
    mcp->era = RAMET_MCP_ERA_MODERN;
    snprintf(mcp->version, sizeof mcp->version, "%s", RAMET_MCP_MODERN);
    int rc = ramet_mcp_request(mcp, &request, &answer, &status, err);
    enum probe outcome = rc < 0 ? probe_failed(mcp, rc, status) : PROBE_LEGACY;
    if (rc == 0 && answer.result.at && keep_hello(mcp, &answer, err) == 0 &&
        supports(ramet_json_get(mcp->hello, "supportedVersions"), RAMET_MCP_MODERN))
        outcome = PROBE_MODERN;
    ramet_rpc_answer_free(&answer);
    if (outcome != PROBE_MODERN) {
        mcp->era = RAMET_MCP_ERA_LEGACY;
        *mcp->version = '\0';
    }
    return outcome;
}

static int take_version(struct ramet_mcp *mcp, struct ramet_error *err)
{
    const char *version = ramet_json_str(mcp->hello, "protocolVersion", "");
    for (const char *const *known = legacy_versions; *known; known++)
        if (strcmp(*known, version) == 0) {
            snprintf(mcp->version, sizeof mcp->version, "%s", version);
            return 0;
        }
    return ramet_error_set(err, RAMET_UNSUPPORTED, "it speaks version \"%.40s\" of the protocol, which we do not",
                           version);
}

static int initialize(struct ramet_mcp *mcp, uint64_t deadline_us, struct ramet_error *err)
{
    static const char members[] = "\"protocolVersion\":\"" RAMET_MCP_LEGACY "\",\"capabilities\":{},"
                                  "\"clientInfo\":{\"name\":\"ramet\",\"version\":\"" RAMET_VERSION "\"}";
    struct ramet_rpc_answer answer = {0};
    const struct mcp_request request = {.method = "initialize", .members = members, .deadline_us = deadline_us};
    mcp->era = RAMET_MCP_ERA_LEGACY;
    int rc = ramet_mcp_request(mcp, &request, &answer, NULL, err);
    if (rc == 0)
        rc = answer.result.at ? keep_hello(mcp, &answer, err) : ramet_rpc_error_set(&answer, "initialize", err);
    ramet_rpc_answer_free(&answer);
    if (rc == 0)
        rc = take_version(mcp, err);
    return rc < 0 ? rc : notify(mcp, "notifications/initialized", deadline_us, err);
}

/* The server's process anew. */
static int restart(struct ramet_mcp *mcp, struct ramet_error *err)
{
    pthread_mutex_lock(&mcp->lock);
    struct ramet_stdio *old = STEAL(mcp->stdio);
    pthread_mutex_unlock(&mcp->lock);
    ramet_stdio_stop(old);
    return connect_transport(mcp, err);
}

static int greet(struct ramet_mcp *mcp, uint64_t deadline_us, struct ramet_error *err)
{
    if (mcp->options.hint == RAMET_MCP_ERA_LEGACY && initialize(mcp, deadline_us, err) == 0)
        return 0;
    int rc = mcp->options.hint == RAMET_MCP_ERA_LEGACY && mcp->stdio ? restart(mcp, err) : 0;
    if (rc < 0)
        return rc;
    switch (discover(mcp, deadline_us, err)) {
    case PROBE_MODERN: return 0;
    case PROBE_LEGACY: break;
    case PROBE_RESTART: rc = restart(mcp, err); break;
    case PROBE_FAILED: return -err->code;
    }
    return rc < 0 ? rc : initialize(mcp, deadline_us, err);
}

/* ---- listening ---- */

static bool announces_changes(const struct ramet_mcp *mcp)
{
    const struct ramet_json *capabilities = ramet_json_get(mcp->hello, "capabilities");
    static const char *const kinds[] = {"tools", "prompts", "resources"};
    for (size_t i = 0; i < 3; i++)
        if (ramet_json_bool(ramet_json_get(capabilities, kinds[i]), "listChanged", false))
            return true;
    return false;
}

static const char listen_members[] =
    "\"notifications\":{\"toolsListChanged\":true,\"promptsListChanged\":true,\"resourcesListChanged\":true}";

static int listen_once(struct ramet_mcp *mcp, struct ramet_error *err)
{
    struct ramet_rpc_answer answer = {0};
    if (mcp->era == RAMET_MCP_ERA_LEGACY)
        return ramet_web_listen(mcp->web, mcp->version, err);
    const struct mcp_request request = {
        .method = "subscriptions/listen", .members = listen_members, .deadline_us = UINT64_MAX};
    int rc = ramet_mcp_request(mcp, &request, &answer, NULL, err);
    if (rc == 0 && answer.error.at)
        rc = ramet_error_set(err, RAMET_UNSUPPORTED, "it offers no subscriptions");
    ramet_rpc_answer_free(&answer);
    return rc;
}

/* Until the connection is broken or the server says that it has nothing to say. Changes between two streams are missed,
 * so each new one counts as a change. */
static void *listener(void *arg)
{
    struct ramet_mcp *mcp = arg;
    unsigned wait_ms = relisten_min_ms;
    while (!atomic_load(&mcp->broken)) {
        struct ramet_error err = {0};
        uint64_t began_us = ramet_now_us();
        int rc = listen_once(mcp, &err);
        if (rc == -RAMET_UNSUPPORTED || atomic_load(&mcp->broken))
            break;
        bool held = ramet_now_us() - began_us > relisten_max_ms * UINT64_C(1000);
        wait_ms = held ? relisten_min_ms : wait_ms * 2 < relisten_max_ms ? wait_ms * 2 : relisten_max_ms;
        for (uint64_t until_us = ramet_deadline_us(wait_ms); ramet_left_us(until_us) && !atomic_load(&mcp->broken);)
            ramet_sleep_us(50000);
        if (!atomic_load(&mcp->broken))
            mcp->options.changed(mcp->options.context);
    }
    return NULL;
}

static int start_listening(struct ramet_mcp *mcp, struct ramet_error *err)
{
    if (!announces_changes(mcp))
        return 0;
    if (mcp->stdio && mcp->era == RAMET_MCP_ERA_LEGACY)
        return 0;
    if (mcp->stdio) {
        /* Its answer comes at the end of the subscription, and nobody waits for it. */
        uint64_t id = atomic_fetch_add(&mcp->next_id, 1);
        _autofree_ char *text = ramet_rpc_request(id, "subscriptions/listen", mcp->version, listen_members);
        return text ? ramet_stdio_send(mcp->stdio, text, err)
                    : ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a message");
    }
    mcp->listens = pthread_create(&mcp->listener, NULL, listener, mcp) == 0;
    return mcp->listens ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "cannot start a thread");
}

/* ---- open and close ---- */

/* Adds what the server itself has to say to an error. */
static void explain(struct ramet_mcp *mcp, struct ramet_error *err)
{
    char more[sizeof err->msg];
    ramet_mcp_describe(mcp, more, sizeof more);
    size_t used = err ? strlen(err->msg) : 0;
    if (err && *more && !strstr(err->msg, more))
        snprintf(err->msg + used, sizeof err->msg - used, "; %s", more);
    ramet_redact_error(mcp->options.secrets, err);
}

int ramet_mcp_new(const struct ramet_mcp_options *options, struct ramet_mcp **ret, struct ramet_error *err)
{
    struct ramet_mcp *mcp = calloc(1, sizeof *mcp);
    if (!mcp)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a connection");
    mcp->options = *options;
    pthread_mutex_init(&mcp->lock, NULL);
    atomic_init(&mcp->next_id, 1);
    *ret = mcp;
    return 0;
}

int ramet_mcp_connect(struct ramet_mcp *mcp, uint64_t deadline_us, struct ramet_error *err)
{
    struct ramet_error own = {0};
    int rc = connect_transport(mcp, &own);
    if (rc == 0)
        rc = greet(mcp, deadline_us, &own);
    if (rc == 0)
        rc = start_listening(mcp, &own);
    if (rc < 0) {
        explain(mcp, &own);
        if (err)
            *err = own;
    }
    return rc;
}

void ramet_mcp_break(struct ramet_mcp *mcp, const char *why)
{
    pthread_mutex_lock(&mcp->lock);
    atomic_store(&mcp->broken, true);
    if (mcp->stdio)
        ramet_stdio_break(mcp->stdio, why);
    if (mcp->web)
        ramet_web_cancel(mcp->web);
    pthread_mutex_unlock(&mcp->lock);
}

void ramet_mcp_close(struct ramet_mcp *mcp)
{
    if (!mcp)
        return;
    bool was_broken = atomic_exchange(&mcp->broken, true);
    if (mcp->web && !was_broken && mcp->era == RAMET_MCP_ERA_LEGACY)
        ramet_web_end_session(mcp->web, mcp->version);
    if (mcp->web)
        ramet_web_cancel(mcp->web);
    if (mcp->listens)
        pthread_join(mcp->listener, NULL);
    ramet_stdio_stop(mcp->stdio);
    ramet_web_free(mcp->web);
    ramet_json_free(mcp->hello);
    pthread_mutex_destroy(&mcp->lock);
    free(mcp);
}

/* ---- how it stands ---- */

enum ramet_mcp_era ramet_mcp_era(const struct ramet_mcp *mcp) { return mcp->era; }
pid_t ramet_mcp_pid(const struct ramet_mcp *mcp) { return mcp->stdio ? ramet_stdio_pid(mcp->stdio) : 0; }

bool ramet_mcp_alive(struct ramet_mcp *mcp)
{
    return !atomic_load(&mcp->broken) && (!mcp->stdio || ramet_stdio_alive(mcp->stdio));
}

void ramet_mcp_describe(struct ramet_mcp *mcp, char *to, size_t size)
{
    char said[description_size] = "";
    if (mcp->stdio)
        ramet_stdio_describe(mcp->stdio, said, sizeof said);
    _autofree_ char *clean = ramet_redact(mcp->options.secrets, said, strlen(said), true);
    snprintf(to, size, "%s", clean ? clean : "");
}

int ramet_mcp_ping(struct ramet_mcp *mcp, uint64_t deadline_us, struct ramet_error *err)
{
    struct ramet_rpc_answer answer = {0};
    const struct mcp_request request = {.method = mcp->era == RAMET_MCP_ERA_MODERN ? "server/discover" : "ping",
                                        .members = "",
                                        .deadline_us = deadline_us};
    int rc = ramet_mcp_request(mcp, &request, &answer, NULL, err);
    ramet_rpc_answer_free(&answer);
    return rc;
}

/* ---- calls ---- */

int ramet_mcp_call(struct ramet_mcp *mcp, const char *tool, const struct ramet_json *definition,
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
    int rc = mcp->web && mcp->era == RAMET_MCP_ERA_MODERN && definition
                 ? ramet_mcp_param_headers(ramet_json_get(definition, "inputSchema"), arguments, &headers, err)
                 : 0;
    const struct mcp_request request = {.method = "tools/call",
                                        .members = members,
                                        .name = tool,
                                        .headers = (const char *const *)headers,
                                        .deadline_us = deadline_us};
    if (rc == 0)
        rc = ramet_mcp_request(mcp, &request, ret, NULL, err);
    ramet_mcp_param_headers_free(headers);
    return rc;
}
