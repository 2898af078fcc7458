/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ramet's client library: fork a running VM into parallel branches, from C or C++.
 *
 *     struct ramet_error err = {0};
 *     struct ramet_client *client;
 *     struct ramet_client_fork_result forks;
 *     if (ramet_client_new(NULL, &client, &err) < 0)
 *         return fail(&err);
 *     if (ramet_client_fork(client, "web", &(struct ramet_client_fork){.count = 8}, &forks, &err) < 0)
 *         return fail(&err);
 *     for (size_t i = 0; i < forks.count; i++)
 *         puts(forks.children[i].sandbox.name);
 *     ramet_client_fork_result_free(&forks);
 *     ramet_client_free(client);
 *
 * Calls go to the daemon `rametd` over its Unix socket; nothing here runs a VM.
 *
 * Errors: every call returns 0, or a negative `enum ramet_code` and fills the
 * caller's struct ramet_error with a message and often a remedy. Outputs are then
 * untouched. RAMET_UNAVAILABLE: no daemon answers. The error type is the daemon's
 * own, in "base/error.h", which is installed beside this header.
 *
 * Requests: zero-initialise them; zero or NULL means the default. Names and refs are
 * UTF-8. A `ref` is an id, a sandbox's name or a snapshot's tag.
 *
 * Ownership: structs without pointers are plain values. A result with pointers has
 * its own *_free, which leaves it zeroed. Strings handed in are only read during the call.
 *
 * Thread-safety: one client may be used by any number of threads at once; each call
 * under way has a connection of its own. No signals are used or blocked.
 *
 * Time: calls return when the daemon has answered, however long that takes; only
 * connecting is limited (10 s).
 *
 * Stability: until version 1.0 structs may grow at their end and the library is
 * linked statically; names and meanings stay.
 */
#ifndef RAMET_H
#define RAMET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "base/error.h"

#define RAMET_CLIENT_ID_SIZE 17   /* 16 hex digits and NUL */
#define RAMET_CLIENT_NAME_SIZE 64 /* 63 bytes and NUL */
#define RAMET_CLIENT_TAGS 8
#define RAMET_CLIENT_INPUT_MAX (700u << 10) /* bytes of a command's standard input */

struct ramet_client;

/*
 * A client of the daemon at `socket_path`; NULL takes $RAMET_SOCKET, else the
 * system's daemon for root and the user's own for everyone else. Nothing is
 * connected yet. Calls are made with the bearer token in $RAMET_TOKEN where that is
 * set, and for the principals in $RAMET_ACT. *ret is freed with ramet_client_free.
 */
int ramet_client_new(const char *socket_path, struct ramet_client **ret, struct ramet_error *err);
void ramet_client_free(struct ramet_client *client);                /* no call may be under way; NULL is a no-op */
const char *ramet_client_socket(const struct ramet_client *client); /* borrowed from the client */

/* ---- any call ---- */

/*
 * One HTTP call: `method` and `path` as in the OpenAPI file, `body` a JSON text or
 * NULL. On success *ret_answer (may be NULL) is the answer's text, freed with free().
 * An HTTP status that is no success is returned as the error it carries.
 * *ret_status (may be NULL) is the HTTP status, also of a failure; 0 when none came.
 */
int ramet_client_call(struct ramet_client *client, const char *method, const char *path, const char *body,
                      int *ret_status, char **ret_answer, struct ramet_error *err);

/*
 * The same for what is too large to be held. `send` sends as the body what `read` gives: a size, 0 at the end, or less
 * to break off, of which the daemon then does nothing. `receive` hands an answer of status 2xx to `write`, piece by
 * piece; false breaks off.
 */
int ramet_client_send(struct ramet_client *client, const char *method, const char *path,
                      long (*read)(void *context, char *buf, size_t max), void *context, char **ret_answer,
                      struct ramet_error *err);
int ramet_client_receive(struct ramet_client *client, const char *path,
                         bool (*write)(void *context, const char *bytes, size_t size), void *context,
                         struct ramet_error *err);

/* prefix + percent-encoded ref + suffix, as in ("/v1/sandboxes/", "web", "/fork"). Freed with free(); NULL: no memory.
 */
char *ramet_client_path(const char *prefix, const char *ref, const char *suffix);

/* ---- what calls answer ---- */

struct ramet_client_status {
    char version[32];
    int pid; /* of the daemon */
    char store[256], socket[256], mount[256];
    uint64_t sandboxes, snapshots;
};

struct ramet_client_sandbox {
    char id[RAMET_CLIENT_ID_SIZE];
    char name[RAMET_CLIENT_NAME_SIZE];
    char state[16];                           /* "starting", "running", "paused", "stopped", "lost" */
    char reason[256];                         /* why it stopped or was lost, or "" */
    char base[RAMET_CLIENT_ID_SIZE];          /* snapshot it started from */
    char parent[RAMET_CLIENT_ID_SIZE];        /* sandbox it was forked from, or "" */
    char last_snapshot[RAMET_CLIENT_ID_SIZE]; /* what to restore it from */
    uint64_t memory_bytes, cpus;
    int pid;            /* of its VMM; 0 when none runs */
    int64_t created_ms; /* Unix time */
    uint64_t pss_bytes, private_bytes, disk_bytes;
};

struct ramet_client_snapshot {
    char id[RAMET_CLIENT_ID_SIZE];
    char tags[RAMET_CLIENT_TAGS][RAMET_CLIENT_NAME_SIZE]; /* "" after the last */
    char parent[RAMET_CLIENT_ID_SIZE];                    /* snapshot it grew from, or "" */
    char sandbox[RAMET_CLIENT_ID_SIZE];                   /* sandbox it was taken of, or "" */
    bool durable;                                         /* on disk; else only in the daemon's memory */
    bool has_memory;                                      /* false: a template that boots */
    uint64_t memory_bytes, disk_bytes, state_bytes, cpus;
    int64_t created_ms;
    uint64_t captured_pages; /* 4 KiB pages that the guest had changed */
    uint64_t stored_bytes;   /* what it added to the store */
    bool unchanged;          /* of ramet_client_snapshot: the last one, since nothing has changed; none was taken */
};

/* How long the parent stood still and the whole call took. */
struct ramet_client_timing {
    uint64_t pause_us, total_us;
};

/* A sandbox that was started; both times count from the start of the call. */
struct ramet_client_started {
    struct ramet_client_sandbox sandbox;
    uint64_t running_us; /* until its vCPUs ran */
    uint64_t answer_us;  /* until its guest agent answered; 0 when not waited for */
};

/* ---- calls ---- */

int ramet_client_get_status(struct ramet_client *client, struct ramet_client_status *ret, struct ramet_error *err);

struct ramet_client_run {
    const char *snapshot;  /* ref; NULL: "debian" */
    const char *name;      /* NULL: made up */
    uint64_t memory_bytes; /* 0: the snapshot's */
    unsigned cpus;         /* 0: the snapshot's */
    unsigned wait_ms;      /* until its guest agent must answer; 0: 60 s */
};

/* Boots a template, or restores a snapshot that has memory. `request` may be NULL. */
int ramet_client_run(struct ramet_client *client, const struct ramet_client_run *request,
                     struct ramet_client_started *ret, struct ramet_error *err);

/* Restores request->snapshot, which must have memory. */
int ramet_client_restore(struct ramet_client *client, const struct ramet_client_run *request,
                         struct ramet_client_started *ret, struct ramet_error *err);

struct ramet_client_fork {
    unsigned count;           /* 0: 1; up to 1024 */
    const char *const *names; /* NULL, or `count` names */
    const char *tag;          /* NULL, or a tag for the snapshot it makes */
    bool wait_durable;        /* return only when that snapshot is on disk */
    bool no_answer_wait;      /* return when the children run, before their guest agents answer */
    unsigned wait_ms;         /* until every guest agent must answer; 0: 60 s */
};
struct ramet_client_fork_result {
    struct ramet_client_snapshot snapshot; /* the instant that all children share */
    struct ramet_client_timing timing;
    struct ramet_client_started *children;
    size_t count;
};

/* The parent pauses for milliseconds and runs on; all or no children start. `request` may be NULL. */
int ramet_client_fork(struct ramet_client *client, const char *sandbox, const struct ramet_client_fork *request,
                      struct ramet_client_fork_result *ret, struct ramet_error *err);
void ramet_client_fork_result_free(struct ramet_client_fork_result *result);

struct ramet_client_exec {
    const char *const *argv; /* NULL-terminated; argv[0] is looked up in the guest's PATH */
    const char *const *env;  /* NULL, or NULL-terminated "KEY=VALUE" */
    const void *input;       /* bytes for its standard input, up to RAMET_CLIENT_INPUT_MAX */
    size_t input_size;
    unsigned timeout_ms; /* 0: 60 s */
};
struct ramet_client_exec_result {
    int exit_code;   /* -1 when a signal ended it */
    int signal;      /* 0 when it exited */
    char *out, *err; /* any bytes, NUL-terminated after their size */
    size_t out_size, err_size;
    bool out_truncated, err_truncated; /* the guest printed more than the daemon keeps */
};

/* Runs a command in the guest and waits for it. A command that fails is a success of this call. */
int ramet_client_exec(struct ramet_client *client, const char *sandbox, const struct ramet_client_exec *request,
                      struct ramet_client_exec_result *ret, struct ramet_error *err);
void ramet_client_exec_result_free(struct ramet_client_exec_result *result);

/* Returns when the snapshot is on disk. `tag` and `ret_timing` may be NULL. */
int ramet_client_snapshot(struct ramet_client *client, const char *sandbox, const char *tag,
                          struct ramet_client_snapshot *ret, struct ramet_client_timing *ret_timing,
                          struct ramet_error *err);

/* `ret` may be NULL. */
int ramet_client_pause(struct ramet_client *client, const char *sandbox, struct ramet_client_sandbox *ret,
                       struct ramet_error *err);
int ramet_client_resume(struct ramet_client *client, const char *sandbox, struct ramet_client_sandbox *ret,
                        struct ramet_error *err);

struct ramet_client_rollback {
    const char *snapshot; /* ref; with memory, of a machine like the sandbox's */
    bool no_answer_wait;  /* return when it runs, before its guest agent answers */
    unsigned wait_ms;     /* until its guest agent must answer; 0: 60 s */
};

/* Takes memory, devices and disks back to request->snapshot; id and name stay, what was done since is lost. */
int ramet_client_rollback(struct ramet_client *client, const char *sandbox, const struct ramet_client_rollback *request,
                          struct ramet_client_started *ret, struct ramet_error *err);

/* The sandbox takes the name and place of the one it was forked from, which is removed. `ret` may be NULL. */
int ramet_client_promote(struct ramet_client *client, const char *sandbox, struct ramet_client_sandbox *ret,
                         struct ramet_error *err);

int ramet_client_remove_sandbox(struct ramet_client *client, const char *sandbox, struct ramet_error *err);
int ramet_client_remove_snapshot(struct ramet_client *client, const char *snapshot, struct ramet_error *err);

/* ---- workspaces: trees of files on the mount, which fork in O(1) ---- */

struct ramet_client_workspace {
    char id[RAMET_CLIENT_ID_SIZE], name[RAMET_CLIENT_NAME_SIZE];
    char parent[RAMET_CLIENT_ID_SIZE];  /* workspace it was forked from, or "" */
    char sandbox[RAMET_CLIENT_ID_SIZE]; /* sandbox it is attached to, or "" */
    char path[4096];                    /* on the mount */
    uint64_t used_bytes, inodes;
    uint64_t quota_bytes, quota_inodes; /* 0: none */
    uint32_t uid, gid;                  /* of its root directory when it was made */
    bool audit_opens;                   /* each open of a file is told in the audit */
    int64_t created_ms;
};

/* A past state, read-only. */
struct ramet_client_workspace_state {
    char name[RAMET_CLIENT_NAME_SIZE], path[4096];
    int64_t created_ms;
};

/* By name; *ret is freed with free(). */
int ramet_client_workspaces(struct ramet_client *client, struct ramet_client_workspace **ret, size_t *ret_count,
                            struct ramet_error *err);
int ramet_client_workspace(struct ramet_client *client, const char *workspace, struct ramet_client_workspace *ret,
                           struct ramet_error *err);

struct ramet_client_workspace_create {
    const char *name;
    bool owned; /* uid and gid count; else it is the caller's */
    uint32_t uid, gid;
    uint64_t quota_bytes, quota_inodes; /* 0: none */
    bool audit_opens;
};
/* In these calls `ret` may be NULL. */
int ramet_client_workspace_create(struct ramet_client *client, const struct ramet_client_workspace_create *request,
                                  struct ramet_client_workspace *ret, struct ramet_error *err);
/* `state` NULL: of now. */
int ramet_client_workspace_fork(struct ramet_client *client, const char *workspace, const char *state, const char *name,
                                struct ramet_client_workspace *ret, struct ramet_error *err);
/* It takes its parent's name and place; the parent is removed. */
int ramet_client_workspace_promote(struct ramet_client *client, const char *workspace,
                                   struct ramet_client_workspace *ret, struct ramet_error *err);
/* `sandbox` NULL: detaches it. */
int ramet_client_workspace_attach(struct ramet_client *client, const char *workspace, const char *sandbox,
                                  struct ramet_client_workspace *ret, struct ramet_error *err);
/* Keeps the tree as it is under a name; `state` NULL: one is made up. */
int ramet_client_workspace_snapshot(struct ramet_client *client, const char *workspace, const char *state,
                                    struct ramet_client_workspace_state *ret, struct ramet_error *err);
/* *ret is the state that keeps what was there before. */
int ramet_client_workspace_rollback(struct ramet_client *client, const char *workspace, const char *state,
                                    struct ramet_client_workspace_state *ret, struct ramet_error *err);
/* Oldest first; *ret is freed with free(). */
int ramet_client_workspace_history(struct ramet_client *client, const char *workspace,
                                   struct ramet_client_workspace_state **ret, size_t *ret_count,
                                   struct ramet_error *err);
int ramet_client_remove_workspace(struct ramet_client *client, const char *workspace, struct ramet_error *err);

struct ramet_client_workspace_change {
    char *path, *old_path; /* old_path: NULL unless it was renamed */
    char what[128];        /* "added", "content", "renamed,mode", ... */
};
struct ramet_client_workspace_diff {
    struct ramet_client_workspace_change *changes;
    size_t count;
    uint64_t added, removed, changed, renamed;
    uint64_t lines_added, lines_removed, bytes_added, bytes_removed;
    char *patch; /* any bytes, NUL-terminated after their size; NULL unless it was asked for */
    size_t patch_size;
};
/* Against "NAME", "NAME@STATE", "@STATE" of its own, or NULL: what it was when it was forked. */
int ramet_client_workspace_diff(struct ramet_client *client, const char *workspace, const char *against, bool patch,
                                struct ramet_client_workspace_diff *ret, struct ramet_error *err);
void ramet_client_workspace_diff_free(struct ramet_client_workspace_diff *diff);

struct ramet_client_workspace_merge {
    const char *from;     /* "NAME" or "NAME@STATE": what it changed is done to the workspace */
    const char *base;     /* NULL: the common ancestor is known */
    const char *strategy; /* for conflicts: "ours" or "theirs"; NULL: they leave everything as it was */
    bool whole_files;     /* no merging of texts by lines */
    bool dry_run;
};
struct ramet_client_workspace_conflict {
    char kind[32];
    char *path;
};
struct ramet_client_workspace_merged {
    bool applied; /* false is a success of the call, too: look at the conflicts */
    struct ramet_client_workspace_conflict *conflicts;
    size_t conflict_count;
    uint64_t unresolved, names, files, merged_texts;
};
int ramet_client_workspace_merge(struct ramet_client *client, const char *workspace,
                                 const struct ramet_client_workspace_merge *request,
                                 struct ramet_client_workspace_merged *ret, struct ramet_error *err);
void ramet_client_workspace_merged_free(struct ramet_client_workspace_merged *merged);

/* A tar archive that is `read` as it goes: as of ramet_client_send. All of it comes, or nothing. */
struct ramet_client_workspace_import {
    const char *into; /* a directory of the workspace, which is there; NULL: it is made */
    long (*read)(void *context, char *buf, size_t max);
    void *context;
};
int ramet_client_workspace_import(struct ramet_client *client, const char *workspace,
                                  const struct ramet_client_workspace_import *request,
                                  struct ramet_client_workspace *ret, struct ramet_error *err);
/* A tar archive of all, or below `path` (may be NULL), now or in `state` (may be NULL): as of ramet_client_receive. */
int ramet_client_workspace_export(struct ramet_client *client, const char *workspace, const char *state,
                                  const char *path, bool (*write)(void *context, const char *bytes, size_t size),
                                  void *context, struct ramet_error *err);

#ifdef __cplusplus
}
#endif

#endif
