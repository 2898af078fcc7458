/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the golden store: `golden_make DIR` puts a sample into DIR and prints what it holds,
 * one line a thing. tests/golden/make packs both. Run it for a new version of the format
 * only, and keep the old ones: they prove that old stores still open.
 */
#include "sample.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    enum { seed = 20260101 };
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    struct sample_lines lines;
    struct ramet_error err = {0};
    if (argc != 2) {
        fprintf(stderr, "usage: golden_make DIR\n");
        return 2;
    }
    /* RocksDB notes the machine's name in its tables; not everyone may set another. */
    if (unshare(CLONE_NEWUTS) < 0 || sethostname("golden", 6) < 0)
        fprintf(stderr, "golden_make: this machine's name gets into the store: %m\n");
    sample_make(argv[1], seed, true);
    if (ramet_store_open(argv[1], NULL, &store, &err) < 0 || ramet_catalog_open(store, &catalog, &err) < 0) {
        fprintf(stderr, "golden_make: %s\n", err.msg);
        return 1;
    }
    sample_describe(catalog, &lines);
    for (size_t i = 0; i < lines.count; i++) {
        if (lines.lines[i].status < 0) {
            fprintf(stderr, "golden_make: %s: %s\n", lines.lines[i].name, lines.lines[i].err.msg);
            return 1;
        }
        printf("%s: %s\n", lines.lines[i].name, lines.lines[i].value);
    }
    sample_lines_free(&lines);
    ramet_catalog_close(catalog);
    ramet_store_close(store);
    return 0;
}
