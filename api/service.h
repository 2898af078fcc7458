/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service: sandboxes over snapshots, one store, one mount. It knows nothing of
 * HTTP or JSON; routes_*.c translate.
 *
 * Names: every object has an id (16 hex digits, never reused) and a sandbox also a
 * unique name; a snapshot may carry tags. Wherever a `ref` is taken, an id, a unique
 * name or a tag does.
 *
 * Ownership: info structs are plain values filled by the call; arrays are owned by
 * the caller and freed with free() unless a *_free is named.
 * Thread-safety: every function may be called from any thread.
 */
#ifndef RAMET_API_SERVICE_H
#define RAMET_API_SERVICE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RAMET_ID_SIZE 17 /* 16 hex digits and NUL */
#define RAMET_NAME_SIZE                                                                                                \
    64 /* [a-z0-9][a-z0-9._-]*, up to 63 bytes; 16 hex digits alone are refused (they look like an id) */
#define RAMET_FORK_MAX 1024 /* children a fork may ask for */
#define RAMET_INFO_TAGS 8   /* tags shown per snapshot */

struct ramet_service;
struct ramet_tools;
struct ramet_tools_catalogue;

struct ramet_service_config {
    const char *store_dir; /* made when missing */
    const char *mount_dir; /* mount point, made when missing */
    const char *run_dir;   /* sockets and logs of sandboxes, made when missing; short: sun_path holds 107 bytes */
    unsigned pool_limit;   /* VMMs kept waiting at most; 0: none */
    bool no_working_sets;  /* restores are neither recorded nor warmed up */
    int recompress_level;  /* zstd, of recompression in quiet times; 0: the store's choice; or RAMET_RECOMPRESS_OFF */
};
#define RAMET_RECOMPRESS_OFF (-1)
#define RAMET_SERVICE_POOL_DEFAULT 8
#define RAMET_SERVICE_POOL_MAX 256
#define RAMET_LEVEL_MAX 19 /* of zstd */
#define RAMET_JOB_THREADS_MAX 16

enum ramet_sandbox_state {
    RAMET_SANDBOX_STARTING,
    RAMET_SANDBOX_RUNNING,
    RAMET_SANDBOX_PAUSED,
    RAMET_SANDBOX_STOPPED, /* its guest powered off or its VMM died while the daemon lived; `reason` says */
    RAMET_SANDBOX_LOST     /* the daemon died under it; restore from last_snapshot */
};
const char *ramet_sandbox_state_name(enum ramet_sandbox_state state); /* "running", ... */

struct ramet_sandbox_info {
    char id[RAMET_ID_SIZE];
    char name[RAMET_NAME_SIZE];
    enum ramet_sandbox_state state;
    char reason[256];                  /* why it stopped or was lost, or "" */
    char base[RAMET_ID_SIZE];          /* snapshot it started from */
    char parent[RAMET_ID_SIZE];        /* sandbox it was forked from, or "" */
    char last_snapshot[RAMET_ID_SIZE]; /* newest durable snapshot of it or its base; what to restore from */
    uint64_t memory_bytes;
    unsigned cpus;
    int pid;                           /* 0 when no VMM runs */
    int64_t created_ms;                /* Unix time */
    uint64_t pss_bytes, private_bytes; /* of the VMM; 0 when none runs */
    uint64_t disk_bytes;               /* written to its disks since its base */
};

struct ramet_snapshot_info {
    char id[RAMET_ID_SIZE];
    char tags[RAMET_INFO_TAGS][RAMET_NAME_SIZE]; /* "" after the last */
    char parent[RAMET_ID_SIZE];                  /* snapshot it grew from, or "" */
    char sandbox[RAMET_ID_SIZE];                 /* sandbox it was taken of, or "" for an import */
    char sandbox_name[RAMET_NAME_SIZE];
    bool durable;     /* false: still only in memory */
    char reason[256]; /* why it did not become durable, or "" */
    bool has_memory;  /* false: a template that boots */
    uint64_t memory_bytes, disk_bytes, state_bytes;
    unsigned cpus;
    int64_t created_ms;
    uint64_t memory_pages, disk_pages; /* non-zero pages; counted by ramet_service_snapshot_get only, else 0 */
    uint64_t captured_pages;           /* pages taken: changed since the snapshot before, or since the start */
    uint64_t stored_bytes;             /* what it added to the packs */
    /* Read by a restore until it answered, when that was recorded (Unix time); ramet_service_snapshot_get only, else 0.
     */
    uint64_t working_set_pages, working_set_bytes;
    int64_t working_set_ms;
};

/* Microseconds; 0 where a step did not happen. */
struct ramet_fork_timing {
    uint64_t prepare_us; /* before the pause: most of what changed is copied */
    uint64_t pause_us;   /* the guest stood still this long */
    uint64_t stop_us, state_us, scan_us, copy_us, hold_us, freeze_us, resume_us; /* parts of the pause */
    uint64_t collect_us; /* after it: the rest is copied, when there was too much */
    uint64_t total_us;   /* whole call */
};

struct ramet_snapshot_result {
    struct ramet_snapshot_info snapshot;
    bool unchanged; /* the last one: the sandbox was paused for it and nothing has changed since */
    struct ramet_fork_timing timing;
};

struct ramet_child_timing {
    bool pooled;                    /* its VMM was waiting; spawn_us is 0 */
    uint64_t spawn_us, load_us;     /* the VMM's start; its machine and state, until it ran */
    uint64_t start_us;              /* both, and the branch: this child's part of the call until it ran or could */
    uint64_t running_us, answer_us; /* since the call began */
};

struct ramet_run_request {
    const char *snapshot;  /* ref; default "debian" */
    const char *name;      /* NULL: made up */
    uint64_t memory_bytes; /* 0: the snapshot's, or 256 MiB for a boot; must match where the snapshot has memory */
    unsigned cpus;         /* 0: the snapshot's, or 1 */
    unsigned wait_ms;      /* until the guest agent must answer; 0: 60 s */
};

struct ramet_rollback_request {
    const char *snapshot; /* ref; with memory, of a machine like the sandbox's */
    bool no_answer_wait;  /* answer when it runs, without waiting for the guest agent */
    unsigned wait_ms;     /* until the agent must answer; 0: 60 s */
};

struct ramet_fork_request {
    unsigned count;           /* 1..RAMET_FORK_MAX */
    const char *const *names; /* NULL, or `count` names */
    const char *tag;          /* NULL, or a tag for the snapshot it makes */
    bool wait_durable;        /* answer only when the snapshot is on disk */
    bool no_answer_wait;      /* answer when the children run, without waiting for their guest agents */
    unsigned wait_ms;         /* until every child's agent must answer; 0: 60 s */
};

struct ramet_fork_result {
    struct ramet_snapshot_info snapshot;
    struct ramet_fork_timing timing;
    struct ramet_sandbox_info *children; /* owned; ramet_fork_result_free */
    struct ramet_child_timing *child_timing;
    size_t count;
};
void ramet_fork_result_free(struct ramet_fork_result *result);

struct ramet_exec_request {
    const char *const *argv; /* NULL-terminated */
    const char *const *env;  /* NULL or NULL-terminated "K=V" */
    const void *input;
    size_t input_size;
    unsigned timeout_ms; /* 0: 60 s */
};
struct ramet_exec_result {
    int exit_code, term_signal;
    char *out, *err; /* owned; ramet_exec_result_free */
    size_t out_size, err_size;
    bool out_truncated, err_truncated;
};
void ramet_exec_result_free(struct ramet_exec_result *result);

struct ramet_import_request {
    const char *tag;                       /* NULL: none */
    const char *disk;                      /* raw image, or qcow2 and others through qemu-img */
    const char *kernel, *initrd, *cmdline; /* files and text for a boot */
    const char *memory, *state;            /* files: only when all of a stopped machine comes from `ramet export` */
    const char *parent;    /* ref of a durable snapshot that memory and disk are later states of, or NULL */
    uint64_t memory_bytes; /* default memory of sandboxes that boot it; 0: 256 MiB */
    unsigned cpus;         /* 0: 1 */
};

struct ramet_diff {
    char from[RAMET_ID_SIZE], to[RAMET_ID_SIZE];
    struct {
        char image[16];                /* "memory", "disk0" */
        uint64_t pages, changed_pages; /* of the larger side; differing */
    } images[4];
    size_t image_count;
};

struct ramet_store_info {
    char dir[256];
    uint64_t snapshots, sandboxes;
    uint64_t logical_bytes; /* what all snapshots would need as plain files, holes not counted */
    uint64_t unique_bytes;  /* live distinct pages, before compression */
    uint64_t stored_bytes;  /* packs on disk */
    uint64_t index_bytes;   /* RocksDB on disk */
    uint64_t chunks, frames, packs;
    uint64_t delta_frames, cold_frames;                          /* of `frames`: with differences; recompressed */
    uint64_t dedup_hits, dedup_misses, cache_hits, cache_misses; /* since the daemon started */
};
struct ramet_gc_info {
    uint64_t live_chunks, dead_chunks, freed_bytes, trimmed_frames, moved_frames, packs_removed, duration_us;
};
struct ramet_fsck_info {
    uint64_t snapshots, frames, chunks, problems; /* what remains after a repair */
    bool repaired;                                /* the journal and damaged pack headers were written anew */
    uint64_t mended_headers;
    char *report; /* one line a problem, with what can be done, owned; "" when clean */
};

/* What runs in the background on the store, one of each kind at a time. */
enum ramet_job_kind { RAMET_JOB_SCRUB, RAMET_JOB_RECOMPRESS, RAMET_JOB_KINDS };
enum ramet_job_state {
    RAMET_JOB_NONE, /* none of this kind since the daemon started */
    RAMET_JOB_RUNNING,
    RAMET_JOB_FINISHED,
    RAMET_JOB_STOPPED, /* before its end; the next one goes on there */
    RAMET_JOB_FAILED
};
const char *ramet_job_state_name(enum ramet_job_state state); /* "running", ... */

struct ramet_job_request {
    enum ramet_job_kind kind;
    uint64_t bytes_per_second; /* scrub: read at most; 0: no limit */
    bool restart;              /* scrub: from the start, not from where the last one stood */
    int level;                 /* recompress: zstd; 0: the store's choice */
    unsigned threads;          /* recompress: 1..RAMET_JOB_THREADS_MAX; 0: one */
    bool automatic;            /* recompress: begun by the service itself */
};
/* How the last one of a kind went, or goes. */
struct ramet_job_info {
    enum ramet_job_state state;
    struct ramet_job_request request;
    int code;         /* enum ramet_code, why it failed */
    char reason[512]; /* the same in words, or "" */
    int64_t started_ms;
    uint64_t duration_us;
    uint64_t done_frames, total_frames; /* how far it has come; of a scrub in frame numbers, some of which are free */
    uint64_t frames, chunks, bytes, problems; /* scrub: read so far, runs before a stop or restart included */
    uint64_t before_bytes, after_bytes;       /* recompress: once it ended */
    char *report;                             /* scrub: lines of this run, the first 100; owned; "" when clean */
};

struct ramet_rebuild_info {
    uint64_t packs, frames, journal_records, damaged_bytes; /* damaged: in packs, and no record */
    uint64_t branches_set_aside;                            /* directories moved to lost+branches */
    uint64_t snapshots, problems;                           /* what fsck found then */
    char *report;                                           /* its lines; owned */
};

int ramet_service_open(const struct ramet_service_config *config, struct ramet_service **ret, struct ramet_error *err);
/* Ends every VM, so that no call waits for a guest; the branches stay and are listed as lost after a restart. */
void ramet_service_end_sandboxes(struct ramet_service *service);
/* VMMs that wait now, and those of them whose machine is made. */
unsigned ramet_service_pool_count(struct ramet_service *service, unsigned *ret_made);
/* Ends every VM, finishes or drops what is not durable, unmounts. NULL is a no-op. */
void ramet_service_close(struct ramet_service *service);

/* Boots the snapshot, or restores it when it has memory. */
int ramet_service_run(struct ramet_service *service, const struct ramet_run_request *request,
                      struct ramet_sandbox_info *ret, struct ramet_child_timing *ret_timing, struct ramet_error *err);
int ramet_service_fork(struct ramet_service *service, const char *sandbox, const struct ramet_fork_request *request,
                       struct ramet_fork_result *ret, struct ramet_error *err);
/* Returns when the snapshot is durable. `tag` may be NULL. */
int ramet_service_snapshot(struct ramet_service *service, const char *sandbox, const char *tag,
                           struct ramet_snapshot_result *ret, struct ramet_error *err);
/*
 * Memory, devices and disks become those of the snapshot; id, name and branch stay. What the sandbox did since its last
 * snapshot is lost. One that was paused stays so; one that is stopped or lost runs again. After a failure it is as
 * before, except that its agent may not have answered (TIMEOUT).
 */
int ramet_service_rollback(struct ramet_service *service, const char *sandbox,
                           const struct ramet_rollback_request *request, struct ramet_sandbox_info *ret,
                           struct ramet_child_timing *ret_timing, struct ramet_error *err);
/*
 * The sandbox takes the name and the place of the one it was forked from, which is removed; the others forked from that
 * one count as forked from this one. Its guest does not notice. Waits until what its disks lie over is durable.
 */
int ramet_service_promote(struct ramet_service *service, const char *sandbox, struct ramet_sandbox_info *ret,
                          struct ramet_error *err);
int ramet_service_exec(struct ramet_service *service, const char *sandbox, const struct ramet_exec_request *request,
                       struct ramet_exec_result *ret, struct ramet_error *err);
int ramet_service_pause(struct ramet_service *service, const char *sandbox, struct ramet_sandbox_info *ret,
                        struct ramet_error *err);
int ramet_service_resume(struct ramet_service *service, const char *sandbox, struct ramet_sandbox_info *ret,
                         struct ramet_error *err);
int ramet_service_sandbox_remove(struct ramet_service *service, const char *sandbox, struct ramet_error *err);
int ramet_service_sandbox_get(struct ramet_service *service, const char *sandbox, struct ramet_sandbox_info *ret,
                              struct ramet_error *err);
int ramet_service_sandboxes(struct ramet_service *service, struct ramet_sandbox_info **ret, size_t *ret_count,
                            struct ramet_error *err); /* oldest first */

/* What a ref stands for, and all it is called; cheaper than asking for what it is. */
#define RAMET_OBJECT_TAGS 64 /* of one snapshot; further ones are left out */
struct ramet_object_names {
    char id[RAMET_ID_SIZE];
    char names[RAMET_OBJECT_TAGS][RAMET_NAME_SIZE]; /* a sandbox's name, a snapshot's tags */
    size_t count;
};
int ramet_service_sandbox_names(struct ramet_service *service, const char *ref, struct ramet_object_names *ret,
                                struct ramet_error *err);
int ramet_service_snapshot_names(struct ramet_service *service, const char *ref, struct ramet_object_names *ret,
                                 struct ramet_error *err);

/* Whether the snapshot can be restored: RAMET_CONFLICT when it can only boot. Reads nothing of it. */
int ramet_service_check_restorable(struct ramet_service *service, const char *ref, struct ramet_error *err);
int ramet_service_snapshot_get(struct ramet_service *service, const char *ref, struct ramet_snapshot_info *ret,
                               struct ramet_error *err);
int ramet_service_snapshots(struct ramet_service *service, struct ramet_snapshot_info **ret, size_t *ret_count,
                            struct ramet_error *err); /* oldest first */
/* How many of each there are. */
void ramet_service_count(struct ramet_service *service, size_t *ret_sandboxes, size_t *ret_snapshots);
/* CONFLICT while a sandbox runs on it. Its children keep what they share. */
int ramet_service_snapshot_remove(struct ramet_service *service, const char *ref, struct ramet_error *err);
int ramet_service_tag(struct ramet_service *service, const char *ref, const char *tag, struct ramet_error *err);
int ramet_service_untag(struct ramet_service *service, const char *tag, struct ramet_error *err);

int ramet_service_import(struct ramet_service *service, const struct ramet_import_request *request,
                         struct ramet_snapshot_info *ret, struct ramet_error *err);
struct ramet_export {
    uint64_t size_bytes; /* data in the image, holes not counted */
    char sha256[65];     /* of the file's bytes, in hex */
};
/* Writes image "memory", "disk0", "state", "kernel" or "initrd" to `path` (sparse); format "raw" or "qcow2". */
int ramet_service_export(struct ramet_service *service, const char *ref, const char *image, const char *path,
                         const char *format, struct ramet_export *ret, struct ramet_error *err);
/* Either side a snapshot ref, or a sandbox (then its base is meant). */
int ramet_service_diff(struct ramet_service *service, const char *from, const char *to, struct ramet_diff *ret,
                       struct ramet_error *err);

/* Metrics in the text format of Prometheus; *ret is the caller's to free. */
int ramet_service_metrics(struct ramet_service *service, char **ret, struct ramet_error *err);

int ramet_service_store_stat(struct ramet_service *service, struct ramet_store_info *ret, struct ramet_error *err);
int ramet_service_store_gc(struct ramet_service *service, struct ramet_gc_info *ret, struct ramet_error *err);
/* With `repair`, what was found is mended where it can be and all is verified again. */
int ramet_service_store_fsck(struct ramet_service *service, bool repair, struct ramet_fsck_info *ret,
                             struct ramet_error *err);
/* BUSY when one of that kind runs. */
int ramet_service_job_start(struct ramet_service *service, const struct ramet_job_request *request,
                            struct ramet_error *err);
/* Returns when it has ended; none running is no error. */
void ramet_service_job_stop(struct ramet_service *service, enum ramet_job_kind kind);
int ramet_service_job_get(struct ramet_service *service, enum ramet_job_kind kind, struct ramet_job_info *ret,
                          struct ramet_error *err);

/* MCP servers and what they list (tools/registry.h, tools/catalogue.h); borrowed, as long as the service is open. */
struct ramet_tools *ramet_service_tools(struct ramet_service *service);
struct ramet_tools_catalogue *ramet_service_tools_catalogue(struct ramet_service *service);

/*
 * Without a service, on a store nobody has open (else BUSY): makes its index anew from the packs, sets directories of
 * branches aside that it does not name, collects garbage and checks all.
 */
int ramet_service_rebuild(const char *store_dir, struct ramet_rebuild_info *ret, struct ramet_error *err);

#endif
