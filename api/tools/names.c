/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/names.h"

#include "base/cleanup.h"
#include "wire.h"

#include <string.h>

static bool plain(unsigned char c)
{
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '-' || c == '_' || c == '.';
}

char *ramet_tools_escape(const char *name)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t size = strlen(name);
    bool text = ramet_utf8_text(name, size);
    char *escaped = malloc(3 * size + 2), *to = escaped;
    if (!escaped)
        return NULL;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)name[i];
        if ((plain(c) && !(c == '.' && i == 0)) || (c >= 0x80 && text)) {
            *to++ = (char)c;
            continue;
        }
        *to++ = '%';
        *to++ = hex[c >> 4];
        *to++ = hex[c & 15];
    }
    if (size == 0)
        *to++ = '%';
    *to = '\0';
    return escaped;
}

/* Value of an upper-case hex digit, or -1. */
static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int ramet_tools_unescape(const char *escaped, char **ret, struct ramet_error *err)
{
    _autofree_ char *name = malloc(strlen(escaped) + 1);
    if (!name)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a name");
    char *to = name;
    for (const char *from = strcmp(escaped, "%") == 0 ? "" : escaped; *from; from++) {
        int high = *from == '%' ? digit(from[1]) : 0, low = *from == '%' && high >= 0 ? digit(from[2]) : 0;
        if (high < 0 || low < 0 || (*from == '%' && high + low == 0))
            return ramet_error_set(err, RAMET_INVALID, "\"%.100s\" is no escaped name", escaped);
        *to++ = (char)(*from == '%' ? high << 4 | low : *from);
        from += *from == '%' ? 2 : 0;
    }
    *to = '\0';
    /* One spelling a name: what escapes otherwise was made by somebody else. */
    _autofree_ char *again = ramet_tools_escape(name);
    if (!again)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a name");
    if (strcmp(again, escaped) != 0)
        return ramet_error_set(err, RAMET_INVALID, "\"%.100s\" is no escaped name", escaped);
    *ret = STEAL(name);
    return 0;
}

int ramet_tools_server_check(const char *name, struct ramet_error *err)
{
    size_t size = strlen(name);
    if (size == 0 || size > RAMET_TOOLS_SERVER_MAX)
        return ramet_error_set(err, RAMET_INVALID, "a server's name has 1 to %d bytes, \"%.100s\" has %zu",
                               RAMET_TOOLS_SERVER_MAX, name, size);
    bool good = ramet_utf8_text(name, size);
    for (size_t i = 0; i < size; i++)
        good = good && (unsigned char)name[i] >= 0x20 && name[i] != 0x7f;
    return good ? 0 : ramet_error_set(err, RAMET_INVALID, "a server's name is UTF-8 without control characters");
}
