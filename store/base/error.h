/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors: every fallible function returns 0 or a negative `enum ramet_code` and
 * fills a caller-owned `struct ramet_error`. The struct is plain memory, no
 * allocation and no thread-local, so it travels with a FUSE reply or another
 * thread. The lowest layer sets it; callers prefix it with what they were doing.
 * Flow is decided on the returned code, never on the text.
 */
#ifndef RAMET_BASE_ERROR_H
#define RAMET_BASE_ERROR_H

#include <stddef.h>

enum ramet_code {
    RAMET_OK = 0,
    RAMET_INVALID,     /* the caller's input is wrong */
    RAMET_NOT_FOUND,   /* the named thing does not exist */
    RAMET_EXISTS,      /* the name is taken */
    RAMET_CONFLICT,    /* the thing is in a state that forbids this */
    RAMET_BUSY,        /* another process or request holds it */
    RAMET_NO_MEMORY,   /* memory is short */
    RAMET_NO_SPACE,    /* the disk or a quota is full */
    RAMET_READ_ONLY,   /* the store or file cannot be written */
    RAMET_DENIED,      /* permission */
    RAMET_TOO_LARGE,   /* beyond a documented limit */
    RAMET_CORRUPT,     /* stored bytes fail verification */
    RAMET_IO,          /* the operating system failed a read, write or sync */
    RAMET_TIMEOUT,     /* it did not answer in time */
    RAMET_UNSUPPORTED, /* this kernel, VMM or build cannot */
    RAMET_UNAVAILABLE, /* the daemon or a program is not there */
    RAMET_VMM,         /* the VMM failed or died */
    RAMET_REMOTE,      /* a server that we asked for somebody answers with an error of its own */
    RAMET_INTERNAL,    /* a bug of ours, reported rather than asserted */
    RAMET_CODE_COUNT
};

struct ramet_error {
    int code;       /* enum ramet_code, RAMET_OK when unset */
    int os_errno;   /* errno behind it, or 0 */
    char msg[512];  /* names the thing */
    char hint[256]; /* the remedy, or "" */
};

/* Sets `err` (may be NULL) and returns -code, so that `return ramet_error_set(...)` works. */
int ramet_error_set(struct ramet_error *err, enum ramet_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* As ramet_error_set, the code and ": strerror" taken from os_errno (ENOSPC gives RAMET_NO_SPACE, ...). */
int ramet_error_os(struct ramet_error *err, int os_errno, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Adds the remedy to an error already set; returns its negative code. */
int ramet_error_hint(struct ramet_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Puts "what: " before the message of an error already set; returns its negative code. */
int ramet_error_prefix(struct ramet_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The one table: negative or positive code to errno (for FUSE), HTTP status, CLI exit code, stable name. */
int ramet_code_errno(int code);
int ramet_code_http(int code);
int ramet_code_exit(int code);
const char *ramet_code_name(int code);
int ramet_code_from_name(const char *name); /* RAMET_INTERNAL when unknown */

#endif
