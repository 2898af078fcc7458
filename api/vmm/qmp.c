/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every command carries an id; answers with another id belong to a command that
 * timed out and are dropped. Events are dropped too, except SHUTDOWN, whose reason
 * makes a better message than "the peer closed the connection".
 *
 * `lock` guards all fields and is held for a command's whole round trip: QEMU answers
 * one at a time anyway.
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
};

static void note_event(struct ramet_qmp *qmp, const struct ramet_json *message)
{
    if (strcmp(ramet_json_str(message, "event", ""), "SHUTDOWN") == 0)
        snprintf(qmp->shutdown_reason, sizeof qmp->shutdown_reason, "%s",
                 ramet_json_str(ramet_json_get(message, "data"), "reason", "unknown"));
}

/* The next message that is not an event. *ret is owned by the caller. */
static int read_message(struct ramet_qmp *qmp, uint64_t deadline_us, struct ramet_json **ret, struct ramet_error *err)
{
    for (;;) {
        char *line;
        size_t size;
        int r = ramet_channel_read_line(&qmp->channel, deadline_us, &line, &size, err);
        if (r < 0)
            return r;
        _cleanup_(ramet_json_cleanup) struct ramet_json *message = NULL;
        struct ramet_error parse = {0};
        if (ramet_json_parse(line, size, &message, &parse) < 0 || !ramet_json_is_object(message))
            return ramet_error_set(err, RAMET_VMM, "QEMU sent garbage over QMP: %s", parse.msg);
        if (!ramet_json_get(message, "event")) {
            *ret = STEAL(message);
            return 0;
        }
        note_event(qmp, message);
    }
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

static int round_trip(struct ramet_qmp *qmp, const char *command, struct ramet_json *arguments, int pass_fd,
                      uint64_t deadline_us, struct ramet_json **ret_value, struct ramet_error *err)
{
    int64_t id = qmp->next_id++;
    _cleanup_(ramet_json_cleanup) struct ramet_json *request = ramet_json_object();
    ramet_json_set_string(request, "execute", command);
    ramet_json_set_i64(request, "id", id);
    if (arguments)
        ramet_json_set(request, "arguments", arguments);
    _autofree_ char *text = ramet_json_text(request), *line = NULL;
    int size = text ? asprintf(&line, "%s\n", text) : -1;
    if (size < 0) {
        line = NULL;
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a QMP command");
    }
    int r = ramet_channel_send(&qmp->channel, line, (size_t)size, pass_fd, deadline_us, err);
    return r < 0 ? r : read_answer(qmp, id, deadline_us, ret_value, err);
}

static int run(struct ramet_qmp *qmp, const char *command, struct ramet_json *arguments, int pass_fd,
               unsigned timeout_ms, struct ramet_json **ret_value, struct ramet_error *err)
{
    pthread_mutex_lock(&qmp->lock);
    int r = round_trip(qmp, command, arguments, pass_fd, ramet_deadline_us(timeout_ms), ret_value, err);
    pthread_mutex_unlock(&qmp->lock);
    return r < 0 ? (ramet_error_prefix(err, "QMP %s", command), r) : 0;
}

int ramet_qmp_command(struct ramet_qmp *qmp, const char *command, struct ramet_json *arguments, unsigned timeout_ms,
                      struct ramet_json **ret_value, struct ramet_error *err)
{
    return run(qmp, command, arguments, -1, timeout_ms, ret_value, err);
}

int ramet_qmp_give_fd(struct ramet_qmp *qmp, const char *name, int fd, unsigned timeout_ms, struct ramet_error *err)
{
    struct ramet_json *arguments = ramet_json_object();
    ramet_json_set_string(arguments, "fdname", name);
    return run(qmp, "getfd", arguments, fd, timeout_ms, NULL, err);
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
    return round_trip(qmp, "qmp_capabilities", NULL, -1, deadline_us, NULL, err);
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
