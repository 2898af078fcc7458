/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec: a command in a guest as if it ran here. Its input is ours unless that is a
 * terminal, its output and exit code become ours; a signal n gives 128 + n.
 */
#include "base/cleanup.h"
#include "base64.h"
#include "cli.h"
#include "commands.h"
#include "json.h"
#include "ramet.h"
#include "wire.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* All of standard input, as base64 into the body. A closed one is empty. */
static int set_input(struct ramet_json *body, struct ramet_error *err)
{
    _autofree_ char *input = malloc(RAMET_CLIENT_INPUT_MAX + 1);
    size_t size = 0;
    ssize_t n = 1;
    if (!input)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for standard input");
    while (n > 0 && size <= RAMET_CLIENT_INPUT_MAX) {
        n = read(STDIN_FILENO, input + size, RAMET_CLIENT_INPUT_MAX + 1 - size);
        if (n < 0 && errno != EBADF && errno != EINTR)
            return ramet_error_os(err, errno, "cannot read standard input");
        size += n > 0 ? (size_t)n : 0;
    }
    if (size > RAMET_CLIENT_INPUT_MAX) {
        ramet_error_set(err, RAMET_TOO_LARGE, "standard input is larger than %u KiB", RAMET_CLIENT_INPUT_MAX >> 10);
        return ramet_error_hint(err, "hand it over in pieces");
    }
    _autofree_ char *base64 = ramet_base64_encode(input, size);
    if (size > 0)
        ramet_json_set_string(body, "stdin_base64", base64);
    return 0;
}

static int set_argv(struct ramet_json *body, int argc, char **argv, struct ramet_error *err)
{
    struct ramet_json *list = ramet_json_array();
    ramet_json_set(body, "argv", list);
    for (int i = 0; i < argc; i++) {
        if (!ramet_utf8_text(argv[i], strlen(argv[i])))
            return ramet_error_set(err, RAMET_INVALID, "argument %d of the command is not UTF-8", i);
        ramet_json_append(list, ramet_json_string(argv[i]));
    }
    return 0;
}

static int write_bytes(const struct ramet_json *answer, const char *key, FILE *to, struct ramet_error *err)
{
    _autofree_ char *data = NULL;
    size_t size = 0;
    int rc = ramet_wire_get_bytes(answer, key, &data, &size, err);
    if (rc == 0 && (fwrite(data, 1, size, to) != size || fflush(to) != 0))
        rc = ramet_error_os(err, errno, "cannot write the command's %s", key);
    return rc;
}

static void warn_truncated(const struct ramet_json *answer)
{
    if (ramet_json_bool(answer, "stdout_truncated", false))
        fputs("ramet: the command's stdout was longer than the daemon keeps; its end is missing\n", stderr);
    if (ramet_json_bool(answer, "stderr_truncated", false))
        fputs("ramet: the command's stderr was longer than the daemon keeps; its end is missing\n", stderr);
}

static int pass_on(struct cli *cli, const struct ramet_json *answer)
{
    int signal_number = (int)ramet_json_int(answer, "signal", 0);
    int rc = 0;
    if (!cli->json) {
        rc = write_bytes(answer, "stdout", stdout, &cli->err);
        if (rc == 0)
            rc = write_bytes(answer, "stderr", stderr, &cli->err);
        warn_truncated(answer);
    }
    return rc < 0 ? rc : signal_number ? 128 + signal_number : (int)ramet_json_int(answer, "exit_code", 0) & 255;
}

int cmd_exec(struct cli *cli, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    _cleanup_(ramet_json_cleanup) struct ramet_json *body = ramet_json_object();
    uint64_t timeout_ms = 0;
    bool no_stdin = false;
    const struct cli_option options[] = {
        {'n', "no-stdin", NULL, CLI_FLAG, &no_stdin, "leave standard input alone"},
        {0, "timeout-ms", "MS", CLI_NUMBER, &timeout_ms, "how long it may run [60000]"},
        {0},
    };
    const struct cli_usage usage = {
        .line = "exec SANDBOX [OPTION]... -- COMMAND...",
        .summary = "Runs a command in a sandbox: standard input (unless a terminal), output and exit code\n"
                   "pass through; a signal N gives 128 + N.",
        .options = options,
        .min = 2,
        .max = -1,
        .command_at = 2};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc == 0)
        rc = set_argv(body, argc - 1, argv + 1, &cli->err);
    if (rc == 0 && !no_stdin && !isatty(STDIN_FILENO))
        rc = set_input(body, &cli->err);
    if (rc < 0)
        return rc;
    cli_set_u64(body, "timeout_ms", timeout_ms);
    rc = cli_call(cli, "POST", CLI_PATH("/v1/sandboxes/", argv[0], "/exec"), STEAL(body), "running", &answer);
    return rc < 0 ? rc : pass_on(cli, answer);
}
