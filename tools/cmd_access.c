/* SPDX-License-Identifier: Apache-2.0 */
/* audit and policy: who may do what, and who did. */
#include "audit_verify.h"
#include "base/cleanup.h"
#include "cli.h"
#include "cli_print.h"
#include "commands.h"
#include "json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { ask_again_ms = 500, lines_default = 20 };

struct options {
    uint64_t lines, after, from;
    const char *dir;
};

/* ---- lines ---- */

/* "2026-11-28T06:13:15.371790Z denied claude callTool tool:github/x: why" */
static void print_line(const struct ramet_json *line)
{
    const struct ramet_json *actor = ramet_json_get(line, "actor");
    const char *error = ramet_json_str(line, "error.type", ""), *reason = ramet_json_str(line, "reason", "");
    printf("%8" PRId64 "  %s  %-7s %-12s %s %s%s%s\n", ramet_json_int(line, "seq", 0),
           ramet_json_str(line, "time", "?"), ramet_json_str(line, "event", "?"),
           ramet_json_str(actor, "name", "nobody"), ramet_json_str(line, "action", "?"),
           ramet_json_str(line, "object", ""), *error || *reason ? "  # " : "", *error ? error : reason);
}

static int print_answer(struct cli *cli, const struct ramet_json *answer)
{
    const struct ramet_json *lines = ramet_json_get(answer, "lines");
    for (size_t i = 0; i < ramet_json_count(lines); i++) {
        _autofree_ char *text = cli->json ? ramet_json_text(ramet_json_at(lines, i)) : NULL;
        if (text)
            puts(text);
        else
            print_line(ramet_json_at(lines, i));
    }
    fflush(stdout);
    return 0;
}

static int get_lines(struct cli *cli, uint64_t after, uint64_t lines, struct ramet_json **ret)
{
    char suffix[96];
    if (after)
        snprintf(suffix, sizeof suffix, "?after=%" PRIu64 "&limit=%" PRIu64, after, lines);
    else
        snprintf(suffix, sizeof suffix, "?limit=%" PRIu64, lines);
    return cli_ask(cli, "GET", CLI_PATH("/v1/audit", "", suffix), NULL, ret);
}

static int list(struct cli *cli, const struct options *o)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    int rc = get_lines(cli, o->after, o->lines ? o->lines : lines_default, &answer);
    return rc < 0 ? rc : print_answer(cli, answer);
}

/* Until it is interrupted; its own asking is not shown. */
static int follow(struct cli *cli, const struct options *o)
{
    const struct timespec pause = {.tv_nsec = ask_again_ms * 1000000L};
    uint64_t after = o->after, count = o->lines ? o->lines : lines_default;
    for (;;) {
        _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
        _cleanup_(ramet_json_cleanup) struct ramet_json *shown = ramet_json_object();
        struct ramet_json *kept = ramet_json_array();
        int rc = get_lines(cli, after, count, &answer);
        const struct ramet_json *lines = ramet_json_get(answer, "lines");
        for (size_t i = 0; i < ramet_json_count(lines); i++) {
            const struct ramet_json *line = ramet_json_at(lines, i);
            after = (uint64_t)ramet_json_int(line, "seq", 0);
            if (strcmp(ramet_json_str(line, "action", ""), "getAudit") != 0)
                ramet_json_append(kept, ramet_json_copy(line));
        }
        ramet_json_set(shown, "lines", kept);
        if (rc < 0)
            return rc;
        print_answer(cli, shown);
        count = 1000;
        nanosleep(&pause, NULL);
    }
}

/* ---- verifying ---- */

static int print_report(struct cli *cli, const struct ramet_json *answer)
{
    const struct ramet_json *head = ramet_json_get(answer, "head");
    static const char *const keys[] = {"report", "notes"};
    int64_t problems = ramet_json_int(answer, "problems", 0);
    if (cli->json) {
        int rc = cli_print_json(cli, answer);
        if (rc < 0)
            return rc;
    }
    for (size_t k = 0; !cli->json && k < 2; k++) {
        const struct ramet_json *lines = ramet_json_get(answer, keys[k]);
        for (size_t i = 0; i < ramet_json_count(lines); i++)
            printf("%s%s\n", k ? "note: " : "", ramet_json_string_value(ramet_json_at(lines, i)));
    }
    if (!cli->json)
        printf("%" PRId64 " lines in %" PRId64 " files, %" PRId64 " problems; line %" PRId64 " has the hash %s\n",
               ramet_json_int(answer, "lines", 0), ramet_json_int(answer, "files", 0), problems,
               ramet_json_int(head, "seq", 0), ramet_json_str(head, "hash", ""));
    return problems ? ramet_code_exit(RAMET_CORRUPT) : 0;
}

static struct ramet_json *text_lines(char *text)
{
    struct ramet_json *lines = ramet_json_array();
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        ramet_json_append(lines, ramet_json_string(line));
    return lines;
}

/* Without a daemon, from the files alone. */
static int verify_files(struct cli *cli, const struct options *o, struct ramet_json **ret)
{
    struct ramet_audit_report report;
    const struct ramet_audit_expect expect = {.from = o->from};
    int rc = ramet_audit_verify(o->dir, &expect, &report, &cli->err);
    if (rc < 0)
        return rc;
    struct ramet_json *answer = ramet_json_object(), *head = ramet_json_object();
    ramet_json_set_u64(answer, "files", report.files);
    ramet_json_set_u64(answer, "lines", report.lines);
    ramet_json_set_u64(answer, "problems", report.problems);
    ramet_json_set(answer, "report", text_lines(report.problem_lines));
    ramet_json_set(answer, "notes", text_lines(report.notes));
    ramet_json_set_u64(head, "seq", report.seq);
    ramet_json_set_string(head, "hash", report.hash);
    ramet_json_set(answer, "head", head);
    ramet_audit_report_clear(&report);
    *ret = answer;
    return 0;
}

static int verify(struct cli *cli, const struct options *o)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    char suffix[64] = "";
    if (o->from)
        snprintf(suffix, sizeof suffix, "?from=%" PRIu64, o->from);
    int rc = o->dir ? verify_files(cli, o, &answer)
                    : cli_ask(cli, "GET", CLI_PATH("/v1/audit/verify", "", suffix), NULL, &answer);
    return rc < 0 ? rc : print_report(cli, answer);
}

int cmd_audit(struct cli *cli, int argc, char **argv)
{
    struct options o = {0};
    const struct cli_option options[] = {
        {'n', "lines", "N", CLI_NUMBER, &o.lines, "ls, tail: so many lines, up to 1000 [20]"},
        {0, "after", "SEQ", CLI_NUMBER, &o.after, "ls, tail: those after line SEQ"},
        {0, "from", "SEQ", CLI_NUMBER, &o.from, "verify: the first line there is, where older files were put away"},
        {0, "dir", "DIR", CLI_TEXT, &o.dir, "verify: these files, without a daemon"},
        {0},
    };
    const struct cli_usage usage = {.line = "audit ls|tail|verify [OPTION]...",
                                    .summary =
                                        "Shows who did or was refused what; verify finds what was tampered with.",
                                    .options = options,
                                    .min = 1,
                                    .max = 1};
    static const struct {
        const char *name;
        int (*run)(struct cli *cli, const struct options *o);
    } actions[] = {{"ls", list}, {"tail", follow}, {"verify", verify}};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
        if (strcmp(argv[0], actions[i].name) == 0)
            return actions[i].run(cli, &o);
    ramet_error_set(&cli->err, RAMET_INVALID, "unknown action \"%.100s\"", argv[0]);
    return ramet_error_hint(&cli->err, "usage: ramet %s", usage.line);
}

/* ---- policy ---- */

static int show_policy(struct cli *cli, bool reload)
{
    static const struct cli_column columns[] = {{"NAME", "name"},   {"ROLE", "role"}, {"USER", "user"},
                                                {"AGENT", "agent"}, {"UID", "uid"},   {"TOKENS", "tokens"},
                                                {"TOOLS", "tools"}, {NULL, NULL}};
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    int rc = reload ? cli_call(cli, "POST", CLI_PATH("/v1/policy/reload", "", ""), ramet_json_object(),
                               "reading the policy", &answer)
                    : cli_call(cli, "GET", CLI_PATH("/v1/policy", "", ""), NULL, "reading the policy", &answer);
    if (rc < 0 || cli->json)
        return rc;
    const char *file = ramet_json_str(answer, "file", ""), *error = ramet_json_str(answer, "error", "");
    printf("policy %s%s%s\n", ramet_json_str(answer, "id", "?"), *file ? " of " : "", file);
    if (*error)
        printf("the file as it is now is not in force: %s\n", error);
    cli_table(ramet_json_get(answer, "principals"), columns);
    return 0;
}

static int show_self(struct cli *cli)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    int rc = cli_call(cli, "GET", CLI_PATH("/v1/principal", "", ""), NULL, "asking the daemon", &answer);
    if (rc == 0 && !cli->json)
        cli_object(answer);
    return rc;
}

int cmd_policy(struct cli *cli, int argc, char **argv)
{
    const struct cli_usage usage = {
        .line = "policy show|reload|whoami", .summary = "Shows who may do what.", .min = 1, .max = 1};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc < 0)
        return rc;
    if (strcmp(argv[0], "show") == 0 || strcmp(argv[0], "reload") == 0)
        return show_policy(cli, *argv[0] == 'r');
    if (strcmp(argv[0], "whoami") == 0)
        return show_self(cli);
    ramet_error_set(&cli->err, RAMET_INVALID, "unknown action \"%.100s\"", argv[0]);
    return ramet_error_hint(&cli->err, "usage: ramet %s", usage.line);
}
