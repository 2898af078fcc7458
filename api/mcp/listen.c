/* SPDX-License-Identifier: Apache-2.0 */
/*
 * subscriptions/listen: streams that tell what changes, for as long as their client
 * stays. mcp->lock guards the list; a stream's lock may be taken under it. Those
 * whose client has gone are taken out at the next change or listener.
 */
#include "base/cleanup.h"
#include "json.h"
#include "mcp/private.h"

#include <stdio.h>
#include <string.h>

#define LISTENERS_MAX 256

struct listener {
    struct listener *next;
    struct ramet_mcp_stream *stream; /* owned reference */
    struct ramet_json *id, *filter;  /* owned: of the request; what it wants of what there is */
};

static void listener_free(struct listener *l)
{
    ramet_mcp_stream_unref(l->stream);
    ramet_json_free(l->id);
    ramet_json_free(l->filter);
    free(l);
}

/* Under the lock. */
static size_t drop_gone(struct ramet_mcp *mcp)
{
    size_t count = 0;
    for (struct listener **at = &mcp->listeners; *at;) {
        struct listener *l = *at;
        if (ramet_mcp_stream_gone(l->stream)) {
            *at = l->next;
            listener_free(l);
        } else {
            at = &l->next;
            count++;
        }
    }
    return count;
}

/* "toolsListChanged" and so on, where the server's capabilities have it. */
static struct ramet_json *accepted(const struct ramet_mcp *mcp, const struct ramet_json *wanted)
{
    static const struct {
        const char *filter, *capability;
    } kinds[] = {
        {"toolsListChanged", "tools"}, {"promptsListChanged", "prompts"}, {"resourcesListChanged", "resources"}};
    struct ramet_json *filter = ramet_json_object();
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (ramet_json_bool(wanted, kinds[i].filter, false) &&
            ramet_json_bool(ramet_json_get(mcp->capabilities, kinds[i].capability), "listChanged", false))
            ramet_json_set_bool(filter, kinds[i].filter, true);
    const struct ramet_json *uris = ramet_json_get(wanted, "resourceSubscriptions");
    if (ramet_json_is_array(uris) &&
        ramet_json_bool(ramet_json_get(mcp->capabilities, "resources"), "subscribe", false))
        ramet_json_set(filter, "resourceSubscriptions", ramet_json_copy(uris));
    return filter;
}

static void tag(struct ramet_json *params, const struct ramet_json *id)
{
    struct ramet_json *meta = ramet_json_object();
    ramet_json_set(meta, META "subscriptionId", ramet_json_copy(id));
    ramet_json_set(params, "_meta", meta);
}

int ramet_mcp_listen(struct ramet_mcp_exchange *x, struct ramet_mcp_stream *stream, struct ramet_jsonrpc_error *error)
{
    const struct ramet_json *wanted = ramet_json_get(x->message.params, "notifications");
    struct listener *l = calloc(1, sizeof *l);
    struct ramet_json *params = ramet_json_object();
    if (!l || !params || !ramet_json_is_object(wanted)) {
        free(l);
        ramet_json_free(params);
        return ramet_jsonrpc_fail(error, RAMET_JSONRPC_INVALID_PARAMS, 400, "\"notifications\" must be an object");
    }
    l->stream = ramet_mcp_stream_ref(stream);
    l->id = ramet_json_copy(x->message.id);
    l->filter = accepted(x->mcp, wanted);
    ramet_json_set(params, "notifications", ramet_json_copy(l->filter));
    tag(params, l->id);
    pthread_mutex_lock(&x->mcp->lock);
    bool taken = !x->mcp->stopping && drop_gone(x->mcp) < LISTENERS_MAX;
    if (taken) {
        ramet_mcp_stream_send(stream, ramet_jsonrpc_notification("notifications/subscriptions/acknowledged", params));
        l->next = x->mcp->listeners;
        x->mcp->listeners = l;
    }
    pthread_mutex_unlock(&x->mcp->lock);
    if (taken)
        return 0;
    ramet_json_free(params);
    listener_free(l);
    return ramet_jsonrpc_fail(error, RAMET_JSONRPC_INTERNAL, 503, "no more than %d clients may listen", LISTENERS_MAX);
}

/* ---- telling ---- */

static bool wants(const struct listener *l, const char *what, const char *uri)
{
    char key[64];
    const struct ramet_json *uris = ramet_json_get(l->filter, "resourceSubscriptions");
    if (!uri) {
        snprintf(key, sizeof key, "%sListChanged", what);
        return ramet_json_bool(l->filter, key, false);
    }
    for (size_t i = 0; i < ramet_json_count(uris); i++) {
        const char *one = ramet_json_string_value(ramet_json_at(uris, i));
        if (one && strcmp(one, uri) == 0)
            return true;
    }
    return false;
}

void ramet_mcp_changed(struct ramet_mcp *mcp, const char *what, const char *uri)
{
    char method[64];
    snprintf(method, sizeof method, uri ? "notifications/resources/updated" : "notifications/%s/list_changed", what);
    pthread_mutex_lock(&mcp->lock);
    drop_gone(mcp);
    for (struct listener *l = mcp->listeners; l; l = l->next) {
        if (!wants(l, what, uri))
            continue;
        struct ramet_json *params = ramet_json_object();
        if (uri)
            ramet_json_set_string(params, "uri", uri);
        tag(params, l->id);
        ramet_mcp_stream_send(l->stream, ramet_jsonrpc_notification(method, params));
    }
    pthread_mutex_unlock(&mcp->lock);
}

void ramet_mcp_unlisten_all(struct ramet_mcp *mcp)
{
    pthread_mutex_lock(&mcp->lock);
    while (mcp->listeners) {
        struct listener *l = mcp->listeners;
        struct ramet_json *result = ramet_json_object();
        mcp->listeners = l->next;
        tag(result, l->id);
        ramet_json_set_string(result, "resultType", "complete");
        ramet_mcp_stream_send(l->stream, ramet_jsonrpc_result(l->id, result));
        ramet_mcp_stream_end(l->stream);
        listener_free(l);
    }
    pthread_mutex_unlock(&mcp->lock);
}
