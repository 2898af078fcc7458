/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goes over the lines once. After a problem the chain is taken up where the line at
 * hand says it stands, so that each wrong line is named and those after it are not.
 */
#include "audit_verify.h"

#include "audit_files.h"
#include "base/cleanup.h"
#include "json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SHOWN_MAX 100

struct check {
    struct ramet_audit_report *report;
    struct ramet_audit_point point;     /* where the chain stands */
    bool headless;                      /* nothing is known of the line before the first */
    uint64_t garbled;                   /* lines since the last that could be read */
    struct ramet_audit_expect heads[2]; /* the caller's, the head file's */
    FILE *problems, *notes;
    char file[32]; /* name at hand, or \"\" */
    uint64_t row;  /* in the file */
};

__attribute__((format(printf, 2, 3))) static void problem(struct check *c, const char *fmt, ...)
{
    va_list ap;
    if (++c->report->problems > SHOWN_MAX)
        return;
    va_start(ap, fmt);
    vfprintf(c->problems, fmt, ap);
    va_end(ap);
    fputc('\n', c->problems);
}

/* What the line says of itself, whether or not it is true. */
static bool read_claim(const char *line, size_t size, struct ramet_audit_point *ret, bool *ret_damaged)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *value = NULL;
    if (ramet_json_parse(line, size, &value, NULL) < 0)
        return false;
    const char *hash = ramet_json_str(value, "hash", "");
    ret->seq = (uint64_t)ramet_json_int(value, "seq", 0);
    snprintf(ret->hash, sizeof ret->hash, "%s", hash);
    *ret_damaged = strcmp(ramet_json_str(value, "error.type", ""), "damaged") == 0 &&
                   strcmp(ramet_json_str(value, "action", ""), "openAudit") == 0;
    return ret->seq > 0 && strlen(hash) == RAMET_AUDIT_HASH_SIZE - 1;
}

/* Whether the line is a head that somebody kept, with another hash. */
static void check_heads(struct check *c)
{
    for (size_t i = 0; i < 2; i++)
        if (c->heads[i].hash && c->heads[i].seq == c->point.seq && strcmp(c->heads[i].hash, c->point.hash) != 0)
            problem(c,
                    "%s:%" PRIu64 ": line %" PRIu64
                    ": it is not the line that the head tells of: the audit was written anew",
                    c->file, c->row, c->point.seq);
}

/* What follows lines that cannot be read, or the first line of what was not put away: "prev" cannot be checked. */
static void trust_prev(struct check *c, const char *line, size_t size, uint64_t seq)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *value = NULL;
    if (ramet_json_parse(line, size, &value, NULL) < 0)
        return;
    c->point.seq = seq - 1;
    snprintf(c->point.hash, sizeof c->point.hash, "%s", ramet_json_str(value, "prev", ""));
}

static void check_line(struct check *c, const char *line, size_t size)
{
    struct ramet_audit_point claim = {0};
    struct ramet_error err = {0};
    bool damaged = false, readable = read_claim(line, size, &claim, &damaged);
    c->report->lines++;
    if (!readable) {
        problem(c, "%s:%" PRIu64 ": line %" PRIu64 ": it is no line of an audit, or cut off", c->file, c->row,
                c->point.seq + 1 + c->garbled++);
        return;
    }
    /* As many as could not be read may stand where lines are missing, or they were put in between. */
    if (c->headless || (claim.seq > c->point.seq + 1 && claim.seq <= c->point.seq + 1 + c->garbled))
        trust_prev(c, line, size, c->headless ? c->point.seq + 1 : claim.seq);
    c->garbled = 0;
    c->headless = false;
    uint64_t before = c->point.seq;
    if (ramet_audit_check_line(line, size, &c->point, &err) < 0) {
        problem(c, "%s:%" PRIu64 ": line %" PRIu64 ": %s", c->file, c->row, claim.seq, err.msg);
        if (claim.seq > before)
            c->point = claim;
    } else if (damaged) {
        problem(c, "%s:%" PRIu64 ": line %" PRIu64 ": the daemon found lines missing when it was started", c->file,
                c->row, c->point.seq);
    }
    check_heads(c);
}

static int check_file(struct check *c, const char *dir, unsigned number, bool last, struct ramet_error *err)
{
    char path[PATH_MAX];
    _autofree_ char *line = NULL;
    size_t capacity = 0;
    ssize_t size;
    int rc = ramet_audit_path(dir, number, path, err);
    if (rc < 0)
        return rc;
    FILE *in = fopen(path, "re");
    if (!in)
        return ramet_error_os(err, errno, "cannot open \"%.300s\"", path);
    snprintf(c->file, sizeof c->file, "%.31s", strrchr(path, '/') + 1);
    c->row = 0;
    c->report->files++;
    while ((size = getline(&line, &capacity, in)) > 0) {
        c->row++;
        if (line[size - 1] == '\n')
            check_line(c, line, (size_t)size - 1);
        else if (last)
            fprintf(c->notes,
                    "%s:%" PRIu64 ": %zd bytes after line %" PRIu64 " are no line: torn in a crash, or being written\n",
                    c->file, c->row, size, c->point.seq);
        else
            problem(c, "%s:%" PRIu64 ": line %" PRIu64 ": it is cut off", c->file, c->row, c->point.seq + 1);
    }
    bool failed = ferror(in);
    fclose(in);
    return failed ? ramet_error_set(err, RAMET_IO, "cannot read \"%.300s\"", path) : 0;
}

/* Lines that a head tells of and that are not there any more. */
static void check_end(struct check *c)
{
    uint64_t reach = 0;
    for (size_t i = 0; i < 2; i++)
        reach = c->heads[i].seq > reach ? c->heads[i].seq : reach;
    if (reach > c->point.seq)
        problem(c, "%s: lines %" PRIu64 " to %" PRIu64 " are missing at the end: the head tells of them",
                *c->file ? c->file : "no file", c->point.seq + 1, reach);
}

static int check_all(struct check *c, const char *dir, struct ramet_error *err)
{
    _autofree_ unsigned *numbers = NULL;
    struct ramet_audit_point head = {0};
    struct ramet_error head_error = {0};
    size_t count = 0;
    int rc = ramet_audit_list(dir, &numbers, &count, err);
    if (rc == 0 && ramet_audit_read_head(dir, &head, &head_error) < 0)
        problem(c, "head: %s", head_error.msg);
    if (head.seq)
        c->heads[1] = (struct ramet_audit_expect){.seq = head.seq, .hash = head.hash};
    else if (rc == 0 && count)
        fprintf(c->notes, "head: there is none; lines cut off at the end would not be noticed\n");
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = check_file(c, dir, numbers[i], i + 1 == count, err);
    if (rc == 0)
        check_end(c);
    c->heads[1].hash = NULL;
    return rc;
}

int ramet_audit_verify(const char *dir, const struct ramet_audit_expect *expect, struct ramet_audit_report *ret,
                       struct ramet_error *err)
{
    struct ramet_audit_report report = {0};
    struct check c = {.report = &report, .point = {.hash = RAMET_AUDIT_NO_HASH}};
    size_t sizes[2];
    if (expect) {
        c.heads[0] = *expect;
        if (expect->from > 1) {
            c.point.seq = expect->from - 1;
            c.headless = true;
        }
    }
    c.problems = open_memstream(&report.problem_lines, &sizes[0]);
    c.notes = open_memstream(&report.notes, &sizes[1]);
    int rc = c.problems && c.notes ? check_all(&c, dir, err)
                                   : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to verify the audit");
    bool lost = c.problems && fclose(c.problems) != 0;
    lost |= c.notes && fclose(c.notes) != 0;
    if (lost && rc == 0)
        rc = ramet_error_set(err, RAMET_NO_MEMORY, "no memory to verify the audit");
    if (rc < 0) {
        ramet_audit_report_clear(&report);
        return rc;
    }
    report.seq = c.point.seq;
    memcpy(report.hash, c.point.hash, sizeof report.hash);
    *ret = report;
    return 0;
}

void ramet_audit_report_clear(struct ramet_audit_report *report)
{
    free(report->problem_lines);
    free(report->notes);
    *report = (struct ramet_audit_report){0};
}
