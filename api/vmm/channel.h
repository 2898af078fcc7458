/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines over a connected Unix socket, with deadlines: what QMP and the guest agent share.
 *
 * The peer is not trusted: a line longer than `limit` is RAMET_TOO_LARGE and memory never
 * grows beyond it; a peer that closes is RAMET_VMM; one that stalls is RAMET_TIMEOUT.
 * Thread-safety: none, the owner locks.
 */
#ifndef RAMET_API_VMM_CHANNEL_H
#define RAMET_API_VMM_CHANNEL_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct ramet_channel {
    int fd;           /* owned */
    size_t limit;     /* longest line accepted, in bytes */
    char *data;       /* owned: bytes received */
    size_t capacity;  /* of data */
    size_t size;      /* received so far */
    size_t line_size; /* of the line handed out last, its newline included; dropped by the next read */
    size_t scanned;   /* bytes known to hold no newline */
};

/* Takes over `fd`. */
void ramet_channel_open(struct ramet_channel *channel, int fd, size_t limit);
void ramet_channel_close(struct ramet_channel *channel);

/* Sends all of `data`; pass_fd, unless -1, travels with the first byte. */
int ramet_channel_send(struct ramet_channel *channel, const char *data, size_t size, int pass_fd, uint64_t deadline_us,
                       struct ramet_error *err);
/* The next line without its newline: borrowed, NUL-terminated, valid until the next call. */
int ramet_channel_read_line(struct ramet_channel *channel, uint64_t deadline_us, char **ret_line, size_t *ret_size,
                            struct ramet_error *err);

#endif
