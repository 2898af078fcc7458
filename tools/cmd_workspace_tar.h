/* SPDX-License-Identifier: Apache-2.0 */
/* The two workspace commands that move archives. */
#ifndef RAMET_TOOLS_CMD_WORKSPACE_TAR_H
#define RAMET_TOOLS_CMD_WORKSPACE_TAR_H

struct cli;

/* As the API takes them; NULL or "": the default. */
struct workspace_archive {
    const char *into; /* not NULL: into a directory of a workspace that is there */
    const char *uid, *gid, *bytes, *inodes;
    const char *state;
};
/* `from`: an archive, a directory, or "-" for standard input. Both return as cli_run. */
int cmd_workspace_import(struct cli *cli, const struct workspace_archive *options, const char *workspace,
                         const char *from);
int cmd_workspace_export(struct cli *cli, const struct workspace_archive *options, const char *workspace,
                         const char *path);

#endif
