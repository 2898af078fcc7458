/* SPDX-License-Identifier: Apache-2.0 */
/* Names, lines and the head. No state. */
#include "audit_files.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "digest.h"
#include "json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define HEAD_SIZE (20 + 1 + 64 + 1) /* "%020u HASH\n" */

int ramet_audit_path(const char *dir, unsigned number, char ret[static PATH_MAX], struct ramet_error *err)
{
    if (snprintf(ret, PATH_MAX, "%s/audit-%06u.jsonl", dir, number) < PATH_MAX)
        return 0;
    return ramet_error_set(err, RAMET_INVALID, "path \"%.100s...\" is too long", dir);
}

static int by_number(const void *a, const void *b)
{
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
    return (x > y) - (x < y);
}

static bool read_number(const char *name, unsigned *ret)
{
    char again[64];
    return sscanf(name, "audit-%u.jsonl", ret) == 1 &&
           snprintf(again, sizeof again, "audit-%06u.jsonl", *ret) < (int)sizeof again && strcmp(again, name) == 0;
}

int ramet_audit_list(const char *dir, unsigned **ret, size_t *ret_count, struct ramet_error *err)
{
    _autofree_ unsigned *numbers = NULL;
    size_t count = 0, capacity = 0;
    struct dirent *entry;
    DIR *d = opendir(dir);
    if (!d)
        return ramet_error_os(err, errno, "cannot open the audit \"%.300s\"", dir);
    while ((entry = readdir(d))) {
        unsigned number;
        if (!read_number(entry->d_name, &number))
            continue;
        if (count == capacity) {
            unsigned *grown = realloc(numbers, (capacity = capacity * 2 + 16) * sizeof *numbers);
            if (!grown) {
                closedir(d);
                return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to list the audit");
            }
            numbers = grown;
        }
        numbers[count++] = number;
    }
    closedir(d);
    if (count)
        qsort(numbers, count, sizeof *numbers, by_number);
    *ret = STEAL(numbers);
    *ret_count = count;
    return 0;
}

/* ---- lines ---- */

static int bad(struct ramet_error *err, const char *why) { return ramet_error_set(err, RAMET_CORRUPT, "%s", why); }

int ramet_audit_check_line(const char *line, size_t size, struct ramet_audit_point *point, struct ramet_error *err)
{
    static const char tail[] = ",\"hash\":\"";
    const size_t tail_size = sizeof tail - 1 + 64 + 2;
    _cleanup_(ramet_json_cleanup) struct ramet_json *value = NULL;
    char digest[RAMET_DIGEST_SIZE];
    if (size <= tail_size || memcmp(line + size - tail_size, tail, sizeof tail - 1) != 0 ||
        memcmp(line + size - 2, "\"}", 2) != 0)
        return bad(err, "it is no line of an audit, or cut off");
    ramet_digest_sure(line, size - tail_size, digest);
    if (memcmp(digest, line + size - 2 - 64, 64) != 0)
        return bad(err, "it was changed: its hash does not fit it");
    if (ramet_json_parse(line, size, &value, NULL) < 0)
        return bad(err, "it is no JSON");
    uint64_t seq = (uint64_t)ramet_json_int(value, "seq", 0);
    const char *prev = ramet_json_str(value, "prev", "");
    if (seq != point->seq + 1)
        return ramet_error_set(err, RAMET_CORRUPT,
                               seq > point->seq + 1 ? "lines %" PRIu64 " to %" PRIu64 " before it are missing"
                                                    : "it is line %" PRIu64 " where line %" PRIu64 " belongs",
                               seq > point->seq + 1 ? point->seq + 1 : seq,
                               seq > point->seq + 1 ? seq - 1 : point->seq + 1);
    if (strcmp(prev, point->hash) != 0)
        return bad(err, "the line before it is not the one that was written there");
    point->seq = seq;
    strcpy(point->hash, digest);
    return 0;
}

/* ---- the head ---- */

int ramet_audit_read_head(const char *dir, struct ramet_audit_point *ret, struct ramet_error *err)
{
    char path[PATH_MAX], text[HEAD_SIZE + 1] = "", again[HEAD_SIZE + 1];
    if (snprintf(path, sizeof path, "%s/head", dir) >= (int)sizeof path)
        return ramet_error_set(err, RAMET_INVALID, "path \"%.100s...\" is too long", dir);
    _autoclose_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    *ret = (struct ramet_audit_point){.hash = RAMET_AUDIT_NO_HASH};
    if (fd < 0)
        return errno == ENOENT ? 0 : ramet_error_os(err, errno, "cannot open \"%.300s\"", path);
    ssize_t n = read(fd, text, HEAD_SIZE);
    if (n < 0)
        return ramet_error_os(err, errno, "cannot read \"%.300s\"", path);
    if (n == 0)
        return 0;
    struct ramet_audit_point point = {0};
    if (sscanf(text, "%20" SCNu64 " %64[0-9a-f]", &point.seq, point.hash) != 2 ||
        snprintf(again, sizeof again, "%020" PRIu64 " %s\n", point.seq, point.hash) != HEAD_SIZE ||
        memcmp(text, again, HEAD_SIZE) != 0)
        return ramet_error_set(err, RAMET_CORRUPT, "\"%.300s\" is no head of an audit", path);
    *ret = point;
    return 0;
}

int ramet_audit_write_head(int fd, const struct ramet_audit_point *point, struct ramet_error *err)
{
    char text[HEAD_SIZE + 1];
    snprintf(text, sizeof text, "%020" PRIu64 " %s\n", point->seq, point->hash);
    return ramet_file_write(fd, "the audit's head", text, HEAD_SIZE, 0, err);
}
