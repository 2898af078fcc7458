/* SPDX-License-Identifier: Apache-2.0 */
/* How people read the API's answers: sizes, durations, ages, aligned tables, objects as lines. */
#ifndef RAMET_TOOLS_CLI_PRINT_H
#define RAMET_TOOLS_CLI_PRINT_H

#include <stddef.h>
#include <stdint.h>

struct ramet_json;

/* A short text by value, so that several fit into one printf. */
struct cli_text {
    char s[128];
};
struct cli_text cli_size(uint64_t bytes);    /* "11.3 MiB" */
struct cli_text cli_duration(uint64_t us);   /* "4.9 ms" */
struct cli_text cli_age(int64_t created_ms); /* "5 min" */

/* A value as its key's suffix asks: _bytes, _us, created_ms, started_ms; lists joined; "-" for nothing. */
struct cli_text cli_value(const struct ramet_json *object, const char *key);

/*
 * One row an element of `list`, one column a member, named by `columns`, which ends
 * with a NULL head. `key` is a path like "sandbox.name".
 */
struct cli_column {
    const char *head, *key;
};
void cli_table(const struct ramet_json *list, const struct cli_column *columns);

/* Every member of an object, one a line. */
void cli_object(const struct ramet_json *object);

#endif
