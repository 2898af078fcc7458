/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A receive buffer that is compacted when the next line is asked for. It is shrunk after a large line, since a
 * guest agent's answer may be tens of megabytes once and a few bytes ever after.
 */
#include "vmm/channel.h"

#include "vmm/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHUNK = 64 * 1024 };

void ramet_channel_open(struct ramet_channel *channel, int fd, size_t limit)
{
    *channel = (struct ramet_channel){.fd = fd, .limit = limit};
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

void ramet_channel_close(struct ramet_channel *channel)
{
    if (channel->fd >= 0)
        close(channel->fd);
    free(channel->data);
    *channel = (struct ramet_channel){.fd = -1};
}

static int closed(struct ramet_error *err) { return ramet_error_set(err, RAMET_VMM, "the peer closed the connection"); }

static int wait_for(int fd, short events, uint64_t deadline_us, struct ramet_error *err)
{
    struct pollfd pfd = {.fd = fd, .events = events};
    for (;;) {
        struct timespec left = ramet_timespec_us(ramet_left_us(deadline_us));
        int n = ppoll(&pfd, 1, &left, NULL);
        if (n > 0)
            return 0;
        if (n == 0)
            return ramet_error_set(err, RAMET_TIMEOUT, "no answer in time");
        if (errno != EINTR)
            return ramet_error_os(err, errno, "poll");
    }
}

static ssize_t send_some(int fd, const char *data, size_t size, int pass_fd)
{
    struct iovec iov = {.iov_base = (char *)data, .iov_len = size};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    if (pass_fd >= 0) {
        msg.msg_control = control.space;
        msg.msg_controllen = sizeof control.space;
        control.header =
            (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), &pass_fd, sizeof pass_fd);
    }
    return sendmsg(fd, &msg, MSG_NOSIGNAL);
}

int ramet_channel_send(struct ramet_channel *channel, const char *data, size_t size, int pass_fd, uint64_t deadline_us,
                       struct ramet_error *err)
{
    while (size > 0) {
        ssize_t n = send_some(channel->fd, data, size, pass_fd);
        if (n > 0) {
            data += n;
            size -= (size_t)n;
            pass_fd = -1;
        } else if (errno == EAGAIN) {
            int r = wait_for(channel->fd, POLLOUT, deadline_us, err);
            if (r < 0)
                return r;
        } else if (errno == EPIPE || errno == ECONNRESET) {
            return closed(err);
        } else if (errno != EINTR) {
            return ramet_error_os(err, errno, "send");
        }
    }
    return 0;
}

/* Forgets the line handed out last. */
static void drop_line(struct ramet_channel *channel)
{
    if (channel->line_size == 0)
        return;
    channel->size -= channel->line_size;
    memmove(channel->data, channel->data + channel->line_size, channel->size);
    channel->line_size = channel->scanned = 0;
    if (channel->capacity > 16 * CHUNK && channel->size < CHUNK) {
        char *smaller = realloc(channel->data, CHUNK + 1);
        if (smaller) {
            channel->data = smaller;
            channel->capacity = CHUNK;
        }
    }
}

/* Room for at least one more byte, and for the NUL that ends a line at the very end. */
static int make_room(struct ramet_channel *channel, struct ramet_error *err)
{
    if (channel->size < channel->capacity)
        return 0;
    if (channel->size > channel->limit) {
        channel->size = channel->scanned = 0;
        return ramet_error_set(err, RAMET_TOO_LARGE, "an answer is larger than %zu bytes", channel->limit);
    }
    size_t capacity = channel->capacity ? channel->capacity * 2 : CHUNK;
    if (capacity > channel->limit + 1)
        capacity = channel->limit + 1;
    char *grown = realloc(channel->data, capacity + 1);
    if (!grown)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for an answer of %zu bytes", capacity);
    channel->data = grown;
    channel->capacity = capacity;
    return 0;
}

static int receive(struct ramet_channel *channel, uint64_t deadline_us, struct ramet_error *err)
{
    int r = make_room(channel, err);
    if (r < 0)
        return r;
    for (;;) {
        ssize_t n = recv(channel->fd, channel->data + channel->size, channel->capacity - channel->size, 0);
        if (n > 0) {
            channel->size += (size_t)n;
            return 0;
        }
        if (n == 0 || errno == ECONNRESET)
            return closed(err);
        if (errno == EAGAIN) {
            r = wait_for(channel->fd, POLLIN, deadline_us, err);
            if (r < 0)
                return r;
        } else if (errno != EINTR) {
            return ramet_error_os(err, errno, "receive");
        }
    }
}

int ramet_channel_read_line(struct ramet_channel *channel, uint64_t deadline_us, char **ret_line, size_t *ret_size,
                            struct ramet_error *err)
{
    drop_line(channel);
    for (;;) {
        size_t fresh = channel->size - channel->scanned;
        char *end = fresh ? memchr(channel->data + channel->scanned, '\n', fresh) : NULL;
        if (end) {
            size_t size = (size_t)(end - channel->data);
            channel->line_size = size + 1;
            *end = '\0';
            *ret_line = channel->data;
            *ret_size = size;
            return 0;
        }
        channel->scanned = channel->size;
        /* A peer that never stops talking must not keep us past the deadline. */
        if (ramet_left_us(deadline_us) == 0)
            return ramet_error_set(err, RAMET_TIMEOUT, "no answer in time");
        int r = receive(channel, deadline_us, err);
        if (r < 0)
            return r;
    }
}
