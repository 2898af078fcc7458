/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP/1.1 server on a Unix socket or a TCP port. http.c is the only file that
 * knows libmicrohttpd; a handler sees plain structs.
 *
 * Each connection has its own thread, so a request that takes minutes (exec, fork,
 * import) never delays another. Who is served is asked before a body is read; unless
 * somebody else is asked, that is root and the daemon's own user.
 * Limits: a body of RAMET_HTTP_BODY_MAX bytes, unless it is streamed, request line and headers of 32 KiB
 * together, RAMET_HTTP_QUERY_MAX query parameters, RAMET_HTTP_CONNECTIONS_MAX
 * connections, two minutes of silence from a client between or within requests
 * (never counted while a handler works).
 *
 * Thread-safety: handlers run concurrently, one per connection; start, drain and
 * free belong to one thread.
 */
#ifndef RAMET_API_HTTP_H
#define RAMET_API_HTTP_H

#include "base/error.h"
#include "principal.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define RAMET_HTTP_BODY_MAX (1u << 20)
#define RAMET_HTTP_QUERY_MAX 8
#define RAMET_HTTP_CONNECTIONS_MAX 2048

/* Everything is borrowed for the length of the handler call. */
struct ramet_http_request {
    const char *method;
    const char *path;         /* as it was sent, without the query: percent-encoded */
    const char *content_type; /* "" when none was sent */
    const char *body;         /* NUL-terminated; "" when none was sent */
    size_t body_size;
    struct {
        const char *name, *value; /* decoded; value "" when absent */
    } query[RAMET_HTTP_QUERY_MAX];
    size_t query_count;
    struct ramet_caller caller;       /* uid and pid from SO_PEERCRED */
    struct ramet_principal principal; /* who that is, once admitted */
    void *connection;                 /* for ramet_http_header; NULL where no connection is behind the request */
    /* Set by who admits, for a body of any size that the handler reads as it comes (http_upload.h); `body` is "" then.
     */
    bool streams_body;
    int body_fd; /* with it: where the body is read, to its end */
    struct ramet_http_upload *upload;
};

/* Whether the client sent all of a streamed body; asked when body_fd has ended. */
bool ramet_http_body_whole(const struct ramet_http_request *request);

/* The value of a header, whatever its case; NULL when it was not sent. */
const char *ramet_http_header(const struct ramet_http_request *request, const char *name);

#define RAMET_HTTP_HEADERS_MAX 4

/* What a stream's `read` returns instead of a size: all was sent; no more comes, and the client is to see that. */
enum { RAMET_HTTP_STREAM_END = -1, RAMET_HTTP_STREAM_FAILED = -2 };

/* Zeroed before the handler fills it. */
struct ramet_http_response {
    int status;
    const char *content_type; /* static */
    char *body;               /* malloc'ed, taken over; NULL with body_size 0 is an empty body */
    size_t body_size;
    char allow[64]; /* value of an Allow header, or "" */
    struct {
        const char *name; /* static */
        char value[160];
    } headers[RAMET_HTTP_HEADERS_MAX]; /* further ones */
    size_t header_count;
    /*
     * Instead of a body: pieces as they come. `read` may wait; it returns a size, or one
     * of RAMET_HTTP_STREAM_. `close` is called once, when all is sent or the client has gone.
     */
    struct {
        void *context;
        long (*read)(void *context, char *buf, size_t max);
        void (*close)(void *context);
    } stream;
};

/* Adds a header; one too many, or one that is too long, is a mistake of ours and left out. */
void ramet_http_add_header(struct ramet_http_response *response, const char *name, const char *value);

typedef void ramet_http_handler(void *context, const struct ramet_http_request *request,
                                struct ramet_http_response *response);

/*
 * Fills request->principal, or refuses before the body is read: returns an error, with
 * response->status 0 for the one the error has, and headers as needed.
 */
typedef int ramet_http_admit(void *context, struct ramet_http_request *request, struct ramet_http_response *response,
                             struct ramet_error *err);
/* DENIED to web pages of other hosts: a browser would send what its user may. */
int ramet_http_check_origin(const struct ramet_http_request *request, struct ramet_error *err);
ramet_http_admit ramet_http_admit_owner; /* root and the daemon's own user, as admins; ignores its context */

/* Decodes %XX in place, NUL included, and returns the size; what is no %XX stays. */
size_t ramet_http_decode(char *text);

/* Answers with the error as JSON; `status` 0 takes it from the error's code. */
void ramet_http_answer_error(struct ramet_http_response *response, int status, const struct ramet_error *error);

/*
 * The listening socket at `path`, mode 0600, its directory made when missing.
 * A socket file that nobody listens on is replaced; RAMET_BUSY when a daemon does.
 * While it is open, PATH.lock is locked: it decides between daemons that start at once.
 */
struct ramet_http_socket;
int ramet_http_listen(const char *path, struct ramet_http_socket **ret, struct ramet_error *err);
/* Lets every user connect: for a policy that knows more than root and ours. Who is served is still asked. */
int ramet_http_socket_open_to_all(struct ramet_http_socket *socket, struct ramet_error *err);
/* A TCP socket: "PORT" is on 127.0.0.1, else "HOST:PORT", "[::1]:PORT"; port 0 takes a free one. */
int ramet_http_listen_tcp(const char *where, struct ramet_http_socket **ret, struct ramet_error *err);
unsigned ramet_http_socket_port(const struct ramet_http_socket *socket); /* 0 for a Unix socket */
void ramet_http_socket_free(struct ramet_http_socket *socket);           /* removes the files; NULL is a no-op */

/* Serves requests from a socket, which must outlive the server. */
struct ramet_http;
int ramet_http_start(struct ramet_http_socket *socket, ramet_http_handler *handler, void *context,
                     struct ramet_http **ret, struct ramet_error *err);
/* The same; `admit` is asked with the same context. */
int ramet_http_start_for(struct ramet_http_socket *socket, ramet_http_admit *admit, ramet_http_handler *handler,
                         void *context, struct ramet_http **ret, struct ramet_error *err);

/*
 * Stops taking connections, answers new requests with 503 and waits up to timeout_ms
 * for those that run; false when some still do.
 */
bool ramet_http_drain(struct ramet_http *http, unsigned timeout_ms);

/* Drains without a limit, then closes every connection. NULL is a no-op. */
void ramet_http_free(struct ramet_http *http);

#endif
