/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the protocol itself answers, and around the provider's answers what each era
 * wants. Locking: mcp->lock (private.h) is never held while the provider works.
 */
#include "base/cleanup.h"
#include "json.h"
#include "mcp/private.h"

#include <stdio.h>
#include <string.h>

#define TTL_MS 60000

/* ---- versions ---- */

static const char *const legacy_versions[] = {RAMET_MCP_LEGACY, "2025-06-18", "2025-03-26", "2024-11-05"};

bool ramet_mcp_version_known(const char *version)
{
    for (size_t i = 0; i < sizeof legacy_versions / sizeof *legacy_versions; i++)
        if (strcmp(legacy_versions[i], version) == 0)
            return true;
    return false;
}

static struct ramet_json *supported_versions(void)
{
    struct ramet_json *list = ramet_json_array();
    ramet_json_append(list, ramet_json_string(RAMET_MCP_MODERN));
    return list;
}

static int unsupported(const char *version, struct ramet_jsonrpc_error *error)
{
    ramet_jsonrpc_fail(error, RAMET_JSONRPC_UNSUPPORTED_VERSION, 400, "protocol version \"%.40s\" is not supported",
                       version);
    error->data = ramet_json_object();
    ramet_json_set(error->data, "supported", supported_versions());
    ramet_json_set_string(error->data, "requested", version);
    return -1;
}

int ramet_mcp_check_meta(const struct ramet_jsonrpc_message *message, struct ramet_jsonrpc_error *error)
{
    const struct ramet_json *meta = ramet_json_get(message->params, "_meta");
    const char *version = ramet_json_str(meta, META "protocolVersion", NULL);
    if (!ramet_json_is_object(meta))
        return ramet_jsonrpc_fail(error, RAMET_JSONRPC_INVALID_PARAMS, 400, "\"_meta\" is missing");
    if (!version)
        return ramet_jsonrpc_fail(error, RAMET_JSONRPC_INVALID_PARAMS, 400,
                                  "\"_meta\" has no \"" META "protocolVersion\"");
    if (!ramet_json_is_object(ramet_json_get(meta, META "clientCapabilities")))
        return ramet_jsonrpc_fail(error, RAMET_JSONRPC_INVALID_PARAMS, 400,
                                  "\"_meta\" has no \"" META "clientCapabilities\"");
    return strcmp(version, RAMET_MCP_MODERN) == 0 ? 0 : unsupported(version, error);
}

/* ---- what the protocol answers ---- */

static struct ramet_json *server_info(const struct ramet_mcp *mcp)
{
    struct ramet_json *info = ramet_json_object();
    ramet_json_set_string(info, "name", mcp->provider.name);
    if (mcp->provider.title)
        ramet_json_set_string(info, "title", mcp->provider.title);
    ramet_json_set_string(info, "version", mcp->provider.version);
    return info;
}

static struct ramet_json *discover(const struct ramet_mcp *mcp)
{
    struct ramet_json *o = ramet_json_object();
    ramet_json_set(o, "supportedVersions", supported_versions());
    ramet_json_set(o, "capabilities", ramet_json_copy(mcp->capabilities));
    if (mcp->provider.instructions)
        ramet_json_set_string(o, "instructions", mcp->provider.instructions);
    return o;
}

static int initialize(struct ramet_mcp_exchange *x, struct ramet_json **ret, struct ramet_jsonrpc_error *error)
{
    const char *wanted = ramet_json_str(x->message.params, "protocolVersion", NULL);
    if (!wanted)
        return ramet_jsonrpc_fail(error, RAMET_JSONRPC_INVALID_PARAMS, 0, "\"protocolVersion\" is missing");
    const char *version = ramet_mcp_version_known(wanted) ? wanted : RAMET_MCP_LEGACY;
    ramet_mcp_session_unref(x->session);
    x->session = ramet_mcp_session_new(x->mcp->sessions, &x->principal, version, x->message.params);
    if (!x->session)
        return ramet_jsonrpc_fail(error, RAMET_JSONRPC_INTERNAL, 0, "no memory for a session");
    *ret = ramet_json_object();
    ramet_json_set_string(*ret, "protocolVersion", version);
    ramet_json_set(*ret, "capabilities", ramet_json_copy(x->mcp->capabilities));
    ramet_json_set(*ret, "serverInfo", server_info(x->mcp));
    if (x->mcp->provider.instructions)
        ramet_json_set_string(*ret, "instructions", x->mcp->provider.instructions);
    return 0;
}

static int set_level(struct ramet_mcp_exchange *x, struct ramet_json **ret, struct ramet_jsonrpc_error *error)
{
    int level = ramet_mcp_level(ramet_json_str(x->message.params, "level", ""));
    if (!ramet_json_get(x->mcp->capabilities, "logging"))
        return ramet_jsonrpc_fail(error, RAMET_JSONRPC_NO_METHOD, 0, "this server does not log to clients");
    if (level < 0)
        return ramet_jsonrpc_fail(error, RAMET_JSONRPC_INVALID_PARAMS, 0, "\"level\" is none");
    if (x->session)
        ramet_mcp_session_set_level(x->session, level);
    *ret = ramet_json_object();
    return 0;
}

/* A subscription by itself needs no more than the promise: sessions have no stream of their own. */
static int subscribe(struct ramet_mcp_exchange *x, struct ramet_json **ret, struct ramet_jsonrpc_error *error)
{
    if (!ramet_json_bool(ramet_json_get(x->mcp->capabilities, "resources"), "subscribe", false))
        return ramet_jsonrpc_fail(error, RAMET_JSONRPC_NO_METHOD, 0, "this server has no resources to subscribe to");
    if (!ramet_json_str(x->message.params, "uri", NULL))
        return ramet_jsonrpc_fail(error, RAMET_JSONRPC_INVALID_PARAMS, 0, "\"uri\" is missing");
    *ret = ramet_json_object();
    return 0;
}

/* ---- around the provider's answers ---- */

static bool is_one_of(const char *method, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(*list, method) == 0)
            return true;
    return false;
}

static bool offered(const char *method)
{
    static const char *const methods[] = {"tools/list",     "tools/call",          "prompts/list",
                                          "prompts/get",    "resources/list",      "resources/templates/list",
                                          "resources/read", "completion/complete", NULL};
    return is_one_of(method, methods);
}

/* What a modern answer has besides: its type, who made it, how long it may be kept. */
static void dress(const struct ramet_mcp *mcp, const char *method, struct ramet_json *result)
{
    static const char *const cacheable[] = {
        "server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list",
        "resources/read",  NULL};
    const struct ramet_json *old = ramet_json_get(result, "_meta");
    struct ramet_json *meta = old ? ramet_json_copy(old) : ramet_json_object();
    ramet_json_set(meta, META "serverInfo", server_info(mcp));
    ramet_json_set(result, "_meta", meta);
    if (!ramet_json_get(result, "resultType"))
        ramet_json_set_string(result, "resultType", "complete");
    if (is_one_of(method, cacheable) && !ramet_json_get(result, "ttlMs")) {
        ramet_json_set_u64(result, "ttlMs", TTL_MS);
        /* What is offered depends on who asks. */
        ramet_json_set_string(result, "cacheScope", "private");
    }
}

/* "inputResponses", where there are any, are answers by the names of the questions. */
static int check_responses(const struct ramet_json *params, struct ramet_jsonrpc_error *error)
{
    const struct ramet_json *responses = ramet_json_get(params, "inputResponses"), *value;
    const char *key;
    void *iter = NULL;
    if (!responses)
        return 0;
    if (!ramet_json_is_object(responses))
        return ramet_jsonrpc_fail(error, RAMET_JSONRPC_INVALID_PARAMS, 0, "\"inputResponses\" must be an object");
    while (ramet_json_next(responses, &iter, &key, &value))
        if (!ramet_json_is_object(value))
            return ramet_jsonrpc_fail(error, RAMET_JSONRPC_INVALID_PARAMS, 0,
                                      "\"inputResponses\": \"%.80s\" must be an object", key);
    return 0;
}

static int no_method(const struct ramet_mcp_exchange *x, struct ramet_jsonrpc_error *error)
{
    return ramet_jsonrpc_fail(error, RAMET_JSONRPC_NO_METHOD, x->modern ? 404 : 0, "no method \"%.80s\"",
                              x->message.method);
}

static int answer_offered(struct ramet_mcp_exchange *x, struct ramet_json **ret, struct ramet_jsonrpc_error *error)
{
    int rc = x->modern ? check_responses(x->message.params, error) : 0;
    if (rc == 0)
        rc = x->mcp->provider.answer(x->mcp->provider.context, &x->call, ret, error);
    if (rc < 0 && error->code == RAMET_JSONRPC_NO_METHOD)
        return no_method(x, error);
    return rc;
}

static int answer_method(struct ramet_mcp_exchange *x, struct ramet_json **ret, struct ramet_jsonrpc_error *error)
{
    const char *method = x->message.method;
    if (offered(method))
        return answer_offered(x, ret, error);
    if (x->modern && strcmp(method, "server/discover") == 0) {
        *ret = discover(x->mcp);
        return 0;
    }
    if (x->modern)
        return no_method(x, error);
    if (strcmp(method, "initialize") == 0)
        return initialize(x, ret, error);
    if (strcmp(method, "logging/setLevel") == 0)
        return set_level(x, ret, error);
    if (strcmp(method, "resources/subscribe") == 0 || strcmp(method, "resources/unsubscribe") == 0)
        return subscribe(x, ret, error);
    if (strcmp(method, "ping") != 0)
        return no_method(x, error);
    *ret = ramet_json_object();
    return 0;
}

static void fill_call(struct ramet_mcp_exchange *x)
{
    const struct ramet_json *meta = ramet_json_get(x->message.params, "_meta");
    const char *method = x->message.method;
    x->origin = (struct ramet_origin){
        .client = x->client,
        .session = x->session ? ramet_mcp_session_id(x->session) : NULL,
        .trace = x->trace,
        .method = method,
        .tool = strcmp(method, "tools/call") == 0 ? ramet_json_str(x->message.params, "name", NULL) : NULL,
        .protocol = x->modern    ? RAMET_MCP_MODERN
                    : x->session ? ramet_mcp_session_version(x->session)
                                 : NULL,
        .request_id = x->id};
    x->call.principal = &x->principal;
    x->call.origin = &x->origin;
    x->call.method = method;
    x->call.params = x->message.params;
    x->call.modern = x->modern;
    x->call.capabilities = x->modern    ? ramet_json_get(meta, META "clientCapabilities")
                           : x->session ? ramet_mcp_session_capabilities(x->session)
                                        : NULL;
}

bool ramet_mcp_talks(struct ramet_mcp_exchange *x)
{
    fill_call(x);
    return x->mcp->provider.talks && offered(x->message.method) &&
           x->mcp->provider.talks(x->mcp->provider.context, &x->call);
}

struct ramet_json *ramet_mcp_answer(struct ramet_mcp_exchange *x, int *ret_http)
{
    struct ramet_jsonrpc_error error = {0};
    struct ramet_json *result = NULL;
    fill_call(x);
    int rc = answer_method(x, &result, &error);
    if (rc == 0 && !result)
        rc = ramet_jsonrpc_fail(&error, RAMET_JSONRPC_INTERNAL, 0, "no memory for an answer");
    *ret_http = rc < 0 && error.http ? error.http : 200;
    if (rc < 0)
        return ramet_jsonrpc_failure(x->message.id, &error);
    if (x->modern)
        dress(x->mcp, x->message.method, result);
    return ramet_jsonrpc_result(x->message.id, result);
}

/* ---- life ---- */

void ramet_mcp_exchange_free(struct ramet_mcp_exchange *x)
{
    if (!x)
        return;
    ramet_mcp_session_unref(x->session);
    ramet_jsonrpc_clear(&x->message);
    free(x);
}

int ramet_mcp_new(const struct ramet_mcp_provider *provider, struct ramet_mcp **ret, struct ramet_error *err)
{
    struct ramet_mcp *mcp = calloc(1, sizeof *mcp);
    if (!mcp)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for an MCP server");
    pthread_mutex_init(&mcp->lock, NULL);
    pthread_cond_init(&mcp->idle, NULL);
    mcp->provider = *provider;
    mcp->sessions = ramet_mcp_sessions_new();
    int rc = mcp->sessions
                 ? ramet_json_parse(provider->capabilities, strlen(provider->capabilities), &mcp->capabilities, err)
                 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory for an MCP server");
    if (rc < 0) {
        ramet_mcp_free(mcp);
        return rc;
    }
    *ret = mcp;
    return 0;
}

void ramet_mcp_stop(struct ramet_mcp *mcp)
{
    pthread_mutex_lock(&mcp->lock);
    mcp->stopping = true;
    pthread_mutex_unlock(&mcp->lock);
    ramet_mcp_unlisten_all(mcp);
}

void ramet_mcp_free(struct ramet_mcp *mcp)
{
    if (!mcp)
        return;
    ramet_mcp_stop(mcp);
    pthread_mutex_lock(&mcp->lock);
    while (mcp->workers)
        pthread_cond_wait(&mcp->idle, &mcp->lock);
    pthread_mutex_unlock(&mcp->lock);
    ramet_mcp_sessions_free(mcp->sessions);
    ramet_json_free(mcp->capabilities);
    pthread_cond_destroy(&mcp->idle);
    pthread_mutex_destroy(&mcp->lock);
    free(mcp);
}
