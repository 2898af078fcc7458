/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The libmicrohttpd wrapper. A request is an `exchange`: begun when its headers have
 * arrived, fed its body, handled, and ended when its answer has left or its client
 * has gone. From its handling to its end it counts as running; one whose body is streamed
 * from its beginning, and it is cut off when the server stops.
 *
 * Locking: `lock` guards `running` and `stopping`.
 * It is never held while a handler runs. libmicrohttpd's own stop cuts connections
 * under their handlers, so free waits for `running` to reach zero first: whoever
 * made a request before the stop gets its answer.
 */
#include "http.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "http_socket.h"
#include "http_upload.h"
#include "json.h"
#include "wire.h"

#include <inttypes.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#define SILENCE_MAX_S 120u
#define HEADER_MEMORY (64u << 10) /* per connection; half of it holds a request's line and headers */
#define STREAM_BLOCK 16384u
#define DISCARD_MAX (16u << 20) /* of a body that is too large, so that its sender reads our answer */

struct ramet_http {
    struct MHD_Daemon *daemon;
    bool tcp;
    ramet_http_admit *admit;
    ramet_http_handler *handler;
    void *context;
    pthread_mutex_t lock;
    pthread_cond_t idle; /* signalled when running becomes 0; on CLOCK_MONOTONIC */
    unsigned running;
    bool stopping;
};

struct exchange {
    struct ramet_http *http;
    struct ramet_http_request request;
    char *body;
    size_t capacity;
    uint64_t arrived; /* bytes of the body so far, kept or not */
    bool too_many_params;
    struct ramet_http_upload *upload; /* of a body that is streamed */
    bool counted;                     /* in http->running */
};

void ramet_http_answer_error(struct ramet_http_response *response, int status, const struct ramet_error *error)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *value = ramet_wire_error(error);
    response->status = status ? status : ramet_code_http(error->code);
    response->content_type = "application/json";
    free(response->body);
    response->body = ramet_json_text(value);
    response->body_size = response->body ? strlen(response->body) : 0;
}

/* ---- answers ---- */

struct streaming {
    void *context;
    long (*read)(void *context, char *buf, size_t max);
    void (*close)(void *context);
};

static ssize_t read_stream(void *cls, uint64_t position, char *buf, size_t max)
{
    struct streaming *s = cls;
    (void)position;
    long size = s->read(s->context, buf, max);
    if (size >= 0)
        return size;
    return size == RAMET_HTTP_STREAM_END ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
}

static void close_stream(void *cls)
{
    struct streaming *s = cls;
    s->close(s->context);
    free(s);
}

static struct MHD_Response *stream_response(const struct ramet_http_response *response)
{
    struct streaming *s = malloc(sizeof *s);
    struct MHD_Response *answer = NULL;
    if (s) {
        *s = (struct streaming){response->stream.context, response->stream.read, response->stream.close};
        answer = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, s, close_stream);
    }
    if (!answer) {
        response->stream.close(response->stream.context);
        free(s);
    }
    return answer;
}

static enum MHD_Result send_response(struct MHD_Connection *connection, struct ramet_http_response *response)
{
    struct MHD_Response *answer =
        response->stream.read
            ? stream_response(response)
            : MHD_create_response_from_buffer(response->body_size, response->body ? response->body : (void *)"",
                                              response->body ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (!answer) {
        free(response->body);
        return MHD_NO;
    }
    if (response->content_type)
        MHD_add_response_header(answer, MHD_HTTP_HEADER_CONTENT_TYPE, response->content_type);
    if (*response->allow)
        MHD_add_response_header(answer, MHD_HTTP_HEADER_ALLOW, response->allow);
    for (size_t i = 0; i < response->header_count; i++)
        MHD_add_response_header(answer, response->headers[i].name, response->headers[i].value);
    enum MHD_Result result = MHD_queue_response(connection, (unsigned)response->status, answer);
    MHD_destroy_response(answer);
    return result;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, const struct ramet_error *error)
{
    struct ramet_http_response response = {0};
    ramet_http_answer_error(&response, 0, error);
    return send_response(connection, &response);
}

static enum MHD_Result refuse_body(struct MHD_Connection *connection)
{
    struct ramet_error error;
    ramet_error_set(&error, RAMET_TOO_LARGE, "the request's body is larger than %u bytes", RAMET_HTTP_BODY_MAX);
    ramet_error_hint(&error, "name files instead of sending their contents");
    return refuse(connection, &error);
}

/* ---- a request arrives ---- */

/* Counts the exchange in, unless the server is stopping. */
static int enter(struct exchange *x, struct ramet_error *err)
{
    pthread_mutex_lock(&x->http->lock);
    x->counted = !x->http->stopping;
    x->http->running += x->counted;
    pthread_mutex_unlock(&x->http->lock);
    return x->counted ? 0 : ramet_error_set(err, RAMET_UNAVAILABLE, "the daemon is stopping");
}

static bool stopping(struct ramet_http *http)
{
    pthread_mutex_lock(&http->lock);
    bool is = http->stopping;
    pthread_mutex_unlock(&http->lock);
    return is;
}

static void leave(struct ramet_http *http)
{
    pthread_mutex_lock(&http->lock);
    if (--http->running == 0)
        pthread_cond_broadcast(&http->idle);
    pthread_mutex_unlock(&http->lock);
}

/* Who is at the other end, as far as the kernel tells. */
static int read_peer(struct MHD_Connection *connection, bool tcp, struct ramet_caller *ret, struct ramet_error *err)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct ucred peer;
    socklen_t size = sizeof peer;
    *ret = (struct ramet_caller){.door = tcp ? RAMET_DOOR_TCP : RAMET_DOOR_SOCKET, .uid = -1};
    if (tcp)
        return 0;
    if (!info || getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        return ramet_error_set(err, RAMET_DENIED, "the caller of this request cannot be identified");
    ret->uid = peer.uid;
    ret->pid = peer.pid;
    return 0;
}

int ramet_http_admit_owner(void *context, struct ramet_http_request *request, struct ramet_http_response *response,
                           struct ramet_error *err)
{
    (void)context, (void)response;
    int64_t uid = request->caller.uid;
    if (uid != 0 && uid != geteuid()) {
        ramet_error_set(err, RAMET_DENIED, "user %" PRId64 " may not use this daemon", uid);
        return ramet_error_hint(err, "it serves root and user %u", (unsigned)geteuid());
    }
    request->principal = (struct ramet_principal){
        .name = "@owner", .door = request->caller.door, .uid = uid, .pid = request->caller.pid};
    return 0;
}

/* Whether a web page of this origin may call: one from this host only, since a browser sends what its user may. */
static bool own_origin(const char *origin)
{
    static const char *const hosts[] = {"localhost", "127.0.0.1", "[::1]"};
    const char *host = strstr(origin, "://");
    if (!host)
        return false;
    host += 3;
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        size_t size = strlen(hosts[i]);
        if (strncasecmp(host, hosts[i], size) == 0 && (!host[size] || host[size] == ':'))
            return true;
    }
    return false;
}

int ramet_http_check_origin(const struct ramet_http_request *request, struct ramet_error *err)
{
    const char *origin = ramet_http_header(request, "Origin");
    return !origin || own_origin(origin)
               ? 0
               : ramet_error_set(err, RAMET_DENIED, "a page of \"%.100s\" may not call this daemon", origin);
}

const char *ramet_http_header(const struct ramet_http_request *request, const char *name)
{
    return request->connection ? MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name) : NULL;
}

void ramet_http_add_header(struct ramet_http_response *response, const char *name, const char *value)
{
    if (response->header_count == RAMET_HTTP_HEADERS_MAX || strlen(value) >= sizeof response->headers[0].value)
        return;
    response->headers[response->header_count].name = name;
    strcpy(response->headers[response->header_count++].value, value);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

size_t ramet_http_decode(char *text)
{
    char *to = text;
    for (const char *from = text; *from; to++) {
        int high = *from == '%' ? hex_digit(from[1]) : -1, low = high < 0 ? -1 : hex_digit(from[2]);
        *to = (char)(low < 0 ? *from : high << 4 | low);
        from += low < 0 ? 1 : 3;
    }
    *to = '\0';
    return (size_t)(to - text);
}

/* libmicrohttpd leaves decoding to us: in a path it comes after the '/' have been seen. */
static size_t leave_encoded(void *cls, struct MHD_Connection *connection, char *text)
{
    (void)cls, (void)connection;
    return strlen(text);
}

static enum MHD_Result add_param(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct exchange *x = cls;
    (void)kind;
    if (x->request.query_count == RAMET_HTTP_QUERY_MAX) {
        x->too_many_params = true;
        return MHD_NO;
    }
    /* The connection's own copies, which nobody else reads. */
    ramet_http_decode((char *)name);
    if (value)
        ramet_http_decode((char *)value);
    x->request.query[x->request.query_count].name = name;
    x->request.query[x->request.query_count++].value = value ? value : "";
    return MHD_YES;
}

static struct exchange *exchange_new(struct ramet_http *http, struct MHD_Connection *connection, const char *method,
                                     const char *path)
{
    struct exchange *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    const char *type = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_TYPE);
    x->http = http;
    x->request.method = method;
    x->request.path = path;
    x->request.content_type = type ? type : "";
    x->request.body = "";
    x->request.connection = connection;
    MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, add_param, x);
    return x;
}

/* The size a client announces for its body; 0 when it announces none. */
static uint64_t announced(struct MHD_Connection *connection)
{
    const char *length = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return length ? strtoull(length, NULL, 10) : 0;
}

/* Counts the exchange in, unless it is wrong already or the server is stopping. */
static int begin_handling(struct exchange *x, struct ramet_error *err)
{
    if (x->too_many_params)
        return ramet_error_set(err, RAMET_INVALID, "more than %d query parameters", RAMET_HTTP_QUERY_MAX);
    return enter(x, err);
}

static enum MHD_Result begin_upload(struct exchange *x, struct MHD_Connection *connection)
{
    struct ramet_error error = {0};
    int rc = begin_handling(x, &error);
    if (rc == 0)
        rc = ramet_http_upload_start(x->http->handler, x->http->context, &x->request, &x->upload, &error);
    return rc < 0 ? refuse(connection, &error) : MHD_YES;
}

static enum MHD_Result begin(struct ramet_http *http, struct MHD_Connection *connection, const char *method,
                             const char *path, void **req_cls)
{
    struct ramet_error error = {0};
    struct ramet_http_response response = {0};
    struct exchange *x = exchange_new(http, connection, method, path);
    if (!x)
        return MHD_NO;
    *req_cls = x; /* on_completed frees it */
    int rc = read_peer(connection, http->tcp, &x->request.caller, &error);
    x->request.caller.authorization = ramet_http_header(&x->request, "Authorization");
    x->request.caller.act = ramet_http_header(&x->request, "Ramet-Act");
    if (rc == 0)
        rc = http->admit(http->context, &x->request, &response, &error);
    if (rc < 0) {
        ramet_http_answer_error(&response, response.status, &error);
        return send_response(connection, &response);
    }
    if (x->request.streams_body)
        return begin_upload(x, connection);
    return announced(connection) > DISCARD_MAX ? refuse_body(connection) : MHD_YES;
}

/* Takes a piece of the body. One that grows too large is read to its end but not kept; MHD_NO cuts an endless one. */
static enum MHD_Result take_body(struct exchange *x, const char *data, size_t size)
{
    x->arrived += size;
    if (x->upload) {
        ramet_http_upload_put(x->upload, data, size);
        return stopping(x->http) ? MHD_NO : MHD_YES;
    }
    if (x->arrived > RAMET_HTTP_BODY_MAX)
        return x->arrived > DISCARD_MAX ? MHD_NO : MHD_YES;
    if (x->request.body_size + size >= x->capacity) {
        size_t capacity = (x->request.body_size + size) * 2 + 1;
        char *body = realloc(x->body, capacity);
        if (!body)
            return MHD_NO;
        x->body = body;
        x->capacity = capacity;
    }
    memcpy(x->body + x->request.body_size, data, size);
    x->request.body_size += size;
    x->body[x->request.body_size] = '\0';
    x->request.body = x->body;
    return MHD_YES;
}

static enum MHD_Result handle(struct exchange *x, struct MHD_Connection *connection)
{
    struct ramet_http_response response = {0};
    struct ramet_error error = {0};
    if (!x->upload && x->arrived > RAMET_HTTP_BODY_MAX)
        return refuse_body(connection);
    if (!x->upload && begin_handling(x, &error) < 0)
        return refuse(connection, &error);
    /* Our own work is not the client's silence. */
    MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
    if (x->upload)
        ramet_http_upload_end(x->upload, &response);
    else
        x->http->handler(x->http->context, &x->request, &response);
    ramet_debug("http: %s %s by %s, user %" PRId64 ", process %d: %d", x->request.method, x->request.path,
                x->request.principal.name, x->request.caller.uid, (int)x->request.caller.pid, response.status);
    MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, SILENCE_MAX_S);
    return send_response(connection, &response);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *path, const char *method,
                                  const char *version, const char *data, size_t *data_size, void **req_cls)
{
    struct exchange *x = *req_cls;
    (void)version;
    if (!x)
        return begin(cls, connection, method, path, req_cls);
    if (*data_size == 0)
        return handle(x, connection);
    size_t size = *data_size;
    *data_size = 0;
    return take_body(x, data, size);
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **req_cls,
                         enum MHD_RequestTerminationCode code)
{
    struct exchange *x = *req_cls;
    (void)cls, (void)connection, (void)code;
    if (!x)
        return;
    ramet_http_upload_free(x->upload);
    if (x->counted)
        leave(x->http);
    free(x->body);
    free(x);
    *req_cls = NULL;
}

__attribute__((format(printf, 2, 0))) static void on_log(void *cls, const char *fmt, va_list ap)
{
    char line[256];
    (void)cls;
    vsnprintf(line, sizeof line, fmt, ap);
    ramet_debug("http: %.*s", (int)strcspn(line, "\n"), line);
}

/* ---- start and stop ---- */

static int init_locks(struct ramet_http *http)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&http->lock, NULL);
    int rc = pthread_cond_init(&http->idle, &attr);
    pthread_condattr_destroy(&attr);
    return rc;
}

int ramet_http_start(struct ramet_http_socket *sock, ramet_http_handler *handler, void *context,
                     struct ramet_http **ret, struct ramet_error *err)
{
    return ramet_http_start_for(sock, ramet_http_admit_owner, handler, context, ret, err);
}

int ramet_http_start_for(struct ramet_http_socket *sock, ramet_http_admit *admit, ramet_http_handler *handler,
                         void *context, struct ramet_http **ret, struct ramet_error *err)
{
    struct ramet_http *http = calloc(1, sizeof *http);
    if (!http || init_locks(http) != 0) {
        free(http);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for an HTTP server");
    }
    http->tcp = ramet_http_socket_is_tcp(sock);
    http->admit = admit;
    http->handler = handler;
    http->context = context;
    unsigned flags = MHD_USE_POLL_INTERNAL_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_ITC | MHD_USE_ERROR_LOG;
    http->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, http, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_UNESCAPE_CALLBACK,
        leave_encoded, NULL, MHD_OPTION_LISTEN_SOCKET, ramet_http_socket_fd(sock), MHD_OPTION_NOTIFY_COMPLETED,
        on_completed, NULL, MHD_OPTION_CONNECTION_LIMIT, RAMET_HTTP_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
        SILENCE_MAX_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEADER_MEMORY, MHD_OPTION_END);
    if (!http->daemon) {
        pthread_cond_destroy(&http->idle);
        pthread_mutex_destroy(&http->lock);
        free(http);
        return ramet_error_set(err, RAMET_INTERNAL, "libmicrohttpd did not start");
    }
    *ret = http;
    return 0;
}

/* Under the lock. A NULL deadline waits for ever. */
static bool wait_idle(struct ramet_http *http, const struct timespec *deadline)
{
    int rc = 0;
    while (http->running && rc == 0)
        rc = deadline ? pthread_cond_timedwait(&http->idle, &http->lock, deadline)
                      : pthread_cond_wait(&http->idle, &http->lock);
    return http->running == 0;
}

static bool drain(struct ramet_http *http, const struct timespec *deadline)
{
    pthread_mutex_lock(&http->lock);
    bool first = !http->stopping;
    http->stopping = true;
    pthread_mutex_unlock(&http->lock);
    if (first)
        MHD_quiesce_daemon(http->daemon); /* hands back the listening descriptor, which is the socket's */
    pthread_mutex_lock(&http->lock);
    bool idle = wait_idle(http, deadline);
    pthread_mutex_unlock(&http->lock);
    return idle;
}

bool ramet_http_drain(struct ramet_http *http, unsigned timeout_ms)
{
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += timeout_ms / 1000;
    deadline.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (deadline.tv_nsec >= 1000000000) {
        deadline.tv_nsec -= 1000000000;
        deadline.tv_sec++;
    }
    return drain(http, &deadline);
}

void ramet_http_free(struct ramet_http *http)
{
    if (!http)
        return;
    drain(http, NULL);
    MHD_stop_daemon(http->daemon);
    pthread_cond_destroy(&http->idle);
    pthread_mutex_destroy(&http->lock);
    free(http);
}
