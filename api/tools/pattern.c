/* SPDX-License-Identifier: Apache-2.0 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "tools/pattern.h"

#include <pcre2.h>
#include <string.h>

enum { pattern_max = 8 << 10, match_limit = 20000, depth_limit = 1000, heap_limit_kib = 1024 };

static enum ramet_pattern_result search(pcre2_code *code, pcre2_match_context *limits, const char *text, size_t size)
{
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    if (!data)
        return RAMET_PATTERN_COSTLY;
    int rc = pcre2_match(code, (PCRE2_SPTR)text, size, 0, 0, data, limits);
    pcre2_match_data_free(data);
    if (rc >= 0)
        return RAMET_PATTERN_MATCHES;
    return rc == PCRE2_ERROR_NOMATCH ? RAMET_PATTERN_DIFFERS : RAMET_PATTERN_COSTLY;
}

enum ramet_pattern_result ramet_pattern_search(const char *pattern, const char *text, size_t size)
{
    int error;
    size_t at;
    if (strlen(pattern) > pattern_max)
        return RAMET_PATTERN_UNKNOWN;
    pcre2_compile_context *dialect = pcre2_compile_context_create(NULL);
    if (!dialect)
        return RAMET_PATTERN_COSTLY;
    pcre2_set_compile_extra_options(dialect, PCRE2_EXTRA_ALT_BSUX);
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                      PCRE2_UTF | PCRE2_DOLLAR_ENDONLY | PCRE2_MATCH_UNSET_BACKREF, &error, &at, dialect);
    pcre2_compile_context_free(dialect);
    if (!code)
        return RAMET_PATTERN_UNKNOWN;
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    enum ramet_pattern_result result = RAMET_PATTERN_COSTLY;
    if (limits) {
        pcre2_set_match_limit(limits, match_limit);
        pcre2_set_depth_limit(limits, depth_limit);
        pcre2_set_heap_limit(limits, heap_limit_kib);
        result = search(code, limits, text, size);
    }
    pcre2_match_context_free(limits);
    pcre2_code_free(code);
    return result;
}
