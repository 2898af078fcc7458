/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's serial console, written to a log file of bounded size: a guest must not
 * be able to fill the host's disk by talking. At 1 MiB the log becomes PATH.1.
 */
#ifndef RAMET_API_VMM_CONSOLE_H
#define RAMET_API_VMM_CONSOLE_H

#include "base/error.h"

struct ramet_console;

/* Takes over `fd`, also on failure, and starts a thread that empties it until the VMM ends. */
int ramet_console_open(int fd, const char *path, struct ramet_console **ret, struct ramet_error *err);
void ramet_console_close(struct ramet_console *console); /* NULL is a no-op */

#endif
