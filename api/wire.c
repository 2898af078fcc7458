/* SPDX-License-Identifier: Apache-2.0 */
/* Errors and byte strings as JSON. Pure functions, no state. */
#include "wire.h"

#include "base/cleanup.h"
#include "base64.h"
#include "json.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct ramet_json *ramet_wire_error(const struct ramet_error *error)
{
    struct ramet_json *inner = ramet_json_object();
    ramet_json_set_string(inner, "code", ramet_code_name(error->code));
    ramet_json_set_string(inner, "message", error->msg);
    ramet_json_set_string(inner, "hint", error->hint);
    struct ramet_json *outer = ramet_json_object();
    ramet_json_set(outer, "error", inner);
    return outer;
}

int ramet_wire_error_read(const char *answer, size_t size, int status, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *outer = NULL;
    const struct ramet_json *inner = NULL;
    if (ramet_json_parse(answer, size, &outer, NULL) == 0)
        inner = ramet_json_get(outer, "error");
    if (!ramet_json_is_object(inner))
        return ramet_error_set(err, RAMET_INTERNAL, "HTTP status %d without an error from a Ramet daemon", status);
    int code = ramet_code_from_name(ramet_json_str(inner, "code", ""));
    int rc = ramet_error_set(err, code == RAMET_OK ? RAMET_INTERNAL : (enum ramet_code)code, "%s",
                             ramet_json_str(inner, "message", "no message"));
    const char *hint = ramet_json_str(inner, "hint", "");
    if (*hint)
        ramet_error_hint(err, "%s", hint);
    return rc;
}

/* ---- UTF-8 ---- */

/* Length of the sequence that begins with `lead` and the range of its second byte; 0 when none may begin so. */
static size_t sequence(uint8_t lead, uint8_t *ret_min, uint8_t *ret_max)
{
    *ret_min = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    *ret_max = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (lead >= 0x01 && lead <= 0x7f)
        return 1;
    if (lead >= 0xc2 && lead <= 0xdf)
        return 2;
    if (lead >= 0xe0 && lead <= 0xef)
        return 3;
    return lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
}

bool ramet_utf8_text(const void *data, size_t size)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < size;) {
        uint8_t min, max;
        size_t length = sequence(p[i], &min, &max);
        if (length == 0 || length > size - i)
            return false;
        for (size_t k = 1; k < length; k++, min = 0x80, max = 0xbf)
            if (p[i + k] < min || p[i + k] > max)
                return false;
        i += length;
    }
    return true;
}

/* ---- byte strings ---- */

void ramet_wire_set_bytes(struct ramet_json *object, const char *key, const void *data, size_t size)
{
    char name[64];
    bool text = ramet_utf8_text(data, size);
    /* An exec result is NUL-terminated, but a caller's bytes need not be. */
    _autofree_ char *value = text ? strndup(size ? data : "", size) : ramet_base64_encode(data, size);
    ramet_json_set_string(object, key, value);
    snprintf(name, sizeof name, "%s_encoding", key);
    ramet_json_set_string(object, name, text ? "utf-8" : "base64");
}

int ramet_wire_get_bytes(const struct ramet_json *object, const char *key, char **ret, size_t *ret_size,
                         struct ramet_error *err)
{
    char name[64];
    snprintf(name, sizeof name, "%s_encoding", key);
    const char *value = ramet_json_str(object, key, "");
    if (strcmp(ramet_json_str(object, name, "utf-8"), "base64") == 0)
        return ramet_base64_decode(value, ret, ret_size, err) < 0 ? ramet_error_prefix(err, "\"%s\"", key) : 0;
    char *data = strdup(value);
    if (!data)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for \"%s\"", key);
    *ret = data;
    *ret_size = strlen(value);
    return 0;
}
