/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests have a thread each, since one may take minutes or never end
 * (subscriptions/listen); initialize, notifications and responses are posted in order
 * on the reader's. `lock` guards the session, the output and the count of threads.
 */
#include "mcp/proxy.h"

#include "base/cleanup.h"
#include "base64.h"
#include "client_exchange.h"
#include "json.h"
#include "mcp/jsonrpc.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define META "io.modelcontextprotocol/"
#define LINGER_S 10 /* for what is under way when the input has ended */

struct proxy {
    struct ramet_client *client;
    FILE *out;
    pthread_mutex_t lock;
    pthread_cond_t idle; /* a thread has ended */
    char session[128], version[32];
    unsigned threads; /* that answer something; listeners are not waited for */
    unsigned refs;    /* all threads and the reader */
};

/* One line on its way. */
struct post {
    struct proxy *proxy;
    struct ramet_jsonrpc_message message;
    char *text;
    char *kept; /* of the answer, what is no whole line yet, or all of it when it is JSON */
    size_t kept_size, kept_capacity;
    bool events, answered, starts, listens;
    char session[128]; /* as the answer has it */
};

/* ---- output ---- */

static void write_line(struct proxy *proxy, const char *line, size_t size)
{
    pthread_mutex_lock(&proxy->lock);
    fwrite(line, 1, size, proxy->out);
    fputc('\n', proxy->out);
    fflush(proxy->out);
    pthread_mutex_unlock(&proxy->lock);
}

/* What went wrong between us and the daemon, as the answer the client waits for. */
static void write_failure(struct post *post, const char *text)
{
    struct ramet_jsonrpc_error error = {.code = RAMET_JSONRPC_INTERNAL};
    if (!post->message.id || post->message.kind != RAMET_JSONRPC_REQUEST)
        return;
    snprintf(error.message, sizeof error.message, "%s", text);
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = ramet_jsonrpc_failure(post->message.id, &error);
    _autofree_ char *line = ramet_json_text(answer);
    if (line)
        write_line(post->proxy, line, strlen(line));
}

/* ---- the answer ---- */

static void take_header(void *context, const char *line)
{
    struct post *post = context;
    static const char session[] = "Mcp-Session-Id:", type[] = "Content-Type:";
    if (strncasecmp(line, session, sizeof session - 1) == 0)
        snprintf(post->session, sizeof post->session, "%s",
                 line + sizeof session - 1 + strspn(line + sizeof session - 1, " "));
    if (strncasecmp(line, type, sizeof type - 1) == 0)
        post->events = strcasestr(line, "text/event-stream") != NULL;
}

static bool keep(struct post *post, const char *bytes, size_t size)
{
    if (post->kept_size + size + 1 > post->kept_capacity) {
        size_t capacity = (post->kept_size + size + 1) * 2;
        char *grown = realloc(post->kept, capacity);
        if (!grown)
            return false;
        post->kept = grown;
        post->kept_capacity = capacity;
    }
    memcpy(post->kept + post->kept_size, bytes, size);
    post->kept_size += size;
    post->kept[post->kept_size] = '\0';
    return true;
}

/* Events end with an empty line; each of ours has one line of data. */
static bool take_data(void *context, const char *bytes, size_t size)
{
    struct post *post = context;
    static const char data[] = "data: ";
    if (!keep(post, bytes, size))
        return false;
    char *line = post->kept, *end;
    while (post->events && (end = memchr(line, '\n', post->kept_size - (size_t)(line - post->kept)))) {
        if (strncmp(line, data, sizeof data - 1) == 0) {
            write_line(post->proxy, line + sizeof data - 1, (size_t)(end - line) - (sizeof data - 1));
            post->answered = true;
        }
        line = end + 1;
    }
    post->kept_size -= (size_t)(line - post->kept);
    memmove(post->kept, line, post->kept_size);
    post->kept[post->kept_size] = '\0';
    return true;
}

/* What initialize agreed on goes with everything that follows. */
static void take_session(struct post *post, const struct ramet_json *answer)
{
    const char *version = ramet_json_str(ramet_json_get(answer, "result"), "protocolVersion", "");
    pthread_mutex_lock(&post->proxy->lock);
    snprintf(post->proxy->session, sizeof post->proxy->session, "%s", post->session);
    snprintf(post->proxy->version, sizeof post->proxy->version, "%s", version);
    pthread_mutex_unlock(&post->proxy->lock);
}

/* An answer that came whole. The daemon's own errors are no JSON-RPC and are put into one. */
static void finish(struct post *post, int status)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    char text[640];
    if (post->events || post->message.kind != RAMET_JSONRPC_REQUEST) {
        if (post->events && !post->answered)
            write_failure(post, "the daemon ended the answer");
        return;
    }
    if (post->kept && ramet_json_parse(post->kept, post->kept_size, &answer, NULL) == 0 &&
        ramet_json_get(answer, "jsonrpc")) {
        if (post->starts)
            take_session(post, answer);
        write_line(post->proxy, post->kept, post->kept_size);
        return;
    }
    const struct ramet_json *error = ramet_json_get(answer, "error");
    snprintf(text, sizeof text, "the daemon answered %d: %.500s", status, ramet_json_str(error, "message", ""));
    write_failure(post, text);
}

/* ---- the request ---- */

/* "Mcp-Name: value", in base64 where it is no plain header. Owned by the caller. */
static char *name_header(const char *value)
{
    char *header = NULL;
    bool plain = *value && *value != ' ' && value[strlen(value) - 1] != ' ' && strncmp(value, "=?", 2) != 0;
    for (const char *c = value; *c; c++)
        plain = plain && *c >= ' ' && *c <= '~';
    _autofree_ char *coded = plain ? NULL : ramet_base64_encode(value, strlen(value));
    int size = plain ? asprintf(&header, "Mcp-Name: %s", value)
                     : asprintf(&header, "Mcp-Name: =?base64?%s?=", coded ? coded : "");
    return size < 0 ? NULL : header;
}

static const char *named(const struct post *post)
{
    const char *method = post->message.method ? post->message.method : "";
    if (strcmp(method, "tools/call") == 0 || strcmp(method, "prompts/get") == 0)
        return ramet_json_str(post->message.params, "name", NULL);
    return strcmp(method, "resources/read") == 0 ? ramet_json_str(post->message.params, "uri", NULL) : NULL;
}

static int exchange(struct post *post, bool with_session, int *ret_status, struct ramet_error *err)
{
    const struct ramet_json *meta = ramet_json_get(post->message.params, "_meta");
    const char *modern = ramet_json_str(meta, META "protocolVersion", NULL), *name = named(post);
    char version[64] = "", session[160] = "", method[160] = "";
    _autofree_ char *name_line = modern && name ? name_header(name) : NULL;
    pthread_mutex_lock(&post->proxy->lock);
    if (modern || (!post->starts && *post->proxy->version))
        snprintf(version, sizeof version, "MCP-Protocol-Version: %.30s", modern ? modern : post->proxy->version);
    if (with_session && !modern && !post->starts && *post->proxy->session)
        snprintf(session, sizeof session, "Mcp-Session-Id: %s", post->proxy->session);
    pthread_mutex_unlock(&post->proxy->lock);
    if (modern && post->message.method)
        snprintf(method, sizeof method, "Mcp-Method: %.120s", post->message.method);
    const char *headers[8] = {"Accept: application/json, text/event-stream"};
    size_t count = 1;
    const char *const optional[] = {version, session, method, name_line};
    for (size_t i = 0; i < sizeof optional / sizeof *optional; i++)
        if (optional[i] && *optional[i])
            headers[count++] = optional[i];
    const struct ramet_client_exchange x = {.method = "POST",
                                            .path = "/mcp",
                                            .body = post->text,
                                            .headers = headers,
                                            .context = post,
                                            .header = take_header,
                                            .data = take_data};
    return ramet_client_exchange(post->proxy->client, &x, ret_status, err);
}

static void carry_out(struct post *post)
{
    struct ramet_error err = {0};
    int status = 0;
    int rc = exchange(post, true, &status, &err);
    if (rc == 0 && status == 404 && !post->events && *post->proxy->session) {
        post->kept_size = 0; /* the daemon has another life: it serves without a session too */
        rc = exchange(post, false, &status, &err);
    }
    if (rc < 0 && !post->answered)
        write_failure(post, err.msg);
    else
        finish(post, status);
}

static void post_free(struct post *post)
{
    if (!post)
        return;
    ramet_jsonrpc_clear(&post->message);
    free(post->text);
    free(post->kept);
    free(post);
}

/* ---- threads ---- */

static void unref(struct proxy *proxy)
{
    pthread_mutex_lock(&proxy->lock);
    bool last = --proxy->refs == 0;
    pthread_mutex_unlock(&proxy->lock);
    if (!last)
        return;
    pthread_cond_destroy(&proxy->idle);
    pthread_mutex_destroy(&proxy->lock);
    free(proxy);
}

static void *thread(void *arg)
{
    struct post *post = arg;
    struct proxy *proxy = post->proxy;
    carry_out(post);
    pthread_mutex_lock(&proxy->lock);
    proxy->threads -= !post->listens;
    pthread_cond_signal(&proxy->idle);
    pthread_mutex_unlock(&proxy->lock);
    post_free(post);
    unref(proxy);
    return NULL;
}

static bool start_thread(struct post *post)
{
    pthread_t id;
    pthread_attr_t attr;
    pthread_mutex_lock(&post->proxy->lock);
    post->proxy->threads += !post->listens;
    post->proxy->refs++;
    pthread_mutex_unlock(&post->proxy->lock);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int rc = pthread_create(&id, &attr, thread, post);
    pthread_attr_destroy(&attr);
    if (rc == 0)
        return true;
    pthread_mutex_lock(&post->proxy->lock);
    post->proxy->threads -= !post->listens;
    post->proxy->refs--;
    pthread_mutex_unlock(&post->proxy->lock);
    return false;
}

/* ---- lines ---- */

static void take_line(struct proxy *proxy, const char *line, size_t size)
{
    struct ramet_jsonrpc_error error = {0};
    struct post *post = calloc(1, sizeof *post);
    if (!post)
        return;
    post->proxy = proxy;
    if (ramet_jsonrpc_parse(line, size, &post->message, &error) < 0) {
        _cleanup_(ramet_json_cleanup) struct ramet_json *answer = ramet_jsonrpc_failure(post->message.id, &error);
        _autofree_ char *text = ramet_json_text(answer);
        if (text)
            write_line(proxy, text, strlen(text));
        post_free(post);
        return;
    }
    post->text = strndup(line, size);
    post->starts = post->message.method && strcmp(post->message.method, "initialize") == 0;
    post->listens = post->message.method && strcmp(post->message.method, "subscriptions/listen") == 0;
    if (post->text && post->message.kind == RAMET_JSONRPC_REQUEST && !post->starts && start_thread(post))
        return;
    if (post->text)
        carry_out(post);
    post_free(post);
}

static void wait_for_answers(struct proxy *proxy)
{
    struct timespec until;
    int rc = 0;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LINGER_S;
    pthread_mutex_lock(&proxy->lock);
    while (proxy->threads && rc == 0)
        rc = pthread_cond_timedwait(&proxy->idle, &proxy->lock, &until);
    pthread_mutex_unlock(&proxy->lock);
}

static bool drop_data(void *context, const char *bytes, size_t size)
{
    (void)context, (void)bytes, (void)size;
    return true;
}

static void end_session(struct proxy *proxy)
{
    char session[160];
    int status;
    if (!*proxy->session)
        return;
    snprintf(session, sizeof session, "Mcp-Session-Id: %s", proxy->session);
    const char *const headers[] = {session, NULL};
    const struct ramet_client_exchange x = {.method = "DELETE", .path = "/mcp", .headers = headers, .data = drop_data};
    ramet_client_exchange(proxy->client, &x, &status, NULL);
}

int ramet_mcp_proxy(struct ramet_client *client, FILE *in, FILE *out, struct ramet_error *err)
{
    struct proxy *proxy = calloc(1, sizeof *proxy);
    _autofree_ char *line = NULL;
    size_t capacity = 0;
    ssize_t size;
    if (!proxy)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a proxy");
    proxy->client = client;
    proxy->out = out;
    proxy->refs = 1;
    pthread_mutex_init(&proxy->lock, NULL);
    pthread_cond_init(&proxy->idle, NULL);
    while ((size = getline(&line, &capacity, in)) > 0) {
        while (size > 0 && (line[size - 1] == '\n' || line[size - 1] == '\r'))
            line[--size] = '\0';
        if (size > 0)
            take_line(proxy, line, (size_t)size);
    }
    wait_for_answers(proxy);
    end_session(proxy);
    unref(proxy);
    return ferror(in) ? ramet_error_os(err, errno, "cannot read messages") : 0;
}
