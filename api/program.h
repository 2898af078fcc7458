/* SPDX-License-Identifier: Apache-2.0 */
/* Running a helper program (qemu-img) to its end. */
#ifndef RAMET_API_PROGRAM_H
#define RAMET_API_PROGRAM_H

#include "base/error.h"

/*
 * Runs argv (NULL-terminated, looked up on PATH) with no input. RAMET_UNAVAILABLE when it is not installed, RAMET_IO
 * with the end of what it said on stderr when it fails. `package` is named in the hint.
 */
int ramet_program_run(const char *const *argv, const char *package, struct ramet_error *err);

#endif
