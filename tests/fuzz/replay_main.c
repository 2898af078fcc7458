/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target over the files, and the files of the directories, it is given. */
#include "fuzz.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static unsigned inputs;

static int replay(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)ftw;
    if (kind != FTW_F)
        return 0;
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc((size_t)st->st_size + 1);
    if (!file || !data || fread(data, 1, (size_t)st->st_size, file) != (size_t)st->st_size) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(1);
    }
    fclose(file);
    printf("%s\n", path);
    fflush(stdout);
    /* In a block of its own size, so that the sanitizer sees reads past its end. */
    LLVMFuzzerTestOneInput(data, (size_t)st->st_size);
    free(data);
    inputs++;
    return 0;
}

int main(int argc, char **argv)
{
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++)
        if (nftw(argv[i], replay, 16, FTW_PHYS) != 0) {
            fprintf(stderr, "cannot read %s\n", argv[i]);
            return 1;
        }
    printf("%u inputs\n", inputs);
    return inputs == 0;
}
