/* SPDX-License-Identifier: Apache-2.0 */
/* What tar_import.c and tar_export.c share: libarchive's errors as ours. */
#ifndef RAMET_WORKSPACE_ARCHIVE_H
#define RAMET_WORKSPACE_ARCHIVE_H

#include "base/error.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdbool.h>

static inline int ramet_archive_failed(struct archive *archive, const char *what, struct ramet_error *err)
{
    const char *text = archive_error_string(archive);
    int os_errno = archive_errno(archive);
    bool bad = os_errno <= 0 || os_errno == EILSEQ || os_errno == EINVAL; /* libarchive's words for a bad format */
    return bad ? ramet_error_set(err, RAMET_INVALID, "%s: %s", what, text ? text : "failed")
               : ramet_error_os(err, os_errno, "%s: %s", what, text ? text : "failed");
}

#endif
