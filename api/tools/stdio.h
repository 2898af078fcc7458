/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server that is a child process and speaks JSON-RPC a line at a time over its standard input and output.
 *
 * It runs in a session of its own, with no descriptor of ours, and with the environment it is given and no other. Its
 * standard error is kept in part, for diagnosis. A line beyond the limit is thrown away as it comes; the call it
 * answers, if its id can be made out, fails with RAMET_TOO_LARGE.
 *
 * One thread reads what it writes. Calls may be made from any number of threads at once; each waits for its own answer
 * or its deadline and for nothing else. What the server sends unasked goes to `heard`, on the reading thread, and NULL
 * once it has ended.
 */
#ifndef RAMET_API_TOOLS_STDIO_H
#define RAMET_API_TOOLS_STDIO_H

#include "tools/rpc.h"

#include <sys/types.h>

struct ramet_stdio;

struct ramet_stdio_options {
    const char *const *argv; /* argv[0] a path, or looked up on the PATH in `env` */
    const char *const *env;  /* the whole environment */
    const char *directory;   /* where it starts; NULL: / */
    size_t message_max;      /* bytes of a line */
    void (*heard)(void *context, const struct ramet_rpc_message *notification);
    void *context;
};

/* Everything is borrowed for the length of the call, but `context`. */
int ramet_stdio_start(const struct ramet_stdio_options *options, struct ramet_stdio **ret, struct ramet_error *err);

/*
 * Closes its input, waits a moment, kills what is left of its session. No call may be under way or begin; ends those
 * that wait in other threads first with ramet_stdio_break. NULL is a no-op.
 */
void ramet_stdio_stop(struct ramet_stdio *server);
/* Ends every call with RAMET_UNAVAILABLE, now and later. */
void ramet_stdio_break(struct ramet_stdio *server, const char *why);

/*
 * Sends `request`, which has the id `id`, and waits for its answer. RAMET_TIMEOUT at the deadline (monotonic), then
 * whatever comes later is thrown away; RAMET_UNAVAILABLE when the server has ended; RAMET_TOO_LARGE.
 */
int ramet_stdio_call(struct ramet_stdio *server, uint64_t id, const char *request, uint64_t deadline_us,
                     struct ramet_rpc_answer *ret, struct ramet_error *err);
/* Sends a notification, behind the caller's back. */
int ramet_stdio_send(struct ramet_stdio *server, const char *message, struct ramet_error *err);

bool ramet_stdio_alive(struct ramet_stdio *server);
pid_t ramet_stdio_pid(const struct ramet_stdio *server);

/*
 * How it stands, in one line: why it ended, what it wrote that was no JSON-RPC, the end of its standard error. As the
 * server said it: secrets are still in it. RAMET_STDIO_DESCRIPTION bytes hold all of it.
 */
#define RAMET_STDIO_DESCRIPTION (5 << 10)
void ramet_stdio_describe(struct ramet_stdio *server, char *to, size_t size);

#endif
