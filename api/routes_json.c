/* SPDX-License-Identifier: Apache-2.0 */
/* Plain translation, member by member. Sizes end in _bytes, durations in _us, Unix times in _ms. */
#include "routes_json.h"

#include "json.h"
#include "wire.h"

#include <string.h>

#define SET_STRING(object, from, member) ramet_json_set_string(object, #member, (from)->member)
#define SET_U64(object, from, member) ramet_json_set_u64(object, #member, (from)->member)
#define SET_I64(object, from, member) ramet_json_set_i64(object, #member, (from)->member)
#define SET_BOOL(object, from, member) ramet_json_set_bool(object, #member, (from)->member)

struct ramet_json *ramet_sandbox_json(const struct ramet_sandbox_info *sandbox)
{
    struct ramet_json *o = ramet_json_object();
    SET_STRING(o, sandbox, id);
    SET_STRING(o, sandbox, name);
    ramet_json_set_string(o, "state", ramet_sandbox_state_name(sandbox->state));
    SET_STRING(o, sandbox, reason);
    SET_STRING(o, sandbox, base);
    SET_STRING(o, sandbox, parent);
    SET_STRING(o, sandbox, last_snapshot);
    SET_U64(o, sandbox, memory_bytes);
    SET_U64(o, sandbox, cpus);
    SET_I64(o, sandbox, pid);
    SET_I64(o, sandbox, created_ms);
    SET_U64(o, sandbox, pss_bytes);
    SET_U64(o, sandbox, private_bytes);
    SET_U64(o, sandbox, disk_bytes);
    return o;
}

struct ramet_json *ramet_tags_json(const struct ramet_snapshot_info *snapshot)
{
    struct ramet_json *tags = ramet_json_array();
    for (size_t i = 0; i < RAMET_INFO_TAGS && *snapshot->tags[i]; i++)
        ramet_json_append(tags, ramet_json_string(snapshot->tags[i]));
    return tags;
}

struct ramet_json *ramet_snapshot_json(const struct ramet_snapshot_info *snapshot)
{
    struct ramet_json *o = ramet_json_object();
    SET_STRING(o, snapshot, id);
    ramet_json_set(o, "tags", ramet_tags_json(snapshot));
    SET_STRING(o, snapshot, parent);
    SET_STRING(o, snapshot, sandbox);
    SET_STRING(o, snapshot, sandbox_name);
    SET_BOOL(o, snapshot, durable);
    SET_STRING(o, snapshot, reason);
    SET_BOOL(o, snapshot, has_memory);
    SET_U64(o, snapshot, memory_bytes);
    SET_U64(o, snapshot, disk_bytes);
    SET_U64(o, snapshot, state_bytes);
    SET_U64(o, snapshot, cpus);
    SET_I64(o, snapshot, created_ms);
    SET_U64(o, snapshot, memory_pages);
    SET_U64(o, snapshot, disk_pages);
    SET_U64(o, snapshot, captured_pages);
    SET_U64(o, snapshot, stored_bytes);
    SET_U64(o, snapshot, working_set_pages);
    SET_U64(o, snapshot, working_set_bytes);
    SET_I64(o, snapshot, working_set_ms);
    return o;
}

static struct ramet_json *fork_timing_json(const struct ramet_fork_timing *timing)
{
    struct ramet_json *o = ramet_json_object();
    SET_U64(o, timing, prepare_us);
    SET_U64(o, timing, pause_us);
    SET_U64(o, timing, stop_us);
    SET_U64(o, timing, state_us);
    SET_U64(o, timing, scan_us);
    SET_U64(o, timing, copy_us);
    SET_U64(o, timing, hold_us);
    SET_U64(o, timing, freeze_us);
    SET_U64(o, timing, resume_us);
    SET_U64(o, timing, collect_us);
    SET_U64(o, timing, total_us);
    return o;
}

static struct ramet_json *child_timing_json(const struct ramet_child_timing *timing)
{
    struct ramet_json *o = ramet_json_object();
    ramet_json_set_bool(o, "pooled", timing->pooled);
    SET_U64(o, timing, spawn_us);
    SET_U64(o, timing, load_us);
    SET_U64(o, timing, start_us);
    SET_U64(o, timing, running_us);
    SET_U64(o, timing, answer_us);
    return o;
}

struct ramet_json *ramet_started_json(const struct ramet_sandbox_info *sandbox, const struct ramet_child_timing *timing)
{
    struct ramet_json *o = ramet_json_object();
    ramet_json_set(o, "sandbox", ramet_sandbox_json(sandbox));
    ramet_json_set(o, "timing", child_timing_json(timing));
    return o;
}

struct ramet_json *ramet_taken_json(const struct ramet_snapshot_info *snapshot, const struct ramet_fork_timing *timing)
{
    struct ramet_json *o = ramet_json_object();
    ramet_json_set(o, "snapshot", ramet_snapshot_json(snapshot));
    ramet_json_set(o, "timing", fork_timing_json(timing));
    return o;
}

struct ramet_json *ramet_fork_json(const struct ramet_fork_result *result)
{
    struct ramet_json *o = ramet_taken_json(&result->snapshot, &result->timing);
    struct ramet_json *children = ramet_json_array();
    for (size_t i = 0; i < result->count; i++)
        ramet_json_append(children, ramet_started_json(&result->children[i], &result->child_timing[i]));
    ramet_json_set(o, "children", children);
    return o;
}

struct ramet_json *ramet_exec_json(const struct ramet_exec_result *result)
{
    struct ramet_json *o = ramet_json_object();
    SET_I64(o, result, exit_code);
    ramet_json_set_i64(o, "signal", result->term_signal);
    ramet_wire_set_bytes(o, "stdout", result->out, result->out_size);
    ramet_json_set_bool(o, "stdout_truncated", result->out_truncated);
    ramet_wire_set_bytes(o, "stderr", result->err, result->err_size);
    ramet_json_set_bool(o, "stderr_truncated", result->err_truncated);
    return o;
}

struct ramet_json *ramet_diff_json(const struct ramet_diff *diff)
{
    struct ramet_json *o = ramet_json_object(), *images = ramet_json_array();
    SET_STRING(o, diff, from);
    SET_STRING(o, diff, to);
    for (size_t i = 0; i < diff->image_count; i++) {
        struct ramet_json *image = ramet_json_object();
        SET_STRING(image, &diff->images[i], image);
        SET_U64(image, &diff->images[i], pages);
        SET_U64(image, &diff->images[i], changed_pages);
        ramet_json_append(images, image);
    }
    ramet_json_set(o, "images", images);
    return o;
}

struct ramet_json *ramet_store_json(const struct ramet_store_info *info)
{
    struct ramet_json *o = ramet_json_object();
    SET_STRING(o, info, dir);
    SET_U64(o, info, snapshots);
    SET_U64(o, info, sandboxes);
    SET_U64(o, info, logical_bytes);
    SET_U64(o, info, unique_bytes);
    SET_U64(o, info, stored_bytes);
    SET_U64(o, info, index_bytes);
    SET_U64(o, info, chunks);
    SET_U64(o, info, frames);
    SET_U64(o, info, packs);
    SET_U64(o, info, delta_frames);
    SET_U64(o, info, cold_frames);
    SET_U64(o, info, dedup_hits);
    SET_U64(o, info, dedup_misses);
    SET_U64(o, info, cache_hits);
    SET_U64(o, info, cache_misses);
    return o;
}

struct ramet_json *ramet_gc_json(const struct ramet_gc_info *info)
{
    struct ramet_json *o = ramet_json_object();
    SET_U64(o, info, live_chunks);
    SET_U64(o, info, dead_chunks);
    SET_U64(o, info, freed_bytes);
    SET_U64(o, info, trimmed_frames);
    SET_U64(o, info, moved_frames);
    SET_U64(o, info, packs_removed);
    SET_U64(o, info, duration_us);
    return o;
}

/* The report's lines as an array of strings; `report` is taken apart. */
static struct ramet_json *lines_json(char *report)
{
    struct ramet_json *lines = ramet_json_array();
    char *rest = NULL;
    for (char *line = strtok_r(report, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        ramet_json_append(lines, ramet_json_string(line));
    return lines;
}

struct ramet_json *ramet_fsck_json(const struct ramet_fsck_info *info)
{
    struct ramet_json *o = ramet_json_object();
    SET_U64(o, info, snapshots);
    SET_U64(o, info, frames);
    SET_U64(o, info, chunks);
    SET_U64(o, info, problems);
    SET_BOOL(o, info, repaired);
    SET_U64(o, info, mended_headers);
    ramet_json_set(o, "report", lines_json(info->report));
    return o;
}

struct ramet_json *ramet_job_json(const struct ramet_job_info *info)
{
    struct ramet_json *o = ramet_json_object();
    const struct ramet_job_request *request = &info->request;
    ramet_json_set_string(o, "state", ramet_job_state_name(info->state));
    ramet_json_set_string(o, "code", info->code ? ramet_code_name(info->code) : "");
    SET_STRING(o, info, reason);
    SET_I64(o, info, started_ms);
    SET_U64(o, info, duration_us);
    SET_U64(o, info, done_frames);
    SET_U64(o, info, total_frames);
    if (request->kind == RAMET_JOB_SCRUB) {
        SET_U64(o, request, bytes_per_second);
        SET_U64(o, info, frames);
        SET_U64(o, info, chunks);
        SET_U64(o, info, bytes);
        SET_U64(o, info, problems);
        ramet_json_set(o, "report", lines_json(info->report));
    } else {
        SET_BOOL(o, request, automatic);
        SET_I64(o, request, level);
        SET_U64(o, request, threads);
        SET_U64(o, info, before_bytes);
        SET_U64(o, info, after_bytes);
    }
    return o;
}

struct ramet_json *ramet_done_json(const char *key, const char *ref)
{
    struct ramet_json *o = ramet_json_object();
    ramet_json_set_string(o, key, ref);
    return o;
}
