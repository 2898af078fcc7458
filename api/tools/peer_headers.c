/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arguments that a schema marks with "x-mcp-header" travel as headers too, in the stateless era over HTTP: those of a
 * simple type that a chain of "properties" reaches.
 */
#include "base/cleanup.h"
#include "json.h"
#include "tools/peer_private.h"

#include <stdio.h>
#include <string.h>

enum { headers_max = 64, depth_max = 16 };

struct headers {
    char **lines;
    size_t count;
};

void ramet_peer_param_headers_free(char **headers)
{
    for (char **line = headers; line && *line; line++)
        free(*line);
    free(headers);
}

/* A name that a header may have. */
static bool is_token(const char *name)
{
    static const char more[] = "!#$%&'*+-.^_`|~";
    for (const char *c = name; *c; c++)
        if (!((*c >= '0' && *c <= '9') || ((*c | 32) >= 'a' && (*c | 32) <= 'z') || strchr(more, *c)))
            return false;
    return *name != '\0';
}

/* The value as text; *ret NULL for what cannot be in a header. */
static int value_text(const struct ramet_json *value, char **ret, struct ramet_error *err)
{
    _autofree_ char *text = NULL;
    switch (ramet_json_kind(value)) {
    case RAMET_JSON_STRING: text = strdup(ramet_json_string_value(value)); break;
    case RAMET_JSON_BOOL:
    case RAMET_JSON_INTEGER:
    case RAMET_JSON_REAL: text = ramet_json_text(value); break;
    default: *ret = NULL; return 0;
    }
    *ret = text ? ramet_web_header_value(text) : NULL;
    return *ret ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a call");
}

static int add(struct headers *headers, const char *name, const struct ramet_json *value, struct ramet_error *err)
{
    _autofree_ char *text = NULL;
    int rc = value_text(value, &text, err);
    if (rc < 0 || !text || headers->count == headers_max)
        return rc;
    if (asprintf(&headers->lines[headers->count], "Mcp-Param-%s: %s", name, text) < 0) {
        headers->lines[headers->count] = NULL;
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a call");
    }
    headers->count++;
    return 0;
}

static int visit(struct headers *headers, const struct ramet_json *schema, const struct ramet_json *arguments,
                 unsigned depth, struct ramet_error *err)
{
    const struct ramet_json *properties = ramet_json_get(schema, "properties"), *property;
    const char *key;
    void *iter = NULL;
    int rc = 0;
    if (depth == 0 || !ramet_json_is_object(properties) || !ramet_json_is_object(arguments))
        return 0;
    while (rc == 0 && ramet_json_next(properties, &iter, &key, &property)) {
        const struct ramet_json *value = ramet_json_get(arguments, key);
        const char *name = ramet_json_str(property, "x-mcp-header", "");
        if (value && is_token(name))
            rc = add(headers, name, value, err);
        if (rc == 0 && value)
            rc = visit(headers, property, value, depth - 1, err);
    }
    return rc;
}

int ramet_peer_param_headers(const struct ramet_json *schema, const struct ramet_json *arguments, char ***ret,
                             struct ramet_error *err)
{
    struct headers headers = {.lines = calloc(headers_max + 1, sizeof(char *))};
    if (!headers.lines)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a call");
    int rc = visit(&headers, schema, arguments, depth_max, err);
    if (rc < 0) {
        ramet_peer_param_headers_free(headers.lines);
        return rc;
    }
    *ret = headers.lines;
    return 0;
}
