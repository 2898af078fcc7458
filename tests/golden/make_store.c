/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a golden store: `golden_make SAMPLE DIR` puts the sample "store" or "workspaces"
 * into DIR and prints what it holds, one line a thing. tests/golden/make packs both. Run it
 * for a new version of the format only, and keep the old ones: they prove that old stores
 * still open.
 */
#include "sample.h"
#include "sample_workspaces.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct ramet_error err;

static int print(struct sample_lines *lines)
{
    for (size_t i = 0; i < lines->count; i++) {
        const struct sample_line *line = &lines->lines[i];
        if (line->status < 0) {
            fprintf(stderr, "golden_make: %s: %s\n", line->name, line->err.msg);
            return 1;
        }
        printf("%s: %s\n", line->name, line->value);
    }
    sample_lines_free(lines);
    return fflush(stdout) == 0 ? 0 : 1;
}

static int make_store(const char *dir)
{
    enum { seed = 20260101 };
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    struct sample_lines lines;
    sample_make(dir, seed, true);
    if (ramet_store_open(dir, NULL, &store, &err) < 0 || ramet_catalog_open(store, &catalog, &err) < 0) {
        fprintf(stderr, "golden_make: %s\n", err.msg);
        return 1;
    }
    sample_describe(catalog, &lines);
    int status = print(&lines);
    ramet_catalog_close(catalog);
    ramet_store_close(store);
    return status;
}

int main(int argc, char **argv)
{
    struct sample_lines lines;
    if (argc != 3 || (strcmp(argv[1], "store") != 0 && strcmp(argv[1], "workspaces") != 0)) {
        fprintf(stderr, "usage: golden_make store|workspaces DIR\n");
        return 2;
    }
    /* RocksDB notes the machine's name in its tables; not everyone may set another. */
    if (unshare(CLONE_NEWUTS) < 0 || sethostname("golden", 6) < 0)
        fprintf(stderr, "golden_make: this machine's name gets into the store: %m\n");
    if (strcmp(argv[1], "store") == 0)
        return make_store(argv[2]);
    sample_workspaces_make(argv[2], &lines);
    _exit(print(&lines)); /* closing would put the journal into the store */
}
