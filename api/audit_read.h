/* SPDX-License-Identifier: Apache-2.0 */
/* Reads lines of an audit from its files. */
#ifndef RAMET_API_AUDIT_READ_H
#define RAMET_API_AUDIT_READ_H

#include "base/error.h"

#include <stdint.h>

struct ramet_json;

/* The lines after number `after`, at most `limit`, as an array the caller owns. A line that is no JSON is left out. */
int ramet_audit_read(const char *dir, uint64_t after, unsigned limit, struct ramet_json **ret, struct ramet_error *err);

#endif
