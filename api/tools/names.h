/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names that others chose (servers, tools) as file names: reversible, and never two names for one file.
 *
 * Letters, digits, '-', '_', '.' and bytes from 0x80 on stay as they are where the name is UTF-8; every other byte,
 * '%' and a '.' in front become %XX (upper-case hex). What is not UTF-8 has all its high bytes escaped. The empty name
 * is "%". Pure functions.
 */
#ifndef RAMET_API_TOOLS_NAMES_H
#define RAMET_API_TOOLS_NAMES_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

#define RAMET_TOOLS_SERVER_MAX 80                                 /* bytes of a server's name */
#define RAMET_TOOLS_ESCAPED_SIZE (3 * RAMET_TOOLS_SERVER_MAX + 1) /* of a server's name, escaped, with its NUL */

/* Owned by the caller; NULL when memory ran out. Up to three bytes for each of `name`. */
char *ramet_tools_escape(const char *name);

/* The name that was escaped; RAMET_INVALID for what ramet_tools_escape does not make. Owned by the caller. */
int ramet_tools_unescape(const char *escaped, char **ret, struct ramet_error *err);

/* A server's name: 1 to RAMET_TOOLS_SERVER_MAX bytes of UTF-8 without control characters. */
int ramet_tools_server_check(const char *name, struct ramet_error *err);

#endif
