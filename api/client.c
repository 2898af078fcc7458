/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client library's transport: HTTP over the daemon's Unix socket with libcurl,
 * whose types stay here. The typed calls on top of it are in client_calls.c.
 *
 * A client keeps the connections that no call uses at the moment, up to IDLE_MAX.
 * Locking: `lock` guards the list of idle connections and nothing else; a call owns
 * the handle it took until it gives it back.
 */
#include "ramet.h"

#include "base/cleanup.h"
#include "client_exchange.h"
#include "paths.h"
#include "wire.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#define IDLE_MAX 16
#define CONNECT_TIMEOUT_MS 10000L

struct ramet_client {
    char socket[PATH_MAX];
    char *authorization, *act; /* headers of every call, or NULL */
    pthread_mutex_t lock;
    CURL *idle[IDLE_MAX];
    size_t idle_count;
};

/* ---- connections ---- */

static void init_curl(void) { curl_global_init(CURL_GLOBAL_DEFAULT); }

/* The variable's value behind the header's name; NULL when it is not set. A value of several lines is refused unseen.
 */
static int header_from_env(const char *variable, const char *name, char **ret, struct ramet_error *err)
{
    const char *value = getenv(variable);
    if (!value || !*value)
        return 0;
    if (value[strcspn(value, "\r\n")])
        return ramet_error_set(err, RAMET_INVALID, "%s is more than one line", variable);
    return asprintf(ret, "%s%s", name, value) < 0 ? ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a client") : 0;
}

int ramet_client_new(const char *socket_path, struct ramet_client **ret, struct ramet_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_curl);
    struct ramet_client *client = calloc(1, sizeof *client);
    if (!client)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a client");
    pthread_mutex_init(&client->lock, NULL);
    int rc = ramet_paths_socket(socket_path, client->socket, err);
    if (rc == 0)
        rc = header_from_env("RAMET_TOKEN", "Authorization: Bearer ", &client->authorization, err);
    if (rc == 0)
        rc = header_from_env("RAMET_ACT", "Ramet-Act: ", &client->act, err);
    if (rc < 0) {
        ramet_client_free(client);
        return rc;
    }
    *ret = client;
    return 0;
}

void ramet_client_free(struct ramet_client *client)
{
    if (!client)
        return;
    for (size_t i = 0; i < client->idle_count; i++)
        curl_easy_cleanup(client->idle[i]);
    pthread_mutex_destroy(&client->lock);
    free(client->authorization);
    free(client->act);
    free(client);
}

const char *ramet_client_socket(const struct ramet_client *client) { return client->socket; }

static CURL *take_handle(struct ramet_client *client)
{
    CURL *handle = NULL;
    pthread_mutex_lock(&client->lock);
    if (client->idle_count)
        handle = client->idle[--client->idle_count];
    pthread_mutex_unlock(&client->lock);
    return handle ? handle : curl_easy_init();
}

/* Gives a handle back with its connection open for the next call. */
static void give_handle(struct ramet_client *client, CURL *handle)
{
    curl_easy_reset(handle);
    pthread_mutex_lock(&client->lock);
    if (client->idle_count < IDLE_MAX)
        client->idle[client->idle_count++] = STEAL(handle);
    pthread_mutex_unlock(&client->lock);
    curl_easy_cleanup(handle);
}

/* ---- one call ---- */

struct text {
    char *data;
    size_t size, capacity;
};

static size_t collect(char *data, size_t one, size_t size, void *to)
{
    struct text *text = to;
    (void)one; /* always 1 */
    if (text->size + size >= text->capacity) {
        size_t capacity = (text->size + size) * 2 + 1;
        char *grown = realloc(text->data, capacity);
        if (!grown)
            return CURL_WRITEFUNC_ERROR;
        text->data = grown;
        text->capacity = capacity;
    }
    memcpy(text->data + text->size, data, size);
    text->size += size;
    text->data[text->size] = '\0';
    return size;
}

static int no_daemon(const struct ramet_client *client, CURL *handle, struct ramet_error *err)
{
    long os_errno = 0;
    curl_easy_getinfo(handle, CURLINFO_OS_ERRNO, &os_errno);
    if (os_errno == EACCES || os_errno == EPERM) {
        ramet_error_os(err, (int)os_errno, "cannot connect to \"%.300s\"", client->socket);
        return ramet_error_hint(err, "the daemon serves root and its own user");
    }
    ramet_error_set(err, RAMET_UNAVAILABLE, "no daemon answers at \"%.300s\"", client->socket);
    return ramet_error_hint(err, "start it with 'ramet up'");
}

static int transport_error(const struct ramet_client *client, CURL *handle, CURLcode code, struct ramet_error *err)
{
    switch (code) {
    case CURLE_COULDNT_CONNECT: return no_daemon(client, handle, err);
    case CURLE_OUT_OF_MEMORY:
    case CURLE_WRITE_ERROR: return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the daemon's answer");
    case CURLE_COULDNT_RESOLVE_HOST: /* what libcurl says of a socket path that is too long */
        return ramet_error_set(err, RAMET_INVALID, "\"%.300s\" cannot be a socket's path", client->socket);
    default:
        ramet_error_set(err, RAMET_UNAVAILABLE, "the daemon at \"%.300s\" ended the call: %s", client->socket,
                        curl_easy_strerror(code));
        return ramet_error_hint(err, "its log says why; 'ramet up' starts it again when it is gone");
    }
}

static void prepare(const struct ramet_client *client, CURL *handle, const char *method, const char *url,
                    struct text *answer)
{
    curl_easy_setopt(handle, CURLOPT_UNIX_SOCKET_PATH, client->socket);
    curl_easy_setopt(handle, CURLOPT_URL, url);
    curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(handle, CURLOPT_PROXY, "");
    curl_easy_setopt(handle, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, collect);
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, answer);
}

/* NULL: no memory. */
static struct curl_slist *call_headers(const struct ramet_client *client, const char *body)
{
    const char *const lines[] = {body ? "Content-Type: application/json" : NULL, client->authorization, client->act,
                                 "User-Agent: ramet/" RAMET_VERSION};
    struct curl_slist *headers = NULL;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct curl_slist *longer = lines[i] ? curl_slist_append(headers, lines[i]) : headers;
        if (lines[i] && !longer) {
            curl_slist_free_all(headers);
            return NULL;
        }
        headers = longer;
    }
    return headers;
}

/* Performs the call, whatever its status is. */
static int perform(struct ramet_client *client, CURL *handle, const char *body, int *ret_status,
                   struct ramet_error *err)
{
    struct curl_slist *headers = call_headers(client, body);
    if (!headers)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a call");
    curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers);
    if (body) {
        curl_easy_setopt(handle, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
    }
    CURLcode code = curl_easy_perform(handle);
    curl_slist_free_all(headers);
    if (code != CURLE_OK)
        return transport_error(client, handle, code, err);
    long status = 0;
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
    *ret_status = (int)status;
    return 0;
}

int ramet_client_call(struct ramet_client *client, const char *method, const char *path, const char *body,
                      int *ret_status, char **ret_answer, struct ramet_error *err)
{
    struct text answer = {0};
    int status = 0;
    _autofree_ char *url = ramet_client_path("http://ramet", "", path);
    CURL *handle = take_handle(client);
    int rc;
    if (url && handle && collect("", 1, 0, &answer) == 0) {
        prepare(client, handle, method, url, &answer);
        rc = perform(client, handle, body, &status, err);
    } else {
        rc = ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a call");
    }
    if (handle)
        give_handle(client, handle);
    if (ret_status)
        *ret_status = status;
    if (rc == 0 && (status < 200 || status > 299))
        rc = ramet_wire_error_read(answer.data, answer.size, status, err);
    if (rc == 0 && ret_answer)
        *ret_answer = STEAL(answer.data);
    free(answer.data);
    return rc;
}

/* ---- paths ---- */

static char *percent_encode(char *to, const char *text)
{
    static const char hex[] = "0123456789ABCDEF", plain[] = "-._~";
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        bool alnum = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
        if (alnum || strchr(plain, c)) {
            *to++ = (char)c;
        } else {
            *to++ = '%';
            *to++ = hex[c >> 4];
            *to++ = hex[c & 15];
        }
    }
    return to;
}

char *ramet_client_path(const char *prefix, const char *ref, const char *suffix)
{
    char *path = malloc(strlen(prefix) + 3 * strlen(ref) + strlen(suffix) + 1);
    if (path)
        strcpy(percent_encode(stpcpy(path, prefix), ref), suffix);
    return path;
}

/* ---- exchanges ---- */

static size_t pass_data(char *data, size_t one, size_t size, void *to)
{
    const struct ramet_client_exchange *exchange = to;
    (void)one;
    return exchange->data(exchange->context, data, size) ? size : CURL_WRITEFUNC_ERROR;
}

static size_t pass_header(char *data, size_t one, size_t size, void *to)
{
    const struct ramet_client_exchange *exchange = to;
    (void)one;
    _autofree_ char *line = strndup(data, size);
    if (!line)
        return 0;
    line[strcspn(line, "\r\n")] = '\0';
    if (*line && exchange->header)
        exchange->header(exchange->context, line);
    return size;
}

static size_t pass_body(char *buf, size_t one, size_t max, void *from)
{
    const struct ramet_client_exchange *exchange = from;
    long size = exchange->read(exchange->context, buf, one * max);
    return size < 0 ? CURL_READFUNC_ABORT : (size_t)size;
}

static CURLcode perform_exchange(CURL *handle, const struct ramet_client_exchange *exchange, struct curl_slist *headers)
{
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, pass_data);
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, (void *)exchange);
    curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, pass_header);
    curl_easy_setopt(handle, CURLOPT_HEADERDATA, (void *)exchange);
    curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers);
    if (exchange->body) {
        curl_easy_setopt(handle, CURLOPT_POSTFIELDS, exchange->body);
        curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(exchange->body));
    }
    if (exchange->read) { /* its length is not known: in chunks */
        curl_easy_setopt(handle, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, exchange->method);
        curl_easy_setopt(handle, CURLOPT_READFUNCTION, pass_body);
        curl_easy_setopt(handle, CURLOPT_READDATA, (void *)exchange);
        curl_easy_setopt(handle, CURLOPT_UPLOAD_BUFFERSIZE, 256L << 10);
    }
    return curl_easy_perform(handle);
}

int ramet_client_exchange(struct ramet_client *client, const struct ramet_client_exchange *exchange, int *ret_status,
                          struct ramet_error *err)
{
    _autofree_ char *url = ramet_client_path("http://localhost", "", exchange->path);
    CURL *handle = take_handle(client);
    struct curl_slist *headers = call_headers(client, exchange->body);
    bool whole = url && handle && headers;
    for (size_t i = 0; whole && exchange->headers && exchange->headers[i]; i++)
        whole = curl_slist_append(headers, exchange->headers[i]) != NULL;
    int rc = 0;
    if (whole) {
        prepare(client, handle, exchange->method, url, NULL);
        CURLcode code = perform_exchange(handle, exchange, headers);
        long status = 0;
        curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
        *ret_status = (int)status;
        if (code != CURLE_OK)
            rc = transport_error(client, handle, code, err);
    } else {
        rc = ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a call");
    }
    curl_slist_free_all(headers);
    if (handle)
        give_handle(client, handle);
    return rc;
}
