/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The audit's files, for those who write (audit.c) and check (audit_verify.c) them:
 *
 *     STORE/audit/audit-000001.jsonl ...   the lines
 *     STORE/audit/head                     number and hash of the last synced line
 *     STORE/audit/key                      32 random bytes, under which arguments are hashed
 *
 * A line is {"seq":N,"time":"...","prev":"<hash of the line before>",...,"hash":"<hash>"}.
 * Its hash is the SHA-256 of its bytes before `,"hash":`. "prev" of line 1 is 64 zeros.
 * The chain goes on from file to file.
 */
#ifndef RAMET_API_AUDIT_FILES_H
#define RAMET_API_AUDIT_FILES_H

#include "audit.h"

#include <limits.h>
#include <stddef.h>

#define RAMET_AUDIT_NO_HASH "0000000000000000000000000000000000000000000000000000000000000000"
#define RAMET_AUDIT_LINE_MAX (64u << 10)

/* Where a chain stands. */
struct ramet_audit_point {
    uint64_t seq;
    char hash[RAMET_AUDIT_HASH_SIZE];
};

int ramet_audit_path(const char *dir, unsigned number, char ret[static PATH_MAX], struct ramet_error *err);
/* Numbers of the files there are, ascending; owned by the caller. */
int ramet_audit_list(const char *dir, unsigned **ret, size_t *ret_count, struct ramet_error *err);

/* Checks one line (without its newline) against where the chain stands, and moves that on. RAMET_CORRUPT says why. */
int ramet_audit_check_line(const char *line, size_t size, struct ramet_audit_point *point, struct ramet_error *err);

/* The head as it was last written; seq 0 when there is none yet. */
int ramet_audit_read_head(const char *dir, struct ramet_audit_point *ret, struct ramet_error *err);
int ramet_audit_write_head(int fd, const struct ramet_audit_point *point, struct ramet_error *err);

#endif
