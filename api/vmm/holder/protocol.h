/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the driver (hold.c) and the library inside the VMM (holder.c) say to each other:
 * one packet each way over a SOCK_SEQPACKET pair, whose end the library finds in
 * $RAMET_HOLDER_FD. Both are built from the same tree, so there is no versioning.
 */
#ifndef RAMET_API_VMM_HOLDER_PROTOCOL_H
#define RAMET_API_VMM_HOLDER_PROTOCOL_H

#include <stdint.h>

#define RAMET_HOLDER_FD_ENV "RAMET_HOLDER_FD"
#define RAMET_HOLDER_PATH_SIZE 4096

enum ramet_holder_op {
    RAMET_HOLDER_HELLO = 1, /* answers: the library is there */
    RAMET_HOLDER_MEMORY,    /* `path` is the memory file, to be opened read-only; once */
    RAMET_HOLDER_TAKE,      /* fork a holder of [address, address + size); answers its pid */
    RAMET_HOLDER_DROP,      /* kill and reap the holder `pid` */
    RAMET_HOLDER_TRACK,     /* track writes to [address, address + size) from now on, once and for all */
    RAMET_HOLDER_AROUND,    /* LARGE from now on in [address, address + size) */
    RAMET_HOLDER_MAP,       /* the file `path` takes the place of what is mapped at [address, address + size) */
};

/* What a fault in guest memory reads: as enum ramet_vm_reading (vmm.h). */
enum ramet_holder_reading { RAMET_HOLDER_LARGE, RAMET_HOLDER_NEAR, RAMET_HOLDER_SINGLE };

struct ramet_holder_request {
    uint32_t op;
    uint32_t serial; /* repeated in the answer: a late answer is not taken for the next one */
    uint64_t address, size;
    int32_t pid;
    uint32_t reading;                  /* MEMORY, MAP: enum ramet_holder_reading */
    char path[RAMET_HOLDER_PATH_SIZE]; /* NUL-terminated */
};

struct ramet_holder_answer {
    uint32_t serial; /* of the request */
    int32_t os_errno;
    int32_t pid;
};

#endif
