/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The listening Unix socket: who may have it, and what becomes of a dead daemon's.
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
};

int ramet_http_socket_fd(const struct ramet_http_socket *sock) { return sock->fd; }

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

void ramet_http_socket_free(struct ramet_http_socket *sock)
{
    if (!sock)
        return;
    if (sock->fd >= 0) {
        unlink(sock->path);
        close(sock->fd);
    }
    if (sock->lock_fd >= 0) {
        unlink(sock->lock_path);
        close(sock->lock_fd);
    }
    free(sock);
}
