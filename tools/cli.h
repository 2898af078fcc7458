/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every command of `ramet` shares: options, calls and errors. Commands parse
 * and print; all else happens in the daemon.
 */
#ifndef RAMET_TOOLS_CLI_H
#define RAMET_TOOLS_CLI_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ramet_client;
struct ramet_json;

struct cli {
    const char *socket; /* --socket, or NULL */
    bool json;          /* --json: print what the API answered */
    struct ramet_client *client;
    struct ramet_error err; /* of the call that failed */
};

/* Returns an exit code >= 0, or a negative code with cli->err set. */
typedef int cli_run(struct cli *cli, int argc, char **argv);

enum cli_kind { CLI_FLAG, CLI_TEXT, CLI_NUMBER, CLI_SIZE, CLI_LIST };

/* The values of an option that may be given again and again; borrowed from argv. */
struct cli_list {
    const char **items;
    size_t count;
};
void cli_list_free(struct cli_list *list);

struct cli_option {
    char letter; /* or 0 */
    const char *name;
    const char *value; /* how help calls its value; NULL for a flag */
    enum cli_kind kind;
    void *to; /* bool, const char *, uint64_t (NUMBER and SIZE, which takes K, M, G, T), struct cli_list */
    const char *help;
};

struct cli_usage {
    const char *line;                 /* "fork SANDBOX [OPTION]..." */
    const char *summary;              /* one sentence */
    const struct cli_option *options; /* ends with a NULL name; may be NULL */
    int min, max;                     /* positional arguments; max -1: any number */
    int command_at; /* from this many positional arguments on nothing is an option any more; 0: never */
};

/*
 * Reads options wherever they stand and moves the positional arguments to the front
 * of argv, their number to *argc. --json and --socket go to `cli`; --help prints and
 * exits.
 */
int cli_parse(struct cli *cli, const struct cli_usage *usage, int *argc, char **argv);

/* Prints "ramet: message" and the hint; returns the exit code. */
int cli_report(const struct ramet_error *err);

/* One call on prefix/ref/suffix (see ramet_client_path); takes over `body`, which may be NULL. The caller owns *ret. */
int cli_ask(struct cli *cli, const char *method, const char *const path[static 3], struct ramet_json *body,
            struct ramet_json **ret);
/* The same; `doing` is shown when it takes long, and with --json the answer is printed. */
int cli_call(struct cli *cli, const char *method, const char *const path[static 3], struct ramet_json *body,
             const char *doing, struct ramet_json **ret);

int cli_print_json(struct cli *cli, const struct ramet_json *answer);

#define CLI_PATH(prefix, ref, suffix) ((const char *const[3]){prefix, ref, suffix})

/* Members that are set only when they differ from NULL or 0. */
void cli_set_string(struct ramet_json *body, const char *key, const char *value);
void cli_set_u64(struct ramet_json *body, const char *key, uint64_t value);

#endif
