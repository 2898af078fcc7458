/* SPDX-License-Identifier: Apache-2.0 */
/* tools add, import, ls, search, refresh, rm, call, diff: MCP servers and their tools. */
#include "base/cleanup.h"
#include "cli.h"
#include "cli_print.h"
#include "commands.h"
#include "json.h"
#include "tool_args.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct options {
    struct cli_list env, headers, args;
    const char *url, *token_file, *cwd;
    bool replace;
    uint64_t timeout_ms, from, to;
};

static int wrong(struct cli *cli, const char *usage)
{
    ramet_error_set(&cli->err, RAMET_INVALID, "an argument is missing or one too many");
    return ramet_error_hint(&cli->err, "usage: ramet tools %s", usage);
}

/* ---- add and import ---- */

static struct ramet_json *strings(int argc, char **argv)
{
    struct ramet_json *list = ramet_json_array();
    for (int i = 0; i < argc; i++)
        ramet_json_append(list, ramet_json_string(argv[i]));
    return list;
}

/* The member of "mcpServers" that the command line describes. *ret is owned by the caller. */
static int make_config(struct cli *cli, const struct options *o, int argc, char **argv, struct ramet_json **ret)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *config = ramet_json_object();
    char here[PATH_MAX];
    int rc = 0;
    if (o->url) {
        struct ramet_json *headers = ramet_json_object();
        rc = tool_args_headers(&o->headers, o->token_file, headers, &cli->err);
        ramet_json_set_string(config, "url", o->url);
        ramet_json_set(config, "headers", headers);
    } else {
        struct ramet_json *env = ramet_json_object();
        const char *cwd = o->cwd ? o->cwd : getcwd(here, sizeof here);
        rc = tool_args_env(&o->env, env, &cli->err);
        ramet_json_set_string(config, "command", argv[0]);
        ramet_json_set(config, "args", strings(argc - 1, argv + 1));
        ramet_json_set(config, "env", env);
        cli_set_string(config, "cwd", cwd);
    }
    if (rc == 0)
        *ret = STEAL(config);
    return rc;
}

static void print_state(const struct ramet_json *server)
{
    const char *problem = ramet_json_str(server, "problem", "");
    printf("%s: %s", ramet_json_str(server, "server", ""), ramet_json_str(server, "state", ""));
    if (*problem)
        printf(": %s\n", problem);
    else
        printf(", %s tools\n", cli_value(server, "tools").s);
}

/* Lists it anew, so that the answer tells what came of it. */
static int refresh_one(struct cli *cli, const char *server, const struct options *o)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    struct ramet_json *body = ramet_json_object();
    cli_set_u64(body, "timeout_ms", o->timeout_ms);
    int rc = cli_call(cli, "POST", CLI_PATH("/v1/tools/", server, "/refresh"), body, "listing its tools", &answer);
    if (rc == 0 && !cli->json)
        print_state(answer);
    return rc;
}

static int add(struct cli *cli, const struct options *o, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    struct ramet_json *config = NULL, *body;
    if (argc < 1 || (o->url != NULL) == (argc > 1))
        return wrong(cli, "add NAME [--env K=V]... -- COMMAND...  or  add NAME --url URL [--header H]...");
    int rc = make_config(cli, o, argc - 1, argv + 1, &config);
    if (rc < 0)
        return rc;
    body = ramet_json_object();
    ramet_json_set_string(body, "server", argv[0]);
    ramet_json_set(body, "config", config);
    ramet_json_set_bool(body, "replace", o->replace);
    rc = cli_ask(cli, "POST", CLI_PATH("/v1/tools", "", ""), body, &answer);
    return rc < 0 ? rc : refresh_one(cli, argv[0], o);
}

static int import(struct cli *cli, const struct options *o, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    struct ramet_json *file = NULL;
    bool failed = false;
    if (argc != 1)
        return wrong(cli, "import FILE");
    int rc = tool_args_file(argv[0], &file, &cli->err);
    if (rc < 0)
        return rc;
    struct ramet_json *body = ramet_json_object();
    ramet_json_set(body, "file", file);
    ramet_json_set_bool(body, "replace", o->replace);
    rc = cli_call(cli, "POST", CLI_PATH("/v1/tools/import", "", ""), body, "adding servers", &answer);
    const struct ramet_json *servers = ramet_json_get(answer, "servers");
    for (size_t i = 0; rc == 0 && i < ramet_json_count(servers); i++) {
        const struct ramet_json *one = ramet_json_at(servers, i);
        bool added = ramet_json_bool(one, "added", false);
        failed |= !added;
        if (!cli->json)
            printf("%s: %s\n", ramet_json_str(one, "server", ""), added ? "added" : ramet_json_str(one, "problem", ""));
    }
    return rc < 0 ? rc : failed ? ramet_code_exit(RAMET_INVALID) : 0;
}

/* ---- listing ---- */

static void age(int64_t then_ms, char to[static 32])
{
    int64_t s = then_ms ? (int64_t)time(NULL) - then_ms / 1000 : -1;
    if (s < 0)
        snprintf(to, 32, "-");
    else if (s < 120)
        snprintf(to, 32, "%llds", (long long)s);
    else if (s < 7200)
        snprintf(to, 32, "%lldm", (long long)s / 60);
    else
        snprintf(to, 32, "%lldh", (long long)s / 3600);
}

static void print_servers(const struct ramet_json *servers)
{
    printf("%-20s %-9s %6s %8s %8s %s\n", "SERVER", "STATE", "TOOLS", "VERSION", "LISTED", "PROBLEM");
    for (size_t i = 0; i < ramet_json_count(servers); i++) {
        const struct ramet_json *s = ramet_json_at(servers, i);
        char listed[32];
        age(ramet_json_int(s, "checked_ms", 0), listed);
        printf("%-20s %-9s %6s %8s %8s %s\n", ramet_json_str(s, "server", ""), ramet_json_str(s, "state", ""),
               cli_value(s, "tools").s, cli_value(s, "version").s, listed, ramet_json_str(s, "problem", ""));
    }
}

/* The first sentence or line of a description, on one line. */
static void print_tool(const struct ramet_json *tool)
{
    const char *text = ramet_json_str(tool, "description", "");
    printf("%-32s %.*s\n", ramet_json_str(tool, "name", ""), (int)strcspn(text, "\r\n"), text);
}

static int print_document(struct cli *cli, const char *server, const char *tool)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *doc = NULL;
    int rc = cli_ask(cli, "GET", CLI_PATH("/v1/tools/", server, "/document"), NULL, &doc);
    if (rc < 0 || (cli->json && !tool))
        return rc < 0 ? rc : cli_print_json(cli, doc);
    const struct ramet_json *tools = ramet_json_get(doc, "tools");
    for (size_t i = 0; i < ramet_json_count(tools); i++) {
        const struct ramet_json *one = ramet_json_at(tools, i);
        if (tool && strcmp(ramet_json_str(one, "name", ""), tool) == 0)
            return cli_print_json(cli, one);
        if (!tool)
            print_tool(one);
    }
    return tool ? ramet_error_set(&cli->err, RAMET_NOT_FOUND, "server \"%.100s\" has no tool \"%.200s\"", server, tool)
                : 0;
}

static int list(struct cli *cli, const struct options *o, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    (void)o;
    if (argc > 1)
        return wrong(cli, "ls [SERVER[/TOOL]]");
    if (argc == 1) {
        struct tool_ref ref;
        int rc = tool_args_ref(cli, argv[0], &ref);
        if (rc == 0)
            rc = print_document(cli, ref.server, ref.tool);
        free(ref.server);
        return rc;
    }
    int rc = cli_call(cli, "GET", CLI_PATH("/v1/tools", "", ""), NULL, "listing servers", &answer);
    if (rc == 0 && !cli->json)
        print_servers(ramet_json_get(answer, "servers"));
    return rc;
}

/* Words as they are typed, joined. Owned by the caller; NULL when memory ran out. */
static char *join_words(int argc, char **argv)
{
    size_t size = 1;
    for (int i = 0; i < argc; i++)
        size += strlen(argv[i]) + 1;
    char *words = calloc(1, size);
    for (int i = 0; words && i < argc; i++) {
        strcat(words, i ? " " : "");
        strcat(words, argv[i]);
    }
    return words;
}

static int search(struct cli *cli, const struct options *o, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    _autofree_ char *words = join_words(argc, argv);
    (void)o;
    if (argc < 1)
        return wrong(cli, "search WORDS...");
    if (!words)
        return ramet_error_set(&cli->err, RAMET_NO_MEMORY, "no memory for a search");
    int rc = cli_call(cli, "GET", CLI_PATH("/v1/tool-search?words=", words, ""), NULL, "searching tools", &answer);
    const struct ramet_json *tools = ramet_json_get(answer, "tools");
    for (size_t i = 0; rc == 0 && !cli->json && i < ramet_json_count(tools); i++)
        printf("%s/%s: %s\n", ramet_json_str(ramet_json_at(tools, i), "server", ""),
               ramet_json_str(ramet_json_at(tools, i), "tool", ""),
               ramet_json_str(ramet_json_at(tools, i), "description", ""));
    return rc;
}

static int refresh(struct cli *cli, const struct options *o, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    struct ramet_error first = {0};
    int failed = 0;
    if (argc > 1)
        return wrong(cli, "refresh [SERVER]");
    if (argc == 1)
        return refresh_one(cli, argv[0], o);
    int rc = cli_ask(cli, "GET", CLI_PATH("/v1/tools", "", ""), NULL, &answer);
    const struct ramet_json *servers = ramet_json_get(answer, "servers");
    for (size_t i = 0; rc == 0 && i < ramet_json_count(servers); i++) {
        int one = refresh_one(cli, ramet_json_str(ramet_json_at(servers, i), "server", ""), o);
        if (one < 0 && failed == 0) {
            failed = one;
            first = cli->err;
        } else if (one < 0) {
            cli_report(&cli->err);
        }
    }
    if (failed)
        cli->err = first;
    return rc < 0 ? rc : failed;
}

static int remove_server(struct cli *cli, const struct options *o, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    (void)o;
    if (argc != 1)
        return wrong(cli, "rm SERVER");
    return cli_call(cli, "DELETE", CLI_PATH("/v1/tools/", argv[0], ""), NULL, "ending the server", &answer);
}

/* ---- differences ---- */

static void print_changes(const struct ramet_json *diff)
{
    const struct ramet_json *changes = ramet_json_get(diff, "changes");
    printf("version %s to %s: %zu changes\n", cli_value(diff, "from").s, cli_value(diff, "to").s,
           ramet_json_count(changes));
    for (size_t i = 0; i < ramet_json_count(changes); i++) {
        const struct ramet_json *one = ramet_json_at(changes, i), *paths = ramet_json_get(one, "paths");
        printf("%-8s %s %s", ramet_json_str(one, "change", ""), ramet_json_str(one, "kind", ""),
               ramet_json_str(one, "name", ""));
        for (size_t k = 0; k < ramet_json_count(paths); k++)
            printf("%s%s", k ? ", " : ": ", ramet_json_string_value(ramet_json_at(paths, k)));
        putchar('\n');
    }
}

static int diff(struct cli *cli, const struct options *o, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    char query[96] = "/diff";
    if (argc < 1 || argc > 2)
        return wrong(cli, "diff SERVER [VERSION]");
    uint64_t from = argc == 2 ? strtoull(argv[1], NULL, 10) : 0;
    if (argc == 2 && from == 0)
        return ramet_error_set(&cli->err, RAMET_INVALID, "\"%.50s\" is no version", argv[1]);
    if (from)
        snprintf(query, sizeof query, "/diff?from=%llu", (unsigned long long)from);
    (void)o;
    int rc = cli_call(cli, "GET", CLI_PATH("/v1/tools/", argv[0], query), NULL, "comparing", &answer);
    if (rc == 0 && !cli->json)
        print_changes(answer);
    return rc;
}

/* ---- calls ---- */

/* The text of a result's content, as a person reads it; what is no text is named. */
static void print_content(const struct ramet_json *result)
{
    const struct ramet_json *content = ramet_json_get(result, "content");
    for (size_t i = 0; i < ramet_json_count(content); i++) {
        const struct ramet_json *item = ramet_json_at(content, i);
        const char *text = ramet_json_str(item, "text", NULL), *type = ramet_json_str(item, "type", "?");
        if (text)
            puts(text);
        else
            printf("[%s%s%s]\n", type, ramet_json_get(item, "mimeType") ? " " : "",
                   ramet_json_str(item, "mimeType", ""));
    }
    if (ramet_json_count(content) == 0 && ramet_json_get(result, "structuredContent")) {
        _autofree_ char *text = ramet_json_pretty(ramet_json_get(result, "structuredContent"));
        puts(text ? text : "");
    }
}

static int call(struct cli *cli, const struct options *o, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *arguments = NULL;
    _autofree_ char *text = NULL;
    struct tool_ref ref;
    if (argc < 1 || argc > 2)
        return wrong(cli, "call SERVER/TOOL [JSON | -] [--arg K=V]...");
    int rc = tool_args_ref(cli, argv[0], &ref);
    if (rc == 0 && !ref.tool)
        rc = ramet_error_set(&cli->err, RAMET_INVALID, "\"%.200s\" names no tool: give SERVER/TOOL", argv[0]);
    if (rc == 0)
        rc = tool_args_arguments(cli, &ref, argc == 2 ? argv[1] : NULL, &o->args, &arguments);
    if (rc == 0)
        rc = tool_args_call(cli, &ref, arguments, o->timeout_ms, &text);
    free(ref.server);
    if (rc < 0)
        return rc;
    _cleanup_(ramet_json_cleanup) struct ramet_json *result = NULL;
    bool understood = ramet_json_parse_lenient(text, strlen(text), SIZE_MAX, &result, NULL) == 0;
    if (cli->json || !understood)
        puts(text); /* as the server wrote it */
    else
        print_content(result);
    return ramet_json_bool(result, "isError", false) ? 1 : 0;
}

/* ---- the command ---- */

static const struct verb {
    const char *name;
    int (*run)(struct cli *cli, const struct options *o, int argc, char **argv);
} verbs[] = {{"add", add},         {"import", import},    {"ls", list},   {"search", search},
             {"refresh", refresh}, {"rm", remove_server}, {"call", call}, {"diff", diff}};

int cmd_tools(struct cli *cli, int argc, char **argv)
{
    struct options o = {0};
    const struct cli_option options[] = {
        {0, "env", "K=V", CLI_LIST, &o.env, "add: a variable for the server; of K alone the value it has here"},
        {0, "cwd", "DIR", CLI_TEXT, &o.cwd, "add: where it starts [here]"},
        {0, "url", "URL", CLI_TEXT, &o.url, "add: a server that speaks Streamable HTTP"},
        {0, "header", "H", CLI_LIST, &o.headers, "add: \"Name: value\", sent with every request"},
        {0, "token-file", "FILE", CLI_TEXT, &o.token_file, "add: send what is in FILE as a bearer token"},
        {0, "replace", NULL, CLI_FLAG, &o.replace, "add, import: in the place of a server of that name"},
        {0, "arg", "K=V", CLI_LIST, &o.args, "call: an argument, taken as the schema has it"},
        {0, "timeout-ms", "MS", CLI_NUMBER, &o.timeout_ms, "call, refresh, add: how long to wait [60000]"},
        {0},
    };
    const struct cli_usage usage = {
        .line = "tools add|import|ls|search|refresh|rm|call|diff ...",
        .summary = "MCP servers, as tools for whoever uses this daemon.\n"
                   "add NAME -- COMMAND...: start a server. add NAME --url URL: use one over HTTP.\n"
                   "import FILE: all of {\"mcpServers\": ...}. ls [SERVER[/TOOL]]: servers, tools, a definition.\n"
                   "search WORDS...: the tools that fit best.\n"
                   "refresh [SERVER]: list anew. rm SERVER. diff SERVER [VERSION]: what changed since.\n"
                   "call SERVER/TOOL [JSON | -]: exit code 1 when the tool says that it failed.",
        .options = options,
        .min = 1,
        .max = -1};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (strcmp(verbs[i].name, argv[0]) == 0) {
            rc = verbs[i].run(cli, &o, argc - 1, argv + 1);
            cli_list_free(&o.env);
            cli_list_free(&o.headers);
            cli_list_free(&o.args);
            return rc;
        }
    ramet_error_set(&cli->err, RAMET_INVALID, "unknown tools command \"%.100s\"", argv[0]);
    return ramet_error_hint(&cli->err, "usage: ramet %s", usage.line);
}
