/* SPDX-License-Identifier: Apache-2.0 */
/* manifest.json: what a snapshot is, in constants only, so that the file may be cached for ever. */
#include "tree.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void put_string(FILE *out, const char *key, const char *s)
{
    fprintf(out, "  \"%s\": \"", key);
    for (; s && *s; s++) {
        if (*s == '"' || *s == '\\')
            fprintf(out, "\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            fprintf(out, "\\u%04x", (unsigned)*s);
        else
            fputc(*s, out);
    }
    fputs("\",\n", out);
}

char *ramet_manifest_text(const struct ramet_snapshot *snapshot)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    fputs("{\n", out);
    put_string(out, "id", snapshot->id);
    put_string(out, "parent", snapshot->parent);
    put_string(out, "sandbox", snapshot->sandbox);
    put_string(out, "sandbox_name", snapshot->sandbox_name);
    fprintf(out, "  \"created_ms\": %" PRId64 ",\n  \"memory_bytes\": %" PRIu64 ",\n  \"cpus\": %" PRIu32 ",\n",
            snapshot->created_ms, snapshot->memory_bytes, snapshot->cpus);
    put_string(out, "cmdline", snapshot->cmdline);
    fputs("  \"images\": [", out);
    for (size_t i = 0; i < snapshot->image_count; i++)
        fprintf(out, "%s\n    {\"name\": \"%s\", \"size_bytes\": %" PRIu64 "}", i ? "," : "", snapshot->images[i].name,
                ramet_image_size(snapshot->images[i].image));
    fputs("\n  ]\n}\n", out);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
