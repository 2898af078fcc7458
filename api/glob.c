/* SPDX-License-Identifier: Apache-2.0 */
/* One place to go back to, the last star: enough, since a later star can take whatever an earlier one could. */
#include "glob.h"

#include <string.h>

bool ramet_glob_part(const char *pattern, size_t size, const char *text)
{
    const char *end = pattern + size, *star = NULL, *retry = NULL;
    while (*text) {
        if (pattern < end && *pattern == '*') {
            star = ++pattern;
            retry = text;
        } else if (pattern < end && (*pattern == *text || (*pattern == '?' && *text != '/'))) {
            pattern++;
            text++;
        } else if (star && *retry != '/') {
            pattern = star;
            text = ++retry;
        } else {
            return false;
        }
    }
    while (pattern < end && *pattern == '*')
        pattern++;
    return pattern == end;
}

bool ramet_glob(const char *pattern, const char *text) { return ramet_glob_part(pattern, strlen(pattern), text); }
