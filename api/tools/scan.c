/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/scan.h"

#include "wire.h"

#include <stdio.h>
#include <string.h>

struct scanner {
    const char *start, *at, *end;
    const char *problem; /* NULL: none yet */
};

static bool fail(struct scanner *s, const char *problem)
{
    if (!s->problem)
        s->problem = problem;
    return false;
}

static void space(struct scanner *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
        s->at++;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_hex(char c) { return is_digit(c) || ((c | 32) >= 'a' && (c | 32) <= 'f'); }

/* After the backslash. */
static bool escape(struct scanner *s)
{
    if (s->at < s->end && *s->at == 'u') {
        s->at++;
        for (int i = 0; i < 4; i++)
            if (s->at >= s->end || !is_hex(*s->at++))
                return fail(s, "a \\u without four hex digits");
        return true;
    }
    if (s->at >= s->end || !*s->at || !strchr("\"\\/bfnrt", *s->at))
        return fail(s, "an unknown escape");
    s->at++;
    return true;
}

static bool string(struct scanner *s)
{
    if (s->at >= s->end || *s->at != '"')
        return fail(s, "no string where one belongs");
    const char *from = ++s->at;
    while (s->at < s->end && *s->at != '"') {
        unsigned char c = (unsigned char)*s->at++;
        if (c < 0x20)
            return fail(s, "a control character in a string");
        if (c == '\\' && !escape(s))
            return false;
    }
    if (s->at >= s->end)
        return fail(s, "a string that does not end");
    if (!ramet_utf8_text(from, (size_t)(s->at - from)))
        return fail(s, "a string that is not UTF-8");
    s->at++;
    return true;
}

static bool digits(struct scanner *s)
{
    if (s->at >= s->end || !is_digit(*s->at))
        return fail(s, "a number without digits");
    while (s->at < s->end && is_digit(*s->at))
        s->at++;
    return true;
}

static bool number(struct scanner *s)
{
    if (s->at < s->end && *s->at == '-')
        s->at++;
    if (s->at < s->end && *s->at == '0')
        s->at++;
    else if (!digits(s))
        return false;
    if (s->at < s->end && *s->at == '.') {
        s->at++;
        if (!digits(s))
            return false;
    }
    if (s->at < s->end && (*s->at | 32) == 'e') {
        s->at++;
        if (s->at < s->end && (*s->at == '+' || *s->at == '-'))
            s->at++;
        return digits(s);
    }
    return true;
}

static bool word(struct scanner *s, const char *text)
{
    size_t size = strlen(text);
    if ((size_t)(s->end - s->at) < size || memcmp(s->at, text, size) != 0)
        return fail(s, "no value where one belongs");
    s->at += size;
    return true;
}

static bool value(struct scanner *s, unsigned depth);

static bool array(struct scanner *s, unsigned depth)
{
    s->at++;
    space(s);
    if (s->at < s->end && *s->at == ']') {
        s->at++;
        return true;
    }
    for (;;) {
        if (!value(s, depth))
            return false;
        if (s->at < s->end && *s->at == ']') {
            s->at++;
            return true;
        }
        if (s->at >= s->end || *s->at++ != ',')
            return fail(s, "neither , nor ] after an element");
    }
}

/* Where members of the outermost object go. */
struct wanted {
    const char *const *names;
    struct ramet_span *values;
};

static void note(const struct wanted *wanted, struct ramet_span key, const char *from, const char *to)
{
    for (size_t i = 0; wanted && wanted->names[i]; i++)
        if (strlen(wanted->names[i]) == key.size && memcmp(wanted->names[i], key.at, key.size) == 0)
            wanted->values[i] = (struct ramet_span){from, (size_t)(to - from)};
}

static bool member(struct scanner *s, unsigned depth, const struct wanted *wanted)
{
    space(s);
    const char *key = s->at + 1;
    if (!string(s))
        return false;
    const struct ramet_span name = {key, (size_t)(s->at - 1 - key)};
    space(s);
    if (s->at >= s->end || *s->at++ != ':')
        return fail(s, "no : after a name");
    space(s);
    const char *from = s->at;
    if (!value(s, depth))
        return false;
    const char *to = s->at;
    while (to > from && strchr(" \t\n\r", to[-1]))
        to--;
    note(wanted, name, from, to);
    return true;
}

static bool object(struct scanner *s, unsigned depth, const struct wanted *wanted)
{
    s->at++;
    space(s);
    if (s->at < s->end && *s->at == '}') {
        s->at++;
        return true;
    }
    for (;;) {
        if (!member(s, depth, wanted))
            return false;
        if (s->at < s->end && *s->at == '}') {
            s->at++;
            return true;
        }
        if (s->at >= s->end || *s->at++ != ',')
            return fail(s, "neither , nor } after a member");
    }
}

/* A value and the space around it. */
static bool value(struct scanner *s, unsigned depth)
{
    bool good;
    space(s);
    if (s->at >= s->end)
        return fail(s, "it ends too early");
    if (depth == 0)
        return fail(s, "it is nested too deep");
    switch (*s->at) {
    case '{': good = object(s, depth - 1, NULL); break;
    case '[': good = array(s, depth - 1); break;
    case '"': good = string(s); break;
    case 't': good = word(s, "true"); break;
    case 'f': good = word(s, "false"); break;
    case 'n': good = word(s, "null"); break;
    default: good = number(s); break;
    }
    space(s);
    return good;
}

int ramet_scan_object(const char *text, size_t size, const char *const *names, struct ramet_span *ret_values,
                      struct ramet_error *err)
{
    struct scanner s = {.start = text, .at = text, .end = text + size};
    const struct wanted wanted = {names, ret_values};
    for (size_t i = 0; names[i]; i++)
        ret_values[i] = (struct ramet_span){0};
    space(&s);
    if (s.at >= s.end || *s.at != '{')
        fail(&s, "no JSON object");
    else if (object(&s, RAMET_SCAN_DEPTH - 1, &wanted)) {
        space(&s);
        if (s.at < s.end)
            fail(&s, "something follows the object");
    }
    if (!s.problem)
        return 0;
    return ramet_error_set(err, RAMET_INVALID, "malformed JSON at byte %zu: %s", (size_t)(s.at - s.start), s.problem);
}

/* ---- spans ---- */

bool ramet_span_is(struct ramet_span span, const char *text)
{
    return span.at && span.size == strlen(text) && memcmp(span.at, text, span.size) == 0;
}

void ramet_span_string(struct ramet_span span, char *to, size_t size)
{
    bool string = span.at && span.size >= 2 && *span.at == '"';
    snprintf(to, size, "%.*s", string ? (int)(span.size - 2 < size ? span.size - 2 : size) : 0,
             string ? span.at + 1 : "");
}

bool ramet_span_u64(struct ramet_span span, uint64_t *ret)
{
    uint64_t value = 0;
    if (!span.at || span.size == 0 || span.size > 18)
        return false;
    for (size_t i = 0; i < span.size; i++) {
        if (!is_digit(span.at[i]))
            return false;
        value = value * 10 + (uint64_t)(span.at[i] - '0');
    }
    *ret = value;
    return true;
}

/* ---- the id of what is too large ---- */

static void in_string(struct ramet_id_finder *f, char c)
{
    static const char key[] = "id";
    if (f->escaped) {
        f->escaped = false;
        f->match = false;
    } else if (c == '\\') {
        f->escaped = true;
    } else if (c == '"') {
        f->in_string = false;
        f->match = f->match && f->key_at == 2;
    } else {
        f->match = f->match && f->key_at < 2 && key[f->key_at] == c;
        f->key_at++;
    }
}

static void outside(struct ramet_id_finder *f, char c)
{
    switch (c) {
    case '"':
        f->in_string = true;
        f->match = f->depth == 1 && f->is_key;
        f->key_at = 0;
        f->in_id = false;
        break;
    case '{':
    case '[':
        f->depth++;
        f->in_id = false;
        f->is_key = f->depth == 1;
        break;
    case '}':
    case ']':
        f->depth -= f->depth > 0;
        f->in_id = false;
        break;
    case ',':
        f->is_key = f->depth == 1;
        f->in_id = false;
        break;
    case ':':
        f->in_id = f->depth == 1 && f->is_key && f->match;
        f->found = f->found && !f->in_id;
        f->is_key = false;
        f->id = f->in_id ? 0 : f->id;
        break;
    default: break;
    }
}

void ramet_id_finder_feed(struct ramet_id_finder *f, const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (f->in_string) {
            in_string(f, data[i]);
        } else if (f->in_id && is_digit(data[i]) && f->id < UINT64_MAX / 100) {
            f->id = f->id * 10 + (uint64_t)(data[i] - '0');
            f->found = true;
        } else {
            outside(f, data[i]);
        }
    }
}
