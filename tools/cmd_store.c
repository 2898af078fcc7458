/* SPDX-License-Identifier: Apache-2.0 */
/* store stat, gc, fsck, scrub, recompress. The last two run in the daemon; waiting is asking it again and again. */
#include "base/cleanup.h"
#include "cli.h"
#include "cli_print.h"
#include "commands.h"
#include "json.h"
#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { ask_again_ms = 500 };

struct options {
    bool repair, restart, wait, status, stop;
    uint64_t rate, level, threads;
};

static void print_lines(const struct ramet_json *answer, const char *key)
{
    const struct ramet_json *lines = ramet_json_get(answer, key);
    for (size_t i = 0; i < ramet_json_count(lines); i++)
        puts(ramet_json_string_value(ramet_json_at(lines, i)));
}

static int exit_code(const struct ramet_json *answer)
{
    return ramet_json_int(answer, "problems", 0) ? ramet_code_exit(RAMET_CORRUPT) : 0;
}

/* ---- stat, gc, fsck ---- */

static int stat_store(struct cli *cli, const struct options *o)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    (void)o;
    int rc = cli_call(cli, "GET", CLI_PATH("/v1/store/stat", "", ""), NULL, "counting", &answer);
    if (rc == 0 && !cli->json)
        cli_object(answer);
    return rc;
}

static int collect(struct cli *cli, const struct options *o)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    (void)o;
    int rc =
        cli_call(cli, "POST", CLI_PATH("/v1/store/gc", "", ""), ramet_json_object(), "collecting garbage", &answer);
    if (rc == 0 && !cli->json)
        cli_object(answer);
    return rc;
}

static int check(struct cli *cli, const struct options *o)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    struct ramet_json *body = ramet_json_object();
    ramet_json_set_bool(body, "repair", o->repair);
    int rc = cli_call(cli, "POST", CLI_PATH("/v1/store/fsck", "", ""), body, "verifying the store", &answer);
    if (rc < 0 || cli->json)
        return rc < 0 ? rc : exit_code(answer);
    if (ramet_json_bool(answer, "repaired", false))
        printf("wrote the journal and %s pack headers anew; %s\n", cli_value(answer, "mended_headers").s,
               exit_code(answer) ? "what is left:" : "all is well now");
    print_lines(answer, "report");
    printf("%s snapshots, %s frames and %s chunks read, %s problems\n", cli_value(answer, "snapshots").s,
           cli_value(answer, "frames").s, cli_value(answer, "chunks").s, cli_value(answer, "problems").s);
    return exit_code(answer);
}

/* ---- scrub, recompress ---- */

struct job {
    const char *path, *doing;
};
static const struct job scrub_job = {"/v1/store/scrub", "scrubbing"};
static const struct job recompress_job = {"/v1/store/recompress", "recompressing"};

static bool runs(const struct ramet_json *status)
{
    return strcmp(ramet_json_str(status, "state", ""), "running") == 0;
}

/* Asks until it does not run any more. */
static int await_end(struct cli *cli, const struct job *job, struct ramet_json **status)
{
    const struct timespec pause = {0, ask_again_ms * 1000000L};
    struct progress *progress = progress_start(job->doing);
    int rc = 0;
    while (rc == 0 && runs(*status)) {
        progress_set(progress, (uint64_t)ramet_json_int(*status, "done_frames", 0),
                     (uint64_t)ramet_json_int(*status, "total_frames", 0));
        nanosleep(&pause, NULL);
        ramet_json_free(STEAL(*status));
        rc = cli_ask(cli, "GET", CLI_PATH(job->path, "", ""), NULL, status);
    }
    progress_stop(progress);
    return rc;
}

static void print_status(const struct ramet_json *status)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *shown = ramet_json_object();
    const struct ramet_json *value;
    const char *key;
    void *iter = NULL;
    if (strcmp(ramet_json_str(status, "state", ""), "none") == 0) {
        puts("none since the daemon started");
        return;
    }
    while (ramet_json_next(status, &iter, &key, &value))
        if (!ramet_json_is_array(value) && strcmp(key, "code") != 0)
            ramet_json_set(shown, key, ramet_json_copy(value));
    cli_object(shown);
    print_lines(status, "report");
}

/* What a wait came to: an end before the end is an error. */
static int judge(struct cli *cli, const struct job *job, const struct ramet_json *status)
{
    const char *state = ramet_json_str(status, "state", "");
    if (strcmp(state, "failed") == 0)
        return ramet_error_set(&cli->err, (enum ramet_code)ramet_code_from_name(ramet_json_str(status, "code", "")),
                               "%s failed: %.400s", job->doing, ramet_json_str(status, "reason", ""));
    if (strcmp(state, "stopped") == 0) {
        ramet_error_set(&cli->err, RAMET_CONFLICT, "%s was stopped before its end", job->doing);
        return ramet_error_hint(&cli->err, "start it again: it goes on where it stood");
    }
    return exit_code(status);
}

/* Starts the job, or shows or stops the one there is; takes over `body`. */
static int run_job(struct cli *cli, const struct job *job, const struct options *o, struct ramet_json *body)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *request = body;
    _cleanup_(ramet_json_cleanup) struct ramet_json *status = NULL;
    bool start = !o->status && !o->stop;
    int rc = cli_ask(cli,
                     o->stop ? "DELETE"
                     : start ? "POST"
                             : "GET",
                     CLI_PATH(job->path, "", ""), start ? STEAL(request) : NULL, &status);
    if (rc == 0 && o->wait)
        rc = await_end(cli, job, &status);
    if (rc == 0 && cli->json)
        rc = cli_print_json(cli, status);
    if (rc < 0)
        return rc;
    if (!cli->json && start && !o->wait)
        printf("%s in the background; '--status' shows how far it is\n", job->doing);
    else if (!cli->json)
        print_status(status);
    return o->wait && !o->stop ? judge(cli, job, status) : exit_code(status);
}

static int scrub(struct cli *cli, const struct options *o)
{
    struct ramet_json *body = ramet_json_object();
    cli_set_u64(body, "bytes_per_second", o->rate < UINT64_MAX / 1000000 ? o->rate * 1000000 : o->rate);
    ramet_json_set_bool(body, "restart", o->restart);
    return run_job(cli, &scrub_job, o, body);
}

static int recompress(struct cli *cli, const struct options *o)
{
    struct ramet_json *body = ramet_json_object();
    cli_set_u64(body, "level", o->level);
    cli_set_u64(body, "threads", o->threads);
    return run_job(cli, &recompress_job, o, body);
}

/* ---- the command ---- */

static const struct verb {
    const char *name;
    int (*run)(struct cli *cli, const struct options *o);
    const char *takes; /* its options */
} verbs[] = {
    {"stat", stat_store, ""},
    {"gc", collect, ""},
    {"fsck", check, " repair "},
    {"scrub", scrub, " rate restart wait status stop "},
    {"recompress", recompress, " level threads wait status stop "},
};

/* Refuses options that the verb does not have, and those that exclude each other. */
static int check_options(struct cli *cli, const struct verb *verb, const struct options *o)
{
    const struct {
        const char *name;
        bool given;
    } given[] = {{"repair", o->repair},   {"rate", o->rate}, {"restart", o->restart}, {"level", o->level},
                 {"threads", o->threads}, {"wait", o->wait}, {"status", o->status},   {"stop", o->stop}};
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        char word[32];
        snprintf(word, sizeof word, " %s ", given[i].name);
        if (given[i].given && !strstr(verb->takes, word))
            return ramet_error_set(&cli->err, RAMET_INVALID, "store %s has no option --%s", verb->name, given[i].name);
    }
    if (o->status + o->stop + (o->restart || o->rate || o->level || o->threads) > 1)
        return ramet_error_set(&cli->err, RAMET_INVALID, "--status and --stop start nothing: give one of them alone");
    return 0;
}

int cmd_store(struct cli *cli, int argc, char **argv)
{
    struct options o = {0};
    const struct cli_option options[] = {
        {0, "repair", NULL, CLI_FLAG, &o.repair, "fsck: mend what can be, and verify again"},
        {0, "rate", "MB/S", CLI_NUMBER, &o.rate, "scrub: read at most so much a second [no limit]"},
        {0, "restart", NULL, CLI_FLAG, &o.restart, "scrub: from the start, not where the last one stood"},
        {0, "level", "N", CLI_NUMBER, &o.level, "recompress: zstd level [15]"},
        {0, "threads", "N", CLI_NUMBER, &o.threads, "recompress: on so many threads [1]"},
        {0, "wait", NULL, CLI_FLAG, &o.wait, "return when it has ended"},
        {0, "status", NULL, CLI_FLAG, &o.status, "show how it goes, or how the last one went"},
        {0, "stop", NULL, CLI_FLAG, &o.stop, "end it; the next one goes on there"},
        {0},
    };
    const struct cli_usage usage = {
        .line = "store stat|gc|fsck|scrub|recompress [OPTION]...",
        .summary = "stat: what the store holds and saves. gc: gives back unneeded space.\n"
                   "fsck: reads and verifies everything. scrub: the same in the background, at its leisure.\n"
                   "recompress: makes stored snapshots smaller, in the background.\n"
                   "Exit code 12 when damage is found.",
        .options = options,
        .min = 1,
        .max = 1};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc < 0)
        return rc;
    const struct verb *verb = verbs, *past = verbs + sizeof verbs / sizeof *verbs;
    while (verb < past && strcmp(verb->name, argv[0]) != 0)
        verb++;
    if (verb == past)
        rc = ramet_error_set(&cli->err, RAMET_INVALID, "unknown store command \"%.100s\"", argv[0]);
    else
        rc = check_options(cli, verb, &o);
    return rc < 0 ? ramet_error_hint(&cli->err, "usage: ramet %s", usage.line) : verb->run(cli, &o);
}
