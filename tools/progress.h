/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line on a terminal's stderr that says what takes so long, with a bar where it is known how far it has come; silent
 * for the first 0.3 s and without a terminal.
 */
#ifndef RAMET_TOOLS_PROGRESS_H
#define RAMET_TOOLS_PROGRESS_H

#include <stdint.h>

struct progress;

struct progress *progress_start(const char *doing); /* borrowed until stop; NULL when there is nothing to show it on */
void progress_set(struct progress *progress, uint64_t done, uint64_t total); /* shows a bar; NULL is a no-op */
void progress_stop(struct progress *progress);                               /* wipes the line; NULL is a no-op */

#endif
