/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files that one server's document becomes:
 *
 *     INDEX                          one line a tool; of many tools, one line a group, and groups/GROUP has the lines
 *     NAME.md .json .ts .py .sh      of each tool: prose, the definition as listed, typed stubs, a program for shells
 *     prompts/INDEX, prompts/NAME.md .json
 *     resources/INDEX, resources/URI.md .json         templates among them
 *
 * Deterministic: the same document makes the same bytes. Nothing is kept but names; a text is made when it is wanted,
 * so a server that lists thousands of tools costs what its document does. NAME is docs_text.h's, reversible, and never
 * one of two tools; where a server lists a name twice, the first counts.
 *
 * Immutable and counted; any number of threads.
 */
#ifndef RAMET_API_TOOLS_DOCS_H
#define RAMET_API_TOOLS_DOCS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct ramet_buf;
struct ramet_docs;
struct ramet_json;
struct ramet_tools_doc;

enum ramet_docs_kind { RAMET_DOCS_TOOL, RAMET_DOCS_PROMPT, RAMET_DOCS_RESOURCE, RAMET_DOCS_KINDS };
enum ramet_docs_form { RAMET_DOCS_MD, RAMET_DOCS_JSON, RAMET_DOCS_TS, RAMET_DOCS_PY, RAMET_DOCS_SH, RAMET_DOCS_FORMS };

struct ramet_docs_item {
    enum ramet_docs_kind kind;
    const char *name;                    /* as listed; of a resource its URI or template */
    char *file;                          /* the file's name without its ending */
    char *group;                         /* of a tool: the first word in which it differs from others */
    const struct ramet_json *definition; /* borrowed from the document */
    size_t bytes;                        /* of a tool: its definition's, as a text */
};

/* Holds a reference on `doc`. Stubs call through `socket` unless RAMET_SOCKET is set. */
int ramet_docs_new(struct ramet_tools_doc *doc, const char *socket, struct ramet_docs **ret, struct ramet_error *err);
struct ramet_docs *ramet_docs_ref(struct ramet_docs *docs);
void ramet_docs_unref(struct ramet_docs *docs); /* NULL is a no-op */
void ramet_docs_cleanup(struct ramet_docs **docs);

/* Borrowed. */
const char *ramet_docs_server(const struct ramet_docs *docs); /* as it is called */
const char *ramet_docs_file(const struct ramet_docs *docs);   /* as a directory */
const struct ramet_tools_doc *ramet_docs_doc(const struct ramet_docs *docs);
/* All items, tools first, each kind in the order of the list. */
const struct ramet_docs_item *ramet_docs_items(const struct ramet_docs *docs, size_t *ret_count);

const char *ramet_docs_ending(enum ramet_docs_form form); /* ".md" */
/* Whether items of the kind have the form: all do for tools, prose and definition for others. */
bool ramet_docs_has(enum ramet_docs_kind kind, enum ramet_docs_form form);

/* Appends the text of one file. */
int ramet_docs_text(const struct ramet_docs *docs, const struct ramet_docs_item *item, enum ramet_docs_form form,
                    struct ramet_buf *out, struct ramet_error *err);

/* What one caller sees of a server. */
struct ramet_docs_seen {
    const struct ramet_docs *docs;
    const struct ramet_docs_item *const *items; /* in their order */
    size_t count;
};
#define RAMET_DOCS_GROUPED 50 /* more tools than this are shown in groups */

/* The INDEX of the kind. Of a group's tools alone, where one is named. */
void ramet_docs_put_index(struct ramet_buf *out, const struct ramet_docs_seen *seen, enum ramet_docs_kind kind,
                          const char *group);
bool ramet_docs_is_grouped(const struct ramet_docs_seen *seen);
/* Names of the groups that are seen, sorted, NULL-terminated, borrowed from the items; free() the array. */
const char **ramet_docs_groups(const struct ramet_docs_seen *seen);
size_t ramet_docs_seen_count(const struct ramet_docs_seen *seen, enum ramet_docs_kind kind);

/* The line of tools/INDEX; `problem` is why the server is down, or NULL. */
void ramet_docs_put_server(struct ramet_buf *out, const struct ramet_docs_seen *seen, bool up);
/* tools/README.md for somebody who sees this. */
void ramet_docs_put_readme(struct ramet_buf *out, const struct ramet_docs_seen *seen, size_t count);

#endif
