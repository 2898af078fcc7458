/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The listening sockets. For the Unix one: who may have it, and what becomes of a dead
 * daemon's.
 *
 * PATH.lock is held with flock for as long as the socket is open. The kernel drops
 * it when a daemon dies however it dies, so of two daemons that start over the same
 * stale socket exactly one replaces it. A crash leaves both files; the next start
 * takes them over.
 */
#include "http_socket.h"

#include "base/cleanup.h"
#include "http.h"
#include "paths.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

struct ramet_http_socket {
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    char lock_path[sizeof(((struct sockaddr_un *)0)->sun_path) + sizeof ".lock"];
    int fd;
    int lock_fd;
    unsigned port; /* of a TCP socket, which has no path */
};

int ramet_http_socket_fd(const struct ramet_http_socket *sock) { return sock->fd; }
bool ramet_http_socket_is_tcp(const struct ramet_http_socket *sock) { return sock->port != 0; }
unsigned ramet_http_socket_port(const struct ramet_http_socket *sock) { return sock->port; }

static int busy(const char *path, struct ramet_error *err)
{
    ramet_error_set(err, RAMET_BUSY, "a daemon already listens on \"%s\"", path);
    return ramet_error_hint(err, "use it, stop it with 'ramet down', or give this one another --socket");
}

/* Whether `fd` is still the file that `path` names: its last owner may have removed it before we locked it. */
static bool still_there(int fd, const char *path)
{
    struct stat ours, there;
    return fstat(fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_ino == there.st_ino &&
           ours.st_dev == there.st_dev;
}

static int take_lock(struct ramet_http_socket *sock, struct ramet_error *err)
{
    for (;;) {
        _autoclose_ int fd = open(sock->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
            return ramet_error_os(err, errno, "cannot open \"%s\"", sock->lock_path);
        if (flock(fd, LOCK_EX | LOCK_NB) != 0)
            return errno == EWOULDBLOCK ? busy(sock->path, err)
                                        : ramet_error_os(err, errno, "cannot lock \"%s\"", sock->lock_path);
        if (still_there(fd, sock->lock_path)) {
            sock->lock_fd = STEAL_FD(fd);
            return 0;
        }
    }
}

/* Removes a socket file that nobody listens on. Called under the lock. */
static int remove_stale(const struct sockaddr_un *address, struct ramet_error *err)
{
    struct stat st;
    if (lstat(address->sun_path, &st) != 0)
        return errno == ENOENT ? 0 : ramet_error_os(err, errno, "cannot look at \"%s\"", address->sun_path);
    if (!S_ISSOCK(st.st_mode)) {
        ramet_error_set(err, RAMET_EXISTS, "\"%s\" exists and is no socket", address->sun_path);
        return ramet_error_hint(err, "move it away or give another --socket");
    }
    _autoclose_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return ramet_error_os(err, errno, "cannot make a socket");
    /* EAGAIN is a listener whose backlog is full. */
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 || errno == EAGAIN)
        return busy(address->sun_path, err);
    if (unlink(address->sun_path) != 0 && errno != ENOENT)
        return ramet_error_os(err, errno, "cannot remove the stale socket \"%s\"", address->sun_path);
    return 0;
}

static int bind_socket(struct ramet_http_socket *sock, struct ramet_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, sock->path, sizeof address.sun_path);
    int rc = remove_stale(&address, err);
    if (rc < 0)
        return rc;
    _autoclose_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* Linux gives the file the descriptor's mode, so it is never open to others, not even briefly. */
    if (fd < 0 || fchmod(fd, 0600) != 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        return ramet_error_os(err, errno, "cannot make the socket \"%s\"", sock->path);
    if (listen(fd, SOMAXCONN) != 0) {
        int os_errno = errno;
        unlink(sock->path);
        return ramet_error_os(err, os_errno, "cannot listen on \"%s\"", sock->path);
    }
    sock->fd = STEAL_FD(fd);
    return 0;
}

int ramet_http_listen(const char *path, struct ramet_http_socket **ret, struct ramet_error *err)
{
    struct ramet_http_socket *sock = calloc(1, sizeof *sock);
    if (!sock)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a socket");
    sock->fd = sock->lock_fd = -1;
    int rc = 0;
    if (!*path || strlen(path) >= sizeof sock->path) {
        rc = ramet_error_set(err, RAMET_INVALID, "socket path \"%.200s\" is not 1 to %zu bytes long", path,
                             sizeof sock->path - 1);
    } else {
        snprintf(sock->path, sizeof sock->path, "%s", path);
        snprintf(sock->lock_path, sizeof sock->lock_path, "%s.lock", path);
        rc = ramet_paths_make_parents(path, err); /* ours alone: who reaches the socket rules the guests */
    }
    if (rc == 0)
        rc = take_lock(sock, err);
    if (rc == 0)
        rc = bind_socket(sock, err);
    if (rc < 0) {
        ramet_http_socket_free(sock);
        return rc;
    }
    *ret = sock;
    return 0;
}

int ramet_http_socket_open_to_all(struct ramet_http_socket *sock, struct ramet_error *err)
{
    return chmod(sock->path, 0666) == 0
               ? 0
               : ramet_error_os(err, errno, "cannot open the socket \"%s\" to all", sock->path);
}

/* ---- TCP ---- */

/* Takes "HOST:PORT", "[HOST]:PORT" or "PORT" apart. */
static int split_where(const char *where, char host[static 256], const char **ret_port, struct ramet_error *err)
{
    const char *colon = strrchr(where, ':');
    const char *port = colon ? colon + 1 : where;
    size_t size = colon ? (size_t)(colon - where) : 0;
    bool bracketed = size > 1 && where[0] == '[' && where[size - 1] == ']';
    snprintf(host, 256, "%.*s", (int)(size - 2 * bracketed), where + bracketed);
    if (!colon)
        strcpy(host, "127.0.0.1");
    if (*host && size < 256 && *port && strspn(port, "0123456789") == strlen(port) && strlen(port) <= 5 &&
        atoi(port) <= 65535) {
        *ret_port = port;
        return 0;
    }
    ramet_error_set(err, RAMET_INVALID, "\"%.100s\" is no place to listen on", where);
    return ramet_error_hint(err, "give PORT, which is on 127.0.0.1, or HOST:PORT");
}

static int bind_tcp(const struct addrinfo *address, int *ret_fd)
{
    const int one = 1;
    _autoclose_ int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, address->ai_addr, address->ai_addrlen) != 0 || listen(fd, SOMAXCONN) != 0)
        return errno;
    *ret_fd = STEAL_FD(fd);
    return 0;
}

static unsigned bound_port(int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        return 0;
    return address.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&address)->sin6_port)
                                         : ntohs(((struct sockaddr_in *)&address)->sin_port);
}

int ramet_http_listen_tcp(const char *where, struct ramet_http_socket **ret, struct ramet_error *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *addresses = NULL;
    char host[256];
    const char *port = NULL;
    int rc = split_where(where, host, &port, err), os_errno;
    if (rc < 0)
        return rc;
    if ((rc = getaddrinfo(host, port, &hints, &addresses)) != 0)
        return ramet_error_set(err, RAMET_INVALID, "cannot listen on \"%.100s\": %s", where, gai_strerror(rc));
    struct ramet_http_socket *sock = calloc(1, sizeof *sock);
    if (!sock) {
        freeaddrinfo(addresses);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a socket");
    }
    sock->fd = sock->lock_fd = -1;
    os_errno = bind_tcp(addresses, &sock->fd);
    freeaddrinfo(addresses);
    sock->port = sock->fd >= 0 ? bound_port(sock->fd) : 0;
    if (!sock->port) {
        ramet_http_socket_free(sock);
        return ramet_error_os(err, os_errno, "cannot listen on \"%.100s\"", where);
    }
    *ret = sock;
    return 0;
}

/* ---- the end ---- */

void ramet_http_socket_free(struct ramet_http_socket *sock)
{
    if (!sock)
        return;
    if (sock->fd >= 0) {
        if (!sock->port)
            unlink(sock->path);
        close(sock->fd);
    }
    if (sock->lock_fd >= 0) {
        unlink(sock->lock_path);
        close(sock->lock_fd);
    }
    free(sock);
}
