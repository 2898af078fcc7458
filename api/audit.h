/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The audit: who did or was refused what, one JSON object a line, in STORE/audit/.
 * Append-only; each line has the hash of the line before it and its own, so that a
 * changed, removed, inserted, reordered or cut off line is found and named
 * (audit_verify.h). Values of arguments are never in it, only a keyed hash of them.
 *
 * Nothing is dropped: when the disk is slow or full, whoever adds a line waits.
 * Lines are written and synced in groups by one thread.
 *
 * Thread-safety: every function but open and close may be called from any thread.
 */
#ifndef RAMET_API_AUDIT_H
#define RAMET_API_AUDIT_H

#include "base/error.h"
#include "principal.h"

#include <stdbool.h>
#include <stdint.h>

#define RAMET_AUDIT_HASH_SIZE 65 /* 64 hex digits and NUL */

struct ramet_audit;
struct ramet_json;

struct ramet_audit_options {
    uint64_t rotate_bytes; /* a file that has grown to this is followed by the next; 0: 64 MiB */
    unsigned queue_max;    /* lines that wait to be written before adders wait; 0: 4096 */
};

/* Takes up the chain where it ends. `options` may be NULL. What a crash tore off is cut and told in a line. */
int ramet_audit_open(const char *dir, const struct ramet_audit_options *options, struct ramet_audit **ret,
                     struct ramet_error *err);
/* The daemon stops: from now on lines that cannot be written within seconds fail those who wait for them. */
void ramet_audit_give_up(struct ramet_audit *audit);
/* Writes what waits; gives up, saying so in the log, when that takes more than a few seconds. NULL is a no-op. */
void ramet_audit_close(struct ramet_audit *audit);

/* All strings are borrowed and may be NULL, which leaves the member out. */
struct ramet_audit_line {
    const struct ramet_principal *principal;
    const char *action; /* operationId, "callTool", "readTool", "openFile", ... */
    const char *object; /* what it was done to, as the caller named it: "sandbox:web", "tool:github/search" */
    bool allowed;
    const char *reason;     /* of the verdict */
    const char *policy;     /* ramet_policy_id */
    const char *access;     /* of an opened file: "read", "write", "read, write", "execute", "create, write" */
    const char *server;     /* MCP server and tool, for those */
    const char *tool;       /* as gen_ai.tool.name */
    const char *method;     /* as mcp.method.name */
    const char *protocol;   /* as mcp.protocol.version */
    const char *request_id; /* as jsonrpc.request.id */
    const char *client;     /* what the client calls itself */
    const char *session;    /* MCP session */
    const char *trace;      /* trace id, of traceparent */
    const char *arguments;  /* ramet_audit_hash of them */
    const char *error;      /* as error.type: a name of a code, once it is known that it failed */
    bool done;              /* the line tells how it ended: "event" is "result", else "call" or "denied" */
    uint64_t duration_us;   /* with `done` */
    const char *call;       /* with `done`: "seq" of the line that told its beginning, as text */
};

/*
 * Adds a line. `durable`: returns once it is synced, else once it is queued, which
 * waits too while the queue is full or the disk refuses what is in it. *ret_seq (may be NULL) is its number. The only
 * failures are RAMET_NO_MEMORY and, while the daemon stops, RAMET_UNAVAILABLE: the
 * caller must then not do what it wanted to.
 */
int ramet_audit_add(struct ramet_audit *audit, const struct ramet_audit_line *line, bool durable, uint64_t *ret_seq,
                    struct ramet_error *err);

/* Waits until the line of that number is synced. UNAVAILABLE as above. */
int ramet_audit_wait(struct ramet_audit *audit, uint64_t seq, struct ramet_error *err);
/* Waits until all lines added so far are synced. */
int ramet_audit_flush(struct ramet_audit *audit, struct ramet_error *err);

/* Hash of arguments under the audit's own key: equal ones are recognised, none can be guessed from it. */
void ramet_audit_hash(const struct ramet_audit *audit, const void *bytes, size_t size,
                      char ret[static RAMET_AUDIT_HASH_SIZE]);
/* Of JSON, whatever the order of its members; NULL hashes as {}. */
void ramet_audit_hash_json(const struct ramet_audit *audit, const struct ramet_json *value,
                           char ret[static RAMET_AUDIT_HASH_SIZE]);

/* Number and hash of the last synced line: kept elsewhere, it proves that nothing before it was changed. */
void ramet_audit_head(struct ramet_audit *audit, uint64_t *ret_seq, char ret_hash[static RAMET_AUDIT_HASH_SIZE]);
const char *ramet_audit_dir(const struct ramet_audit *audit);

#endif
