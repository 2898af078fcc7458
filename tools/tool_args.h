/* SPDX-License-Identifier: Apache-2.0 */
/* What the command line says of MCP servers and of calls, as the API takes it. */
#ifndef RAMET_TOOLS_TOOL_ARGS_H
#define RAMET_TOOLS_TOOL_ARGS_H

#include "cli.h"

/* "K=V" members; a "K" alone takes its value from our environment, so that it need not be on the command line. */
int tool_args_env(const struct cli_list *env, struct ramet_json *to, struct ramet_error *err);
/* "Name: value" members, and the bearer token in a file (NULL: none). */
int tool_args_headers(const struct cli_list *headers, const char *token_file, struct ramet_json *to,
                      struct ramet_error *err);
/* A JSON object in a file, "-" for standard input. Owned by the caller. */
int tool_args_file(const char *path, struct ramet_json **ret, struct ramet_error *err);

/* SERVER/TOOL or SERVER; either may hold a '/', so the servers there are decide. `server` is for free(), NULL on
 * failure. */
struct tool_ref {
    char *server;
    const char *tool; /* within the text that was given, or NULL */
};
int tool_args_ref(struct cli *cli, const char *text, struct tool_ref *ret);

/* The arguments of a call: `json` (a text, "-", or NULL), then each "K=V", typed as the tool's schema has it. */
int tool_args_arguments(struct cli *cli, const struct tool_ref *ref, const char *json, const struct cli_list *args,
                        struct ramet_json **ret);
/* The result's text, as the server wrote it. Owned by the caller. */
int tool_args_call(struct cli *cli, const struct tool_ref *ref, const struct ramet_json *arguments, uint64_t timeout_ms,
                   char **ret);

#endif
