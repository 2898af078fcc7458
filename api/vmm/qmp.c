/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every command carries an id; answers with another id belong to a command that
 * timed out and are dropped. Events are dropped too, except SHUTDOWN, whose reason
 * makes a better message than "the peer closed the connection", and those that say
 * how far an incoming state has come.
 *
 * `lock` guards all fields and is held for a command's whole round trip, or a batch's:
 * QEMU runs one at a time anyway.
 */
#include "vmm/qmp.h"

#include "base/cleanup.h"
#include "vmm/channel.h"
#include "vmm/clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_LIMIT = 4 << 20 };

struct ramet_qmp {
    pthread_mutex_t lock;
    struct ramet_channel channel;
    int64_t next_id;
    char shutdown_reason[32];
    bool loaded, running; /* as events told */
};

static void note_event(struct ramet_qmp *qmp, const struct ramet_json *message)
{
    const char *event = ramet_json_str(message, "event", "");
    const struct ramet_json *data = ramet_json_get(message, "data");
    if (strcmp(event, "SHUTDOWN") == 0)
        snprintf(qmp->shutdown_reason, sizeof qmp->shutdown_reason, "%s", ramet_json_str(data, "reason", "unknown"));
    else if (strcmp(event, "MIGRATION") == 0)
        qmp->loaded = strcmp(ramet_json_str(data, "status", ""), "completed") == 0;
    else if (strcmp(event, "RESUME") == 0 || strcmp(event, "STOP") == 0)
        qmp->running = event[0] == 'R';
}

/* The next message. *ret is owned by the caller, and NULL for an event, which is noted. */
static int read_any(struct ramet_qmp *qmp, uint64_t deadline_us, struct ramet_json **ret, struct ramet_error *err)
{
    char *line;
    size_t size;
    int r = ramet_channel_read_line(&qmp->channel, deadline_us, &line, &size, err);
    if (r < 0)
        return r;
    _cleanup_(ramet_json_cleanup) struct ramet_json *message = NULL;
    struct ramet_error parse = {0};
    if (ramet_json_parse(line, size, &message, &parse) < 0 || !ramet_json_is_object(message))
        return ramet_error_set(err, RAMET_VMM, "QEMU sent garbage over QMP: %s", parse.msg);
    bool event = ramet_json_get(message, "event");
    if (event)
        note_event(qmp, message);
    *ret = event ? NULL : STEAL(message);
    return 0;
}

/* The next message that is not an event. *ret is owned by the caller. */
static int read_message(struct ramet_qmp *qmp, uint64_t deadline_us, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_json *message = NULL;
    while (!message) {
        int r = read_any(qmp, deadline_us, &message, err);
        if (r < 0)
            return r;
    }
    *ret = message;
    return 0;
}

static int read_answer(struct ramet_qmp *qmp, int64_t id, uint64_t deadline_us, struct ramet_json **ret_value,
                       struct ramet_error *err)
{
    for (;;) {
        _cleanup_(ramet_json_cleanup) struct ramet_json *message = NULL;
        int r = read_message(qmp, deadline_us, &message, err);
        if (r < 0)
            return r;
        if (ramet_json_int(message, "id", -1) != id)
            continue;
        const struct ramet_json *value = ramet_json_get(message, "return");
        if (!value)
            return ramet_error_set(err, RAMET_VMM, "QEMU refused: %s",
                                   ramet_json_str(ramet_json_get(message, "error"), "desc", "no reason given"));
        if (ret_value && !(*ret_value = ramet_json_copy(value)))
            return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for QEMU's answer");
        return 0;
    }
}

/* Adds a command's line to the text at *ret, which is owned by the caller. Takes over `arguments`. */
static int append_line(const char *command, struct ramet_json *arguments, int64_t id, char **ret,
                       struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *request = ramet_json_object();
    ramet_json_set_string(request, "execute", command);
    ramet_json_set_i64(request, "id", id);
    if (arguments)
        ramet_json_set(request, "arguments", arguments);
    _autofree_ char *text = ramet_json_text(request);
    char *longer = NULL;
    if (!text || asprintf(&longer, "%s%s\n", *ret ? *ret : "", text) < 0)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a QMP command");
    free(*ret);
    *ret = longer;
    return 0;
}

static int round_trip(struct ramet_qmp *qmp, const char *command, struct ramet_json *arguments, uint64_t deadline_us,
                      struct ramet_json **ret_value, struct ramet_error *err)
{
    int64_t id = qmp->next_id++;
    _autofree_ char *line = NULL;
    int r = append_line(command, arguments, id, &line, err);
    if (r == 0)
        r = ramet_channel_send(&qmp->channel, line, strlen(line), -1, deadline_us, err);
    return r < 0 ? r : read_answer(qmp, id, deadline_us, ret_value, err);
}

/* Reads all answers; the first refusal is the batch's. */
static int read_answers(struct ramet_qmp *qmp, const struct ramet_qmp_call *calls, size_t count, int64_t first_id,
                        uint64_t deadline_us, struct ramet_error *err)
{
    for (size_t i = 0; i < count; i++) {
        int r = read_answer(qmp, first_id + (int64_t)i, deadline_us, NULL, err);
        if (r < 0)
            return ramet_error_prefix(err, "QMP %s", calls[i].command), r;
    }
    return 0;
}

int ramet_qmp_batch(struct ramet_qmp *qmp, const struct ramet_qmp_call *calls, size_t count, int pass_fd,
                    unsigned timeout_ms, struct ramet_error *err)
{
    _autofree_ char *text = NULL;
    uint64_t deadline_us = ramet_deadline_us(timeout_ms);
    int r = 0;
    pthread_mutex_lock(&qmp->lock);
    int64_t first_id = qmp->next_id;
    for (size_t i = 0; i < count; i++) {
        int one = append_line(calls[i].command, calls[i].arguments, qmp->next_id++, &text, r == 0 ? err : NULL);
        r = r == 0 ? one : r;
    }
    if (r == 0)
        r = ramet_channel_send(&qmp->channel, text, strlen(text), pass_fd, deadline_us, err);
    if (r == 0)
        r = read_answers(qmp, calls, count, first_id, deadline_us, err);
    pthread_mutex_unlock(&qmp->lock);
    return r;
}

int ramet_qmp_await_loaded(struct ramet_qmp *qmp, uint64_t deadline_us, bool *ret_running, struct ramet_error *err)
{
    int r = 0;
    pthread_mutex_lock(&qmp->lock);
    while (r == 0 && !qmp->loaded) {
        struct ramet_json *message = NULL;
        r = read_any(qmp, deadline_us, &message, err);
        ramet_json_free(message);
    }
    *ret_running = qmp->running;
    pthread_mutex_unlock(&qmp->lock);
    return r;
}

int ramet_qmp_command(struct ramet_qmp *qmp, const char *command, struct ramet_json *arguments, unsigned timeout_ms,
                      struct ramet_json **ret_value, struct ramet_error *err)
{
    pthread_mutex_lock(&qmp->lock);
    int r = round_trip(qmp, command, arguments, ramet_deadline_us(timeout_ms), ret_value, err);
    pthread_mutex_unlock(&qmp->lock);
    return r < 0 ? (ramet_error_prefix(err, "QMP %s", command), r) : 0;
}

static int greet(struct ramet_qmp *qmp, unsigned timeout_ms, struct ramet_error *err)
{
    uint64_t deadline_us = ramet_deadline_us(timeout_ms);
    _cleanup_(ramet_json_cleanup) struct ramet_json *greeting = NULL;
    int r = read_message(qmp, deadline_us, &greeting, err);
    if (r < 0)
        return ramet_error_prefix(err, "waiting for QEMU's greeting"), r;
    if (!ramet_json_get(greeting, "QMP"))
        return ramet_error_set(err, RAMET_VMM, "the peer does not speak QMP");
    return round_trip(qmp, "qmp_capabilities", NULL, deadline_us, NULL, err);
}

int ramet_qmp_open(int fd, unsigned timeout_ms, struct ramet_qmp **ret, struct ramet_error *err)
{
    struct ramet_qmp *qmp = calloc(1, sizeof *qmp);
    if (!qmp) {
        close(fd);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a QMP connection");
    }
    pthread_mutex_init(&qmp->lock, NULL);
    ramet_channel_open(&qmp->channel, fd, LINE_LIMIT);
    int r = greet(qmp, timeout_ms, err);
    if (r < 0) {
        ramet_qmp_close(qmp);
        return r;
    }
    *ret = qmp;
    return 0;
}

void ramet_qmp_close(struct ramet_qmp *qmp)
{
    if (!qmp)
        return;
    ramet_channel_close(&qmp->channel);
    pthread_mutex_destroy(&qmp->lock);
    free(qmp);
}

const char *ramet_qmp_shutdown_reason(struct ramet_qmp *qmp)
{
    pthread_mutex_lock(&qmp->lock);
    uint64_t deadline_us = ramet_deadline_us(100);
    struct ramet_json *message;
    while (read_message(qmp, deadline_us, &message, NULL) == 0)
        ramet_json_free(message);
    pthread_mutex_unlock(&qmp->lock);
    return qmp->shutdown_reason;
}
