/* SPDX-License-Identifier: Apache-2.0 */
#include "tool_args.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "json.h"
#include "ramet.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { input_max = 1 << 20, token_max = 64 << 10 };

/* ---- of servers ---- */

int tool_args_env(const struct cli_list *env, struct ramet_json *to, struct ramet_error *err)
{
    for (size_t i = 0; i < env->count; i++) {
        const char *text = env->items[i], *equals = strchr(text, '=');
        _autofree_ char *name = strndup(text, equals ? (size_t)(equals - text) : strlen(text));
        if (!name)
            return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for --env");
        const char *value = equals ? equals + 1 : getenv(name);
        if (!*name || !value)
            return ramet_error_set(err, RAMET_INVALID, "--env: \"%.100s\" is no variable here: give K=V", name);
        ramet_json_set_string(to, name, value);
    }
    return 0;
}

static int read_token(const char *path, struct ramet_json *to, struct ramet_error *err)
{
    _autofree_ char *token = NULL;
    _autofree_ char *header = NULL;
    size_t size = 0;
    int rc = ramet_file_read_all(path, token_max, &token, &size, err);
    if (rc < 0)
        return ramet_error_prefix(err, "--token-file");
    token[strcspn(token, "\r\n")] = '\0';
    if (asprintf(&header, "Bearer %s", token) < 0) {
        header = NULL;
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a token");
    }
    ramet_json_set_string(to, "Authorization", header);
    return 0;
}

int tool_args_headers(const struct cli_list *headers, const char *token_file, struct ramet_json *to,
                      struct ramet_error *err)
{
    for (size_t i = 0; i < headers->count; i++) {
        const char *text = headers->items[i], *colon = strchr(text, ':');
        _autofree_ char *name = colon ? strndup(text, (size_t)(colon - text)) : NULL;
        if (!name || !*name)
            return ramet_error_set(err, RAMET_INVALID, "--header: give \"Name: value\"");
        ramet_json_set_string(to, name, colon + 1 + strspn(colon + 1, " "));
    }
    return token_file ? read_token(token_file, to, err) : 0;
}

/* ---- JSON from elsewhere ---- */

static int read_stdin(char **ret, size_t *ret_size, struct ramet_error *err)
{
    _autofree_ char *text = malloc(input_max + 1);
    if (!text)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for standard input");
    size_t size = fread(text, 1, input_max + 1, stdin);
    if (ferror(stdin))
        return ramet_error_os(err, errno, "cannot read standard input");
    if (size > input_max)
        return ramet_error_set(err, RAMET_TOO_LARGE, "standard input is larger than %d bytes", input_max);
    *ret_size = size;
    *ret = STEAL(text);
    return 0;
}

int tool_args_file(const char *path, struct ramet_json **ret, struct ramet_error *err)
{
    _autofree_ char *text = NULL;
    size_t size = 0;
    int rc = strcmp(path, "-") == 0 ? read_stdin(&text, &size, err)
                                    : ramet_file_read_all(path, input_max, &text, &size, err);
    if (rc == 0)
        rc = ramet_json_parse(text, size, ret, err) < 0 ? ramet_error_prefix(err, "%.200s", path) : 0;
    return rc;
}

/* ---- SERVER/TOOL ---- */

static bool is_server(const struct ramet_json *servers, const char *name, size_t size)
{
    for (size_t i = 0; i < ramet_json_count(servers); i++) {
        const char *one = ramet_json_str(ramet_json_at(servers, i), "server", "");
        if (strlen(one) == size && memcmp(one, name, size) == 0)
            return true;
    }
    return false;
}

int tool_args_ref(struct cli *cli, const char *text, struct tool_ref *ret)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    size_t size = strlen(text), server = strcspn(text, "/");
    *ret = (struct tool_ref){0};
    if (strchr(text + server + (text[server] == '/'), '/')) {
        /* More than one '/': the longest server that there is. */
        int rc = cli_ask(cli, "GET", CLI_PATH("/v1/tools", "", ""), NULL, &answer);
        if (rc < 0)
            return rc;
        for (size_t i = size; i > server; i--)
            if ((text[i] == '/' || !text[i]) && is_server(ramet_json_get(answer, "servers"), text, i)) {
                server = i;
                break;
            }
    }
    ret->server = strndup(text, server);
    ret->tool = text[server] == '/' ? text + server + 1 : NULL;
    return ret->server ? 0 : ramet_error_set(&cli->err, RAMET_NO_MEMORY, "no memory for a name");
}

/* ---- arguments ---- */

/* Whether a value of this schema may be a string and nothing that looks like JSON is meant. */
static bool takes_string(const struct ramet_json *schema)
{
    const struct ramet_json *type = ramet_json_get(schema, "type");
    const char *one = ramet_json_string_value(type);
    if (one)
        return strcmp(one, "string") == 0;
    for (size_t i = 0; i < ramet_json_count(type); i++)
        if (strcmp(ramet_json_string_value(ramet_json_at(type, i)) ? ramet_json_string_value(ramet_json_at(type, i))
                                                                   : "",
                   "string") == 0)
            return true;
    return false;
}

/* "K=V": a string where the schema says so, else JSON, else a string after all. */
static int set_argument(const struct ramet_json *schema, const char *text, struct ramet_json *to,
                        struct ramet_error *err)
{
    const char *equals = strchr(text, '=');
    _autofree_ char *name = equals ? strndup(text, (size_t)(equals - text)) : NULL;
    struct ramet_json *value = NULL;
    if (!name || !*name)
        return ramet_error_set(err, RAMET_INVALID, "--arg: \"%.100s\" is not K=V", text);
    const struct ramet_json *own = ramet_json_get(ramet_json_get(schema, "properties"), name);
    if (takes_string(own) || ramet_json_parse(equals + 1, strlen(equals + 1), &value, NULL) < 0)
        value = ramet_json_string(equals + 1);
    ramet_json_set(to, name, value);
    return 0;
}

/* The tool's inputSchema, within *ret_doc; none for who may not read documents. */
static int find_schema(struct cli *cli, const struct tool_ref *ref, struct ramet_json **ret_doc,
                       const struct ramet_json **ret)
{
    int rc = cli_ask(cli, "GET", CLI_PATH("/v1/tools/", ref->server, "/document"), NULL, ret_doc);
    if (rc == -RAMET_DENIED || rc == -RAMET_NOT_FOUND)
        return 0;
    const struct ramet_json *tools = ramet_json_get(*ret_doc, "tools");
    for (size_t i = 0; rc == 0 && i < ramet_json_count(tools); i++)
        if (strcmp(ramet_json_str(ramet_json_at(tools, i), "name", ""), ref->tool) == 0)
            *ret = ramet_json_get(ramet_json_at(tools, i), "inputSchema");
    return rc;
}

int tool_args_arguments(struct cli *cli, const struct tool_ref *ref, const char *json, const struct cli_list *args,
                        struct ramet_json **ret)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *arguments = NULL;
    _cleanup_(ramet_json_cleanup) struct ramet_json *doc = NULL;
    const struct ramet_json *schema = NULL;
    int rc = 0;
    if (!json)
        arguments = ramet_json_object();
    else if (strcmp(json, "-") == 0)
        rc = tool_args_file(json, &arguments, &cli->err);
    else
        rc = ramet_json_parse(json, strlen(json), &arguments, &cli->err);
    if (rc == 0 && !ramet_json_is_object(arguments))
        rc = ramet_error_set(&cli->err, RAMET_INVALID, "the arguments must be a JSON object");
    if (rc == 0 && args->count)
        rc = find_schema(cli, ref, &doc, &schema);
    for (size_t i = 0; rc == 0 && i < args->count; i++)
        rc = set_argument(schema, args->items[i], arguments, &cli->err);
    if (rc == 0)
        *ret = STEAL(arguments);
    return rc;
}

/* ---- the call ---- */

int tool_args_call(struct cli *cli, const struct tool_ref *ref, const struct ramet_json *arguments, uint64_t timeout_ms,
                   char **ret)
{
    char query[64] = "/call";
    if (timeout_ms)
        snprintf(query, sizeof query, "/call?timeout_ms=%llu", (unsigned long long)timeout_ms);
    _autofree_ char *server = ramet_client_path("/v1/tools/", ref->server, "/");
    _autofree_ char *path = server ? ramet_client_path(server, ref->tool, query) : NULL;
    _autofree_ char *body = ramet_json_text(arguments);
    if (!path || !body)
        return ramet_error_set(&cli->err, RAMET_NO_MEMORY, "no memory for a call");
    int rc = cli->client ? 0 : ramet_client_new(cli->socket, &cli->client, &cli->err);
    return rc < 0 ? rc : ramet_client_call(cli->client, "POST", path, body, NULL, ret, &cli->err);
}
