/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service's structs as JSON, one function a shape; openapi.yaml names the same
 * shapes. Every result is owned by the caller.
 */
#ifndef RAMET_API_ROUTES_JSON_H
#define RAMET_API_ROUTES_JSON_H

#include "service.h"

struct ramet_json;

struct ramet_json *ramet_sandbox_json(const struct ramet_sandbox_info *sandbox);
struct ramet_json *ramet_tags_json(const struct ramet_snapshot_info *snapshot);
struct ramet_json *ramet_snapshot_json(const struct ramet_snapshot_info *snapshot);

/* A sandbox that was just started, and how long that took. */
struct ramet_json *ramet_started_json(const struct ramet_sandbox_info *sandbox,
                                      const struct ramet_child_timing *timing);

/* A snapshot that was just taken, and what its guest saw of it. */
struct ramet_json *ramet_taken_json(const struct ramet_snapshot_info *snapshot, const struct ramet_fork_timing *timing);

struct ramet_json *ramet_fork_json(const struct ramet_fork_result *result);
struct ramet_json *ramet_exec_json(const struct ramet_exec_result *result);
struct ramet_json *ramet_diff_json(const struct ramet_diff *diff);
struct ramet_json *ramet_store_json(const struct ramet_store_info *info);
struct ramet_json *ramet_gc_json(const struct ramet_gc_info *info);
struct ramet_json *ramet_job_json(const struct ramet_job_info *info);   /* likewise */
struct ramet_json *ramet_fsck_json(const struct ramet_fsck_info *info); /* splits info->report in place */

/* {key: ref}: the answer of a call that leaves nothing to show. */
struct ramet_json *ramet_done_json(const char *key, const char *ref);

#endif
