/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/docs_text.h"

#include "base/error.h"
#include "digest.h"
#include "json.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- characters --- */

/* The next character of UTF-8, or U+FFFD for a byte that is none; advances. Texts come from parsed JSON. */
static uint32_t next(const char **at)
{
    const unsigned char *s = (const unsigned char *)*at;
    unsigned length = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    uint32_t c = length == 1 ? s[0] : length ? s[0] & (0xff >> (length + 1)) : 0xfffd;
    for (unsigned i = 1; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            c = 0xfffd;
            length = 1;
            break;
        }
        c = c << 6 | (s[i] & 0x3f);
    }
    *at += length ? length : 1;
    return c;
}

static void put_utf8(struct ramet_buf *out, uint32_t c)
{
    if (c < 0x80) {
        ramet_buf_put_u8(out, (uint8_t)c);
        return;
    }
    unsigned more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
    ramet_buf_put_u8(out, (uint8_t)(lead[more] | c >> (6 * more)));
    while (more-- > 0)
        ramet_buf_put_u8(out, (uint8_t)(0x80 | (c >> (6 * more) & 0x3f)));
}

static bool is_space(uint32_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r') || c == 0xa0 || c == 0x2028 || c == 0x2029;
}

/* Nothing a reader could see: controls, marks that turn the direction of text, joiners, tags, selectors. */
static bool is_invisible(uint32_t c)
{
    static const uint32_t ranges[][2] = {
        {0, 0x1f},        {0x7f, 0x9f},     {0xad, 0xad},     {0x61c, 0x61c},     {0x115f, 0x1160},  {0x180b, 0x180f},
        {0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f}, {0x3164, 0x3164},   {0xd800, 0xdfff},  {0xfe00, 0xfe0f},
        {0xfeff, 0xfeff}, {0xffa0, 0xffa0}, {0xfff0, 0xfffb}, {0x1d173, 0x1d17a}, {0xe0000, 0xe0fff}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (c >= ranges[i][0] && c <= ranges[i][1])
            return true;
    return false;
}

static bool is_word(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* --- plain text --- */

void docs_put(struct ramet_buf *out, const char *text) { ramet_buf_put(out, text, strlen(text)); }

void docs_putf(struct ramet_buf *out, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    int size = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (size < 0 || (size_t)size >= sizeof text)
        out->failed = true;
    else
        ramet_buf_put(out, text, (size_t)size);
}

/* With `sentence`, up to the end of the first one. */
static void put_line(struct ramet_buf *out, const char *text, size_t max, bool sentence)
{
    size_t start = out->size, word = out->size;
    bool space = false;
    uint32_t last = 0;
    if (!text)
        return;
    while (*text) {
        const char *before = text;
        uint32_t c = next(&text);
        if (is_space(c)) {
            bool blank_line = c == '\n' && *text == '\n';
            if (sentence && out->size > start && (last == '.' || last == '!' || last == '?' || blank_line))
                return;
            space = out->size > start;
            continue;
        }
        if (is_invisible(c))
            continue;
        if (space) {
            word = out->size;
            ramet_buf_put_u8(out, ' ');
            space = false;
        }
        if (out->size - start + (size_t)(text - before) > max) {
            /* At the last word, unless that leaves too little. */
            if (!out->failed && out->size > start)
                out->size = word > start + max / 2 ? word : out->size;
            docs_put(out, "...");
            return;
        }
        put_utf8(out, c);
        last = c;
    }
    if (sentence && last == '.' && !out->failed)
        out->size--;
}

void docs_put_line(struct ramet_buf *out, const char *text, size_t max) { put_line(out, text, max, false); }

void docs_put_summary(struct ramet_buf *out, const char *text, size_t max)
{
    size_t before = out->size;
    put_line(out, text, max, true);
    if (!out->failed && out->size > before && out->data[out->size - 1] == '.' &&
        !(out->size - before >= 3 && memcmp(out->data + out->size - 3, "...", 3) == 0))
        out->size--;
}

/* The visible characters up to the end of the line, without spaces at its end. */
static const char *take_line(struct ramet_buf *line, const char *text, const char *end)
{
    line->size = 0;
    while (text < end) {
        uint32_t c = next(&text);
        if (c == '\n')
            break;
        if (c == '\t')
            c = ' ';
        if (!is_invisible(c))
            put_utf8(line, c);
    }
    while (line->size > 0 && line->data[line->size - 1] == ' ')
        line->size--;
    return text;
}

void docs_put_quoted(struct ramet_buf *out, const char *prefix, const char *text, size_t max)
{
    const char *end = text ? text + strnlen(text, max) : NULL;
    struct ramet_buf line = {0};
    bool any = false, gap = false;
    if (!text)
        return;
    while (text < end) {
        text = take_line(&line, text, end);
        if (line.size == 0) {
            gap = any; /* any number of empty lines are one, and none in front */
            continue;
        }
        if (gap)
            docs_putf(out, "%s\n", prefix);
        docs_put(out, prefix);
        ramet_buf_put(out, line.data, line.size);
        docs_put(out, "\n");
        any = true;
        gap = false;
    }
    if (*text)
        docs_putf(out, "%s(cut here; the .json file has all of it)\n", prefix);
    out->failed |= line.failed;
    ramet_buf_free(&line);
}

void docs_put_comment(struct ramet_buf *out, const char *text, size_t max)
{
    size_t start = out->size;
    docs_put_line(out, text, max);
    for (size_t i = start; i + 1 < out->size && !out->failed; i++)
        if (out->data[i] == '*' && out->data[i + 1] == '/')
            out->data[i + 1] = '|';
}

/* --- literals --- */

static void put_escaped(struct ramet_buf *out, uint32_t c, enum docs_language language)
{
    if (c < 0x10000)
        docs_putf(out, "\\u%04x", c);
    else if (language == DOCS_JSON)
        docs_putf(out, "\\u%04x\\u%04x", 0xd7c0 + (c >> 10), 0xdc00 + (c & 0x3ff));
    else
        docs_putf(out, language == DOCS_TS ? "\\u{%x}" : "\\U%08x", c);
}

void docs_put_literal(struct ramet_buf *out, const char *text, enum docs_language language)
{
    docs_put(out, "\"");
    while (*text) {
        uint32_t c = next(&text);
        if (c == '"' || c == '\\') {
            ramet_buf_put_u8(out, '\\');
            ramet_buf_put_u8(out, (uint8_t)c);
        } else if (c == '\n') {
            docs_put(out, "\\n");
        } else if (is_invisible(c)) {
            put_escaped(out, c, language);
        } else {
            put_utf8(out, c);
        }
    }
    docs_put(out, "\"");
}

void docs_put_json(struct ramet_buf *out, const struct ramet_json *value)
{
    char *text = ramet_json_text(value);
    if (!text) {
        out->failed = true;
        return;
    }
    /* Outside of strings all is ASCII, and visible. */
    for (const char *at = text; *at;) {
        const char *before = at;
        uint32_t c = next(&at);
        if (is_invisible(c))
            put_escaped(out, c, DOCS_JSON);
        else
            ramet_buf_put(out, before, (size_t)(at - before));
    }
    free(text);
}

void docs_put_shell(struct ramet_buf *out, const char *text)
{
    docs_put(out, "'");
    for (; *text; text++) {
        if (*text == '\'')
            docs_put(out, "'\\''");
        else
            ramet_buf_put(out, text, 1);
    }
    docs_put(out, "'");
}

void docs_put_url(struct ramet_buf *out, const char *text)
{
    for (const char *at = text; *at; at++) {
        unsigned char c = (unsigned char)*at;
        if (is_word(c) || c == '-' || (c == '.' && at > text))
            ramet_buf_put_u8(out, c);
        else
            docs_putf(out, "%%%02X", c);
    }
}

/* --- names --- */

char *docs_file_name(const char *name)
{
    struct ramet_buf out = {0};
    char digest[RAMET_DIGEST_SIZE];
    if (*name == '-' || *name == '_') { /* an option, or a module of Python's own */
        docs_putf(&out, "%%%02X", *name);
        docs_put_url(&out, name + 1);
    } else {
        docs_put_url(&out, name);
    }
    if (!*name)
        docs_put(&out, "%");
    if (out.size > DOCS_NAME_MAX && !out.failed) {
        if (ramet_digest_bytes(name, strlen(name), digest, NULL) < 0) {
            ramet_buf_free(&out);
            return NULL;
        }
        out.size = DOCS_NAME_MAX - 18;
        docs_putf(&out, "%%~%.16s", digest);
    }
    return docs_text_take(&out);
}

static const char *const reserved[] = {
    "and",      "any",        "arguments", "as",       "assert",    "async",  "await",   "break",      "case",
    "catch",    "class",      "const",     "continue", "debugger",  "def",    "default", "del",        "delete",
    "do",       "elif",       "else",      "enum",     "eval",      "except", "export",  "extends",    "False",
    "false",    "finally",    "for",       "from",     "function",  "global", "if",      "implements", "import",
    "in",       "instanceof", "interface", "is",       "lambda",    "let",    "match",   "new",        "None",
    "nonlocal", "not",        "null",      "or",       "package",   "pass",   "print",   "private",    "protected",
    "public",   "raise",      "return",    "static",   "super",     "switch", "this",    "throw",      "True",
    "true",     "try",        "type",      "typeof",   "undefined", "var",    "void",    "while",      "with",
    "yield",    NULL};

static bool is_reserved(const char *name)
{
    for (const char *const *word = reserved; *word; word++)
        if (strcmp(*word, name) == 0)
            return true;
    return false;
}

bool docs_is_identifier(const char *name)
{
    if (!*name || (*name >= '0' && *name <= '9') || is_reserved(name))
        return false;
    for (; *name; name++)
        if (!is_word((unsigned char)*name))
            return false;
    return true;
}

enum { identifier_max = 64 };

void docs_put_identifier(struct ramet_buf *out, const char *name)
{
    char text[identifier_max + 2] = "";
    size_t size = 0;
    if (*name >= '0' && *name <= '9')
        text[size++] = '_';
    for (; *name && size < identifier_max; name++)
        text[size++] = (char)(is_word((unsigned char)*name) ? *name : '_');
    text[size] = 0;
    docs_put(out, size ? text : "tool");
    if (is_reserved(text))
        docs_put(out, "_");
}

void docs_put_type_name(struct ramet_buf *out, const char *name)
{
    size_t size = 0;
    bool capital = true;
    for (; *name && size < identifier_max; name++) {
        unsigned char c = (unsigned char)*name;
        if (!is_word(c) || c == '_') {
            capital = true;
            continue;
        }
        if (size == 0 && c >= '0' && c <= '9')
            docs_put(out, "N");
        ramet_buf_put_u8(out, capital && c >= 'a' && c <= 'z' ? (uint8_t)(c - 'a' + 'A') : c);
        capital = false;
        size++;
    }
    if (size == 0)
        docs_put(out, "Type");
}

char *docs_text_take(struct ramet_buf *buf)
{
    ramet_buf_put_u8(buf, 0);
    if (buf->failed) {
        ramet_buf_free(buf);
        return NULL;
    }
    char *text = (char *)buf->data;
    *buf = (struct ramet_buf){0};
    return text;
}
