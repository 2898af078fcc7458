/* SPDX-License-Identifier: Apache-2.0 */
/* For what makes samples: a call that fails ends the program and says which. */
#ifndef RAMET_TESTS_SAMPLE_MUST_H
#define RAMET_TESTS_SAMPLE_MUST_H

#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>

/* `call` must use `&err`. */
#define must(call)                                                                                                     \
    do {                                                                                                               \
        if ((call) < 0) {                                                                                              \
            fprintf(stderr, "sample: %s: %s\n", #call, err.msg);                                                       \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)
#define must_hold(condition)                                                                                           \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "sample: not so: %s\n", #condition);                                                       \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#endif
