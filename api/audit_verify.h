/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks an audit from its files alone: every line's own hash, its number and the hash
 * of the line before it, and that the chain reaches the head. Whoever can write the
 * files could write all of them anew; a head that was kept elsewhere finds that too.
 */
#ifndef RAMET_API_AUDIT_VERIFY_H
#define RAMET_API_AUDIT_VERIFY_H

#include "base/error.h"

#include <stdint.h>

struct ramet_audit_expect {
    uint64_t from;    /* number of the first line there must be, where older files were put away; 0: 1 */
    uint64_t seq;     /* a line that must be there, and */
    const char *hash; /* its hash; NULL: none is known */
};

struct ramet_audit_report {
    uint64_t files, lines, problems;
    uint64_t seq;        /* of the last line */
    char hash[65];       /* of the last line */
    char *problem_lines; /* one problem a line: "audit-000001.jsonl:7: line 7: ..."; owned; the first 100 */
    char *notes;         /* what is no problem but worth knowing, likewise; owned */
};
void ramet_audit_report_clear(struct ramet_audit_report *report);

/* Fails only when the files cannot be read. `expect` may be NULL. */
int ramet_audit_verify(const char *dir, const struct ramet_audit_expect *expect, struct ramet_audit_report *ret,
                       struct ramet_error *err);

#endif
