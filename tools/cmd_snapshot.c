/* SPDX-License-Identifier: Apache-2.0 */
/* tag, untag, import, export. Paths are made absolute here, because the daemon opens them. */
#include "base/cleanup.h"
#include "cli.h"
#include "cli_print.h"
#include "commands.h"
#include "json.h"
#include "paths.h"

#include <stdio.h>

int cmd_tag(struct cli *cli, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    const struct cli_usage usage = {
        .line = "tag SNAPSHOT TAG", .summary = "Gives a snapshot a name.", .min = 2, .max = 2};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc < 0)
        return rc;
    struct ramet_json *body = ramet_json_object();
    ramet_json_set_string(body, "snapshot", argv[0]);
    rc = cli_call(cli, "PUT", CLI_PATH("/v1/tags/", argv[1], ""), body, "tagging", &answer);
    if (rc == 0 && !cli->json)
        printf("%s is tagged %s\n", ramet_json_str(answer, "id", argv[0]), cli_value(answer, "tags").s);
    return rc;
}

int cmd_untag(struct cli *cli, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    const struct cli_usage usage = {
        .line = "untag TAG", .summary = "Takes a tag away; its snapshot stays.", .min = 1, .max = 1};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc == 0)
        rc = cli_call(cli, "DELETE", CLI_PATH("/v1/tags/", argv[0], ""), NULL, "removing", &answer);
    if (rc == 0 && !cli->json)
        printf("removed tag %s\n", argv[0]);
    return rc;
}

/* ---- import and export ---- */

static int set_file(struct ramet_json *body, const char *key, const char *path, struct ramet_error *err)
{
    char absolute[PATH_MAX];
    int rc = path ? ramet_paths_absolute(path, absolute, err) : 0;
    if (rc == 0 && path)
        ramet_json_set_string(body, key, absolute);
    return rc;
}

int cmd_import(struct cli *cli, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    _cleanup_(ramet_json_cleanup) struct ramet_json *body = ramet_json_object();
    const char *tag = NULL, *cmdline = NULL, *disk = NULL, *kernel = NULL, *initrd = NULL, *memory = NULL,
               *state = NULL, *parent = NULL;
    uint64_t memory_bytes = 0, cpus = 0;
    const struct cli_option options[] = {
        {0, "tag", "TAG", CLI_TEXT, &tag, "name it"},
        {0, "disk", "FILE", CLI_TEXT, &disk, "disk image: raw, or qcow2 and others"},
        {0, "kernel", "FILE", CLI_TEXT, &kernel, "kernel to boot"},
        {0, "initrd", "FILE", CLI_TEXT, &initrd, "its initial file system"},
        {0, "cmdline", "TEXT", CLI_TEXT, &cmdline, "its command line"},
        {0, "memory", "SIZE", CLI_SIZE, &memory_bytes, "memory of sandboxes that boot it [256M]"},
        {0, "cpus", "N", CLI_NUMBER, &cpus, "their virtual CPUs [1]"},
        {0, "memory-image", "FILE", CLI_TEXT, &memory, "memory that 'ramet export' wrote, to restore"},
        {0, "state-image", "FILE", CLI_TEXT, &state, "device state that 'ramet export' wrote"},
        {0, "parent", "REF", CLI_TEXT, &parent, "store memory and disk as later states of this snapshot's"},
        {0},
    };
    const struct cli_usage usage = {.line = "import [OPTION]...",
                                    .summary =
                                        "Makes a snapshot from files: a template that boots, or a stopped machine.",
                                    .options = options};
    const struct {
        const char *key, *const *path;
    } files[] = {{"disk", &disk}, {"kernel", &kernel}, {"initrd", &initrd}, {"memory", &memory}, {"state", &state}};
    int rc = cli_parse(cli, &usage, &argc, argv);
    for (size_t i = 0; rc == 0 && i < sizeof files / sizeof *files; i++)
        rc = set_file(body, files[i].key, *files[i].path, &cli->err);
    if (rc < 0)
        return rc;
    cli_set_string(body, "tag", tag);
    cli_set_string(body, "cmdline", cmdline);
    cli_set_string(body, "parent", parent);
    cli_set_u64(body, "memory_bytes", memory_bytes);
    cli_set_u64(body, "cpus", cpus);
    rc = cli_call(cli, "POST", CLI_PATH("/v1/snapshots/import", "", ""), STEAL(body), "importing", &answer);
    if (rc == 0 && !cli->json)
        printf("imported snapshot %s, %s stored\n", ramet_json_str(answer, "id", "?"),
               cli_value(answer, "stored_bytes").s);
    return rc;
}

int cmd_export(struct cli *cli, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    _cleanup_(ramet_json_cleanup) struct ramet_json *body = ramet_json_object();
    const char *format = NULL;
    const struct cli_option options[] = {
        {0, "format", "F", CLI_TEXT, &format, "raw or qcow2 [raw]"},
        {0},
    };
    const struct cli_usage usage = {
        .line = "export SNAPSHOT IMAGE FILE [--format F]",
        .summary = "Writes an image of a snapshot to a file: memory, disk0, state, kernel or initrd.",
        .options = options,
        .min = 3,
        .max = 3};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc == 0)
        rc = set_file(body, "path", argv[2], &cli->err);
    if (rc < 0)
        return rc;
    ramet_json_set_string(body, "image", argv[1]);
    cli_set_string(body, "format", format);
    rc = cli_call(cli, "POST", CLI_PATH("/v1/snapshots/", argv[0], "/export"), STEAL(body), "exporting", &answer);
    if (rc == 0 && !cli->json)
        printf("wrote %s of %s, %s, to %s\nsha256 %s\n", argv[1], argv[0], cli_value(answer, "size_bytes").s, argv[2],
               ramet_json_str(answer, "sha256", "?"));
    return rc;
}
