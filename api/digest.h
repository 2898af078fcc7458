/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256: the one wrapper around libcrypto. */
#ifndef RAMET_API_DIGEST_H
#define RAMET_API_DIGEST_H

#include "base/error.h"

#define RAMET_DIGEST_SIZE 65 /* 64 hex digits and NUL */

/* Of all bytes of the file, as `sha256sum` prints it. */
int ramet_digest_file(const char *path, char ret[RAMET_DIGEST_SIZE], struct ramet_error *err);

/* Of `size` bytes. */
int ramet_digest_bytes(const void *data, size_t size, char ret[RAMET_DIGEST_SIZE], struct ramet_error *err);

#endif
