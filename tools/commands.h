/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of `ramet`; ramet.c holds their table. */
#ifndef RAMET_TOOLS_COMMANDS_H
#define RAMET_TOOLS_COMMANDS_H

#include "cli.h"

cli_run cmd_up, cmd_down, cmd_status;               /* cmd_daemon.c */
cli_run cmd_run, cmd_rollback, cmd_promote;         /* cmd_sandbox.c */
cli_run cmd_pause, cmd_resume, cmd_rm;              /* cmd_sandbox.c */
cli_run cmd_fork, cmd_snapshot, cmd_restore;        /* cmd_fork.c */
cli_run cmd_exec;                                   /* cmd_exec.c */
cli_run cmd_ls, cmd_show, cmd_tree, cmd_diff;       /* cmd_show.c */
cli_run cmd_tag, cmd_untag, cmd_import, cmd_export; /* cmd_snapshot.c */
cli_run cmd_workspace;                              /* cmd_workspace.c */
cli_run cmd_store;                                  /* cmd_store.c */
cli_run cmd_mcp;                                    /* cmd_mcp.c */
cli_run cmd_audit, cmd_policy;                      /* cmd_access.c */
cli_run cmd_tools;                                  /* cmd_tools.c */

#endif
