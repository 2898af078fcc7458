/* SPDX-License-Identifier: Apache-2.0 */
/* A line of the audit as JSON, without what its writer adds: number, time and hashes. See docs/format.md. */
#ifndef RAMET_API_AUDIT_LINE_H
#define RAMET_API_AUDIT_LINE_H

#include "audit.h"

/* Members separated by commas, without the braces; owned by the caller (free). NULL: no memory. */
char *ramet_audit_line_middle(const struct ramet_audit_line *line);

#endif
