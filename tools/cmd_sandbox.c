/* SPDX-License-Identifier: Apache-2.0 */
/* run, rollback, promote, pause, resume, rm. */
#include "base/cleanup.h"
#include "cli.h"
#include "cli_print.h"
#include "commands.h"
#include "json.h"

#include <stdio.h>

int cmd_run(struct cli *cli, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    const char *name = NULL;
    uint64_t memory_bytes = 0, cpus = 0, wait_ms = 0;
    const struct cli_option options[] = {
        {0, "name", "NAME", CLI_TEXT, &name, "its name [made up]"},
        {0, "memory", "SIZE", CLI_SIZE, &memory_bytes, "guest memory, like 512M [the snapshot's]"},
        {0, "cpus", "N", CLI_NUMBER, &cpus, "virtual CPUs [the snapshot's]"},
        {0, "wait-ms", "MS", CLI_NUMBER, &wait_ms, "until its guest agent must answer [60000]"},
        {0},
    };
    const struct cli_usage usage = {.line = "run [SNAPSHOT] [OPTION]...",
                                    .summary =
                                        "Starts a sandbox on a snapshot [debian]: boots a template, restores memory.",
                                    .options = options,
                                    .max = 1};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc < 0)
        return rc;
    struct ramet_json *body = ramet_json_object();
    cli_set_string(body, "snapshot", argc ? argv[0] : NULL);
    cli_set_string(body, "name", name);
    cli_set_u64(body, "memory_bytes", memory_bytes);
    cli_set_u64(body, "cpus", cpus);
    cli_set_u64(body, "wait_ms", wait_ms);
    rc = cli_call(cli, "POST", CLI_PATH("/v1/sandboxes", "", ""), body, "starting a sandbox", &answer);
    if (rc < 0 || cli->json)
        return rc;
    const struct ramet_json *sandbox = ramet_json_get(answer, "sandbox");
    printf("%s (%s) runs, answered after %s\n", ramet_json_str(sandbox, "name", "?"),
           ramet_json_str(sandbox, "id", "?"), cli_value(ramet_json_get(answer, "timing"), "answer_us").s);
    return 0;
}

int cmd_rollback(struct cli *cli, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    bool no_wait = false;
    uint64_t wait_ms = 0;
    const struct cli_option options[] = {
        {0, "no-wait", NULL, CLI_FLAG, &no_wait, "return when it runs, before its guest agent answers"},
        {0, "wait-ms", "MS", CLI_NUMBER, &wait_ms, "until its guest agent must answer [60000]"},
        {0},
    };
    const struct cli_usage usage = {.line = "rollback SANDBOX SNAPSHOT [OPTION]...",
                                    .summary = "Takes a sandbox's memory, devices and disks back to a snapshot.",
                                    .options = options,
                                    .min = 2,
                                    .max = 2};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc < 0)
        return rc;
    struct ramet_json *body = ramet_json_object();
    ramet_json_set_string(body, "snapshot", argv[1]);
    if (no_wait)
        ramet_json_set_bool(body, "wait_answer", false);
    cli_set_u64(body, "wait_ms", wait_ms);
    rc = cli_call(cli, "POST", CLI_PATH("/v1/sandboxes/", argv[0], "/rollback"), body, "rolling back", &answer);
    if (rc < 0 || cli->json)
        return rc;
    const struct ramet_json *sandbox = ramet_json_get(answer, "sandbox"), *timing = ramet_json_get(answer, "timing");
    printf("%s is %s again and %s", ramet_json_str(sandbox, "name", "?"), ramet_json_str(sandbox, "base", "?"),
           ramet_json_str(sandbox, "state", "?"));
    if (ramet_json_int(timing, "running_us", 0))
        printf(", ran after %s", cli_value(timing, "running_us").s);
    printf("\n");
    return 0;
}

/* ---- pause and resume ---- */

static int change(struct cli *cli, const struct cli_usage *usage, int argc, char **argv, const char *verb,
                  const char *doing)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    int rc = cli_parse(cli, usage, &argc, argv);
    if (rc == 0)
        rc = cli_call(cli, "POST", CLI_PATH("/v1/sandboxes/", argv[0], verb), ramet_json_object(), doing, &answer);
    if (rc == 0 && !cli->json)
        printf("%s is %s\n", ramet_json_str(answer, "name", argv[0]), ramet_json_str(answer, "state", "?"));
    return rc;
}

int cmd_pause(struct cli *cli, int argc, char **argv)
{
    const struct cli_usage usage = {
        .line = "pause SANDBOX", .summary = "Stops a sandbox's CPUs; it keeps its memory.", .min = 1, .max = 1};
    return change(cli, &usage, argc, argv, "/pause", "pausing");
}

int cmd_resume(struct cli *cli, int argc, char **argv)
{
    const struct cli_usage usage = {
        .line = "resume SANDBOX", .summary = "Lets a paused sandbox run on.", .min = 1, .max = 1};
    return change(cli, &usage, argc, argv, "/resume", "resuming");
}

int cmd_promote(struct cli *cli, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    const struct cli_usage usage = {.line = "promote SANDBOX",
                                    .summary = "Gives a sandbox the name and place of its parent, which is removed.",
                                    .min = 1,
                                    .max = 1};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc == 0)
        rc = cli_call(cli, "POST", CLI_PATH("/v1/sandboxes/", argv[0], "/promote"), ramet_json_object(), "promoting",
                      &answer);
    if (rc == 0 && !cli->json)
        printf("%s is %s now, which is removed\n", argv[0], ramet_json_str(answer, "name", "?"));
    return rc;
}

/* ---- rm ---- */

static int remove_as(struct cli *cli, const char *prefix, const char *kind, const char *ref)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    int rc = cli_call(cli, "DELETE", CLI_PATH(prefix, ref, ""), NULL, "removing", &answer);
    if (rc == 0 && !cli->json)
        printf("removed %s %s\n", kind, ref);
    return rc;
}

static int remove_one(struct cli *cli, const char *ref, bool snapshot)
{
    int rc = snapshot ? -RAMET_NOT_FOUND : remove_as(cli, "/v1/sandboxes/", "sandbox", ref);
    if (rc == -RAMET_NOT_FOUND)
        rc = remove_as(cli, "/v1/snapshots/", "snapshot", ref);
    if (rc == -RAMET_NOT_FOUND && !snapshot) {
        ramet_error_set(&cli->err, RAMET_NOT_FOUND, "no sandbox and no snapshot is called \"%.200s\"", ref);
        ramet_error_hint(&cli->err, "'ramet tree' shows all");
    }
    return rc;
}

int cmd_rm(struct cli *cli, int argc, char **argv)
{
    bool snapshot = false;
    const struct cli_option options[] = {
        {0, "snapshot", NULL, CLI_FLAG, &snapshot, "only snapshots, whatever sandboxes are called"},
        {0},
    };
    const struct cli_usage usage = {.line = "rm REF... [--snapshot]",
                                    .summary = "Removes each REF: the sandbox of that name, else the snapshot.",
                                    .options = options,
                                    .min = 1,
                                    .max = -1};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc < 0)
        return rc;
    /* One that fails does not save the others; the first failure is the exit code. */
    int code = 0;
    for (int i = 0; i < argc; i++)
        if (remove_one(cli, argv[i], snapshot) < 0) {
            int exit_code = cli_report(&cli->err);
            code = code ? code : exit_code;
        }
    return code;
}
