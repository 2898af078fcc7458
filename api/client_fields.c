/* SPDX-License-Identifier: Apache-2.0 */
#include "client_fields.h"

#include "base/cleanup.h"
#include "json.h"

#include <stdio.h>
#include <string.h>

void ramet_client_read(const struct ramet_json *object, const struct ramet_client_field *fields, size_t count, void *to)
{
    for (const struct ramet_client_field *f = fields; f < fields + count; f++) {
        void *at = (char *)to + f->offset;
        switch (f->kind) {
        case STRING: snprintf(at, f->size, "%s", ramet_json_str(object, f->key, "")); break;
        case U64: *(uint64_t *)at = (uint64_t)ramet_json_int(object, f->key, 0); break;
        case U32: *(uint32_t *)at = (uint32_t)ramet_json_int(object, f->key, 0); break;
        case I64: *(int64_t *)at = ramet_json_int(object, f->key, 0); break;
        case INT: *(int *)at = (int)ramet_json_int(object, f->key, 0); break;
        case BOOL: *(bool *)at = ramet_json_bool(object, f->key, false); break;
        }
    }
}

int ramet_client_ask(struct ramet_client *client, const char *method, const char *const path[static 3],
                     struct ramet_json *body, struct ramet_json **ret_answer, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *request = body;
    _autofree_ char *full = ramet_client_path(path[0], path[1], path[2]);
    _autofree_ char *text = ramet_json_text(request);
    _autofree_ char *answer = NULL;
    if (!full || (request && !text))
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a call");
    int rc = ramet_client_call(client, method, full, text, NULL, &answer, err);
    if (rc == 0)
        rc = ramet_json_parse(answer, strlen(answer), ret_answer, err);
    return rc;
}

void ramet_client_set_string(struct ramet_json *body, const char *key, const char *value)
{
    if (value)
        ramet_json_set_string(body, key, value);
}

void ramet_client_set_u64(struct ramet_json *body, const char *key, uint64_t value)
{
    if (value)
        ramet_json_set_u64(body, key, value);
}
