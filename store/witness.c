/* SPDX-License-Identifier: Apache-2.0 */
#include "witness.h"

#include "base/codec.h"
#include "base/file.h"
#include "base/log.h"
#include "base/record.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { magic = 0x54574d52 /* "RMWT" */, version = 1, size = 24 };

struct ramet_witness {
    int fd;
    pthread_mutex_t lock; /* guards reached, and the file */
    uint64_t reached;
};

int ramet_witness_open(const char *dir, struct ramet_witness **ret, uint64_t *ret_reached, struct ramet_error *err)
{
    char path[PATH_MAX];
    uint8_t data[size];
    snprintf(path, sizeof path, "%s/WITNESS", dir);
    struct ramet_witness *witness = calloc(1, sizeof *witness);
    if (!witness)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to open %s", path);
    witness->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (witness->fd < 0) {
        free(witness);
        return ramet_error_os(err, errno, "cannot open %s", path);
    }
    pthread_mutex_init(&witness->lock, NULL);
    if (pread(witness->fd, data, size, 0) == size && ramet_get_le32(data) == magic &&
        ramet_get_le32(data + 4) == version && ramet_get_le64(data + 16) == ramet_checksum(data, 16, NULL, 0))
        witness->reached = ramet_get_le64(data + 8);
    *ret = witness;
    *ret_reached = witness->reached;
    return 0;
}

void ramet_witness_raise(struct ramet_witness *witness, uint64_t sequence)
{
    uint8_t data[size];
    pthread_mutex_lock(&witness->lock);
    if (sequence > witness->reached) {
        ramet_put_le32(data, magic);
        ramet_put_le32(data + 4, version);
        ramet_put_le64(data + 8, sequence);
        ramet_put_le64(data + 16, ramet_checksum(data, 16, NULL, 0));
        witness->reached = sequence;
        if (pwrite(witness->fd, data, size, 0) != size)
            ramet_debug("the witness stays behind: %m");
    }
    pthread_mutex_unlock(&witness->lock);
}

void ramet_witness_close(struct ramet_witness *witness)
{
    if (!witness)
        return;
    ramet_file_sync(witness->fd, "the witness", NULL);
    close(witness->fd);
    pthread_mutex_destroy(&witness->lock);
    free(witness);
}
