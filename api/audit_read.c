/* SPDX-License-Identifier: Apache-2.0 */
/* Each file's first line tells where it begins, so only those are opened that can have what is asked for. */
#include "audit_read.h"

#include "audit_files.h"
#include "base/cleanup.h"
#include "json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static FILE *open_number(const char *dir, unsigned number, struct ramet_error *err)
{
    char path[PATH_MAX];
    if (ramet_audit_path(dir, number, path, err) < 0)
        return NULL;
    FILE *in = fopen(path, "re");
    if (!in)
        ramet_error_os(err, errno, "cannot open \"%.300s\"", path);
    return in;
}

/* 0: it has none. */
static uint64_t line_seq(const char *line)
{
    static const char start[] = "{\"seq\":";
    return strncmp(line, start, sizeof start - 1) == 0 ? strtoull(line + sizeof start - 1, NULL, 10) : 0;
}

static uint64_t first_seq(const char *dir, unsigned number)
{
    _autofree_ char *line = NULL;
    size_t capacity = 0;
    FILE *in = open_number(dir, number, NULL);
    uint64_t seq = in && getline(&line, &capacity, in) > 0 ? line_seq(line) : 0;
    if (in)
        fclose(in);
    return seq;
}

static int read_file(const char *dir, unsigned number, uint64_t after, unsigned limit, struct ramet_json *array,
                     struct ramet_error *err)
{
    _autofree_ char *line = NULL;
    size_t capacity = 0;
    ssize_t size;
    FILE *in = open_number(dir, number, err);
    if (!in)
        return -RAMET_IO;
    while (ramet_json_count(array) < limit && (size = getline(&line, &capacity, in)) > 0) {
        struct ramet_json *value = NULL;
        if (line_seq(line) > after && ramet_json_parse(line, (size_t)size, &value, NULL) == 0)
            ramet_json_append(array, value);
    }
    fclose(in);
    return 0;
}

int ramet_audit_read(const char *dir, uint64_t after, unsigned limit, struct ramet_json **ret, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *array = ramet_json_array();
    _autofree_ unsigned *numbers = NULL;
    size_t count = 0, first = 0;
    int rc = ramet_audit_list(dir, &numbers, &count, err);
    if (rc == 0 && !array)
        rc = ramet_error_set(err, RAMET_NO_MEMORY, "no memory to read the audit");
    for (size_t i = count; rc == 0 && i-- > 0;)
        if (first_seq(dir, numbers[i]) && first_seq(dir, numbers[i]) <= after + 1) {
            first = i;
            break;
        }
    for (size_t i = first; rc == 0 && i < count && ramet_json_count(array) < limit; i++)
        rc = read_file(dir, numbers[i], after, limit, array, err);
    if (rc == 0)
        *ret = STEAL(array);
    return rc;
}
