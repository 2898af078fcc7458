/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that say something before they answer. Their thread is counted in
 * mcp->workers, so that the server outlives it; it owns its exchange, and shares its
 * stream with the connection.
 */
#include "base/cleanup.h"
#include "json.h"
#include "mcp/private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ANSWER_MS 60000

/* ---- what a call may say ---- */

static void notify(const struct ramet_mcp_call *call, const char *method, struct ramet_json *params)
{
    struct ramet_json *message = ramet_jsonrpc_notification(method, params);
    if (call->talk)
        ramet_mcp_stream_send(call->talk->stream, message);
    else
        ramet_json_free(message);
}

static struct ramet_json *number(double value)
{
    char text[40];
    struct ramet_json *ret = NULL;
    int size = value == (double)(int64_t)value ? snprintf(text, sizeof text, "%" PRId64, (int64_t)value)
                                               : snprintf(text, sizeof text, "%.6g", value);
    ramet_json_parse(text, (size_t)size, &ret, NULL);
    return ret;
}

void ramet_mcp_progress(const struct ramet_mcp_call *call, double progress, double total, const char *message)
{
    const struct ramet_json *token = ramet_json_get(ramet_json_get(call->params, "_meta"), "progressToken");
    if (!token)
        return;
    struct ramet_json *params = ramet_json_object();
    ramet_json_set(params, "progressToken", ramet_json_copy(token));
    ramet_json_set(params, "progress", number(progress));
    if (total > 0)
        ramet_json_set(params, "total", number(total));
    if (message)
        ramet_json_set_string(params, "message", message);
    notify(call, "notifications/progress", params);
}

int ramet_mcp_level(const char *name)
{
    static const char *const names[] = {"debug", "info",     "notice", "warning",
                                        "error", "critical", "alert",  "emergency"};
    for (int i = 0; i < 8; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

void ramet_mcp_log(const struct ramet_mcp_call *call, const char *level, const char *text)
{
    const struct ramet_json *meta = ramet_json_get(call->params, "_meta");
    const char *wanted = ramet_json_str(meta, META "logLevel", NULL);
    int least = call->modern ? (wanted ? ramet_mcp_level(wanted) : 8)
                             : (call->talk && call->talk->session ? ramet_mcp_session_level(call->talk->session) : 1);
    if (ramet_mcp_level(level) < least)
        return;
    struct ramet_json *params = ramet_json_object();
    ramet_json_set_string(params, "level", level);
    ramet_json_set_string(params, "data", text);
    notify(call, "notifications/message", params);
}

bool ramet_mcp_can(const struct ramet_mcp_call *call, const char *capability)
{
    return ramet_json_is_object(ramet_json_get(call->capabilities, capability));
}

int ramet_mcp_ask(const struct ramet_mcp_call *call, const char *method, struct ramet_json *params,
                  struct ramet_json **ret, struct ramet_error *err)
{
    char id[40];
    if (!call->talk || !call->talk->session || call->modern) {
        ramet_json_free(params);
        return ramet_error_set(err, RAMET_CONFLICT, "this client cannot be asked during a call");
    }
    uint64_t question = ramet_mcp_session_question(call->talk->session);
    struct ramet_json *message = ramet_jsonrpc_notification(method, params);
    snprintf(id, sizeof id, "ramet-%" PRIu64, question);
    ramet_json_set_string(message, "id", id);
    if (question)
        ramet_mcp_stream_send(call->talk->stream, message);
    else
        ramet_json_free(message);
    return ramet_mcp_session_await(call->talk->session, question, ANSWER_MS, ret, err);
}

/* ---- the thread ---- */

struct work {
    struct ramet_mcp_exchange *x;
    struct ramet_mcp_stream *stream;
};

static void leave(struct ramet_mcp *mcp)
{
    pthread_mutex_lock(&mcp->lock);
    if (--mcp->workers == 0)
        pthread_cond_broadcast(&mcp->idle);
    pthread_mutex_unlock(&mcp->lock);
}

static void *worker(void *arg)
{
    struct work *work = arg;
    struct ramet_mcp *mcp = work->x->mcp;
    struct ramet_mcp_talk talk = {.stream = work->stream, .session = work->x->session};
    int http;
    work->x->call.talk = &talk;
    ramet_mcp_stream_send(work->stream, ramet_mcp_answer(work->x, &http));
    ramet_mcp_stream_end(work->stream);
    ramet_mcp_stream_unref(work->stream);
    ramet_mcp_exchange_free(work->x);
    free(work);
    leave(mcp);
    return NULL;
}

int ramet_mcp_talk_start(struct ramet_mcp_exchange *x, struct ramet_http_response *response, struct ramet_error *err)
{
    struct ramet_mcp *mcp = x->mcp;
    struct work *work = calloc(1, sizeof *work);
    struct ramet_mcp_stream *stream = work ? ramet_mcp_stream_new() : NULL;
    pthread_attr_t attr;
    pthread_t thread;
    if (!stream) {
        free(work);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a call");
    }
    *work = (struct work){x, stream};
    pthread_mutex_lock(&mcp->lock);
    mcp->workers++;
    pthread_mutex_unlock(&mcp->lock);
    ramet_mcp_stream_answer(stream, response); /* before the thread may end it */
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int rc = pthread_create(&thread, &attr, worker, work);
    pthread_attr_destroy(&attr);
    if (rc == 0)
        return 0;
    response->stream.close(response->stream.context);
    response->stream.read = NULL;
    ramet_mcp_stream_unref(stream);
    free(work);
    leave(mcp);
    return ramet_error_set(err, RAMET_NO_MEMORY, "no thread for a call");
}
