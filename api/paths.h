/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a daemon keeps things and where its clients look for it: one answer for
 * both. A path that is given wins over its environment variable, that over the
 * default; all come out absolute.
 *
 *           variable      default for root            default for others
 *   socket  RAMET_SOCKET  /run/ramet/ramet.sock       $XDG_RUNTIME_DIR/ramet/ramet.sock, /tmp/ramet-UID/ramet.sock
 *   store   RAMET_STORE   /var/lib/ramet              $XDG_DATA_HOME/ramet, ~/.local/share/ramet
 *   mount   RAMET_MOUNT   mnt beside the socket
 *   run     RAMET_RUN     vm beside the socket
 */
#ifndef RAMET_API_PATHS_H
#define RAMET_API_PATHS_H

#include "base/error.h"

#include <limits.h>

struct ramet_paths {
    char socket[PATH_MAX], store[PATH_MAX], mount[PATH_MAX], run[PATH_MAX];
};

/* What the user gave, NULL where nothing. */
struct ramet_paths_given {
    const char *socket, *store, *mount, *run;
};

int ramet_paths_resolve(const struct ramet_paths_given *given, struct ramet_paths *ret, struct ramet_error *err);
int ramet_paths_socket(const char *given, char ret[static PATH_MAX], struct ramet_error *err);

/* `path` as seen from the working directory. */
int ramet_paths_absolute(const char *path, char ret[static PATH_MAX], struct ramet_error *err);

/* Makes the missing directories above the file `path`, mode 0700. */
int ramet_paths_make_parents(const char *path, struct ramet_error *err);

#endif
