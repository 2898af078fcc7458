/* SPDX-License-Identifier: Apache-2.0 */
/* catalogue_put DIR DOCUMENT.json...: puts documents into a daemon's catalogue, as if their servers had listed them. */
#include "json.h"
#include "tools/catalogue.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    struct ramet_tools_catalogue *catalogue = NULL;
    struct ramet_error err = {0};
    static char text[16 << 20];
    if (argc < 3)
        return fprintf(stderr, "usage: catalogue_put DIR DOCUMENT.json...\n"), 2;
    int r = ramet_tools_catalogue_open(argv[1], &catalogue, &err);
    for (int i = 2; i < argc && r == 0; i++) {
        struct ramet_json *listed = NULL;
        FILE *file = fopen(argv[i], "re");
        size_t size = file ? fread(text, 1, sizeof text, file) : 0;
        if (file)
            fclose(file);
        r = ramet_json_parse_lenient(text, size, 1 << 20, &listed, &err);
        if (r == 0)
            r = ramet_tools_catalogue_put(catalogue, listed, NULL, &err);
    }
    ramet_tools_catalogue_close(catalogue);
    if (r < 0)
        fprintf(stderr, "catalogue_put: %s\n", err.msg);
    return r < 0;
}
