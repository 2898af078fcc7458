/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: finds the command, runs it, reports its error. */
#include "ramet.h"
#include "base/error.h"
#include "cli.h"
#include "commands.h"

#include <stdio.h>
#include <string.h>

static cli_run cmd_version, cmd_help;

static const struct command {
    const char *name, *args, *summary;
    cli_run *run;
} commands[] = {
    {"up", "", "start the daemon", cmd_up},
    {"down", "", "stop the daemon and every sandbox", cmd_down},
    {"status", "", "where the daemon runs and keeps things", cmd_status},
    {"run", "[SNAPSHOT]", "start a sandbox", cmd_run},
    {"fork", "SANDBOX", "fork a running sandbox into branches", cmd_fork},
    {"exec", "SANDBOX -- COMMAND...", "run a command in a sandbox", cmd_exec},
    {"snapshot", "SANDBOX", "store a sandbox's memory and disks", cmd_snapshot},
    {"restore", "SNAPSHOT", "resume a stored snapshot", cmd_restore},
    {"rollback", "SANDBOX SNAPSHOT", "take a sandbox back to a snapshot", cmd_rollback},
    {"promote", "SANDBOX", "let a sandbox take its parent's name and place", cmd_promote},
    {"pause", "SANDBOX", "stop a sandbox's CPUs", cmd_pause},
    {"resume", "SANDBOX", "let a paused sandbox run on", cmd_resume},
    {"ls", "", "list sandboxes, or snapshots", cmd_ls},
    {"tree", "", "draw who descends from whom", cmd_tree},
    {"show", "REF", "all about one sandbox or snapshot", cmd_show},
    {"diff", "A B", "count the pages that differ", cmd_diff},
    {"rm", "REF...", "remove sandboxes or snapshots", cmd_rm},
    {"tag", "SNAPSHOT TAG", "name a snapshot", cmd_tag},
    {"untag", "TAG", "take a name away", cmd_untag},
    {"import", "", "make a snapshot from files", cmd_import},
    {"export", "SNAPSHOT IMAGE FILE", "write an image of a snapshot to a file", cmd_export},
    {"workspace", "COMMAND [ARGUMENT]...", "trees of files that fork; for short: ws", cmd_workspace},
    {"store", "stat|gc|fsck|scrub|recompress", "figures, garbage collection, verification", cmd_store},
    {"mcp", "", "serve MCP to an agent that starts this", cmd_mcp},
    {"audit", "ls|tail|verify", "who did what", cmd_audit},
    {"policy", "show|reload|whoami", "who may do what", cmd_policy},
    {"tools", "add|ls|call|...", "MCP servers and their tools", cmd_tools},
    {"version", "", "print the version", cmd_version},
    {"help", "[COMMAND]", "explain a command", cmd_help},
};

static const struct command *find_command(const char *name)
{
    if (strcmp(name, "ws") == 0)
        name = "workspace";
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static int unknown(struct cli *cli, const char *name)
{
    ramet_error_set(&cli->err, RAMET_INVALID, "unknown command \"%.100s\"", name);
    return ramet_error_hint(&cli->err, "'ramet help' lists the commands");
}

static int cmd_version(struct cli *cli, int argc, char **argv)
{
    const struct cli_usage usage = {.line = "version", .summary = "Prints the version."};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc == 0)
        printf(cli->json ? "{\"version\": \"%s\"}\n" : "ramet %s\n", RAMET_VERSION);
    return rc;
}

static void print_commands(void)
{
    puts("Usage: ramet [--socket PATH] [--json] COMMAND [ARGUMENT]...\n"
         "Fork a running VM into parallel branches in milliseconds.\n");
    for (const struct command *c = commands; c < commands + sizeof commands / sizeof *commands; c++) {
        char left[64];
        snprintf(left, sizeof left, "%s %s", c->name, c->args);
        printf("  %-28s %s\n", left, c->summary);
    }
    puts("\n'ramet help COMMAND' explains one. A SANDBOX is a name or id, a SNAPSHOT a tag or id.\n"
         "RAMET_SOCKET, RAMET_STORE, RAMET_MOUNT and RAMET_RUN place everything.");
}

static int cmd_help(struct cli *cli, int argc, char **argv)
{
    const struct cli_usage usage = {.line = "help [COMMAND]", .summary = "Explains a command.", .max = 1};
    char help[] = "--help", *ask[] = {help, NULL};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc < 0)
        return rc;
    if (argc == 0) {
        print_commands();
        return 0;
    }
    const struct command *command = find_command(argv[0]);
    return command ? command->run(cli, 1, ask) : unknown(cli, argv[0]);
}

static int dispatch(struct cli *cli, int argc, char **argv)
{
    static const struct cli_usage usage = {.line = "COMMAND [ARGUMENT]...", .max = -1, .command_at = 1};
    if (argc == 0 || strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0) {
        print_commands();
        return argc == 0 ? ramet_code_exit(RAMET_INVALID) : 0;
    }
    if (strcmp(argv[0], "--version") == 0)
        return cmd_version(cli, 0, argv);
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc < 0)
        return rc;
    const struct command *command = argc ? find_command(argv[0]) : NULL;
    return command ? command->run(cli, argc - 1, argv + 1) : unknown(cli, argc ? argv[0] : "");
}

int main(int argc, char **argv)
{
    struct cli cli = {0};
    int rc = dispatch(&cli, argc - 1, argv + 1);
    ramet_client_free(cli.client);
    if (rc < 0)
        return cli_report(&cli.err);
    return fflush(stdout) == 0 ? rc : ramet_code_exit(RAMET_IO);
}
