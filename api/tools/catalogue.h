/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What MCP servers say they can do: one document a server, kept in versions.
 *
 * A document is a JSON object, immutable and counted:
 *
 *     {"server": name, "protocolVersion": text, "capabilities": {...}, "serverInfo": {...}, "instructions": text,
 *      "tools": [...], "prompts": [...], "resources": [...], "resourceTemplates": [...],
 *      "fetched_ms": Unix time, "version": N, "digest": SHA-256 in hex}
 *
 * The four lists hold the definitions exactly as the server listed them, members we do not know included.
 * "instructions" is left out where the server gave none. "digest" is of the compact text of all members that the
 * server gave: it is what decides whether a listing made a new version. Versions count from 1.
 *
 * On disk: DIR/<escaped server>/<N>.json (names.h), the last RAMET_TOOLS_VERSIONS of them; docs/format.md. A version
 * is written beside, synced, renamed, and the directory synced before it is visible here. A crash leaves a ".tmp"
 * that the next opening removes. A file that does not verify is left alone, and an older one serves.
 *
 * Nothing here calls a server: documents of a server that is down are as good as any.
 *
 * Thread-safety: every function from any thread. A document may be read by many at once and is never written.
 */
#ifndef RAMET_API_TOOLS_CATALOGUE_H
#define RAMET_API_TOOLS_CATALOGUE_H

#include "base/error.h"
#include "tools/names.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RAMET_TOOLS_VERSIONS 16

struct ramet_json;
struct ramet_tools_catalogue;
struct ramet_tools_doc;

/* ---- documents ---- */

struct ramet_tools_doc *ramet_tools_doc_ref(struct ramet_tools_doc *doc); /* NULL gives NULL */
void ramet_tools_doc_unref(struct ramet_tools_doc *doc);                  /* NULL is a no-op */
void ramet_tools_doc_cleanup(struct ramet_tools_doc **doc);               /* for _cleanup_ */
void ramet_tools_docs_free(struct ramet_tools_doc **docs, size_t count);  /* unrefs each, frees the array */

/* All borrowed from the document. */
const struct ramet_json *ramet_tools_doc_json(const struct ramet_tools_doc *doc);
const char *ramet_tools_doc_server(const struct ramet_tools_doc *doc);
const char *ramet_tools_doc_digest(const struct ramet_tools_doc *doc);
uint64_t ramet_tools_doc_version(const struct ramet_tools_doc *doc);
int64_t ramet_tools_doc_fetched_ms(const struct ramet_tools_doc *doc);

/* The tool's definition as listed, borrowed; NULL when there is none of that name. */
const struct ramet_json *ramet_tools_doc_tool(const struct ramet_tools_doc *doc, const char *tool);

/* ---- reading ---- */

/* Loads what is below `dir`, made when missing. Directories and files it does not understand are left alone. */
int ramet_tools_catalogue_open(const char *dir, struct ramet_tools_catalogue **ret, struct ramet_error *err);
void ramet_tools_catalogue_close(struct ramet_tools_catalogue *catalogue); /* NULL is a no-op; documents live on */

/* The newest document of every server, sorted by name; ramet_tools_docs_free. */
int ramet_tools_catalogue_list(struct ramet_tools_catalogue *catalogue, struct ramet_tools_doc ***ret,
                               size_t *ret_count, struct ramet_error *err);
/* The newest of one server; NULL when it was never listed. The caller unrefs it. */
struct ramet_tools_doc *ramet_tools_catalogue_current(struct ramet_tools_catalogue *catalogue, const char *server);
/* One that is kept, read from disk when it is not the newest; NOT_FOUND. The caller unrefs it. */
int ramet_tools_catalogue_version(struct ramet_tools_catalogue *catalogue, const char *server, uint64_t version,
                                  struct ramet_tools_doc **ret, struct ramet_error *err);
/* Their numbers, oldest first; freed with free(). NOT_FOUND. */
int ramet_tools_catalogue_versions(struct ramet_tools_catalogue *catalogue, const char *server, uint64_t **ret,
                                   size_t *ret_count, struct ramet_error *err);

/* How current a document is. */
struct ramet_tools_health {
    bool up;            /* the server answers, as far as is known */
    int64_t checked_ms; /* when it last listed what the newest document says; survives the daemon */
    char problem[512];  /* why it is not up, or "" */
};
/* NOT_FOUND when the server was never listed and no health was ever set. */
int ramet_tools_catalogue_health(struct ramet_tools_catalogue *catalogue, const char *server,
                                 struct ramet_tools_health *ret, struct ramet_error *err);

/*
 * Calls `changed` after each new version, removal (doc NULL) and change of health (the newest document, or NULL where
 * there is none), in order, on the thread that made it, with no lock held that reading needs. `doc` is borrowed. What
 * was there before the subscription is not told. Unsubscribing returns when no call is under way; it must not be made
 * from one.
 */
typedef void ramet_tools_changed(void *context, const char *server, struct ramet_tools_doc *doc);
int ramet_tools_catalogue_subscribe(struct ramet_tools_catalogue *catalogue, ramet_tools_changed *changed,
                                    void *context, struct ramet_error *err);
void ramet_tools_catalogue_unsubscribe(struct ramet_tools_catalogue *catalogue, ramet_tools_changed *changed,
                                       void *context);

/* ---- writing (the MCP client) ---- */

/*
 * Takes over `listed`, an object with all members but the last three. When it differs from the newest document it is
 * made durable as the next version, else only the time is noted. *ret_changed may be NULL.
 */
int ramet_tools_catalogue_put(struct ramet_tools_catalogue *catalogue, struct ramet_json *listed, bool *ret_changed,
                              struct ramet_error *err);
/* `problem` NULL: it is up. */
void ramet_tools_catalogue_set_health(struct ramet_tools_catalogue *catalogue, const char *server, const char *problem);
/* With all versions; none is no error. */
int ramet_tools_catalogue_remove(struct ramet_tools_catalogue *catalogue, const char *server, struct ramet_error *err);

#endif
