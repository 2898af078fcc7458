/* SPDX-License-Identifier: Apache-2.0 */
/* workspace (ws): all its commands but import and export, which are in cmd_workspace_tar.c. */
#include "base/cleanup.h"
#include "cli.h"
#include "cli_print.h"
#include "cmd_workspace_tar.h"
#include "commands.h"
#include "json.h"
#include "wire.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { none = -1 };
static const char *const where = "/v1/workspaces/";

struct options {
    uint64_t uid, gid, bytes, inodes;
    const char *state, *base, *take, *into;
    bool stat, patch, forget, dry_run, audit_opens;
};

static const struct cli_column columns[] = {
    {"NAME", "name"},       {"ID", "id"},          {"USED", "used_bytes"}, {"FILES", "inodes"},
    {"SANDBOX", "sandbox"}, {"AGE", "created_ms"}, {"PATH", "path"},       {NULL, NULL}};
static const struct cli_column state_columns[] = {
    {"STATE", "name"}, {"AGE", "created_ms"}, {"PATH", "path"}, {NULL, NULL}};

/* A call whose answer is a workspace; `verb` is what was done to it. */
static int change(struct cli *cli, const char *ref, const char *suffix, struct ramet_json *body, const char *verb)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    int rc = cli_call(cli, "POST", CLI_PATH(where, ref, suffix), body, verb, &answer);
    if (rc == 0 && !cli->json)
        printf("%s %s: %s\n", verb, ramet_json_str(answer, "name", ref), ramet_json_str(answer, "path", "?"));
    return rc;
}

static int create(struct cli *cli, const struct options *o, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    struct ramet_json *body = ramet_json_object();
    (void)argc;
    ramet_json_set_string(body, "name", argv[0]);
    if (o->uid != (uint64_t)none)
        ramet_json_set_u64(body, "uid", o->uid);
    if (o->gid != (uint64_t)none)
        ramet_json_set_u64(body, "gid", o->gid);
    cli_set_u64(body, "quota_bytes", o->bytes);
    cli_set_u64(body, "quota_inodes", o->inodes);
    if (o->audit_opens)
        ramet_json_set_bool(body, "audit_opens", true);
    int rc = cli_call(cli, "POST", CLI_PATH("/v1/workspaces", "", ""), body, "making a workspace", &answer);
    if (rc == 0 && !cli->json)
        printf("created %s: %s\n", argv[0], ramet_json_str(answer, "path", "?"));
    return rc;
}

static int list(struct cli *cli, const struct options *o, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    (void)o, (void)argc, (void)argv;
    int rc = cli_call(cli, "GET", CLI_PATH("/v1/workspaces", "", ""), NULL, "listing", &answer);
    if (rc == 0 && !cli->json)
        cli_table(ramet_json_get(answer, "workspaces"), columns);
    return rc;
}

static int show(struct cli *cli, const struct options *o, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    (void)o, (void)argc;
    int rc = cli_call(cli, "GET", CLI_PATH(where, argv[0], ""), NULL, "asking", &answer);
    if (rc == 0 && !cli->json)
        cli_object(answer);
    return rc;
}

static int fork_it(struct cli *cli, const struct options *o, int argc, char **argv)
{
    struct ramet_json *body = ramet_json_object();
    (void)argc;
    ramet_json_set_string(body, "name", argv[1]);
    cli_set_string(body, "state", o->state);
    return change(cli, argv[0], "/fork", body, "forked");
}

static int snapshot(struct cli *cli, const struct options *o, int argc, char **argv)
{
    struct ramet_json *body = ramet_json_object();
    (void)o;
    cli_set_string(body, "state", argc > 1 ? argv[1] : NULL);
    return change(cli, argv[0], "/snapshot", body, "kept");
}

static int forget(struct cli *cli, const char *workspace, const char *state)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    char suffix[128];
    snprintf(suffix, sizeof suffix, "/history?state=%s", state ? state : "");
    int rc = cli_call(cli, "DELETE", CLI_PATH(where, workspace, suffix), NULL, "removing", &answer);
    if (rc == 0 && !cli->json)
        printf("removed state %s of %s\n", state, workspace);
    return rc;
}

static int history(struct cli *cli, const struct options *o, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    (void)argc;
    if (o->forget)
        return forget(cli, argv[0], o->state);
    int rc = cli_call(cli, "GET", CLI_PATH(where, argv[0], "/history"), NULL, "asking", &answer);
    if (rc == 0 && !cli->json)
        cli_table(ramet_json_get(answer, "states"), state_columns);
    return rc;
}

static int rollback(struct cli *cli, const struct options *o, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    struct ramet_json *body = ramet_json_object();
    (void)o, (void)argc;
    ramet_json_set_string(body, "state", argv[1]);
    int rc = cli_call(cli, "POST", CLI_PATH(where, argv[0], "/rollback"), body, "rolling back", &answer);
    if (rc == 0 && !cli->json)
        printf("%s is %s again; what it was is kept as %s\n", argv[0], argv[1],
               ramet_json_str(ramet_json_get(answer, "before"), "name", "?"));
    return rc;
}

static int promote(struct cli *cli, const struct options *o, int argc, char **argv)
{
    (void)o, (void)argc;
    return change(cli, argv[0], "/promote", ramet_json_object(), "promoted");
}

static int rename_it(struct cli *cli, const struct options *o, int argc, char **argv)
{
    struct ramet_json *body = ramet_json_object();
    (void)o, (void)argc;
    ramet_json_set_string(body, "name", argv[1]);
    return change(cli, argv[0], "/rename", body, "renamed");
}

static int attach(struct cli *cli, const struct options *o, int argc, char **argv)
{
    struct ramet_json *body = ramet_json_object();
    (void)o;
    cli_set_string(body, "sandbox", argc > 1 ? argv[1] : NULL);
    return change(cli, argv[0], "/attach", body, argc > 1 ? "attached" : "detached");
}

static int quota(struct cli *cli, const struct options *o, int argc, char **argv)
{
    struct ramet_json *body = ramet_json_object();
    (void)argc;
    cli_set_u64(body, "quota_bytes", o->bytes);
    cli_set_u64(body, "quota_inodes", o->inodes);
    return change(cli, argv[0], "/quota", body, "limited");
}

static int audit(struct cli *cli, const struct options *o, int argc, char **argv)
{
    bool on = strcmp(argv[1], "on") == 0;
    (void)o, (void)argc;
    if (!on && strcmp(argv[1], "off") != 0)
        return ramet_error_set(&cli->err, RAMET_INVALID, "\"workspace audit\" takes on or off, not \"%s\"", argv[1]);
    struct ramet_json *body = ramet_json_object();
    ramet_json_set_bool(body, "opens", on);
    return change(cli, argv[0], "/audit", body, on ? "audited" : "not audited");
}

static int sync_it(struct cli *cli, const struct options *o, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    (void)o, (void)argc;
    return cli_call(cli, "POST", CLI_PATH(where, argv[0], "/sync"), ramet_json_object(), "syncing", &answer);
}

static void print_items(const struct ramet_json *answer)
{
    const struct ramet_json *items = ramet_json_get(answer, "items");
    for (size_t i = 0; i < ramet_json_count(items); i++) {
        const struct ramet_json *item = ramet_json_at(items, i);
        const char *old = ramet_json_str(item, "old_path", NULL);
        printf("%-16s %s%s%s\n", ramet_json_str(item, "what", "?"), old ? old : "", old ? " -> " : "",
               ramet_json_str(item, "path", "?"));
    }
}

static void print_sums(const struct ramet_json *answer)
{
    printf("%s added, %s removed, %s changed, %s renamed; +%s -%s lines, +%s -%s\n", cli_value(answer, "added").s,
           cli_value(answer, "removed").s, cli_value(answer, "changed").s, cli_value(answer, "renamed").s,
           cli_value(answer, "lines_added").s, cli_value(answer, "lines_removed").s, cli_value(answer, "bytes_added").s,
           cli_value(answer, "bytes_removed").s);
}

static int diff(struct cli *cli, const struct options *o, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    char suffix[256];
    snprintf(suffix, sizeof suffix, "/diff?patch=%d%s%s", o->patch, argc > 1 ? "&against=" : "",
             argc > 1 ? argv[1] : "");
    int rc = cli_call(cli, "GET", CLI_PATH(where, argv[0], suffix), NULL, "comparing", &answer);
    if (rc < 0 || cli->json)
        return rc;
    if (o->patch) {
        _autofree_ char *patch = NULL;
        size_t size = 0;
        rc = ramet_wire_get_bytes(answer, "patch", &patch, &size, &cli->err);
        if (rc == 0)
            fwrite(patch, 1, size, stdout);
        return rc;
    }
    if (!o->stat)
        print_items(answer);
    print_sums(answer);
    return 0;
}

/* Unresolved conflicts are listed and are the exit code of a conflict. */
static int merge(struct cli *cli, const struct options *o, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    struct ramet_json *body = ramet_json_object();
    (void)argc;
    ramet_json_set_string(body, "from", argv[1]);
    cli_set_string(body, "base", o->base);
    cli_set_string(body, "strategy", o->take);
    if (o->dry_run)
        ramet_json_set_bool(body, "dry_run", true);
    int rc = cli_call(cli, "POST", CLI_PATH(where, argv[0], "/merge"), body, "merging", &answer);
    if (rc < 0)
        return rc;
    const struct ramet_json *conflicts = ramet_json_get(answer, "conflicts");
    for (size_t i = 0; !cli->json && i < ramet_json_count(conflicts); i++) {
        const struct ramet_json *conflict = ramet_json_at(conflicts, i);
        printf("%-16s %s\n", ramet_json_str(conflict, "kind", "?"), ramet_json_str(conflict, "path", "?"));
    }
    if (!cli->json && ramet_json_bool(answer, "applied", false))
        printf("merged %s into %s: %s names, %s files, %s texts of both\n", argv[1], argv[0],
               cli_value(answer, "names").s, cli_value(answer, "files").s, cli_value(answer, "merged_texts").s);
    return ramet_json_int(answer, "unresolved", 0) ? ramet_code_exit(RAMET_CONFLICT) : 0;
}

static int import_it(struct cli *cli, const struct options *o, int argc, char **argv)
{
    char numbers[4][24] = {"", "", "", ""};
    const uint64_t values[4] = {o->uid, o->gid, o->bytes, o->inodes};
    (void)argc;
    for (size_t i = 0; i < 4; i++)
        if (i < 2 ? values[i] != (uint64_t)none : values[i] > 0)
            snprintf(numbers[i], sizeof numbers[i], "%" PRIu64, values[i]);
    const struct workspace_archive options = {
        .into = o->into, .uid = numbers[0], .gid = numbers[1], .bytes = numbers[2], .inodes = numbers[3]};
    return cmd_workspace_import(cli, &options, argv[0], argv[1]);
}

static int export_it(struct cli *cli, const struct options *o, int argc, char **argv)
{
    const struct workspace_archive options = {.state = o->state};
    return cmd_workspace_export(cli, &options, argv[0], argc > 1 ? argv[1] : NULL);
}

static int remove_all(struct cli *cli, const struct options *o, int argc, char **argv)
{
    int code = 0;
    (void)o;
    for (int i = 0; i < argc; i++) {
        _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
        if (cli_call(cli, "DELETE", CLI_PATH(where, argv[i], ""), NULL, "removing", &answer) < 0) {
            int exit_code = cli_report(&cli->err);
            code = code ? code : exit_code;
        } else if (!cli->json) {
            printf("removed workspace %s\n", argv[i]);
        }
    }
    return code;
}

static const struct verb {
    const char *name;
    int min, max;
    int (*run)(struct cli *cli, const struct options *o, int argc, char **argv);
} verbs[] = {
    {"create", 1, 1, create},     {"ls", 0, 0, list},         {"show", 1, 1, show},         {"fork", 2, 2, fork_it},
    {"snapshot", 1, 2, snapshot}, {"history", 1, 1, history}, {"rollback", 2, 2, rollback}, {"promote", 1, 1, promote},
    {"rename", 2, 2, rename_it},  {"attach", 1, 2, attach},   {"quota", 1, 1, quota},       {"sync", 1, 1, sync_it},
    {"diff", 1, 2, diff},         {"merge", 2, 2, merge},     {"rm", 1, -1, remove_all},    {"import", 2, 2, import_it},
    {"export", 1, 2, export_it},  {"audit", 2, 2, audit},
};

int cmd_workspace(struct cli *cli, int argc, char **argv)
{
    struct options o = {.uid = (uint64_t)none, .gid = (uint64_t)none};
    const struct cli_option options[] = {
        {0, "uid", "UID", CLI_NUMBER, &o.uid, "create, import: owner of its root directory [the caller]"},
        {0, "gid", "GID", CLI_NUMBER, &o.gid, "create, import: its group [as the owner's number]"},
        {0, "bytes", "SIZE", CLI_SIZE, &o.bytes, "create, import, quota: what it may hold, like 2G [no limit]"},
        {0, "inodes", "N", CLI_NUMBER, &o.inodes, "create, import, quota: how many files [no limit]"},
        {0, "audit-opens", NULL, CLI_FLAG, &o.audit_opens, "create: each open of a file is told in the audit"},
        {0, "state", "STATE", CLI_TEXT, &o.state, "fork, export: of a past state; history --forget: which"},
        {0, "into", "PATH", CLI_TEXT, &o.into, "import: a directory of a workspace that is there [a new one is made]"},
        {0, "base", "TREE", CLI_TEXT, &o.base, "merge: the common ancestor, where it is not known"},
        {0, "take", "SIDE", CLI_TEXT, &o.take, "merge: what conflicts become, ours or theirs [they are listed]"},
        {0, "dry-run", NULL, CLI_FLAG, &o.dry_run, "merge: only look for conflicts"},
        {0, "stat", NULL, CLI_FLAG, &o.stat, "diff: sums only"},
        {0, "patch", NULL, CLI_FLAG, &o.patch, "diff: as git prints it"},
        {0, "forget", NULL, CLI_FLAG, &o.forget, "history: remove the state named with --state"},
        {0},
    };
    const struct cli_usage usage = {
        .line = "workspace "
                "create|ls|show|fork|snapshot|history|rollback|promote|rename|attach|quota|audit|sync|diff|merge|rm|"
                "import|export [ARGUMENT]... [OPTION]...",
        .summary = "Trees of files on the mount, which fork in O(1).",
        .options = options,
        .min = 1,
        .max = -1};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc < 0)
        return rc;
    for (const struct verb *verb = verbs; verb < verbs + sizeof verbs / sizeof *verbs; verb++) {
        if (strcmp(verb->name, argv[0]) != 0)
            continue;
        if (argc - 1 < verb->min || (verb->max >= 0 && argc - 1 > verb->max)) {
            ramet_error_set(&cli->err, RAMET_INVALID, "wrong number of arguments for \"workspace %s\"", verb->name);
            return ramet_error_hint(&cli->err, "'ramet help workspace' and ramet(1) explain it");
        }
        return verb->run(cli, &o, argc - 1, argv + 1);
    }
    ramet_error_set(&cli->err, RAMET_INVALID, "unknown command \"workspace %.100s\"", argv[0]);
    return ramet_error_hint(&cli->err, "'ramet help workspace' lists them");
}
