/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text for generated files, out of names and descriptions that strangers wrote.
 *
 * Whatever a stranger wrote ends up as one of these, none of which can leave its place: a line (no line break), a
 * quotation (every line begins with a prefix of ours), a string literal, a word of a URL, a file name, an identifier.
 * Control characters, characters that turn the direction of text, and invisible ones never come out as they are.
 *
 * Everything is appended to a ramet_buf, whose `failed` the caller checks once. Pure functions.
 */
#ifndef RAMET_API_TOOLS_DOCS_TEXT_H
#define RAMET_API_TOOLS_DOCS_TEXT_H

#include "base/codec.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ramet_json;

void docs_put(struct ramet_buf *out, const char *text); /* ours, as it is */
void docs_putf(struct ramet_buf *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* One line of at most `max` bytes, cut at a word with "..."; runs of white space are one space. NULL puts nothing. */
void docs_put_line(struct ramet_buf *out, const char *text, size_t max);
/* The first sentence of it, likewise. */
void docs_put_summary(struct ramet_buf *out, const char *text, size_t max);
/* Each line after `prefix`, ends with a line break; at most `max` bytes of `text`, then a line that says so. */
void docs_put_quoted(struct ramet_buf *out, const char *prefix, const char *text, size_t max);
/* A line that can stand in a comment of TypeScript or Python. */
void docs_put_comment(struct ramet_buf *out, const char *text, size_t max);

enum docs_language { DOCS_TS, DOCS_PY, DOCS_JSON };
/* A string literal with double quotes. */
void docs_put_literal(struct ramet_buf *out, const char *text, enum docs_language language);
/* Compact JSON, what is invisible in strings escaped. */
void docs_put_json(struct ramet_buf *out, const struct ramet_json *value);
/* In single quotes, for a POSIX shell. */
void docs_put_shell(struct ramet_buf *out, const char *text);
/* A segment of a URL: all but letters, digits, '-', '_' and '.' as %XX; so is a leading '.'. */
void docs_put_url(struct ramet_buf *out, const char *text);

/*
 * A file name, reversible: as in a URL, a leading '-' or '_' escaped too. One that would be longer than DOCS_NAME_MAX
 * is cut and ends in "%~" and 16 digits of the name's SHA-256; what it stands for is in the file.
 */
#define DOCS_NAME_MAX 200
char *docs_file_name(const char *name); /* owned by the caller; NULL when memory ran out */

/* The same name as an identifier of both languages, of at most 64 bytes: the empty string becomes "tool". */
void docs_put_identifier(struct ramet_buf *out, const char *name);
/* As the name of a type: "list pages" gives ListPages. */
void docs_put_type_name(struct ramet_buf *out, const char *name);
bool docs_is_identifier(const char *name); /* of both languages, and no reserved word of either */

/* The text of a buffer as a string, taken over; NULL when it failed. */
char *docs_text_take(struct ramet_buf *buf);

#endif
