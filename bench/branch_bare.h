/* SPDX-License-Identifier: Apache-2.0 */
/* The limits that forks of a VM stand beside: system calls alone, no VMM and no store. */
#ifndef RAMET_BENCH_BRANCH_BARE_H
#define RAMET_BENCH_BRANCH_BARE_H

#include <stddef.h>

/* fork(2) of a process that maps 512 MiB privately, 96 MiB of it read and 0, 16, 64 or 256 MiB written: `count` times.
 */
void measure_process_fork(size_t count);

#endif
