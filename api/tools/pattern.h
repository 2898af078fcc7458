/* SPDX-License-Identifier: Apache-2.0 */
/* Regular expressions of schemas, which are ECMAScript's: the one wrapper around PCRE2. Pure function. */
#ifndef RAMET_API_TOOLS_PATTERN_H
#define RAMET_API_TOOLS_PATTERN_H

#include <stddef.h>

enum ramet_pattern_result {
    RAMET_PATTERN_MATCHES,
    RAMET_PATTERN_DIFFERS,
    RAMET_PATTERN_UNKNOWN, /* it is no expression we understand */
    RAMET_PATTERN_COSTLY,  /* deciding it takes more time or memory than it is given: some milliseconds, a megabyte */
};

/* Whether any part of `text`, in UTF-8, matches. */
enum ramet_pattern_result ramet_pattern_search(const char *pattern, const char *text, size_t size);

#endif
