/* SPDX-License-Identifier: Apache-2.0 */
/* The forms of one tool. Each appends to a buffer whose `failed` the caller checks. Private to the generator. */
#ifndef RAMET_API_TOOLS_DOCS_STUB_H
#define RAMET_API_TOOLS_DOCS_STUB_H

#include "base/codec.h"
#include "tools/docs_type.h"

struct ramet_json;

/* All borrowed. */
struct docs_tool {
    const char *server, *name;               /* as they call themselves */
    const char *server_file, *file;          /* the same as file names */
    const char *socket;                      /* where the daemon listens */
    const struct ramet_json *definition;     /* as listed */
    const struct docs_types *input, *output; /* `output` NULL: the tool has no output schema */
};

void docs_put_ts(struct ramet_buf *out, const struct docs_tool *tool);
void docs_put_py(struct ramet_buf *out, const struct docs_tool *tool);
void docs_put_sh(struct ramet_buf *out, const struct docs_tool *tool);
void docs_put_md(struct ramet_buf *out, const struct docs_tool *tool);

/* docs_ts.c: a type in TypeScript's words on one line; objects only as "object". */
void docs_put_type_line(struct ramet_buf *out, const struct docs_type *type);
/* docs_example.c: JSON that fits the type, with required members only. */
void docs_put_example(struct ramet_buf *out, const struct docs_type *type);
/* "/v1/tools/SERVER/TOOL/call" */
void docs_put_call_path(struct ramet_buf *out, const struct docs_tool *tool);
/* The function's name, which no type may have. Owned by the caller; NULL when memory ran out. */
char *docs_function_name(const struct docs_tool *tool);

#endif
