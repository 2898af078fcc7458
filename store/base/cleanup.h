/* SPDX-License-Identifier: Apache-2.0 */
/* Scope-bound release: `_cleanup_(free_ptr) char *p`, and STEAL(p) to hand ownership on. */
#ifndef RAMET_BASE_CLEANUP_H
#define RAMET_BASE_CLEANUP_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _autofree_ _cleanup_(ramet_cleanup_free)
#define _autoclose_ _cleanup_(ramet_cleanup_close)

/* Returns p's value and leaves NULL behind. */
#define STEAL(p)                                                                                                       \
    ({                                                                                                                 \
        __typeof__(p) steal_value_ = (p);                                                                              \
        (p) = NULL;                                                                                                    \
        steal_value_;                                                                                                  \
    })
/* Returns a descriptor and leaves -1 behind. */
#define STEAL_FD(fd)                                                                                                   \
    ({                                                                                                                 \
        int steal_fd_ = (fd);                                                                                          \
        (fd) = -1;                                                                                                     \
        steal_fd_;                                                                                                     \
    })

static inline void ramet_cleanup_free(void *p) { free(*(void **)p); }

static inline void ramet_cleanup_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

#endif
