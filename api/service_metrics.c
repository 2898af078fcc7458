/* SPDX-License-Identifier: Apache-2.0 */
/* The service's metrics: what changes sandboxes counted and timed, and the gauges: those that cost no walk over the
 * store.
 */
#include "base/cleanup.h"
#include "base/file.h"
#include "heap.h"
#include "service_private.h"

#include <string.h>

static void observe_capture(struct ramet_service *service, const struct ramet_fork_timing *timing)
{
    struct ramet_metrics *metrics = &service->metrics;
    ramet_metrics_observe(metrics, RAMET_DURATION_PREPARE, timing->prepare_us);
    ramet_metrics_observe(metrics, RAMET_DURATION_PAUSE, timing->pause_us);
    ramet_metrics_observe(metrics, RAMET_DURATION_STOP, timing->stop_us);
    ramet_metrics_observe(metrics, RAMET_DURATION_STATE, timing->state_us);
    ramet_metrics_observe(metrics, RAMET_DURATION_SCAN, timing->scan_us);
    ramet_metrics_observe(metrics, RAMET_DURATION_COPY, timing->copy_us);
    ramet_metrics_observe(metrics, RAMET_DURATION_HOLD, timing->hold_us);
    ramet_metrics_observe(metrics, RAMET_DURATION_FREEZE, timing->freeze_us);
    ramet_metrics_observe(metrics, RAMET_DURATION_RESUME, timing->resume_us);
    ramet_metrics_observe(metrics, RAMET_DURATION_COLLECT, timing->collect_us);
}

void ramet_service_observe_child(struct ramet_service *service, const struct ramet_child_timing *timing)
{
    struct ramet_metrics *metrics = &service->metrics;
    ramet_metrics_count(metrics, timing->pooled ? RAMET_COUNT_POOLED : RAMET_COUNT_SPAWNED);
    ramet_metrics_observe(metrics, RAMET_DURATION_SPAWN, timing->spawn_us);
    ramet_metrics_observe(metrics, RAMET_DURATION_LOAD, timing->load_us);
    ramet_metrics_observe(metrics, RAMET_DURATION_START, timing->start_us);
    ramet_metrics_observe(metrics, RAMET_DURATION_RUNNING, timing->running_us);
    ramet_metrics_observe(metrics, RAMET_DURATION_ANSWER, timing->answer_us);
}

int ramet_service_fork(struct ramet_service *service, const char *ref, const struct ramet_fork_request *request,
                       struct ramet_fork_result *ret, struct ramet_error *err)
{
    int r = ramet_service_fork_uncounted(service, ref, request, ret, err);
    ramet_metrics_count(&service->metrics, RAMET_COUNT_FORK);
    if (r < 0) {
        ramet_metrics_count(&service->metrics, RAMET_COUNT_FORK_FAILED);
        return r;
    }
    observe_capture(service, &ret->timing);
    ramet_metrics_observe(&service->metrics, RAMET_DURATION_FORK, ret->timing.total_us);
    for (size_t i = 0; i < ret->count; i++)
        ramet_service_observe_child(service, &ret->child_timing[i]);
    return 0;
}

int ramet_service_snapshot(struct ramet_service *service, const char *ref, const char *tag,
                           struct ramet_snapshot_result *ret, struct ramet_error *err)
{
    int r = ramet_service_snapshot_uncounted(service, ref, tag, ret, err);
    ramet_metrics_count(&service->metrics, RAMET_COUNT_SNAPSHOT);
    if (r < 0) {
        ramet_metrics_count(&service->metrics, RAMET_COUNT_SNAPSHOT_FAILED);
        return r;
    }
    observe_capture(service, &ret->timing);
    ramet_metrics_observe(&service->metrics, RAMET_DURATION_SNAPSHOT, ret->timing.total_us);
    return 0;
}

int ramet_service_rollback(struct ramet_service *service, const char *ref, const struct ramet_rollback_request *request,
                           struct ramet_sandbox_info *ret, struct ramet_child_timing *ret_timing,
                           struct ramet_error *err)
{
    uint64_t began_us = ramet_now_us();
    int r = ramet_service_rollback_uncounted(service, ref, request, ret, ret_timing, err);
    ramet_metrics_count(&service->metrics, RAMET_COUNT_ROLLBACK);
    if (r < 0) {
        ramet_metrics_count(&service->metrics, RAMET_COUNT_ROLLBACK_FAILED);
        return r;
    }
    ramet_metrics_observe(&service->metrics, RAMET_DURATION_ROLLBACK, ramet_now_us() - began_us);
    ramet_service_observe_child(service, ret_timing);
    return 0;
}

int ramet_service_promote(struct ramet_service *service, const char *ref, struct ramet_sandbox_info *ret,
                          struct ramet_error *err)
{
    uint64_t began_us = ramet_now_us();
    int r = ramet_service_promote_uncounted(service, ref, ret, err);
    ramet_metrics_count(&service->metrics, RAMET_COUNT_PROMOTE);
    if (r < 0) {
        ramet_metrics_count(&service->metrics, RAMET_COUNT_PROMOTE_FAILED);
        return r;
    }
    ramet_metrics_observe(&service->metrics, RAMET_DURATION_PROMOTE, ramet_now_us() - began_us);
    return 0;
}

int ramet_service_metrics(struct ramet_service *service, char **ret, struct ramet_error *err)
{
    enum { states = RAMET_SANDBOX_LOST + 1, others = 8 };
    uint64_t sandboxes[states] = {0}, pack_bytes, index_bytes, frames, index, serial, object;
    struct ramet_gauge gauges[states + others];
    struct ramet_heap_info heap;
    pthread_mutex_lock(&service->lock);
    for (size_t at = 0; ramet_u64map_next(&service->sandboxes.serials, &at, &serial, &object);)
        sandboxes[((struct ramet_sandbox *)(uintptr_t)object)->state]++;
    pthread_mutex_unlock(&service->lock);
    ramet_store_disk_bytes(service->store, &pack_bytes, &index_bytes);
    ramet_store_memory_bytes(service->store, &frames, &index);
    ramet_heap_info(&heap);
    for (int i = 0; i < states; i++)
        gauges[i] = (struct ramet_gauge){.name = "ramet_sandboxes",
                                         .help = "Sandboxes by state, as last seen.",
                                         .label = "state",
                                         .label_value = ramet_sandbox_state_name(i),
                                         .value = sandboxes[i]};
    const struct ramet_gauge rest[others] = {
        {"ramet_spares", "VMMs that wait for a fork or restore.", NULL, NULL, ramet_vm_pool_count(service->pool, NULL)},
        {"ramet_commit_queue", "Snapshots that are yet to become durable.", NULL, NULL,
         ramet_commit_queue_length(service->commits)},
        {"ramet_store_bytes", "Bytes on disk.", "part", "packs", pack_bytes},
        {"ramet_store_bytes", "Bytes on disk.", "part", "index", index_bytes},
        {"ramet_memory_bytes",
         "Of the daemon: allocated, free in its heap; frames and index, caches that are within allocated.", "part",
         "allocated", heap.allocated_bytes},
        {"ramet_memory_bytes", NULL, "part", "free", heap.free_bytes},
        {"ramet_memory_bytes", NULL, "part", "frames", frames},
        {"ramet_memory_bytes", NULL, "part", "index", index},
    };
    memcpy(gauges + states, rest, sizeof rest);
    return ramet_metrics_text(&service->metrics, gauges, states + others, ret, err);
}
