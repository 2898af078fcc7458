/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streamable HTTP.
 *
 * A channel is a pair of handles that keeps its connection; a transfer takes an idle one or makes one, and runs it on
 * its own thread in slices of curl_multi_poll, so that it can be woken. `lock` guards the lists of channels, the
 * session and `cancelled`; never held across I/O.
 *
 * A request of the server's within a stream is replied to by a POST of its own, from within the stream's callback: the
 * server may be waiting for it.
 */
#include "tools/web.h"

#include "base/cleanup.h"
#include "base64.h"
#include "tools/sse.h"
#include "vmm/clock.h"

#include <curl/curl.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>

enum {
    idle_max = 8,
    connect_ms = 10000,
    reply_ms = 5000,
    linger_us = 100000, /* for the end of a stream after its answer, so that the connection can be kept */
    slice_ms = 1000,
    retry_ms = 1000,
    retry_max_ms = 30000,
    session_size = 256,
};

struct channel {
    CURLM *multi;
    CURL *easy;
    struct channel *next;
};

struct ramet_web {
    char *url;
    char **headers;
    size_t message_max;
    void (*heard)(void *context, const struct ramet_rpc_message *notification);
    void *context;
    pthread_mutex_t lock;
    struct channel *idle, *active;
    size_t idle_count;
    char session[session_size]; /* "" when there is none */
    bool cancelled;
};

/* One transfer and what it has brought so far. */
struct transfer {
    struct ramet_web *web;
    struct channel *channel;
    uint64_t id; /* of the answer that is waited for */
    bool begun, streams, answered, too_large;
    char *body;
    size_t size, capacity;
    struct ramet_sse sse;
    struct ramet_rpc_answer answer;
    uint64_t answered_us;
};

/* ---- channels ---- */

static void channel_free(struct channel *channel)
{
    if (channel->easy)
        curl_easy_cleanup(channel->easy);
    if (channel->multi)
        curl_multi_cleanup(channel->multi);
    free(channel);
}

static struct channel *channel_new(void)
{
    struct channel *channel = calloc(1, sizeof *channel);
    if (!channel)
        return NULL;
    channel->multi = curl_multi_init();
    channel->easy = curl_easy_init();
    if (channel->multi && channel->easy)
        return channel;
    channel_free(channel);
    return NULL;
}

static int take_channel(struct ramet_web *web, struct channel **ret, struct ramet_error *err)
{
    pthread_mutex_lock(&web->lock);
    struct channel *channel = web->idle;
    if (channel) {
        web->idle = channel->next;
        web->idle_count--;
    }
    pthread_mutex_unlock(&web->lock);
    if (!channel && !(channel = channel_new()))
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a connection");
    pthread_mutex_lock(&web->lock);
    bool cancelled = web->cancelled;
    channel->next = web->active;
    web->active = channel;
    pthread_mutex_unlock(&web->lock);
    *ret = channel;
    return cancelled ? ramet_error_set(err, RAMET_UNAVAILABLE, "it is being let go") : 0;
}

static void give_channel(struct ramet_web *web, struct channel *channel)
{
    curl_easy_reset(channel->easy);
    pthread_mutex_lock(&web->lock);
    struct channel **at = &web->active;
    while (*at != channel)
        at = &(*at)->next;
    *at = channel->next;
    bool keep = web->idle_count < idle_max;
    if (keep) {
        channel->next = web->idle;
        web->idle = channel;
        web->idle_count++;
    }
    pthread_mutex_unlock(&web->lock);
    if (!keep)
        channel_free(channel);
}

void ramet_web_cancel(struct ramet_web *web)
{
    pthread_mutex_lock(&web->lock);
    web->cancelled = true;
    for (struct channel *c = web->active; c; c = c->next)
        curl_multi_wakeup(c->multi);
    pthread_mutex_unlock(&web->lock);
}

static bool is_cancelled(struct ramet_web *web)
{
    pthread_mutex_lock(&web->lock);
    bool cancelled = web->cancelled;
    pthread_mutex_unlock(&web->lock);
    return cancelled;
}

/* ---- what comes ---- */

static void post_reply(struct ramet_web *web, char *text)
{
    struct ramet_rpc_answer none = {0};
    const struct ramet_web_call call = {
        .id = UINT64_MAX, .body = text ? text : "", .deadline_us = ramet_deadline_us(reply_ms)};
    if (text)
        ramet_web_call(web, &call, &none, NULL, NULL);
    ramet_rpc_answer_free(&none);
    free(text);
}

/* Keeps the message as the answer when it is the one that is waited for. False when memory ran out. */
static bool take_message(struct transfer *t, const char *text, size_t size)
{
    struct ramet_rpc_message m;
    if (ramet_rpc_read(text, size, &m, NULL) < 0)
        return true;
    if (m.kind == RAMET_RPC_NOTIFICATION) {
        t->web->heard(t->web->context, &m);
    } else if (m.kind == RAMET_RPC_REQUEST) {
        post_reply(t->web,
                   ramet_span_is(m.method, "\"ping\"") ? ramet_rpc_reply_empty(m.id) : ramet_rpc_reply_unknown(m.id));
    } else if (!t->answered && (m.number == t->id || (m.error.at && (!m.id.at || ramet_span_is(m.id, "null"))))) {
        char *copy = malloc(size + 1);
        if (!copy)
            return false;
        memcpy(copy, text, size);
        copy[size] = '\0';
        t->answer = (struct ramet_rpc_answer){.text = copy,
                                              .result = ramet_span_moved(m.result, text, copy),
                                              .error = ramet_span_moved(m.error, text, copy)};
        t->answered = true;
        t->answered_us = ramet_now_us();
    }
    return true;
}

static bool on_event(void *context, const char *data, size_t size, bool too_large)
{
    struct transfer *t = context;
    if (too_large) {
        t->too_large = true;
        return false;
    }
    return take_message(t, data, size);
}

static bool keep_body(struct transfer *t, const char *data, size_t size)
{
    if (t->size + size > t->web->message_max) {
        t->too_large = true;
        return false;
    }
    if (t->size + size >= t->capacity) {
        size_t capacity = (t->size + size) * 2 + 1;
        char *grown = realloc(t->body, capacity);
        if (!grown)
            return false;
        t->body = grown;
        t->capacity = capacity;
    }
    memcpy(t->body + t->size, data, size);
    t->size += size;
    return true;
}

static size_t on_data(char *data, size_t one, size_t size, void *context)
{
    struct transfer *t = context;
    const char *type = NULL;
    long status = 0;
    (void)one;
    if (!t->begun) {
        curl_easy_getinfo(t->channel->easy, CURLINFO_CONTENT_TYPE, &type);
        curl_easy_getinfo(t->channel->easy, CURLINFO_RESPONSE_CODE, &status);
        t->streams = status == 200 && type && strncasecmp(type, "text/event-stream", 17) == 0;
        t->begun = true;
    }
    bool good = t->streams ? ramet_sse_feed(&t->sse, data, size, on_event, t) : keep_body(t, data, size);
    return good ? size : CURL_WRITEFUNC_ERROR;
}

/* ---- a transfer ---- */

static bool add_header(struct curl_slist **list, const char *name, const char *value)
{
    char *line = NULL;
    if (!value || !*value)
        return true;
    if (asprintf(&line, "%s: %s", name, value) < 0)
        return false;
    struct curl_slist *grown = curl_slist_append(*list, line);
    free(line);
    if (!grown)
        return false;
    *list = grown;
    return true;
}

static bool add_lines(struct curl_slist **list, const char *const *lines)
{
    for (; lines && *lines; lines++) {
        struct curl_slist *grown = curl_slist_append(*list, *lines);
        if (!grown)
            return false;
        *list = grown;
    }
    return true;
}

/* Every header of a call, or NULL when memory ran out. */
static struct curl_slist *make_headers(struct ramet_web *web, const struct ramet_web_call *call, const char *accept,
                                       const char *last_event)
{
    struct curl_slist *list = NULL;
    char session[session_size];
    pthread_mutex_lock(&web->lock);
    memcpy(session, web->session, sizeof session);
    pthread_mutex_unlock(&web->lock);
    bool good = add_header(&list, "Accept", accept) &&
                add_header(&list, "Content-Type", call->body ? "application/json" : NULL) &&
                add_header(&list, "MCP-Protocol-Version", call->version) &&
                add_header(&list, "Mcp-Method", call->method) && add_header(&list, "Mcp-Name", call->name) &&
                add_header(&list, "Mcp-Session-Id", session) && add_header(&list, "Last-Event-ID", last_event) &&
                add_lines(&list, (const char *const[]){"Expect:", NULL}) && add_lines(&list, call->more) &&
                add_lines(&list, (const char *const *)web->headers);
    if (good)
        return list;
    curl_slist_free_all(list);
    return NULL;
}

static void prepare(struct transfer *t, const char *verb, const char *body, struct curl_slist *headers)
{
    CURL *easy = t->channel->easy;
    curl_easy_setopt(easy, CURLOPT_URL, t->web->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, verb);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "ramet/" RAMET_VERSION);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
    if (body) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
    }
}

/* Runs the transfer to its end, its answer, the deadline or a cancellation. True with its outcome, when it ended. */
static bool drive(struct transfer *t, uint64_t deadline_us, CURLcode *ret)
{
    CURLM *multi = t->channel->multi;
    bool ended = false;
    int running = 1;
    curl_multi_add_handle(multi, t->channel->easy);
    while (!ended && !is_cancelled(t->web)) {
        int left;
        curl_multi_perform(multi, &running);
        for (const CURLMsg *m = curl_multi_info_read(multi, &left); m; m = curl_multi_info_read(multi, &left))
            if (m->msg == CURLMSG_DONE) {
                *ret = m->data.result;
                ended = true;
            }
        uint64_t until_us =
            t->answered && t->answered_us + linger_us < deadline_us ? t->answered_us + linger_us : deadline_us;
        uint64_t left_ms = ramet_left_us(until_us) / 1000;
        if (!ended && left_ms == 0)
            break;
        if (!ended)
            curl_multi_poll(multi, NULL, 0, left_ms < slice_ms ? (int)left_ms : slice_ms, NULL);
    }
    curl_multi_remove_handle(multi, t->channel->easy);
    return ended;
}

static void keep_session(struct transfer *t)
{
    struct curl_header *header;
    if (curl_easy_header(t->channel->easy, "Mcp-Session-Id", 0, CURLH_HEADER, -1, &header) != CURLHE_OK ||
        strlen(header->value) >= session_size)
        return;
    pthread_mutex_lock(&t->web->lock);
    snprintf(t->web->session, sizeof t->web->session, "%s", header->value);
    pthread_mutex_unlock(&t->web->lock);
}

/* One request and its response, whatever that says; *ret_status is 0 when there was none. */
static int transfer(struct transfer *t, const struct ramet_web_call *call, const char *verb, const char *last_event,
                    long *ret_status, struct ramet_error *err)
{
    CURLcode code = CURLE_OK;
    int rc = take_channel(t->web, &t->channel, err);
    struct curl_slist *headers = make_headers(
        t->web, call, *verb == 'P' ? "application/json, text/event-stream" : "text/event-stream", last_event);
    if (rc == 0 && !headers)
        rc = ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a call");
    if (rc == 0) {
        prepare(t, verb, call->body, headers);
        bool ended = drive(t, call->deadline_us, &code);
        curl_easy_getinfo(t->channel->easy, CURLINFO_RESPONSE_CODE, ret_status);
        if (*ret_status)
            keep_session(t);
        if (t->too_large)
            rc = ramet_error_set(err, RAMET_TOO_LARGE, "its answer is larger than %zu bytes", t->web->message_max);
        else if (t->answered)
            rc = 0;
        else if (is_cancelled(t->web))
            rc = ramet_error_set(err, RAMET_UNAVAILABLE, "it is being let go");
        else if (!ended || code == CURLE_OPERATION_TIMEDOUT)
            rc = ramet_error_set(err, RAMET_TIMEOUT, "it did not answer in time");
        else if (code == CURLE_WRITE_ERROR || code == CURLE_OUT_OF_MEMORY)
            rc = ramet_error_set(err, RAMET_NO_MEMORY, "no memory for its answer");
        else if (code != CURLE_OK && !(t->streams && *ret_status == 200))
            rc = ramet_error_set(err, RAMET_UNAVAILABLE, "%s", curl_easy_strerror(code));
    }
    if (t->channel)
        give_channel(t->web, STEAL(t->channel));
    curl_slist_free_all(headers);
    return rc;
}

/* A stream that ended before its answer goes on from its last event, where it has one. */
static int resume(struct transfer *t, const struct ramet_web_call *call, long *status, struct ramet_error *err)
{
    int rc = 0;
    const struct ramet_web_call again = {.version = call->version, .deadline_us = call->deadline_us};
    while (rc == 0 && !t->answered && t->streams && *status == 200 && *t->sse.id) {
        unsigned wait_ms = t->sse.retry_ms ? t->sse.retry_ms : retry_ms;
        uint64_t until_us = ramet_deadline_us(wait_ms < retry_max_ms ? wait_ms : retry_max_ms);
        while (ramet_left_us(until_us) && !is_cancelled(t->web) && ramet_left_us(call->deadline_us))
            ramet_sleep_us(ramet_left_us(until_us) < 50000 ? ramet_left_us(until_us) : 50000);
        t->begun = t->streams = false;
        rc = transfer(t, &again, "GET", t->sse.id, status, err);
    }
    return rc;
}

static void transfer_clear(struct transfer *t)
{
    ramet_sse_free(&t->sse);
    ramet_rpc_answer_free(&t->answer);
    free(STEAL(t->body));
}

static int no_answer(struct ramet_web *web, long status, struct ramet_error *err)
{
    if (status == 404 && ramet_web_has_session(web))
        return ramet_error_set(err, RAMET_CONFLICT, "it does not know our session any more");
    if (status == 401 || status == 403) {
        ramet_error_set(err, RAMET_DENIED, "it refuses us with HTTP status %ld", status);
        return ramet_error_hint(err, "give 'ramet tools add' the right --header or --token-file");
    }
    if (status >= 200 && status < 300)
        return ramet_error_set(err, RAMET_UNAVAILABLE, "its answer (HTTP status %ld) holds no JSON-RPC answer", status);
    return ramet_error_set(err, RAMET_UNAVAILABLE, "it answers with HTTP status %ld", status);
}

int ramet_web_call(struct ramet_web *web, const struct ramet_web_call *call, struct ramet_rpc_answer *ret,
                   int *ret_status, struct ramet_error *err)
{
    struct transfer t = {.web = web, .id = call->id, .sse = {.data_max = web->message_max}};
    long status = 0;
    int rc = transfer(&t, call, "POST", NULL, &status, err);
    if (rc == 0)
        rc = resume(&t, call, &status, err);
    if (rc == 0 && !t.streams && t.size && !take_message(&t, t.body, t.size))
        rc = ramet_error_set(err, RAMET_NO_MEMORY, "no memory for its answer");
    bool refused = status == 401 || status == 403;
    bool accepted = call->id == UINT64_MAX && status >= 200 && status < 300;
    if (rc == 0 && !accepted && (!t.answered || refused))
        rc = no_answer(web, status, err);
    if (rc == 0)
        *ret = t.answer;
    if (rc == 0)
        t.answer = (struct ramet_rpc_answer){0};
    if (ret_status)
        *ret_status = (int)status;
    transfer_clear(&t);
    return rc;
}

int ramet_web_listen(struct ramet_web *web, const char *version, struct ramet_error *err)
{
    struct transfer t = {.web = web, .id = UINT64_MAX, .sse = {.data_max = web->message_max}};
    const struct ramet_web_call call = {.version = version, .deadline_us = UINT64_MAX};
    long status = 0;
    int rc = transfer(&t, &call, "GET", NULL, &status, err);
    if (rc == 0 && status == 405)
        rc = ramet_error_set(err, RAMET_UNSUPPORTED, "it offers no stream of notifications");
    else if (rc == 0 && !t.streams && status != 200)
        rc = no_answer(web, status, err);
    else if (rc == 0 && !t.streams)
        rc = ramet_error_set(err, RAMET_UNSUPPORTED, "it offers no stream of notifications");
    transfer_clear(&t);
    return rc;
}

bool ramet_web_has_session(struct ramet_web *web)
{
    pthread_mutex_lock(&web->lock);
    bool has = *web->session != '\0';
    pthread_mutex_unlock(&web->lock);
    return has;
}

void ramet_web_end_session(struct ramet_web *web, const char *version)
{
    struct transfer t = {.web = web, .id = UINT64_MAX, .sse = {.data_max = web->message_max}};
    const struct ramet_web_call call = {.version = version, .deadline_us = ramet_deadline_us(reply_ms)};
    long status = 0;
    if (ramet_web_has_session(web) && !is_cancelled(web))
        transfer(&t, &call, "DELETE", NULL, &status, NULL);
    transfer_clear(&t);
    pthread_mutex_lock(&web->lock);
    *web->session = '\0';
    pthread_mutex_unlock(&web->lock);
}

/* ---- making ---- */

static void init_curl(void) { curl_global_init(CURL_GLOBAL_DEFAULT); }

int ramet_web_new(const struct ramet_web_options *options, struct ramet_web **ret, struct ramet_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    size_t count = 0;
    pthread_once(&once, init_curl);
    struct ramet_web *web = calloc(1, sizeof *web);
    if (!web)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a server");
    pthread_mutex_init(&web->lock, NULL);
    while (options->headers && options->headers[count])
        count++;
    web->url = strdup(options->url);
    web->headers = calloc(count + 1, sizeof *web->headers);
    bool good = web->url && web->headers;
    for (size_t i = 0; good && i < count; i++)
        good = (web->headers[i] = strdup(options->headers[i])) != NULL;
    web->message_max = options->message_max;
    web->heard = options->heard;
    web->context = options->context;
    if (!good) {
        ramet_web_free(web);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a server");
    }
    *ret = web;
    return 0;
}

void ramet_web_free(struct ramet_web *web)
{
    if (!web)
        return;
    while (web->idle) {
        struct channel *channel = web->idle;
        web->idle = channel->next;
        channel_free(channel);
    }
    for (char **header = web->headers; header && *header; header++)
        free(*header);
    free(web->headers);
    free(web->url);
    pthread_mutex_destroy(&web->lock);
    free(web);
}

char *ramet_web_header_value(const char *value)
{
    static const char head[] = "=?base64?", tail[] = "?=";
    size_t size = strlen(value);
    bool safe = size > 0 && value[0] != ' ' && value[0] != '\t' && value[size - 1] != ' ' && value[size - 1] != '\t';
    for (size_t i = 0; safe && i < size; i++)
        safe = value[i] == '\t' || (value[i] >= 0x20 && value[i] < 0x7f);
    bool looks_encoded = size >= sizeof head - 1 + sizeof tail - 1 && strncmp(value, head, sizeof head - 1) == 0 &&
                         strcmp(value + size - (sizeof tail - 1), tail) == 0;
    if (safe && !looks_encoded)
        return strdup(value);
    _autofree_ char *encoded = ramet_base64_encode(value, size);
    char *text = NULL;
    return encoded && asprintf(&text, "%s%s%s", head, encoded, tail) >= 0 ? text : NULL;
}
