/* SPDX-License-Identifier: Apache-2.0 */
/* A schema, a NUL, a value: checked in bounded time, with one verdict whether or not it is to be explained. */
#include "fuzz.h"

#include "json.h"
#include "tools/schema.h"

#include <string.h>

enum { values_max = 20000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size ? memchr(data, '\0', size) : NULL;
    struct ramet_json *schema = NULL, *value = NULL;
    struct ramet_error err = {0};
    if (!nul)
        return 0;
    const char *rest = (const char *)nul + 1;
    size_t schema_size = (size_t)(nul - data), rest_size = size - schema_size - 1;
    if (ramet_json_parse_lenient((const char *)data, schema_size, values_max, &schema, NULL) == 0 &&
        ramet_json_parse_lenient(rest, rest_size, values_max, &value, NULL) == 0) {
        int rc = ramet_schema_check(schema, value, &err);
        FUZZ_CHECK(rc == 0 || (rc == -RAMET_INVALID && *err.msg));
        FUZZ_CHECK(ramet_schema_check(schema, value, NULL) == rc);
    }
    ramet_json_free(schema);
    ramet_json_free(value);
    return 0;
}
