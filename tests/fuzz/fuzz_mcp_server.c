/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A body posted to /mcp, of either era: the first byte's second bit ends a session instead. The provider gives back
 * what it was called with. Every answer is a message of JSON-RPC, and one to a request has its id.
 */
#include "fuzz.h"
#include "json.h"
#include "mcp/mcp.h"

#include <stdlib.h>
#include <string.h>

static int echo(void *context, const struct ramet_mcp_call *call, struct ramet_json **ret,
                struct ramet_jsonrpc_error *error)
{
    (void)context;
    if (strcmp(call->method, "tools/call") != 0)
        return ramet_jsonrpc_fail(error, RAMET_JSONRPC_NO_METHOD, 404, "none");
    *ret = ramet_json_object();
    ramet_json_set(*ret, "params", call->params ? ramet_json_copy(call->params) : NULL);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ramet_mcp *mcp;
    static const struct ramet_mcp_provider provider = {
        .name = "fuzz", .version = "0", .capabilities = "{\"tools\":{},\"logging\":{}}", .answer = echo};
    if (!mcp)
        FUZZ_CHECK(ramet_mcp_new(&provider, &mcp, NULL) == 0);
    if (size == 0)
        return 0;
    char *body = malloc(size);
    memcpy(body, data + 1, size - 1);
    body[size - 1] = '\0';
    const struct ramet_http_request request = {.method = data[0] & 2 ? "DELETE" : "POST",
                                               .path = "/mcp",
                                               .content_type = "application/json",
                                               .body = body,
                                               .body_size = size - 1,
                                               .principal = {.name = "fuzz"}};
    struct ramet_http_response response = {0};
    struct ramet_json *answer = NULL;
    ramet_mcp_http(mcp, &request, &response);
    FUZZ_CHECK(response.status >= 200 && response.status < 600);
    if (response.stream.close) {
        ramet_mcp_stop(mcp); /* a listener: ended, and the server with it */
        response.stream.close(response.stream.context);
        ramet_mcp_free(mcp);
        mcp = NULL;
    } else if (response.body_size) {
        FUZZ_CHECK(ramet_json_parse(response.body, response.body_size, &answer, NULL) == 0);
        FUZZ_CHECK(strcmp(ramet_json_str(answer, "jsonrpc", ""), "2.0") == 0);
        FUZZ_CHECK(!ramet_json_get(answer, "result") != !ramet_json_get(answer, "error"));
    }
    ramet_json_free(answer);
    free(response.body);
    free(body);
    return 0;
}
