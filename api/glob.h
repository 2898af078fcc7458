/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns of the policy: * any run of characters but /, ? one of them; everything else is itself. */
#ifndef RAMET_API_GLOB_H
#define RAMET_API_GLOB_H

#include <stdbool.h>
#include <stddef.h>

/* In time O(pattern * text). */
bool ramet_glob(const char *pattern, const char *text);

/* With the first `size` bytes of the pattern only. */
bool ramet_glob_part(const char *pattern, size_t size, const char *text);

#endif
