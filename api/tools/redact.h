/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes known secrets out of texts that leave the daemon: errors, what servers say on standard error, what they list
 * and answer. Each is replaced by "[redacted]", as it is and as JSON writes it; at either end of a text also a part of
 * one, since excerpts are cut anywhere.
 * Thread-safety: the set is never written after it was made.
 */
#ifndef RAMET_API_TOOLS_REDACT_H
#define RAMET_API_TOOLS_REDACT_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct ramet_secrets {
    char **texts;
    size_t *sizes, count;
};

/* Adds a copy; shorter than four bytes is no secret and not added. */
int ramet_secrets_add(struct ramet_secrets *secrets, const char *text, struct ramet_error *err);
void ramet_secrets_free(struct ramet_secrets *secrets); /* leaves an empty set */

/* Whether a text of `size` bytes holds any, whole. */
bool ramet_secrets_in(const struct ramet_secrets *secrets, const char *text, size_t size);
/* A copy without them, NUL-terminated, owned by the caller; NULL when memory ran out. `excerpt`: ends may be cut. */
char *ramet_redact(const struct ramet_secrets *secrets, const char *text, size_t size, bool excerpt);
/* Message and hint, in place. */
void ramet_redact_error(const struct ramet_secrets *secrets, struct ramet_error *err);

#endif
