/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/tool-search: the tools that fit some words, of those the caller may call. */
#include "json.h"
#include "routes_table.h"
#include "tools/docs_search.h"
#include "tools/shelf.h"

#include <stdlib.h>
#include <string.h>

enum { limit_default = 10, words_max = 400 };

static int limit_of(const struct ramet_call *call, size_t *ret, struct ramet_error *err)
{
    const char *text = NULL;
    char *end;
    *ret = limit_default;
    for (size_t i = 0; i < call->request->query_count; i++)
        if (strcmp(call->request->query[i].name, "limit") == 0)
            text = call->request->query[i].value;
    if (!text)
        return 0;
    unsigned long limit = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || limit < 1 || limit > RAMET_DOCS_HITS_MAX)
        return ramet_error_set(err, RAMET_INVALID, "query parameter \"limit\" must be an integer from 1 to %d",
                               RAMET_DOCS_HITS_MAX);
    *ret = limit;
    return 0;
}

int ramet_route_tool_search(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    const struct ramet_routes_context *context = call->context;
    const char *words;
    struct ramet_json *hits;
    size_t limit;
    int rc = ramet_call_query(call, "words", &words, err);
    if (rc == 0)
        rc = limit_of(call, &limit, err);
    if (rc == 0 && strlen(words) > words_max)
        rc = ramet_error_set(err, RAMET_INVALID, "query parameter \"words\" has more than %d bytes", words_max);
    if (rc == 0)
        rc = ramet_tools_shelf_search(context->shelf, call->principal, words, limit, &hits, err);
    if (rc < 0)
        return rc;
    *ret = ramet_json_object();
    ramet_json_set(*ret, "tools", hits);
    return 0;
}
