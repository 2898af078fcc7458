/* SPDX-License-Identifier: Apache-2.0 */
/* mcp: the daemon's MCP server on standard input and output. */
#include "cli.h"
#include "commands.h"
#include "mcp/proxy.h"

#include <signal.h>
#include <stdio.h>

int cmd_mcp(struct cli *cli, int argc, char **argv)
{
    const struct cli_usage usage = {
        .line = "mcp", .summary = "Serves MCP on standard input and output, through the daemon; for agents to start."};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc == 0)
        rc = ramet_client_new(cli->socket, &cli->client, &cli->err);
    if (rc < 0)
        return rc;
    signal(SIGPIPE, SIG_IGN);
    rc = ramet_mcp_proxy(cli->client, stdin, stdout, &cli->err);
    /* A thread may still listen on the client; it goes with the process. */
    cli->client = NULL;
    return rc;
}
