/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documents and their files. A document is written before it is shared and never after; the count is all that
 * changes, atomically.
 *
 * The digest is of the text without the members we add, so a file is verified by taking them off again. Writing:
 * N.json.tmp, synced, renamed, directory synced. A crash leaves the ".tmp" or nothing.
 */
#include "tools/doc.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "digest.h"
#include "json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

enum { values_max = 8 << 20 }; /* more than the client takes from a server */
static const size_t file_max = 256 << 20;

struct ramet_tools_doc {
    atomic_uint refs;
    struct ramet_json *json;
    char digest[RAMET_DIGEST_SIZE];
    uint64_t version;
    int64_t fetched_ms;
};

struct ramet_tools_doc *ramet_tools_doc_ref(struct ramet_tools_doc *doc)
{
    if (doc)
        atomic_fetch_add(&doc->refs, 1);
    return doc;
}

void ramet_tools_doc_unref(struct ramet_tools_doc *doc)
{
    if (!doc || atomic_fetch_sub(&doc->refs, 1) != 1)
        return;
    ramet_json_free(doc->json);
    free(doc);
}

void ramet_tools_doc_cleanup(struct ramet_tools_doc **doc) { ramet_tools_doc_unref(*doc); }

void ramet_tools_docs_free(struct ramet_tools_doc **docs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ramet_tools_doc_unref(docs[i]);
    free(docs);
}

const struct ramet_json *ramet_tools_doc_json(const struct ramet_tools_doc *doc) { return doc->json; }
const char *ramet_tools_doc_digest(const struct ramet_tools_doc *doc) { return doc->digest; }
uint64_t ramet_tools_doc_version(const struct ramet_tools_doc *doc) { return doc->version; }
int64_t ramet_tools_doc_fetched_ms(const struct ramet_tools_doc *doc) { return doc->fetched_ms; }

const char *ramet_tools_doc_server(const struct ramet_tools_doc *doc)
{
    return ramet_json_str(doc->json, "server", "");
}

const struct ramet_json *ramet_tools_doc_tool(const struct ramet_tools_doc *doc, const char *tool)
{
    const struct ramet_json *tools = ramet_json_get(doc->json, "tools");
    for (size_t i = 0, count = ramet_json_count(tools); i < count; i++) {
        const char *name = ramet_json_str(ramet_json_at(tools, i), "name", NULL);
        if (name && strcmp(name, tool) == 0)
            return ramet_json_at(tools, i);
    }
    return NULL;
}

/* ---- making ---- */

int ramet_tools_doc_make(struct ramet_json *listed, uint64_t version, int64_t fetched_ms, struct ramet_tools_doc **ret,
                         struct ramet_error *err)
{
    struct ramet_tools_doc *doc = calloc(1, sizeof *doc);
    _autofree_ char *text = ramet_json_text(listed);
    int rc = doc && text ? ramet_digest_bytes(text, strlen(text), doc->digest, err)
                         : ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the tools of \"%s\"",
                                           ramet_json_str(listed, "server", ""));
    if (rc < 0) {
        ramet_json_free(listed);
        free(doc);
        return rc;
    }
    ramet_json_set_i64(listed, "fetched_ms", fetched_ms);
    ramet_json_set_u64(listed, "version", version);
    ramet_json_set_string(listed, "digest", doc->digest);
    atomic_init(&doc->refs, 1);
    doc->json = listed;
    doc->version = version;
    doc->fetched_ms = fetched_ms;
    *ret = doc;
    return 0;
}

/* ---- files ---- */

static int file_path(char path[static PATH_MAX], const char *dir, uint64_t version, struct ramet_error *err)
{
    int size = snprintf(path, PATH_MAX, "%s/%" PRIu64 ".json", dir, version);
    return size < PATH_MAX ? 0 : ramet_error_set(err, RAMET_INVALID, "%.300s: the path is too long", dir);
}

int ramet_tools_doc_write(const struct ramet_tools_doc *doc, const char *dir, struct ramet_error *err)
{
    char path[PATH_MAX];
    _autofree_ char *text = ramet_json_text(doc->json);
    if (!text)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to write %.300s", dir);
    int rc = file_path(path, dir, doc->version, err);
    return rc < 0 ? rc : ramet_file_replace(path, text, strlen(text), 0600, err);
}

int ramet_tools_doc_read(const char *dir, const char *server, uint64_t version, struct ramet_tools_doc **ret,
                         struct ramet_error *err)
{
    char path[PATH_MAX], digest[RAMET_DIGEST_SIZE];
    _autofree_ char *text = NULL;
    _cleanup_(ramet_json_cleanup) struct ramet_json *json = NULL;
    _cleanup_(ramet_tools_doc_cleanup) struct ramet_tools_doc *doc = NULL;
    size_t size = 0;
    int rc = file_path(path, dir, version, err);
    if (rc == 0)
        rc = ramet_file_read_all(path, file_max, &text, &size, err);
    if (rc < 0)
        return rc;
    if (ramet_json_parse_lenient(text, size, values_max, &json, NULL) < 0 || !ramet_json_is_object(json) ||
        ramet_json_int(json, "version", -1) != (int64_t)version ||
        strcmp(ramet_json_str(json, "server", ""), server) != 0)
        return ramet_error_set(err, RAMET_CORRUPT, "%.300s is not version %" PRIu64 " of \"%s\"", path, version,
                               server);
    int64_t fetched_ms = ramet_json_int(json, "fetched_ms", 0);
    snprintf(digest, sizeof digest, "%s", ramet_json_str(json, "digest", ""));
    ramet_json_remove(json, "fetched_ms");
    ramet_json_remove(json, "version");
    ramet_json_remove(json, "digest");
    rc = ramet_tools_doc_make(STEAL(json), version, fetched_ms, &doc, err);
    if (rc == 0 && strcmp(digest, doc->digest) != 0)
        rc = ramet_error_set(err, RAMET_CORRUPT, "%.300s does not have the digest it names", path);
    if (rc == 0)
        *ret = STEAL(doc);
    return rc;
}

int ramet_tools_doc_remove(const char *dir, uint64_t version, struct ramet_error *err)
{
    char path[PATH_MAX];
    int rc = file_path(path, dir, version, err);
    if (rc == 0 && unlink(path) < 0 && errno != ENOENT)
        rc = ramet_error_os(err, errno, "cannot remove %.300s", path);
    return rc;
}

/* ---- versions ---- */

/* The number in "N.json", 0 when `name` is no such name; *ret_rest is what follows it. */
static uint64_t number_of(const char *name, const char **ret_rest)
{
    char *end;
    errno = 0;
    uint64_t version = *name >= '1' && *name <= '9' ? strtoull(name, &end, 10) : 0;
    if (version == 0 || version > INT64_MAX || errno || strncmp(end, ".json", 5) != 0)
        return 0;
    *ret_rest = end + 5;
    return version;
}

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static void close_dir(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

int ramet_tools_doc_versions(const char *dir, uint64_t **ret, size_t *ret_count, struct ramet_error *err)
{
    _cleanup_(close_dir) DIR *opened = opendir(dir);
    _autofree_ uint64_t *versions = NULL;
    size_t count = 0;
    const struct dirent *entry;
    if (!opened)
        return ramet_error_os(err, errno, "cannot list %.300s", dir);
    while ((entry = readdir(opened))) {
        const char *rest;
        uint64_t version = number_of(entry->d_name, &rest);
        if (version && strcmp(rest, ".tmp") == 0)
            unlinkat(dirfd(opened), entry->d_name, 0);
        if (!version || *rest)
            continue;
        uint64_t *grown = reallocarray(versions, count + 1, sizeof *versions);
        if (!grown)
            return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the versions in %.300s", dir);
        versions = grown;
        versions[count++] = version;
    }
    if (count)
        qsort(versions, count, sizeof *versions, compare);
    *ret = STEAL(versions);
    *ret_count = count;
    return 0;
}

/* ---- times ---- */

void ramet_tools_doc_note_checked(const char *dir, uint64_t version, int64_t when_ms)
{
    char path[PATH_MAX];
    struct timespec when = {.tv_sec = when_ms / 1000, .tv_nsec = when_ms % 1000 * 1000000};
    const struct timespec times[2] = {when, when};
    if (file_path(path, dir, version, NULL) == 0)
        (void)utimensat(AT_FDCWD, path, times, 0);
}

int64_t ramet_tools_doc_checked(const char *dir, uint64_t version)
{
    char path[PATH_MAX];
    struct stat st;
    if (file_path(path, dir, version, NULL) < 0 || stat(path, &st) < 0)
        return 0;
    return (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
}
