/* SPDX-License-Identifier: Apache-2.0 */
/* fork, snapshot, restore: a machine's instant taken and started again. */
#include "base/cleanup.h"
#include "cli.h"
#include "cli_print.h"
#include "commands.h"
#include "json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct cli_column started_columns[] = {
    {"NAME", "sandbox.name"},         {"ID", "sandbox.id"}, {"RUNNING", "timing.running_us"},
    {"ANSWERED", "timing.answer_us"}, {NULL, NULL},
};

/* For --timing: its VMM (taken from those that waited, or spawned), what its start took, and since the call began. */
static const struct cli_column timed_columns[] = {
    {"NAME", "sandbox.name"},         {"POOLED", "timing.pooled"},
    {"SPAWN", "timing.spawn_us"},     {"LOAD", "timing.load_us"},
    {"START", "timing.start_us"},     {"RUNNING", "timing.running_us"},
    {"ANSWERED", "timing.answer_us"}, {NULL, NULL},
};

/* Where the time of a capture went, for --timing: before the pause, in it by its steps, after it. */
static void print_timing(const struct ramet_json *timing)
{
    static const char *const steps[] = {"stop_us", "state_us",  "scan_us",  "copy_us",
                                        "hold_us", "freeze_us", "resume_us"};
    printf("prepare %s, pause %s:", cli_value(timing, "prepare_us").s, cli_value(timing, "pause_us").s);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        printf(" %.*s %s", (int)(strchr(steps[i], '_') - steps[i]), steps[i], cli_value(timing, steps[i]).s);
    printf("; collect %s\n", cli_value(timing, "collect_us").s);
}

/* ---- fork ---- */

/* One child has the name as it is, several have it numbered. */
static void set_names(struct ramet_json *body, const char *name, uint64_t count)
{
    struct ramet_json *names = ramet_json_array();
    char numbered[128];
    for (uint64_t i = 1; i <= count && i <= 4096; i++) {
        if (count == 1)
            snprintf(numbered, sizeof numbered, "%s", name);
        else
            snprintf(numbered, sizeof numbered, "%s-%" PRIu64, name, i);
        ramet_json_append(names, ramet_json_string(numbered));
    }
    ramet_json_set(body, "names", names);
}

static void print_fork(const struct ramet_json *answer, const char *sandbox, bool with_timing)
{
    const struct ramet_json *snapshot = ramet_json_get(answer, "snapshot"), *timing = ramet_json_get(answer, "timing");
    printf("forked %s at snapshot %s in %s; it paused for %s\n", sandbox, ramet_json_str(snapshot, "id", "?"),
           cli_value(timing, "total_us").s, cli_value(timing, "pause_us").s);
    if (with_timing)
        print_timing(timing);
    cli_table(ramet_json_get(answer, "children"), with_timing ? timed_columns : started_columns);
}

int cmd_fork(struct cli *cli, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    const char *name = NULL, *tag = NULL;
    uint64_t count = 1, wait_ms = 0;
    bool with_timing = false, wait_durable = false, no_wait = false;
    const struct cli_option options[] = {
        {'n', "count", "N", CLI_NUMBER, &count, "how many children [1]"},
        {0, "name", "NAME", CLI_TEXT, &name, "the child's name; of several NAME-1, NAME-2, ..."},
        {0, "tag", "TAG", CLI_TEXT, &tag, "name the snapshot that the fork makes"},
        {0, "wait-durable", NULL, CLI_FLAG, &wait_durable, "return when that snapshot is on disk"},
        {0, "no-wait", NULL, CLI_FLAG, &no_wait, "return before the guest agents answer"},
        {0, "wait-ms", "MS", CLI_NUMBER, &wait_ms, "until every guest agent must answer [60000]"},
        {0, "timing", NULL, CLI_FLAG, &with_timing, "show where the time went"},
        {0},
    };
    const struct cli_usage usage = {.line = "fork SANDBOX [OPTION]...",
                                    .summary = "Forks a running sandbox into branches; all share this instant.",
                                    .options = options,
                                    .min = 1,
                                    .max = 1};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc < 0)
        return rc;
    struct ramet_json *body = ramet_json_object();
    ramet_json_set_u64(body, "count", count);
    if (name)
        set_names(body, name, count);
    cli_set_string(body, "tag", tag);
    ramet_json_set_bool(body, "wait_durable", wait_durable);
    ramet_json_set_bool(body, "wait_answer", !no_wait);
    cli_set_u64(body, "wait_ms", wait_ms);
    rc = cli_call(cli, "POST", CLI_PATH("/v1/sandboxes/", argv[0], "/fork"), body, "forking", &answer);
    if (rc == 0 && !cli->json)
        print_fork(answer, argv[0], with_timing);
    return rc;
}

/* ---- snapshot ---- */

int cmd_snapshot(struct cli *cli, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    const char *tag = NULL;
    bool with_timing = false;
    const struct cli_option options[] = {
        {0, "tag", "TAG", CLI_TEXT, &tag, "name it"},
        {0, "timing", NULL, CLI_FLAG, &with_timing, "show where the pause went"},
        {0},
    };
    const struct cli_usage usage = {.line = "snapshot SANDBOX [OPTION]...",
                                    .summary = "Stores a sandbox's memory and disks; returns when they are on disk.",
                                    .options = options,
                                    .min = 1,
                                    .max = 1};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc < 0)
        return rc;
    struct ramet_json *body = ramet_json_object();
    cli_set_string(body, "tag", tag);
    rc = cli_call(cli, "POST", CLI_PATH("/v1/sandboxes/", argv[0], "/snapshot"), body, "taking a snapshot", &answer);
    if (rc < 0 || cli->json)
        return rc;
    const struct ramet_json *snapshot = ramet_json_get(answer, "snapshot"), *timing = ramet_json_get(answer, "timing");
    if (ramet_json_bool(answer, "unchanged", false)) {
        printf("%s is unchanged since %s\n", argv[0], ramet_json_str(snapshot, "id", "?"));
        return 0;
    }
    printf("snapshot %s of %s took %s; it paused for %s and added %s to the store\n",
           ramet_json_str(snapshot, "id", "?"), argv[0], cli_value(timing, "total_us").s,
           cli_value(timing, "pause_us").s, cli_value(snapshot, "stored_bytes").s);
    if (with_timing)
        print_timing(timing);
    return 0;
}

/* ---- restore ---- */

int cmd_restore(struct cli *cli, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    const char *name = NULL;
    uint64_t count = 1, wait_ms = 0;
    const struct cli_option options[] = {
        {'n', "count", "N", CLI_NUMBER, &count, "how many sandboxes [1]"},
        {0, "name", "NAME", CLI_TEXT, &name, "its name, for one sandbox [made up]"},
        {0, "wait-ms", "MS", CLI_NUMBER, &wait_ms, "until each guest agent must answer [60000]"},
        {0},
    };
    const struct cli_usage usage = {.line = "restore SNAPSHOT [OPTION]...",
                                    .summary = "Resumes a stored snapshot in new sandboxes.",
                                    .options = options,
                                    .min = 1,
                                    .max = 1};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc < 0)
        return rc;
    struct ramet_json *body = ramet_json_object();
    ramet_json_set_u64(body, "count", count);
    cli_set_string(body, "name", name);
    cli_set_u64(body, "wait_ms", wait_ms);
    rc = cli_call(cli, "POST", CLI_PATH("/v1/snapshots/", argv[0], "/restore"), body, "restoring", &answer);
    if (rc == 0 && !cli->json)
        cli_table(ramet_json_get(answer, "sandboxes"), started_columns);
    return rc;
}
