/* SPDX-License-Identifier: Apache-2.0 */
/* store stat, gc, fsck. */
#include "base/cleanup.h"
#include "cli.h"
#include "cli_print.h"
#include "commands.h"
#include "json.h"

#include <stdio.h>
#include <string.h>

static int print_report(struct cli *cli, const struct ramet_json *answer)
{
    const struct ramet_json *report = ramet_json_get(answer, "report");
    int64_t problems = ramet_json_int(answer, "problems", 0);
    for (size_t i = 0; !cli->json && i < ramet_json_count(report); i++)
        puts(ramet_json_string_value(ramet_json_at(report, i)));
    if (!cli->json)
        printf("%s snapshots, %s frames and %s chunks read, %s problems\n", cli_value(answer, "snapshots").s,
               cli_value(answer, "frames").s, cli_value(answer, "chunks").s, cli_value(answer, "problems").s);
    return problems ? ramet_code_exit(RAMET_CORRUPT) : 0;
}

int cmd_store(struct cli *cli, int argc, char **argv)
{
    static const struct {
        const char *verb, *method, *path, *doing;
    } verbs[] = {{"stat", "GET", "/v1/store/stat", "counting"},
                 {"gc", "POST", "/v1/store/gc", "collecting garbage"},
                 {"fsck", "POST", "/v1/store/fsck", "verifying the store"}};
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    const struct cli_usage usage = {.line = "store stat|gc|fsck",
                                    .summary =
                                        "stat: what the store holds and saves. gc: gives back unneeded space.\n"
                                        "fsck: reads and verifies everything; exit code 12 when damage is found.",
                                    .min = 1,
                                    .max = 1};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc < 0)
        return rc;
    size_t i = 0;
    while (i < 3 && strcmp(verbs[i].verb, argv[0]) != 0)
        i++;
    if (i == 3) {
        ramet_error_set(&cli->err, RAMET_INVALID, "unknown store command \"%.100s\"", argv[0]);
        return ramet_error_hint(&cli->err, "usage: ramet %s", usage.line);
    }
    struct ramet_json *body = strcmp(verbs[i].method, "POST") == 0 ? ramet_json_object() : NULL;
    rc = cli_call(cli, verbs[i].method, CLI_PATH(verbs[i].path, "", ""), body, verbs[i].doing, &answer);
    if (rc < 0)
        return rc;
    if (strcmp(argv[0], "fsck") == 0)
        return print_report(cli, answer);
    if (!cli->json)
        cli_object(answer);
    return 0;
}
