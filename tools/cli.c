/* SPDX-License-Identifier: Apache-2.0 */
/* Options, calls and errors of the command line. One thread, but for the progress line. */
#include "cli.h"

#include "base/cleanup.h"
#include "json.h"
#include "progress.h"
#include "ramet.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- options ---- */

static void print_option(const struct cli_option *o)
{
    char left[64];
    int used = o->letter ? snprintf(left, sizeof left, "-%c, --%s", o->letter, o->name)
                         : snprintf(left, sizeof left, "    --%s", o->name);
    if (o->value)
        snprintf(left + used, sizeof left - (size_t)used, " %s", o->value);
    printf("  %-26s %s\n", left, o->help);
}

static void print_usage(const struct cli_usage *usage, const struct cli_option *common)
{
    printf("Usage: ramet %s\n%s\n\n", usage->line, usage->summary);
    for (const struct cli_option *o = usage->options; o && o->name; o++)
        print_option(o);
    for (; common->name; common++)
        print_option(common);
}

/* Finds --name, --name=value or -n; *ret_value is what follows the = or the letter, or NULL. */
static const struct cli_option *find_option(const struct cli_option *o, const char *arg, const char **ret_value)
{
    bool is_long = arg[1] == '-';
    size_t length = strcspn(arg + 2, "=");
    for (; o && o->name; o++) {
        if (is_long && strlen(o->name) == length && memcmp(arg + 2, o->name, length) == 0) {
            *ret_value = arg[2 + length] ? arg + 3 + length : NULL;
            return o;
        }
        if (!is_long && o->letter && arg[1] == o->letter) {
            *ret_value = arg[2] ? arg + 2 : NULL;
            return o;
        }
    }
    return NULL;
}

static int parse_number(const struct cli_option *o, const char *text, struct ramet_error *err)
{
    static const char units[] = "KMGT";
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10), factor = 1;
    if (o->kind == CLI_SIZE && *end && strchr(units, *end)) {
        factor = UINT64_C(1) << (10 * (strchr(units, *end) - units + 1));
        end++;
    }
    if (*text < '0' || *text > '9' || *end || errno || value > UINT64_MAX / factor)
        return ramet_error_set(err, RAMET_INVALID, "--%s: \"%.100s\" is no %s", o->name, text,
                               o->kind == CLI_SIZE ? "size like 512M" : "number");
    *(uint64_t *)o->to = value * factor;
    return 0;
}

static int add_to_list(struct cli_list *list, const char *value, struct ramet_error *err)
{
    const char **grown = reallocarray(list->items, list->count + 1, sizeof *grown);
    if (!grown)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the command line");
    list->items = grown;
    list->items[list->count++] = value;
    return 0;
}

void cli_list_free(struct cli_list *list)
{
    free(list->items);
    *list = (struct cli_list){0};
}

static int store_option(const struct cli_option *o, const char *value, struct ramet_error *err)
{
    switch (o->kind) {
    case CLI_FLAG: *(bool *)o->to = true; return 0;
    case CLI_TEXT: *(const char **)o->to = value; return 0;
    case CLI_LIST: return add_to_list(o->to, value, err);
    case CLI_NUMBER:
    case CLI_SIZE: break;
    }
    return parse_number(o, value, err);
}

/* Takes the option at argv[*at], and its value, which may be the next argument. */
static int take_option(const struct cli_option *own, const struct cli_option *common, int argc, char **argv, int *at,
                       struct ramet_error *err)
{
    const char *arg = argv[*at], *value = NULL;
    const struct cli_option *o = find_option(own, arg, &value);
    if (!o)
        o = find_option(common, arg, &value);
    if (!o)
        return ramet_error_set(err, RAMET_INVALID, "unknown option %.100s", arg);
    if (o->kind == CLI_FLAG && value)
        return ramet_error_set(err, RAMET_INVALID, "--%s takes no value", o->name);
    if (o->kind != CLI_FLAG && !value && ++*at < argc)
        value = argv[*at];
    if (o->kind != CLI_FLAG && !value)
        return ramet_error_set(err, RAMET_INVALID, "--%s needs %s", o->name, o->value);
    return store_option(o, value, err);
}

/* Reads all of argv; the positional arguments are packed at its front. */
static int take_all(const struct cli_usage *usage, const struct cli_option *common, int *argc, char **argv,
                    struct ramet_error *err)
{
    int count = 0, rc = 0;
    bool options_end = false;
    for (int i = 0; rc == 0 && i < *argc; i++) {
        bool is_option = !options_end && argv[i][0] == '-' && argv[i][1];
        if (is_option && strcmp(argv[i], "--") == 0) {
            options_end = true;
        } else if (is_option) {
            rc = take_option(usage->options, common, *argc, argv, &i, err);
        } else {
            argv[count++] = argv[i];
            options_end = options_end || count == usage->command_at;
        }
    }
    *argc = count;
    return rc;
}

int cli_parse(struct cli *cli, const struct cli_usage *usage, int *argc, char **argv)
{
    bool help = false;
    const struct cli_option common[] = {
        {0, "json", NULL, CLI_FLAG, &cli->json, "print the API's answer"},
        {0, "socket", "PATH", CLI_TEXT, &cli->socket, "the daemon's socket [$RAMET_SOCKET]"},
        {'h', "help", NULL, CLI_FLAG, &help, "print this"},
        {0},
    };
    int rc = take_all(usage, common, argc, argv, &cli->err);
    if (help) {
        print_usage(usage, common);
        exit(0);
    }
    if (rc == 0 && *argc < usage->min)
        rc = ramet_error_set(&cli->err, RAMET_INVALID, "an argument is missing");
    if (rc == 0 && usage->max >= 0 && *argc > usage->max)
        rc = ramet_error_set(&cli->err, RAMET_INVALID, "unexpected argument \"%.100s\"", argv[usage->max]);
    for (int i = 0; rc == 0 && i < usage->min; i++)
        if (!*argv[i])
            rc = ramet_error_set(&cli->err, RAMET_INVALID, "argument %d is empty", i + 1);
    return rc < 0 ? ramet_error_hint(&cli->err, "usage: ramet %s", usage->line) : 0;
}

/* ---- errors ---- */

int cli_report(const struct ramet_error *err)
{
    fflush(stdout);
    fprintf(stderr, "ramet: %s\n", err->msg);
    if (*err->hint)
        fprintf(stderr, "  hint: %s\n", err->hint);
    return ramet_code_exit(err->code);
}

/* ---- calls ---- */

int cli_print_json(struct cli *cli, const struct ramet_json *answer)
{
    _autofree_ char *text = ramet_json_pretty(answer);
    if (!text)
        return ramet_error_set(&cli->err, RAMET_NO_MEMORY, "no memory to print the answer");
    puts(text);
    return 0;
}

int cli_ask(struct cli *cli, const char *method, const char *const path[static 3], struct ramet_json *body,
            struct ramet_json **ret)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *request = body;
    _autofree_ char *full = ramet_client_path(path[0], path[1], path[2]);
    _autofree_ char *text = ramet_json_text(request);
    _autofree_ char *answer = NULL;
    if (!full || (request && !text))
        return ramet_error_set(&cli->err, RAMET_NO_MEMORY, "no memory for a call");
    int rc = cli->client ? 0 : ramet_client_new(cli->socket, &cli->client, &cli->err);
    if (rc == 0)
        rc = ramet_client_call(cli->client, method, full, text, NULL, &answer, &cli->err);
    return rc < 0 ? rc : ramet_json_parse(answer, strlen(answer), ret, &cli->err);
}

int cli_call(struct cli *cli, const char *method, const char *const path[static 3], struct ramet_json *body,
             const char *doing, struct ramet_json **ret)
{
    struct progress *progress = progress_start(doing);
    int rc = cli_ask(cli, method, path, body, ret);
    progress_stop(progress);
    return rc == 0 && cli->json ? cli_print_json(cli, *ret) : rc;
}

void cli_set_string(struct ramet_json *body, const char *key, const char *value)
{
    if (value)
        ramet_json_set_string(body, key, value);
}

void cli_set_u64(struct ramet_json *body, const char *key, uint64_t value)
{
    if (value)
        ramet_json_set_u64(body, key, value);
}
