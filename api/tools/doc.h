/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One version of what a server listed, and its file; catalogue.h says what both hold.
 * Functions on files are called with the catalogue's `write` lock held, or before it is shared.
 */
#ifndef RAMET_API_TOOLS_DOC_H
#define RAMET_API_TOOLS_DOC_H

#include "tools/catalogue.h"

/* Takes over `listed` and adds the three members. */
int ramet_tools_doc_make(struct ramet_json *listed, uint64_t version, int64_t fetched_ms, struct ramet_tools_doc **ret,
                         struct ramet_error *err);

/* Writes DIR/<version>.json, DIR being there, so that it is whole or absent whatever happens. */
int ramet_tools_doc_write(const struct ramet_tools_doc *doc, const char *dir, struct ramet_error *err);
/* Reads it back: RAMET_CORRUPT when it is not what was written for this server and version. */
int ramet_tools_doc_read(const char *dir, const char *server, uint64_t version, struct ramet_tools_doc **ret,
                         struct ramet_error *err);
/* Numbers of the versions in `dir`, oldest first, for free(); leftovers of crashed writes are removed. */
int ramet_tools_doc_versions(const char *dir, uint64_t **ret, size_t *ret_count, struct ramet_error *err);
int ramet_tools_doc_remove(const char *dir, uint64_t version, struct ramet_error *err);

/* When the server last listed just this: the file's modification time. Failing is harmless. */
void ramet_tools_doc_note_checked(const char *dir, uint64_t version, int64_t when_ms);
int64_t ramet_tools_doc_checked(const char *dir, uint64_t version); /* 0 when unknown */

#endif
