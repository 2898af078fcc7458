/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int os_errno;
    int http;
    int exit;
} codes[RAMET_CODE_COUNT] = {
    [RAMET_OK] = {"ok", 0, 200, 0},
    [RAMET_INVALID] = {"invalid", EINVAL, 400, 2},
    [RAMET_NOT_FOUND] = {"not_found", ENOENT, 404, 3},
    [RAMET_EXISTS] = {"exists", EEXIST, 409, 4},
    [RAMET_CONFLICT] = {"conflict", EBUSY, 409, 5},
    [RAMET_BUSY] = {"busy", EBUSY, 423, 6},
    [RAMET_NO_MEMORY] = {"no_memory", ENOMEM, 507, 7},
    [RAMET_NO_SPACE] = {"no_space", ENOSPC, 507, 8},
    [RAMET_READ_ONLY] = {"read_only", EROFS, 403, 9},
    [RAMET_DENIED] = {"denied", EACCES, 403, 10},
    [RAMET_TOO_LARGE] = {"too_large", EFBIG, 413, 11},
    [RAMET_CORRUPT] = {"corrupt", EIO, 500, 12},
    [RAMET_IO] = {"io", EIO, 500, 13},
    [RAMET_TIMEOUT] = {"timeout", ETIMEDOUT, 504, 14},
    [RAMET_UNSUPPORTED] = {"unsupported", EOPNOTSUPP, 501, 15},
    [RAMET_UNAVAILABLE] = {"unavailable", ECONNREFUSED, 503, 16},
    [RAMET_VMM] = {"vmm", EIO, 502, 17},
    [RAMET_REMOTE] = {"remote", EREMOTEIO, 502, 18},
    [RAMET_INTERNAL] = {"internal", EIO, 500, 1},
};

static int index_of(int code)
{
    int i = code < 0 ? -code : code;
    return i < RAMET_CODE_COUNT ? i : RAMET_INTERNAL;
}

int ramet_code_errno(int code) { return codes[index_of(code)].os_errno; }
int ramet_code_http(int code) { return codes[index_of(code)].http; }
int ramet_code_exit(int code) { return codes[index_of(code)].exit; }
const char *ramet_code_name(int code) { return codes[index_of(code)].name; }

int ramet_code_from_name(const char *name)
{
    for (int i = 0; i < RAMET_CODE_COUNT; i++)
        if (strcmp(codes[i].name, name) == 0)
            return i;
    return RAMET_INTERNAL;
}

static void fill(struct ramet_error *err, enum ramet_code code, int os_errno, const char *fmt, va_list ap)
{
    if (!err)
        return;
    err->code = code;
    err->os_errno = os_errno;
    err->hint[0] = '\0';
    vsnprintf(err->msg, sizeof err->msg, fmt, ap);
}

int ramet_error_set(struct ramet_error *err, enum ramet_code code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fill(err, code, 0, fmt, ap);
    va_end(ap);
    return -(int)code;
}

static enum ramet_code code_of_errno(int os_errno)
{
    switch (os_errno) {
    case ENOENT: return RAMET_NOT_FOUND;
    case EEXIST: return RAMET_EXISTS;
    case ENOMEM: return RAMET_NO_MEMORY;
    case ENOSPC:
    case EDQUOT: return RAMET_NO_SPACE;
    case EROFS: return RAMET_READ_ONLY;
    case EACCES:
    case EPERM: return RAMET_DENIED;
    case ETIMEDOUT: return RAMET_TIMEOUT;
    case ECONNREFUSED: return RAMET_UNAVAILABLE;
    case ENOSYS:
    case EOPNOTSUPP: return RAMET_UNSUPPORTED;
    default: return RAMET_IO;
    }
}

int ramet_error_os(struct ramet_error *err, int os_errno, const char *fmt, ...)
{
    enum ramet_code code = code_of_errno(os_errno);
    va_list ap;
    va_start(ap, fmt);
    fill(err, code, os_errno, fmt, ap);
    va_end(ap);
    if (err) {
        size_t used = strlen(err->msg);
        char text[128];
        snprintf(err->msg + used, sizeof err->msg - used, ": %s", strerror_r(os_errno, text, sizeof text));
        if (code == RAMET_NO_SPACE)
            snprintf(err->hint, sizeof err->hint,
                     "free space on that file system, or remove snapshots ('ramet rm') and run 'ramet store gc'");
    }
    return -(int)code;
}

int ramet_error_hint(struct ramet_error *err, const char *fmt, ...)
{
    if (!err)
        return -RAMET_INTERNAL;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->hint, sizeof err->hint, fmt, ap);
    va_end(ap);
    return -err->code;
}

int ramet_error_prefix(struct ramet_error *err, const char *fmt, ...)
{
    if (!err)
        return -RAMET_INTERNAL;
    char what[sizeof err->msg], old[sizeof err->msg];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    memcpy(old, err->msg, sizeof old);
    size_t used = (size_t)snprintf(err->msg, sizeof err->msg, "%.250s: ", what);
    if (used < sizeof err->msg)
        snprintf(err->msg + used, sizeof err->msg - used, "%.*s", (int)(sizeof err->msg - used - 1), old);
    return -err->code;
}
