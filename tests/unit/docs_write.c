/* SPDX-License-Identifier: Apache-2.0 */
/* docs_write DOCUMENT.json DIR: the files of a server's document, as an administrator sees them, for compilers to
 * judge. */
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/file.h"
#include "json.h"
#include "tools/doc.h"
#include "tools/docs.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>

static int fail(const struct ramet_error *err)
{
    fprintf(stderr, "docs_write: %s\n", err->msg);
    return 1;
}

static int write_file(const char *dir, const char *name, const char *ending, const struct ramet_buf *text, mode_t mode)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s%s", dir, name, ending);
    FILE *file = fopen(path, "we");
    if (!file)
        return -1;
    size_t written = text->size ? fwrite(text->data, 1, text->size, file) : 0;
    return fclose(file) != 0 || written != text->size || chmod(path, mode) < 0 ? -1 : 0;
}

static int write_all(const struct ramet_docs *docs, const char *top, struct ramet_error *err)
{
    static const char *const below[] = {"", "/prompts", "/resources"};
    char dir[PATH_MAX];
    size_t count;
    const struct ramet_docs_item *items = ramet_docs_items(docs, &count);
    for (size_t i = 0; i < count; i++) {
        snprintf(dir, sizeof dir, "%s%s", top, below[items[i].kind]);
        int r = ramet_dir_make(dir, 0755, err);
        for (enum ramet_docs_form form = 0; form < RAMET_DOCS_FORMS && r == 0; form++) {
            struct ramet_buf text = {0};
            if (!ramet_docs_has(items[i].kind, form))
                continue;
            r = ramet_docs_text(docs, &items[i], form, &text, err);
            if (r == 0 &&
                write_file(dir, items[i].file, ramet_docs_ending(form), &text, form == RAMET_DOCS_SH ? 0755 : 0644) < 0)
                r = ramet_error_set(err, RAMET_IO, "cannot write %s/%s", dir, items[i].file);
            ramet_buf_free(&text);
        }
        if (r < 0)
            return r;
    }
    return 0;
}

static int write_index(const struct ramet_docs *docs, const char *top)
{
    size_t count;
    const struct ramet_docs_item *items = ramet_docs_items(docs, &count), **seen = calloc(count + 1, sizeof(*seen));
    struct ramet_buf text = {0};
    for (size_t i = 0; seen && i < count; i++)
        seen[i] = &items[i];
    const struct ramet_docs_seen all = {.docs = docs, .items = seen, .count = count};
    ramet_docs_put_index(&text, &all, RAMET_DOCS_TOOL, NULL);
    int r = write_file(top, "INDEX", "", &text, 0644);
    ramet_buf_free(&text);
    free(seen);
    return r;
}

int main(int argc, char **argv)
{
    struct ramet_error err = {0};
    struct ramet_tools_doc *doc = NULL;
    struct ramet_docs *docs = NULL;
    struct ramet_json *listed = NULL;
    static char text[16 << 20];
    if (argc != 3)
        return fprintf(stderr, "usage: docs_write DOCUMENT.json DIR\n"), 2;
    FILE *file = fopen(argv[1], "re");
    size_t size = file ? fread(text, 1, sizeof text, file) : 0;
    if (file)
        fclose(file);
    int r = ramet_json_parse_lenient(text, size, 1 << 20, &listed, &err);
    if (r == 0)
        r = ramet_tools_doc_make(listed, 1, 0, &doc, &err);
    if (r == 0)
        r = ramet_docs_new(doc, "/run/ramet/ramet.sock", &docs, &err);
    if (r == 0)
        r = ramet_dir_make(argv[2], 0755, &err);
    if (r == 0)
        r = write_all(docs, argv[2], &err);
    if (r == 0 && write_index(docs, argv[2]) < 0)
        r = ramet_error_set(&err, RAMET_IO, "cannot write %s/INDEX", argv[2]);
    ramet_docs_unref(docs);
    ramet_tools_doc_unref(doc);
    return r < 0 ? fail(&err) : 0;
}
