/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 (RFC 4648, padded), the guest agent's way to carry bytes in JSON. */
#ifndef RAMET_API_VMM_BASE64_H
#define RAMET_API_VMM_BASE64_H

#include "base/error.h"

/* Owned by the caller; NULL when memory ran out. */
char *ramet_base64_encode(const void *data, size_t size);
/* Strict: rejects foreign characters and wrong padding with RAMET_INVALID. *ret is NUL-terminated and owned. */
int ramet_base64_decode(const char *text, char **ret, size_t *ret_size, struct ramet_error *err);

#endif
