/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policy in force: read from a file at the start and again whenever the file has
 * changed. A changed file that cannot be read or understood leaves the policy before
 * it in force; the error is logged once and told by ramet_policy_source_error.
 *
 * Thread-safety: every function may be called from any thread.
 */
#ifndef RAMET_API_POLICY_SOURCE_H
#define RAMET_API_POLICY_SOURCE_H

#include "base/error.h"

struct ramet_policy;
struct ramet_policy_source;

/* `path` NULL: the default policy for ever. A file that is missing or wrong is an error here. */
int ramet_policy_source_open(const char *path, struct ramet_policy_source **ret, struct ramet_error *err);
void ramet_policy_source_free(struct ramet_policy_source *source); /* NULL is a no-op */

/* The policy in force, after a look at the file; the caller unrefs it. Never NULL. */
struct ramet_policy *ramet_policy_source_get(struct ramet_policy_source *source);

/* Reads the file now, changed or not. */
int ramet_policy_source_reload(struct ramet_policy_source *source, struct ramet_error *err);

const char *ramet_policy_source_path(const struct ramet_policy_source *source); /* NULL without a file */
/* Why the file as it is now is not in force; 0 when it is. */
int ramet_policy_source_error(struct ramet_policy_source *source, struct ramet_error *err);

#endif
