/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent works on one request at a time: whoever set `busy` owns the channel, `synced` and
 * `next_id` until the answer has come. `lock` guards `busy` alone and is never held across I/O.
 * Waiting for one's turn counts against the caller's deadline. A request that fails
 * half-way leaves `synced` false.
 */
#include "vmm/guest_agent.h"

#include "base/cleanup.h"
#include "json.h"
#include "vmm/channel.h"
#include "vmm/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The agent keeps 16 MiB of each of stdout and stderr; base64 makes 43 MiB of both. */
enum { LINE_LIMIT = 48 << 20, RESEND_MS = 2000 };

struct ramet_agent {
    pthread_mutex_t lock;
    pthread_cond_t idle; /* on the monotonic clock */
    bool busy;
    struct ramet_channel channel;
    bool synced;
    int64_t next_id;
};

int ramet_agent_open(int fd, struct ramet_agent **ret, struct ramet_error *err)
{
    struct ramet_agent *agent = calloc(1, sizeof *agent);
    if (!agent) {
        close(fd);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a guest agent connection");
    }
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&agent->lock, NULL);
    pthread_cond_init(&agent->idle, &monotonic);
    pthread_condattr_destroy(&monotonic);
    ramet_channel_open(&agent->channel, fd, LINE_LIMIT);
    agent->next_id = (int64_t)(ramet_now_us() & 0x7fffffff) << 16; /* unlike any id of the parent's session */
    *ret = agent;
    return 0;
}

void ramet_agent_close(struct ramet_agent *agent)
{
    if (!agent)
        return;
    ramet_channel_close(&agent->channel);
    pthread_cond_destroy(&agent->idle);
    pthread_mutex_destroy(&agent->lock);
    free(agent);
}

static int send_request(struct ramet_agent *agent, const char *prefix, const char *command,
                        const struct ramet_json *arguments, uint64_t deadline_us, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *request = ramet_json_object();
    ramet_json_set_string(request, "execute", command);
    if (arguments)
        ramet_json_set(request, "arguments", ramet_json_copy(arguments));
    _autofree_ char *text = ramet_json_text(request);
    _autofree_ char *line = NULL;
    int size = text ? asprintf(&line, "%s%s\n", prefix, text) : -1;
    if (size < 0) {
        line = NULL;
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a request to the guest");
    }
    return ramet_channel_send(&agent->channel, line, (size_t)size, -1, deadline_us, err);
}

/* Reads until the answer to guest-sync-delimited `id`: it follows a byte 0xff, which JSON never holds. */
static int await_sync(struct ramet_agent *agent, int64_t id, uint64_t deadline_us, struct ramet_error *err)
{
    for (;;) {
        char *line;
        size_t size;
        int r = ramet_channel_read_line(&agent->channel, deadline_us, &line, &size, err);
        if (r == -RAMET_TOO_LARGE)
            continue;
        if (r < 0)
            return r;
        const char *mark = memrchr(line, 0xff, size);
        if (!mark)
            continue;
        _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
        if (ramet_json_parse(mark + 1, (size_t)(line + size - mark - 1), &answer, NULL) == 0 &&
            ramet_json_int(answer, "return", -1) == id)
            return 0;
    }
}

/*
 * Asks again, after two seconds first and ever later then: the guest may be booting, its agent restarting, or both
 * slow; only the last question's answer counts. The leading 0xff makes the agent drop a request that was cut off by the
 * fork.
 */
static int sync_agent(struct ramet_agent *agent, uint64_t deadline_us, struct ramet_error *err)
{
    for (unsigned wait_ms = RESEND_MS;; wait_ms *= 2) {
        int64_t id = agent->next_id++;
        _cleanup_(ramet_json_cleanup) struct ramet_json *arguments = ramet_json_object();
        ramet_json_set_i64(arguments, "id", id);
        int r = send_request(agent, "\xff", "guest-sync-delimited", arguments, deadline_us, err);
        uint64_t slice_us = ramet_deadline_us(wait_ms);
        if (r == 0)
            r = await_sync(agent, id, slice_us < deadline_us ? slice_us : deadline_us, err);
        agent->synced = r == 0;
        if (r == -RAMET_TIMEOUT && ramet_left_us(deadline_us) > 0)
            continue;
        return r;
    }
}

static int parse_answer(const char *line, size_t size, struct ramet_json **ret, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    struct ramet_error parse = {0};
    if (ramet_json_parse(line, size, &answer, &parse) < 0 || !ramet_json_is_object(answer))
        return ramet_error_set(err, RAMET_VMM, "the guest sent garbage: %s", parse.msg);
    const struct ramet_json *value = ramet_json_get(answer, "return");
    if (!value)
        return ramet_error_set(err, RAMET_INVALID, "the guest refused: %s",
                               ramet_json_str(ramet_json_get(answer, "error"), "desc", "no reason given"));
    *ret = ramet_json_copy(value);
    return *ret ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the guest's answer of %zu bytes", size);
}

static int do_request(struct ramet_agent *agent, const char *command, const struct ramet_json *arguments,
                      uint64_t deadline_us, struct ramet_json **ret, struct ramet_error *err)
{
    int r = agent->synced ? 0 : sync_agent(agent, deadline_us, err);
    if (r < 0)
        return r;
    agent->synced = false;
    r = send_request(agent, "", command, arguments, deadline_us, err);
    if (r < 0)
        return r;
    char *line;
    size_t size;
    r = ramet_channel_read_line(&agent->channel, deadline_us, &line, &size, err);
    if (r < 0)
        return r;
    r = parse_answer(line, size, ret, err);
    agent->synced = r != -RAMET_VMM;
    return r;
}

static int begin_turn(struct ramet_agent *agent, uint64_t deadline_us, struct ramet_error *err)
{
    struct timespec until = ramet_timespec_us(deadline_us);
    int failure = 0;
    pthread_mutex_lock(&agent->lock);
    while (agent->busy && failure != ETIMEDOUT)
        failure = pthread_cond_timedwait(&agent->idle, &agent->lock, &until);
    bool ours = !agent->busy;
    agent->busy = true;
    pthread_mutex_unlock(&agent->lock);
    return ours ? 0 : ramet_error_set(err, RAMET_TIMEOUT, "another request kept the guest agent busy");
}

static void end_turn(struct ramet_agent *agent)
{
    pthread_mutex_lock(&agent->lock);
    agent->busy = false;
    pthread_cond_signal(&agent->idle);
    pthread_mutex_unlock(&agent->lock);
}

static int explain(int r, const char *what, struct ramet_error *err)
{
    if (r == 0)
        return 0;
    ramet_error_prefix(err, "guest agent, %s", what);
    if (r == -RAMET_TIMEOUT)
        ramet_error_hint(err, "is qemu-guest-agent running in the guest? its console is in console.log");
    return r;
}

int ramet_agent_request(struct ramet_agent *agent, const char *command, const struct ramet_json *arguments,
                        uint64_t deadline_us, struct ramet_json **ret, struct ramet_error *err)
{
    int r = begin_turn(agent, deadline_us, err);
    if (r == 0) {
        r = do_request(agent, command, arguments, deadline_us, ret, err);
        end_turn(agent);
    }
    return explain(r, command, err);
}

/* Synchronising is asking and being answered; another question would cost an emulated guest half as much again. */
int ramet_agent_ping(struct ramet_agent *agent, unsigned timeout_ms, struct ramet_error *err)
{
    uint64_t deadline_us = ramet_deadline_us(timeout_ms);
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    int r = begin_turn(agent, deadline_us, err);
    if (r == 0) {
        r = agent->synced ? do_request(agent, "guest-ping", NULL, deadline_us, &answer, err)
                          : sync_agent(agent, deadline_us, err);
        end_turn(agent);
    }
    return explain(r, "guest-ping", err);
}
