/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shapes that the daemon writes and its clients read: errors and byte strings.
 * Both directions live here so that they cannot drift apart.
 *
 * An error is {"error": {"code": "not_found", "message": "...", "hint": "..."}}.
 * Bytes are two members, "stdout": "..." and "stdout_encoding": "utf-8" | "base64":
 * text where the bytes are valid UTF-8 without NUL, base64 otherwise, so that
 * nothing a guest prints is ever lost.
 */
#ifndef RAMET_API_WIRE_H
#define RAMET_API_WIRE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct ramet_json;

/* Owned by the caller. */
struct ramet_json *ramet_wire_error(const struct ramet_error *error);

/*
 * Fills `err` from an answer of `size` bytes and returns its negative code. An answer
 * that is no such error (from something else that speaks HTTP) is described by `status`.
 */
int ramet_wire_error_read(const char *answer, size_t size, int status, struct ramet_error *err);

/* Sets `key` and `key`_encoding. */
void ramet_wire_set_bytes(struct ramet_json *object, const char *key, const void *data, size_t size);

/* Bytes of `key`, NUL-terminated after *ret_size; owned by the caller. An absent key gives no bytes. */
int ramet_wire_get_bytes(const struct ramet_json *object, const char *key, char **ret, size_t *ret_size,
                         struct ramet_error *err);

/* Valid UTF-8 (no overlong forms, no surrogates) without NUL bytes. */
bool ramet_utf8_text(const void *data, size_t size);

#endif
