/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server that the MCP conformance suite is run against: Ramet's own protocol and
 * HTTP code (api/mcp), with the tools, prompts and resources that the suite asks for
 * in place of Ramet's. Nothing of it is in rametd.
 *
 * usage: conformance_fixture FIXTURE_JSON
 * Serves http://127.0.0.1:PORT/mcp without a token; prints PORT, ends with its input.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "digest.h"
#include "json.h"
#include "mcp/mcp.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct ramet_json *fixture;
static struct ramet_mcp *server;

static const struct ramet_json *part(const char *name, const char *key)
{
    return ramet_json_get(ramet_json_get(fixture, name), key);
}

static struct ramet_json *text_result(const char *text)
{
    struct ramet_json *o = ramet_json_object(), *content = ramet_json_array(), *item = ramet_json_object();
    ramet_json_set_string(item, "type", "text");
    ramet_json_set_string(item, "text", text);
    ramet_json_append(content, item);
    ramet_json_set(o, "content", content);
    return o;
}

static struct ramet_json *error_result(const char *text)
{
    struct ramet_json *o = text_result(text);
    ramet_json_set_bool(o, "isError", true);
    return o;
}

static void nap(void)
{
    const struct timespec pause = {.tv_nsec = 50000000};
    nanosleep(&pause, NULL);
}

/* ---- tools that talk ---- */

static struct ramet_json *with_logging(const struct ramet_mcp_call *call)
{
    ramet_mcp_log(call, "info", "Tool execution started");
    nap();
    ramet_mcp_log(call, "info", "Tool processing data");
    nap();
    ramet_mcp_log(call, "info", "Tool execution completed");
    return text_result("logged");
}

static struct ramet_json *with_progress(const struct ramet_mcp_call *call)
{
    for (int progress = 0; progress <= 100; progress += 50) {
        ramet_mcp_progress(call, progress, 100, NULL);
        nap();
    }
    return text_result("done");
}

/* sampling/createMessage and elicitation/create in the middle of a call */
static struct ramet_json *asking(const struct ramet_mcp_call *call, const char *name, const struct ramet_json *ask)
{
    const struct ramet_json *arguments = ramet_json_get(call->params, "arguments");
    const char *method = ramet_json_str(ask, "method", "");
    const char *prompt = ramet_json_str(arguments, "prompt", NULL),
               *message = ramet_json_str(arguments, "message", NULL);
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    _autofree_ char *text = NULL, *said = NULL;
    struct ramet_error err = {0};
    struct ramet_json *params = ramet_json_copy(ramet_json_get(ask, "params"));
    if (prompt) {
        _cleanup_(ramet_json_cleanup) struct ramet_json *content = text_result(prompt);
        struct ramet_json *messages = ramet_json_array(), *one = ramet_json_object();
        ramet_json_set_string(one, "role", "user");
        ramet_json_set(one, "content", ramet_json_copy(ramet_json_at(ramet_json_get(content, "content"), 0)));
        ramet_json_append(messages, one);
        ramet_json_set(params, "messages", messages);
    }
    if (message)
        ramet_json_set_string(params, "message", message);
    if (!ramet_mcp_can(call, *method == 's' ? "sampling" : "elicitation")) {
        ramet_json_free(params);
        return error_result("the client cannot be asked that");
    }
    if (ramet_mcp_ask(call, method, params, &answer, &err) < 0)
        return error_result(err.msg);
    text = ramet_json_text(answer);
    if (asprintf(&said, "%s: %s", name, text) < 0)
        return NULL;
    return text_result(said);
}

/* ---- tools that need input ---- */

static const char key[] = "the fixture's key";

/* "round.hmac": what the client gives back and may not change. */
static void seal(unsigned round, char ret[static 96])
{
    char text[16], digest[RAMET_DIGEST_SIZE];
    snprintf(text, sizeof text, "%u", round);
    ramet_digest_keyed(key, sizeof key, text, strlen(text), digest);
    snprintf(ret, 96, "%s.%s", text, digest);
}

/* -1: it is not ours. */
static int unseal(const char *state)
{
    char again[96];
    unsigned round = (unsigned)strtoul(state, NULL, 10);
    seal(round, again);
    return strcmp(state, again) == 0 ? (int)round : -1;
}

static bool answered(const struct ramet_json *questions, const struct ramet_json *responses)
{
    const struct ramet_json *question;
    const char *name;
    void *iter = NULL;
    while (ramet_json_next(questions, &iter, &name, &question))
        if (!ramet_json_is_object(ramet_json_get(responses, name)))
            return false;
    return true;
}

/* Those that the client can answer by what it declared. */
static struct ramet_json *askable(const struct ramet_mcp_call *call, const struct ramet_json *questions)
{
    struct ramet_json *kept = ramet_json_object();
    const struct ramet_json *question;
    const char *name;
    void *iter = NULL;
    while (ramet_json_next(questions, &iter, &name, &question)) {
        const char *method = ramet_json_str(question, "method", "");
        const char *needs = *method == 's' ? "sampling" : *method == 'e' ? "elicitation" : "roots";
        if (ramet_mcp_can(call, needs))
            ramet_json_set(kept, name, ramet_json_copy(question));
    }
    return kept;
}

static struct ramet_json *input_required(const struct ramet_mcp_call *call, const struct ramet_json *questions,
                                         unsigned round)
{
    struct ramet_json *o = ramet_json_object();
    char state[96];
    seal(round, state);
    ramet_json_set_string(o, "resultType", "input_required");
    ramet_json_set(o, "inputRequests", askable(call, questions));
    ramet_json_set_string(o, "requestState", state);
    return o;
}

/* `rounds`: an array of maps of questions, asked one after the other. */
static int needing_input(const struct ramet_mcp_call *call, const struct ramet_json *rounds, struct ramet_json *done,
                         struct ramet_json **ret, struct ramet_jsonrpc_error *error)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *result = done;
    const struct ramet_json *responses = ramet_json_get(call->params, "inputResponses");
    const char *state = ramet_json_str(call->params, "requestState", NULL);
    int round = state ? unseal(state) : 0;
    if (round < 0 || (size_t)round >= ramet_json_count(rounds))
        return ramet_jsonrpc_fail(error, RAMET_JSONRPC_INVALID_PARAMS, 0,
                                  "\"requestState\" is not one that was given out");
    const struct ramet_json *questions = ramet_json_at(rounds, (size_t)round);
    if (!responses || !answered(questions, responses))
        *ret = input_required(call, questions, (unsigned)round);
    else if ((size_t)round + 1 < ramet_json_count(rounds))
        *ret = input_required(call, ramet_json_at(rounds, (size_t)round + 1), (unsigned)round + 1);
    else
        *ret = STEAL(result);
    return 0;
}

static int asking_once(const struct ramet_mcp_call *call, const struct ramet_json *questions, struct ramet_json *done,
                       struct ramet_json **ret, struct ramet_jsonrpc_error *error)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *rounds = ramet_json_array();
    ramet_json_append(rounds, ramet_json_copy(questions));
    return needing_input(call, rounds, done, ret, error);
}

/* ---- tools ---- */

static int missing_capability(const struct ramet_mcp_call *call, struct ramet_json **ret,
                              struct ramet_jsonrpc_error *error)
{
    if (!call->modern || ramet_mcp_can(call, "sampling")) {
        *ret = text_result("the client can sample");
        return 0;
    }
    struct ramet_json *needs = ramet_json_object();
    ramet_jsonrpc_fail(error, RAMET_JSONRPC_MISSING_CAPABILITY, 400, "the client must declare sampling");
    ramet_json_set(needs, "sampling", ramet_json_object());
    error->data = ramet_json_object();
    ramet_json_set(error->data, "requiredCapabilities", needs);
    return -1;
}

static int call_tool(const struct ramet_mcp_call *call, struct ramet_json **ret, struct ramet_jsonrpc_error *error)
{
    const char *name = ramet_json_str(call->params, "name", "");
    const struct ramet_json *found;
    if ((found = part("answers", name)))
        *ret = ramet_json_copy(found);
    else if ((found = part("asks", name)))
        *ret = asking(call, name, found);
    else if ((found = part("questions", name)))
        return asking_once(call, found, text_result("state-ok: all was answered"), ret, error);
    else if ((found = part("rounds", name)))
        return needing_input(call, found, text_result("all rounds are done"), ret, error);
    else if (strcmp(name, "test_tool_with_logging") == 0 || strcmp(name, "test_logging_tool") == 0)
        *ret = with_logging(call);
    else if (strcmp(name, "test_tool_with_progress") == 0)
        *ret = with_progress(call);
    else if (strcmp(name, "test_missing_capability") == 0)
        return missing_capability(call, ret, error);
    else if (strcmp(name, "test_trigger_tool_change") == 0 || strcmp(name, "test_trigger_prompt_change") == 0) {
        ramet_mcp_changed(server, strstr(name, "tool_change") ? "tools" : "prompts", NULL);
        *ret = text_result("changed");
    } else {
        return ramet_jsonrpc_fail(error, RAMET_JSONRPC_INVALID_PARAMS, 0, "Unknown tool: %.100s", name);
    }
    return 0;
}

/* ---- prompts and resources ---- */

static struct ramet_json *prompt_of(struct ramet_json *content)
{
    struct ramet_json *o = ramet_json_object(), *messages = ramet_json_array(), *message = ramet_json_object();
    ramet_json_set_string(message, "role", "user");
    ramet_json_set(message, "content", content);
    ramet_json_append(messages, message);
    ramet_json_set(o, "messages", messages);
    return o;
}

static struct ramet_json *text_content(const char *text)
{
    struct ramet_json *o = ramet_json_object();
    ramet_json_set_string(o, "type", "text");
    ramet_json_set_string(o, "text", text);
    return o;
}

static struct ramet_json *embedding(const char *uri)
{
    struct ramet_json *o = ramet_json_object(), *resource = ramet_json_object();
    ramet_json_set_string(resource, "uri", uri);
    ramet_json_set_string(resource, "mimeType", "text/plain");
    ramet_json_set_string(resource, "text", "Embedded resource content for testing.");
    ramet_json_set_string(o, "type", "resource");
    ramet_json_set(o, "resource", resource);
    return o;
}

static int get_prompt(const struct ramet_mcp_call *call, struct ramet_json **ret, struct ramet_jsonrpc_error *error)
{
    const struct ramet_json *arguments = ramet_json_get(call->params, "arguments"), *found;
    const char *name = ramet_json_str(call->params, "name", "");
    char text[256];
    if ((found = part("promptAnswers", name))) {
        *ret = ramet_json_copy(found);
    } else if (strcmp(name, "test_prompt_with_arguments") == 0) {
        snprintf(text, sizeof text, "Prompt with arguments: arg1='%.80s', arg2='%.80s'",
                 ramet_json_str(arguments, "arg1", ""), ramet_json_str(arguments, "arg2", ""));
        *ret = prompt_of(text_content(text));
    } else if (strcmp(name, "test_prompt_with_embedded_resource") == 0) {
        *ret = prompt_of(embedding(ramet_json_str(arguments, "resourceUri", "test://none")));
    } else if ((found = part("questions", name))) {
        return asking_once(call, found, prompt_of(text_content("with context")), ret, error);
    } else {
        return ramet_jsonrpc_fail(error, RAMET_JSONRPC_INVALID_PARAMS, 0, "Unknown prompt: %.100s", name);
    }
    return 0;
}

static int read_resource(const struct ramet_mcp_call *call, struct ramet_json **ret, struct ramet_jsonrpc_error *error)
{
    const char *uri = ramet_json_str(call->params, "uri", "");
    const struct ramet_json *found = part("resourceAnswers", uri);
    struct ramet_json *one = found ? ramet_json_copy(found) : NULL;
    char id[64], text[256];
    if (!one && sscanf(uri, "test://template/%63[^/]/data", id) == 1) {
        snprintf(text, sizeof text, "{\"id\":\"%s\",\"templateTest\":true,\"data\":\"Data for ID: %s\"}", id, id);
        one = ramet_json_object();
        ramet_json_set_string(one, "mimeType", "application/json");
        ramet_json_set_string(one, "text", text);
    }
    if (!one) {
        ramet_jsonrpc_fail(error, call->modern ? RAMET_JSONRPC_INVALID_PARAMS : RAMET_JSONRPC_NO_RESOURCE, 0,
                           "Resource not found");
        error->data = ramet_json_object();
        ramet_json_set_string(error->data, "uri", uri);
        return -1;
    }
    struct ramet_json *contents = ramet_json_array();
    ramet_json_set_string(one, "uri", uri);
    ramet_json_append(contents, one);
    *ret = ramet_json_object();
    ramet_json_set(*ret, "contents", contents);
    return 0;
}

static struct ramet_json *completion(void)
{
    struct ramet_json *o = ramet_json_object(), *c = ramet_json_object(), *values = ramet_json_array();
    ramet_json_append(values, ramet_json_string("test-value"));
    ramet_json_set(c, "values", values);
    ramet_json_set_u64(c, "total", 1);
    ramet_json_set_bool(c, "hasMore", false);
    ramet_json_set(o, "completion", c);
    return o;
}

/* ---- the provider ---- */

static int answer(void *context, const struct ramet_mcp_call *call, struct ramet_json **ret,
                  struct ramet_jsonrpc_error *error)
{
    static const struct {
        const char *method, *member;
    } lists[] = {{"tools/list", "tools"},
                 {"prompts/list", "prompts"},
                 {"resources/list", "resources"},
                 {"resources/templates/list", "resourceTemplates"}};
    (void)context;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (strcmp(call->method, lists[i].method) == 0) {
            *ret = ramet_json_object();
            ramet_json_set(*ret, lists[i].member, ramet_json_copy(ramet_json_get(fixture, lists[i].member)));
            return 0;
        }
    if (strcmp(call->method, "tools/call") == 0)
        return call_tool(call, ret, error);
    if (strcmp(call->method, "prompts/get") == 0)
        return get_prompt(call, ret, error);
    if (strcmp(call->method, "resources/read") == 0)
        return read_resource(call, ret, error);
    *ret = completion();
    return 0;
}

static bool talks(void *context, const struct ramet_mcp_call *call)
{
    const char *name = ramet_json_str(call->params, "name", "");
    (void)context;
    return strcmp(call->method, "tools/call") == 0 &&
           (part("asks", name) || strstr(name, "logging") || strstr(name, "progress") || strstr(name, "streaming"));
}

static int admit(void *context, struct ramet_http_request *request, struct ramet_http_response *response,
                 struct ramet_error *err)
{
    (void)context, (void)response;
    request->principal = (struct ramet_principal){.name = "conformance", .door = RAMET_DOOR_TCP, .uid = -1};
    return ramet_http_check_origin(request, err);
}

static void handle(void *context, const struct ramet_http_request *request, struct ramet_http_response *response)
{
    ramet_mcp_http(context, request, response);
}

static struct ramet_json *load(const char *path)
{
    static char text[1 << 20];
    struct ramet_json *value = NULL;
    FILE *in = fopen(path, "re");
    size_t size = in ? fread(text, 1, sizeof text, in) : 0;
    if (in)
        fclose(in);
    ramet_json_parse(text, size, &value, NULL);
    return value;
}

int main(int argc, char **argv)
{
    const struct ramet_mcp_provider provider = {
        .name = "ramet-conformance",
        .version = RAMET_VERSION,
        .capabilities = "{\"tools\":{\"listChanged\":true},\"prompts\":{\"listChanged\":true},"
                        "\"resources\":{\"subscribe\":true},\"completions\":{},\"logging\":{}}",
        .answer = answer,
        .talks = talks};
    struct ramet_error err = {0};
    struct ramet_http_socket *sock = NULL;
    struct ramet_http *http = NULL;
    char byte;
    fixture = argc == 2 ? load(argv[1]) : NULL;
    if (!fixture || ramet_mcp_new(&provider, &server, &err) < 0 || ramet_http_listen_tcp("0", &sock, &err) < 0 ||
        ramet_http_start_for(sock, admit, handle, server, &http, &err) < 0) {
        fprintf(stderr, "conformance_fixture: %s\n", *err.msg ? err.msg : "usage: conformance_fixture FIXTURE_JSON");
        return 1;
    }
    printf("%u\n", ramet_http_socket_port(sock));
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    ramet_mcp_stop(server);
    ramet_http_free(http);
    ramet_http_socket_free(sock);
    ramet_mcp_free(server);
    ramet_json_free(fixture);
    return 0;
}
