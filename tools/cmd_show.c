/* SPDX-License-Identifier: Apache-2.0 */
/* ls, show, tree, diff: what there is and how it hangs together. */
#include "base/cleanup.h"
#include "cli.h"
#include "cli_print.h"
#include "commands.h"
#include "json.h"
#include "ramet.h"

#include <stdio.h>
#include <string.h>

/* ---- ls ---- */

static const struct cli_column sandbox_columns[] = {
    {"NAME", "name"},           {"ID", "id"},         {"STATE", "state"},           {"BASE", "base"},
    {"MEMORY", "memory_bytes"}, {"PSS", "pss_bytes"}, {"PRIVATE", "private_bytes"}, {"DISK", "disk_bytes"},
    {"AGE", "created_ms"},      {NULL, NULL},
};

static const struct cli_column snapshot_columns[] = {
    {"ID", "id"},           {"TAGS", "tags"},
    {"OF", "sandbox_name"}, {"MEMORY", "has_memory"},
    {"DURABLE", "durable"}, {"SIZE", "memory_bytes"},
    {"DISK", "disk_bytes"}, {"STORED", "stored_bytes"},
    {"AGE", "created_ms"},  {NULL, NULL},
};

int cmd_ls(struct cli *cli, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    bool snapshots = false;
    const struct cli_option options[] = {
        {0, "snapshots", NULL, CLI_FLAG, &snapshots, "list snapshots"},
        {0},
    };
    const struct cli_usage usage = {
        .line = "ls [--snapshots]", .summary = "Lists sandboxes, or snapshots, oldest first.", .options = options};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc == 0)
        rc = cli_call(cli, "GET", CLI_PATH(snapshots ? "/v1/snapshots" : "/v1/sandboxes", "", ""), NULL, "listing",
                      &answer);
    if (rc == 0 && !cli->json)
        cli_table(ramet_json_get(answer, snapshots ? "snapshots" : "sandboxes"),
                  snapshots ? snapshot_columns : sandbox_columns);
    return rc;
}

/* ---- show ---- */

int cmd_show(struct cli *cli, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    const struct cli_usage usage = {
        .line = "show REF", .summary = "Shows the sandbox of that name, else the snapshot.", .min = 1, .max = 1};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc < 0)
        return rc;
    rc = cli_call(cli, "GET", CLI_PATH("/v1/sandboxes/", argv[0], ""), NULL, "looking", &answer);
    if (rc == -RAMET_NOT_FOUND)
        rc = cli_call(cli, "GET", CLI_PATH("/v1/snapshots/", argv[0], ""), NULL, "looking", &answer);
    if (rc == -RAMET_NOT_FOUND) {
        ramet_error_set(&cli->err, RAMET_NOT_FOUND, "no sandbox and no snapshot is called \"%.200s\"", argv[0]);
        return ramet_error_hint(&cli->err, "'ramet tree' shows all");
    }
    if (rc == 0 && !cli->json)
        cli_object(answer);
    return rc;
}

/* ---- tree ---- */

static void print_node(const struct ramet_json *node)
{
    const char *id = ramet_json_str(node, "id", "?");
    if (strcmp(ramet_json_str(node, "kind", ""), "sandbox") == 0) {
        printf("%s  %s\n", ramet_json_str(node, "name", "?"), ramet_json_str(node, "state", "?"));
        return;
    }
    bool tagged = ramet_json_count(ramet_json_get(node, "tags")) > 0;
    printf("[%s%s%s]%s\n", tagged ? cli_value(node, "tags").s : "", tagged ? " " : "", id,
           ramet_json_bool(node, "durable", true) ? "" : "  not yet on disk");
}

/* `indent` is what stands before this node's children. The daemon bounds the depth. */
static void print_children(const struct ramet_json *node, const char *indent)
{
    const struct ramet_json *children = ramet_json_get(node, "children");
    size_t count = ramet_json_count(children);
    for (size_t i = 0; i < count; i++) {
        const struct ramet_json *child = ramet_json_at(children, i);
        bool last = i + 1 == count;
        char *deeper = NULL;
        printf("%s%s", indent, last ? "└─ " : "├─ ");
        print_node(child);
        if (asprintf(&deeper, "%s%s", indent, last ? "   " : "│  ") >= 0)
            print_children(child, deeper);
        free(deeper);
    }
}

int cmd_tree(struct cli *cli, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    const struct cli_usage usage = {.line = "tree",
                                    .summary = "Draws who descends from whom: [snapshots] and sandboxes."};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc == 0)
        rc = cli_call(cli, "GET", CLI_PATH("/v1/tree", "", ""), NULL, "looking", &answer);
    if (rc < 0 || cli->json)
        return rc;
    const struct ramet_json *roots = ramet_json_get(answer, "roots");
    for (size_t i = 0; i < ramet_json_count(roots); i++) {
        print_node(ramet_json_at(roots, i));
        print_children(ramet_json_at(roots, i), "");
    }
    return 0;
}

/* ---- diff ---- */

int cmd_diff(struct cli *cli, int argc, char **argv)
{
    static const struct cli_column columns[] = {
        {"IMAGE", "image"}, {"PAGES", "pages"}, {"CHANGED", "changed_pages"}, {NULL, NULL}};
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    const struct cli_usage usage = {
        .line = "diff A B",
        .summary = "Counts the 4 KiB pages that differ between two snapshots; a sandbox stands for its base.",
        .min = 2,
        .max = 2};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc < 0)
        return rc;
    _autofree_ char *from = ramet_client_path("?from=", argv[0], "&to=");
    if (!from)
        return ramet_error_set(&cli->err, RAMET_NO_MEMORY, "no memory for a call");
    _autofree_ char *prefix = ramet_client_path("/v1/diff", "", from);
    rc = cli_call(cli, "GET", CLI_PATH(prefix ? prefix : "", argv[1], ""), NULL, "comparing", &answer);
    if (rc == 0 && !cli->json)
        cli_table(ramet_json_get(answer, "images"), columns);
    return rc;
}
