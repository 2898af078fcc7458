/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 of files and bytes: the one wrapper around libcrypto. */
#ifndef RAMET_API_DIGEST_H
#define RAMET_API_DIGEST_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

#define RAMET_DIGEST_SIZE 65 /* 64 hex digits and NUL */

/* Of all bytes of the file, as `sha256sum` prints it. */
int ramet_digest_file(const char *path, char ret[RAMET_DIGEST_SIZE], struct ramet_error *err);

/* Of `size` bytes. */
int ramet_digest_bytes(const void *data, size_t size, char ret[RAMET_DIGEST_SIZE], struct ramet_error *err);

/* The same. Aborts when libcrypto cannot, which it always can. */
void ramet_digest_sure(const void *bytes, size_t size, char ret[static RAMET_DIGEST_SIZE]);

/* HMAC-SHA-256: whoever lacks the key can neither guess nor check the bytes. */
void ramet_digest_keyed(const void *key, size_t key_size, const void *bytes, size_t size,
                        char ret[static RAMET_DIGEST_SIZE]);

/* Compares in a time that tells nothing of where they differ. */
bool ramet_digest_equal(const char a[static RAMET_DIGEST_SIZE], const char b[static RAMET_DIGEST_SIZE]);

#endif
