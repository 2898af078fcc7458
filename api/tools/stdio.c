/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A child process as a peer.
 *
 * One thread does all reading and writing. Callers put their text into the queue, wake the thread and wait for their
 * own condition: a server that does not read keeps them no longer than their deadlines, and one that floods us with
 * requests or notifications gets a bounded number of replies.
 *
 * `lock` guards the queue, the waiters and what is known of the server's end; never held across I/O, or while `heard`
 * is called. The line being read belongs to the thread.
 *
 * The thread ends when the server closes its output or exits, or when told to; it takes the process with it and lets
 * all waiters go.
 */
#include "tools/stdio.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "tools/child.h"
#include "tools/line_reader.h"
#include "vmm/clock.h"
#include "vmm/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

enum {
    read_bytes = 64 << 10,
    queue_max = 64 << 20,        /* bytes that wait to be written */
    reply_queue_max = 256 << 10, /* beyond so many, the server's own requests get no replies */
    stderr_kept = 4 << 10,
    grace_ms = 1000, /* between closing its input and SIGTERM */
};

struct waiter {
    uint64_t id;
    bool done;
    int rc;
    struct ramet_rpc_answer answer;
    struct ramet_error err;
    pthread_cond_t wake;
    struct waiter *next;
};

struct outgoing {
    char *text;
    size_t size, written;
    uint64_t id; /* of the call, UINT64_MAX for others */
    struct outgoing *next;
};

struct ramet_stdio {
    struct ramet_child child;
    pid_t pid;
    int wake_fd;
    void (*heard)(void *context, const struct ramet_rpc_message *notification);
    void *context;
    pthread_t thread;
    bool has_thread;

    pthread_mutex_t lock;
    struct waiter *waiters;
    struct outgoing *queue, **queue_end;
    size_t queued;
    bool stopping, broken;
    char why[128]; /* it is broken */
    char said[stderr_kept];
    size_t said_size;
    unsigned junk_count;
    char junk[128]; /* begin of the last line that was no JSON-RPC */

    struct ramet_line_reader lines; /* the thread's */
};

/* ---- waiters ---- */

/* Under the lock. Takes over `answer`. */
static void settle(struct waiter *waiter, int rc, struct ramet_rpc_answer answer)
{
    waiter->rc = rc;
    waiter->answer = answer;
    waiter->done = true;
    pthread_cond_signal(&waiter->wake);
}

/* Under the lock. The waiter for `id`, taken off the list; NULL when nobody waits for it. */
static struct waiter *take_waiter(struct ramet_stdio *server, uint64_t id)
{
    for (struct waiter **at = &server->waiters; *at; at = &(*at)->next)
        if ((*at)->id == id) {
            struct waiter *waiter = *at;
            *at = waiter->next;
            return waiter;
        }
    return NULL;
}

static void wake(struct ramet_stdio *server) { eventfd_write(server->wake_fd, 1); }

/* Under the lock. */
static void let_all_go(struct ramet_stdio *server, const char *why)
{
    if (!server->broken)
        snprintf(server->why, sizeof server->why, "%s", why);
    server->broken = true;
    while (server->waiters) {
        struct waiter *waiter = server->waiters;
        server->waiters = waiter->next;
        settle(waiter, ramet_error_set(&waiter->err, RAMET_UNAVAILABLE, "%s", server->why),
               (struct ramet_rpc_answer){0});
    }
}

/* ---- the queue ---- */

/* Under the lock. Takes over `text`, a message without its newline. */
static int enqueue(struct ramet_stdio *server, char *text, uint64_t id, size_t limit, struct ramet_error *err)
{
    size_t size = strlen(text);
    struct outgoing *out = calloc(1, sizeof *out);
    int rc = 0;
    if (server->broken)
        rc = ramet_error_set(err, RAMET_UNAVAILABLE, "%s", server->why);
    else if (server->queued + size > limit)
        rc = ramet_error_set(err, RAMET_BUSY, "it does not read what it is sent");
    else if (!out)
        rc = ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a message");
    if (rc < 0) {
        free(out);
        free(text);
        return rc;
    }
    text[size] = '\n'; /* in place of the NUL */
    *out = (struct outgoing){.text = text, .size = size + 1, .id = id};
    *server->queue_end = out;
    server->queue_end = &out->next;
    server->queued += out->size;
    return 0;
}

/* Under the lock. */
static void drop(struct ramet_stdio *server, struct outgoing **at)
{
    struct outgoing *gone = *at;
    *at = gone->next;
    if (!*at)
        server->queue_end = at;
    server->queued -= gone->size;
    free(gone->text);
    free(gone);
}

/* Under the lock. Takes back a call that was not begun to be written; false when it is on its way. */
static bool take_back(struct ramet_stdio *server, uint64_t id)
{
    for (struct outgoing **at = &server->queue; *at; at = &(*at)->next)
        if ((*at)->id == id) {
            if ((*at)->written)
                return false;
            drop(server, at);
            return true;
        }
    return false;
}

/* Writes what the pipe takes, under the lock: it never waits. False when the server does not read any more. */
static bool write_queue(struct ramet_stdio *server)
{
    ssize_t n = 1;
    pthread_mutex_lock(&server->lock);
    while (server->queue && n > 0) {
        struct outgoing *first = server->queue;
        n = write(server->child.in_fd, first->text + first->written, first->size - first->written);
        if (n > 0 && (first->written += (size_t)n) == first->size)
            drop(server, &server->queue);
    }
    bool good = n > 0 || errno == EAGAIN || errno == EINTR;
    pthread_mutex_unlock(&server->lock);
    return good;
}

/* ---- what it sends ---- */

static void note_junk(struct ramet_stdio *server, const char *line, size_t size)
{
    pthread_mutex_lock(&server->lock);
    server->junk_count++;
    snprintf(server->junk, sizeof server->junk, "%.*s", (int)(size < sizeof server->junk ? size : sizeof server->junk),
             line);
    pthread_mutex_unlock(&server->lock);
}

static void take_answer(struct ramet_stdio *server, const struct ramet_rpc_message *message, const char *line,
                        size_t size)
{
    pthread_mutex_lock(&server->lock);
    struct waiter *waiter = take_waiter(server, message->number);
    if (waiter) {
        struct ramet_rpc_answer answer = {.text = malloc(size + 1)};
        if (answer.text) {
            memcpy(answer.text, line, size);
            answer.text[size] = '\0';
            answer.result = ramet_span_moved(message->result, line, answer.text);
            answer.error = ramet_span_moved(message->error, line, answer.text);
        }
        settle(waiter, answer.text ? 0 : ramet_error_set(&waiter->err, RAMET_NO_MEMORY, "no memory for its answer"),
               answer);
    }
    pthread_mutex_unlock(&server->lock);
}

/* We offer a server nothing but to be alive. */
static void take_request(struct ramet_stdio *server, const struct ramet_rpc_message *message)
{
    char *text = ramet_span_is(message->method, "\"ping\"") ? ramet_rpc_reply_empty(message->id)
                                                            : ramet_rpc_reply_unknown(message->id);
    if (!text)
        return;
    pthread_mutex_lock(&server->lock);
    enqueue(server, text, UINT64_MAX, reply_queue_max, NULL);
    pthread_mutex_unlock(&server->lock);
}

static void take_line(void *context, const char *line, size_t size)
{
    struct ramet_stdio *server = context;
    struct ramet_rpc_message message;
    while (size > 0 && (line[size - 1] == '\r' || line[size - 1] == ' '))
        size--;
    if (size == 0)
        return;
    if (ramet_rpc_read(line, size, &message, NULL) < 0)
        note_junk(server, line, size);
    else if (message.kind == RAMET_RPC_ANSWER)
        take_answer(server, &message, line, size);
    else if (message.kind == RAMET_RPC_REQUEST)
        take_request(server, &message);
    else
        server->heard(server->context, &message);
}

static void take_lost(void *context, uint64_t id)
{
    struct ramet_stdio *server = context;
    pthread_mutex_lock(&server->lock);
    struct waiter *waiter = take_waiter(server, id);
    if (waiter)
        settle(waiter,
               ramet_error_set(&waiter->err, RAMET_TOO_LARGE, "its answer is larger than %zu bytes", server->lines.max),
               (struct ramet_rpc_answer){0});
    pthread_mutex_unlock(&server->lock);
}

/* False at its end. */
static bool read_output(struct ramet_stdio *server, char *buf)
{
    ssize_t n = read(server->child.out_fd, buf, read_bytes);
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR);
    ramet_line_reader_feed(&server->lines, buf, (size_t)n);
    return true;
}

/* The last of what it says on standard error. False at its end. */
static bool read_errors(struct ramet_stdio *server, char *buf)
{
    ssize_t n = read(server->child.err_fd, buf, read_bytes);
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR);
    size_t size = (size_t)n < stderr_kept ? (size_t)n : stderr_kept;
    pthread_mutex_lock(&server->lock);
    size_t keep = server->said_size + size <= stderr_kept ? server->said_size : stderr_kept - size;
    memmove(server->said, server->said + server->said_size - keep, keep);
    memcpy(server->said + keep, buf + n - size, size);
    server->said_size = keep + size;
    pthread_mutex_unlock(&server->lock);
    return true;
}

/* ---- the thread ---- */

static bool is_stopping(struct ramet_stdio *server, bool *ret_writing)
{
    pthread_mutex_lock(&server->lock);
    bool stopping = server->stopping;
    *ret_writing = server->queue != NULL;
    pthread_mutex_unlock(&server->lock);
    return stopping;
}

static void describe_end(int status, char *to, size_t size)
{
    if (WIFSIGNALED(status))
        snprintf(to, size, "it was ended by signal %d", WTERMSIG(status));
    else
        snprintf(to, size, "it exited with status %d", WEXITSTATUS(status));
}

/* Until it ends or we stop. */
static void converse(struct ramet_stdio *server, char *buf)
{
    bool reading = true, writing, said_all = false;
    while (reading && !is_stopping(server, &writing)) {
        struct pollfd fds[] = {{server->child.out_fd, POLLIN, 0},
                               {said_all ? -1 : server->child.err_fd, POLLIN, 0},
                               {server->wake_fd, POLLIN, 0},
                               {ramet_process_pidfd(server->child.process), POLLIN, 0},
                               {writing ? server->child.in_fd : -1, POLLOUT, 0}};
        eventfd_t count;
        if (poll(fds, 5, -1) < 0)
            continue;
        if (fds[2].revents)
            eventfd_read(server->wake_fd, &count);
        if (fds[1].revents)
            said_all = !read_errors(server, buf);
        if (fds[0].revents)
            reading = read_output(server, buf);
        else if (fds[3].revents)
            reading = false; /* it has exited and all it wrote is read, whoever still holds its pipe */
        if (fds[4].revents && !write_queue(server))
            reading = false;
    }
}

static void *run(void *arg)
{
    struct ramet_stdio *server = arg;
    _autofree_ char *buf = malloc(read_bytes);
    char why[sizeof server->why] = "no memory to read from it";
    int status = 0;
    if (buf)
        converse(server, buf);
    close(STEAL_FD(server->child.in_fd));
    ramet_process_end(server->child.process, grace_ms, &status);
    while (buf && read_errors(server, buf)) {
        struct pollfd more = {server->child.err_fd, POLLIN, 0};
        if (poll(&more, 1, 0) <= 0)
            break;
    }
    if (buf)
        describe_end(status, why, sizeof why);
    pthread_mutex_lock(&server->lock);
    let_all_go(server, why);
    pthread_mutex_unlock(&server->lock);
    server->heard(server->context, NULL);
    return NULL;
}

/* ---- start and stop ---- */

static int start(struct ramet_stdio *server, const struct ramet_stdio_options *options, struct ramet_error *err)
{
    int rc = ramet_child_start(options->argv, options->env, options->directory, &server->child, err);
    if (rc < 0)
        return rc;
    server->pid = ramet_process_pid(server->child.process);
    const int ours[] = {server->child.in_fd, server->child.out_fd, server->child.err_fd};
    for (size_t i = 0; i < 3; i++)
        if (fcntl(ours[i], F_SETFL, O_NONBLOCK) < 0)
            return ramet_error_os(err, errno, "cannot use a pipe");
    if ((server->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        return ramet_error_os(err, errno, "cannot make an event descriptor");
    int failure = pthread_create(&server->thread, NULL, run, server);
    server->has_thread = failure == 0;
    return failure ? ramet_error_os(err, failure, "cannot start a thread") : 0;
}

int ramet_stdio_start(const struct ramet_stdio_options *options, struct ramet_stdio **ret, struct ramet_error *err)
{
    struct ramet_stdio *server = calloc(1, sizeof *server);
    if (!server)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a server");
    server->child = (struct ramet_child){.in_fd = -1, .out_fd = -1, .err_fd = -1};
    server->wake_fd = -1;
    server->lines = (struct ramet_line_reader){
        .max = options->message_max, .line = take_line, .lost = take_lost, .context = server};
    server->heard = options->heard;
    server->context = options->context;
    server->queue_end = &server->queue;
    pthread_mutex_init(&server->lock, NULL);
    int rc = start(server, options, err);
    if (rc < 0) {
        ramet_stdio_stop(server);
        return rc;
    }
    *ret = server;
    return 0;
}

void ramet_stdio_break(struct ramet_stdio *server, const char *why)
{
    pthread_mutex_lock(&server->lock);
    let_all_go(server, why);
    pthread_mutex_unlock(&server->lock);
}

void ramet_stdio_stop(struct ramet_stdio *server)
{
    if (!server)
        return;
    if (server->has_thread) {
        pthread_mutex_lock(&server->lock);
        server->stopping = true;
        pthread_mutex_unlock(&server->lock);
        wake(server);
        pthread_join(server->thread, NULL);
    }
    ramet_process_free(server->child.process);
    while (server->queue)
        drop(server, &server->queue);
    const int fds[] = {server->child.in_fd, server->child.out_fd, server->child.err_fd, server->wake_fd};
    for (size_t i = 0; i < 4; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    pthread_mutex_destroy(&server->lock);
    ramet_line_reader_free(&server->lines);
    free(server);
}

/* ---- calls ---- */

/* Under the lock. */
static void await(struct ramet_stdio *server, struct waiter *waiter, uint64_t deadline_us)
{
    const struct timespec deadline = ramet_timespec_us(deadline_us);
    int rc = 0;
    while (!waiter->done && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&waiter->wake, &server->lock, &deadline);
}

/* Under the lock, when nobody waits any more: the server may stop working on it. */
static void cancel(struct ramet_stdio *server, uint64_t id)
{
    char members[64];
    if (take_back(server, id))
        return;
    snprintf(members, sizeof members, "\"requestId\":%llu,\"reason\":\"time limit\"", (unsigned long long)id);
    char *text = ramet_rpc_notification("notifications/cancelled", NULL, members);
    if (text)
        enqueue(server, text, UINT64_MAX, reply_queue_max, NULL);
}

int ramet_stdio_call(struct ramet_stdio *server, uint64_t id, const char *request, uint64_t deadline_us,
                     struct ramet_rpc_answer *ret, struct ramet_error *err)
{
    struct waiter waiter = {.id = id};
    pthread_condattr_t attr;
    char *text = strdup(request);
    if (!text)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a call");
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&waiter.wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_lock(&server->lock);
    int rc = enqueue(server, text, id, queue_max, err);
    if (rc == 0) {
        waiter.next = server->waiters;
        server->waiters = &waiter;
        wake(server);
        await(server, &waiter, deadline_us);
        if (!waiter.done) {
            take_waiter(server, id);
            cancel(server, id);
            wake(server);
            rc = ramet_error_set(err, RAMET_TIMEOUT, "it did not answer in time");
        } else {
            rc = waiter.rc;
            if (rc < 0 && err)
                *err = waiter.err;
            *ret = waiter.answer;
        }
    }
    pthread_mutex_unlock(&server->lock);
    pthread_cond_destroy(&waiter.wake);
    return rc;
}

int ramet_stdio_send(struct ramet_stdio *server, const char *message, struct ramet_error *err)
{
    char *text = strdup(message);
    if (!text)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a message");
    pthread_mutex_lock(&server->lock);
    int rc = enqueue(server, text, UINT64_MAX, queue_max, err);
    pthread_mutex_unlock(&server->lock);
    wake(server);
    return rc;
}

/* ---- how it stands ---- */

bool ramet_stdio_alive(struct ramet_stdio *server)
{
    pthread_mutex_lock(&server->lock);
    bool alive = !server->broken;
    pthread_mutex_unlock(&server->lock);
    return alive;
}

pid_t ramet_stdio_pid(const struct ramet_stdio *server) { return server->pid; }

void ramet_stdio_describe(struct ramet_stdio *server, char *to, size_t size)
{
    pthread_mutex_lock(&server->lock);
    size_t used = (size_t)snprintf(to, size, "%s", server->why);
    if (server->junk_count && used < size)
        used += (size_t)snprintf(to + used, size - used, "%s%u lines it wrote are no JSON-RPC, such as \"%s\"",
                                 used ? "; " : "", server->junk_count, server->junk);
    if (server->said_size && used < size)
        snprintf(to + used, size - used, "%son standard error: %.*s", used ? "; " : "", (int)server->said_size,
                 server->said);
    pthread_mutex_unlock(&server->lock);
    for (; *to; to++)
        if ((unsigned char)*to < 0x20 || *to == 0x7f)
            *to = ' ';
}
