/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever comes out of QEMU's control socket or the guest agent's port, garbage,
 * too much, nothing, half of it, or the answer to another question, ends in the right
 * error at the right time and leaves a connection that still works if it can.
 *
 * The peer is a thread that plays a script: for each line it receives it sends the next answer.
 */
#include "testing.h"

#include "base/cleanup.h"
#include "base64.h"
#include "json.h"
#include "vmm/clock.h"
#include "vmm/guest_agent.h"
#include "vmm/qmp.h"

#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What the peer does after each request. */
struct step {
    const char *answer; /* the first "%lld" in it becomes the request's id; NULL: nothing */
    size_t repeat;      /* sends it that many times more */
    unsigned delay_ms;  /* before it */
    bool close;         /* after it */
};

struct peer {
    int fd;
    const char *greeting;
    const struct step *steps;
    size_t step_count;
    char requests[16][512];
    size_t request_count;
    pthread_t thread;
};

static bool send_text(int fd, const char *text) { return send(fd, text, strlen(text), MSG_NOSIGNAL) >= 0; }

/* One request line, without newline and without the 0xff that starts a resynchronisation; false at the end. */
static bool read_request(int fd, char *line, size_t size)
{
    size_t used = 0;
    char c;
    while (recv(fd, &c, 1, 0) == 1) {
        if (c == '\n') {
            line[used] = '\0';
            return true;
        }
        if (c != '\xff' && used < size - 1)
            line[used++] = c;
    }
    return false;
}

static void play_step(struct peer *peer, const struct step *step, const char *request)
{
    const char *id = strstr(request, "\"id\":");
    char text[512];
    if (step->delay_ms)
        ramet_sleep_us(step->delay_ms * 1000);
    if (step->answer) {
        const char *hole = strstr(step->answer, "%lld");
        if (hole)
            snprintf(text, sizeof text, "%.*s%lld%s", (int)(hole - step->answer), step->answer,
                     id ? atoll(id + 5) : 0LL, hole + 4);
        for (size_t i = 0; i <= step->repeat && send_text(peer->fd, hole ? text : step->answer); i++)
            ;
    }
    if (step->close)
        shutdown(peer->fd, SHUT_RDWR);
}

static void *play(void *arg)
{
    struct peer *peer = arg;
    if (peer->greeting)
        send_text(peer->fd, peer->greeting);
    for (size_t i = 0; i < peer->step_count; i++) {
        char *request = peer->requests[i];
        if (!read_request(peer->fd, request, sizeof peer->requests[i]))
            break;
        peer->request_count++;
        play_step(peer, &peer->steps[i], request);
    }
    return NULL;
}

/* Starts the peer and returns our end of the socket. */
static int start_peer(struct peer *peer, const char *greeting, const struct step *steps, size_t count)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    *peer = (struct peer){.fd = pair[1], .greeting = greeting, .steps = steps, .step_count = count};
    assert_int_equal(pthread_create(&peer->thread, NULL, play, peer), 0);
    return pair[0];
}

static void end_peer(struct peer *peer)
{
    shutdown(peer->fd, SHUT_RDWR);
    pthread_join(peer->thread, NULL);
    close(peer->fd);
}

#define STEPS(...) (const struct step[]){__VA_ARGS__}, sizeof((const struct step[]){__VA_ARGS__}) / sizeof(struct step)
#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n"
#define ACCEPTED                                                                                                       \
    {                                                                                                                  \
        .answer = "{\"return\": {}, \"id\": %lld}\r\n"                                                                 \
    }
#define SYNCED                                                                                                         \
    {                                                                                                                  \
        .answer = "\xff{\"return\": %lld}\n"                                                                           \
    }

/* --- QMP --- */

static void test_qmp_commands(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    struct ramet_qmp *qmp = NULL;
    struct peer peer;
    int fd = start_peer(
        &peer, GREETING,
        STEPS(ACCEPTED, {.answer = "{\"event\": \"STOP\"}\r\n{\"return\": {\"n\": 7}, \"id\": %lld}\r\n"},
              {.answer = "{\"error\": {\"class\": \"X\", \"desc\": \"no such thing\"}, \"id\": %lld}\n"}, ACCEPTED));
    check_ok(ramet_qmp_open(fd, 2000, &qmp, &err));
    _cleanup_(ramet_json_cleanup) struct ramet_json *value = NULL;
    check_ok(ramet_qmp_command(qmp, "count", NULL, 2000, &value, &err));
    assert_int_equal(ramet_json_int(value, "n", 0), 7);
    check_fails(ramet_qmp_command(qmp, "refuse", NULL, 2000, NULL, &err), RAMET_VMM);
    assert_non_null(strstr(err.msg, "refuse"));
    assert_non_null(strstr(err.msg, "no such thing"));
    struct ramet_json *arguments = ramet_json_object();
    ramet_json_set_string(arguments, "filename", "a \"quoted\" name");
    check_ok(ramet_qmp_command(qmp, "save", arguments, 2000, NULL, &err));
    ramet_qmp_close(qmp);
    end_peer(&peer);
    assert_non_null(strstr(peer.requests[0], "qmp_capabilities"));
    assert_non_null(strstr(peer.requests[3], "a \\\"quoted\\\" name"));
}

/* The answer to a command that timed out is not taken for the next one's. */
static void test_qmp_late_answer(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    struct ramet_qmp *qmp = NULL;
    struct peer peer;
    int fd = start_peer(&peer, GREETING,
                        STEPS(ACCEPTED, {.answer = "{\"return\": \"late\", \"id\": %lld}\n", .delay_ms = 300},
                              {.answer = "{\"return\": \"right\", \"id\": %lld}\n"}));
    check_ok(ramet_qmp_open(fd, 2000, &qmp, &err));
    uint64_t start_us = ramet_now_us();
    check_fails(ramet_qmp_command(qmp, "slow", NULL, 50, NULL, &err), RAMET_TIMEOUT);
    assert_true(ramet_now_us() - start_us < 250000);
    _cleanup_(ramet_json_cleanup) struct ramet_json *value = NULL;
    check_ok(ramet_qmp_command(qmp, "next", NULL, 2000, &value, &err));
    assert_string_equal(ramet_json_string_value(value), "right");
    ramet_qmp_close(qmp);
    end_peer(&peer);
}

static void test_qmp_bad_greetings(void **state)
{
    (void)state;
    static const struct {
        const char *greeting;
        bool close;
        int code;
    } cases[] = {
        {"SSH-2.0-OpenSSH_9.2\r\n", false, RAMET_VMM},
        {"[1, 2]\n", false, RAMET_VMM},
        {"{\"return\": {}}\n", false, RAMET_VMM},
        {"{\"QMP\": ", true, RAMET_VMM},
        {"", true, RAMET_VMM},
        {"{\"QMP\": ", false, RAMET_TIMEOUT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ramet_error err = {0};
        struct ramet_qmp *qmp = NULL;
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        send_text(pair[1], cases[i].greeting);
        if (cases[i].close)
            close(pair[1]);
        check_fails(ramet_qmp_open(pair[0], 100, &qmp, &err), cases[i].code);
        assert_null(qmp);
        if (!cases[i].close)
            close(pair[1]);
    }
}

/* QEMU closes in the middle: the reason it gave before is kept. */
static void test_qmp_death(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    struct ramet_qmp *qmp = NULL;
    struct peer peer;
    int fd = start_peer(
        &peer, GREETING,
        STEPS(ACCEPTED,
              {.answer = "{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-reset\"}}\n{\"ret",
               .close = true}));
    check_ok(ramet_qmp_open(fd, 2000, &qmp, &err));
    check_fails(ramet_qmp_command(qmp, "stop", NULL, 2000, NULL, &err), RAMET_VMM);
    check_fails(ramet_qmp_command(qmp, "stop", NULL, 2000, NULL, &err), RAMET_VMM);
    assert_string_equal(ramet_qmp_shutdown_reason(qmp), "guest-reset");
    ramet_qmp_close(qmp);
    end_peer(&peer);
}

/* --- the guest agent --- */

static struct ramet_agent *open_agent(int fd)
{
    struct ramet_error err = {0};
    struct ramet_agent *agent = NULL;
    check_ok(ramet_agent_open(fd, &agent, &err));
    return agent;
}

/* Before the agent answers, anything may arrive: a console's noise, answers to the parent VM, half of one. */
static void test_agent_sync(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    struct peer peer;
    int fd = start_peer(&peer, "login: {\"return\": 12}\n\xff\xff{\"return\": 13}\n{\"error\":",
                        STEPS({.answer = "{}\n[]\n\xff\xff{\"return\": %lld}\n"}, {.answer = "{\"return\": {}}\n"},
                              {.answer = "{\"return\": {}}\n"}));
    struct ramet_agent *agent = open_agent(fd);
    check_ok(ramet_agent_ping(agent, 1500, &err)); /* which synchronising was */
    check_ok(ramet_agent_ping(agent, 1500, &err));
    check_ok(ramet_agent_ping(agent, 1500, &err));
    ramet_agent_close(agent);
    end_peer(&peer);
    assert_int_equal(peer.request_count, 3); /* synchronised once */
    assert_non_null(strstr(peer.requests[0], "guest-sync-delimited"));
    assert_non_null(strstr(peer.requests[1], "guest-ping"));
    assert_non_null(strstr(peer.requests[2], "guest-ping"));
}

static void test_agent_set_time(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    struct peer peer;
    int fd = start_peer(&peer, NULL,
                        STEPS(SYNCED, {.answer = "{\"return\": {\"pid\": 1}}\n"},
                              {.answer = "{\"return\": {\"exited\": true, \"exitcode\": 0}}\n"},
                              {.answer = "{\"return\": {\"pid\": 2}}\n"},
                              {.answer = "{\"return\": {\"exited\": true, \"exitcode\": 1}}\n"}));
    struct ramet_agent *agent = open_agent(fd);
    check_ok(ramet_agent_set_time(agent, 1234567890123456789, 1500, &err));
    check_fails(ramet_agent_set_time(agent, 0, 1500, &err), RAMET_UNSUPPORTED);
    ramet_agent_close(agent);
    end_peer(&peer);
    assert_non_null(strstr(peer.requests[1], "@1234567890.123456789"));
}

static void test_agent_silent(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    struct peer peer;
    int fd = start_peer(&peer, NULL, STEPS({.answer = NULL}));
    struct ramet_agent *agent = open_agent(fd);
    uint64_t start_us = ramet_now_us();
    check_fails(ramet_agent_ping(agent, 200, &err), RAMET_TIMEOUT);
    assert_in_range(ramet_now_us() - start_us, 190000, 1000000);
    assert_non_null(strstr(err.hint, "qemu-guest-agent"));
    ramet_agent_close(agent);
    end_peer(&peer);
}

/* After garbage, or a timeout, the next request resynchronises and works. */
static void test_agent_recovers(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    struct peer peer;
    int fd = start_peer(&peer, NULL,
                        STEPS(SYNCED, {.answer = "}{\n"}, SYNCED, {.answer = "{\"return\": {}}\n"}, {.answer = NULL},
                              SYNCED, {.answer = "{\"return\": {}}\n"}));
    struct ramet_agent *agent = open_agent(fd);
    check_ok(ramet_agent_ping(agent, 1500, &err));
    check_fails(ramet_agent_ping(agent, 1500, &err), RAMET_VMM);
    check_ok(ramet_agent_ping(agent, 1500, &err));
    check_ok(ramet_agent_ping(agent, 1500, &err));
    check_fails(ramet_agent_ping(agent, 100, &err), RAMET_TIMEOUT);
    check_ok(ramet_agent_ping(agent, 1500, &err));
    check_ok(ramet_agent_ping(agent, 1500, &err));
    ramet_agent_close(agent);
    end_peer(&peer);
    assert_int_equal(peer.request_count, 7);
}

/* A guest that never ends its line is cut off at the limit; one that never stops talking, at the deadline. */
static void test_agent_endless(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    struct peer peer;
    char *chunk = test_malloc(1 << 20);
    memset(chunk, 'x', (1 << 20) - 1);
    chunk[(1 << 20) - 1] = '\0';
    int fd = start_peer(&peer, NULL, STEPS(SYNCED, {.answer = chunk, .repeat = 60}));
    struct ramet_agent *agent = open_agent(fd);
    check_ok(ramet_agent_ping(agent, 1500, &err));
    check_fails(ramet_agent_ping(agent, 20000, &err), RAMET_TOO_LARGE);
    ramet_agent_close(agent);
    end_peer(&peer);
    test_free(chunk);

    fd = start_peer(&peer, NULL, STEPS({.answer = "{\"return\": 1}\n", .repeat = 1 << 24}));
    agent = open_agent(fd);
    uint64_t start_us = ramet_now_us();
    check_fails(ramet_agent_ping(agent, 200, &err), RAMET_TIMEOUT);
    assert_true(ramet_now_us() - start_us < 2000000);
    ramet_agent_close(agent);
    end_peer(&peer);
}

static void test_agent_closed(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    struct peer peer;
    int fd = start_peer(&peer, NULL, STEPS(SYNCED, {.answer = "{\"retu", .close = true}));
    struct ramet_agent *agent = open_agent(fd);
    check_ok(ramet_agent_ping(agent, 1500, &err));
    check_fails(ramet_agent_ping(agent, 1500, &err), RAMET_VMM);
    check_fails(ramet_agent_ping(agent, 1500, &err), RAMET_VMM);
    ramet_agent_close(agent);
    end_peer(&peer);
}

static int exec_against(const struct step *steps, size_t count, struct peer *peer, struct ramet_vm_exec_result *ret,
                        struct ramet_error *err)
{
    const char *const argv[] = {"prog", "an \"argument\"", NULL};
    const char *const env[] = {"A=1", NULL};
    struct ramet_agent *agent = open_agent(start_peer(peer, NULL, steps, count));
    int r = ramet_agent_exec(agent, argv, env, "in\xff", 3, 1000, ret, err);
    ramet_agent_close(agent);
    end_peer(peer);
    return r;
}

static void test_agent_exec(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    struct ramet_vm_exec_result result = {0};
    struct peer peer;
    check_ok(exec_against(STEPS(SYNCED, {.answer = "{\"return\": {\"pid\": 42}}\n"},
                                {.answer = "{\"return\": {\"exited\": false}}\n"},
                                {.answer = "{\"return\": {\"exited\": true, \"exitcode\": 3, \"out-data\": \"aABp\", "
                                           "\"err-truncated\": true}}\n"}),
                          &peer, &result, &err));
    assert_non_null(strstr(peer.requests[1], "\"path\":\"prog\""));
    assert_non_null(strstr(peer.requests[1], "an \\\"argument\\\""));
    assert_non_null(strstr(peer.requests[1], "\"input-data\":\"aW7/\""));
    assert_non_null(strstr(peer.requests[1], "\"A=1\",\"PATH="));
    assert_non_null(strstr(peer.requests[2], "\"pid\":42"));
    assert_int_equal(result.exit_code, 3);
    assert_int_equal(result.out_size, 3);
    assert_memory_equal(result.out, "h\0i", 4);
    assert_int_equal(result.err_size, 0);
    assert_true(result.err_truncated && !result.out_truncated);
    ramet_vm_exec_result_free(&result);
}

static void test_agent_exec_failures(void **state)
{
    (void)state;
    static const struct {
        const char *start, *status;
        int code;
    } cases[] = {
        {"{\"error\": {\"desc\": \"Failed to execute child process\"}}\n", NULL, RAMET_INVALID},
        {"{\"return\": {}}\n", NULL, RAMET_VMM},
        {"{\"return\": {\"pid\": \"42\"}}\n", NULL, RAMET_VMM},
        {"{\"return\": {\"pid\": 42}}\n", "{\"return\": {\"exited\": true, \"out-data\": \"a$==\"}}\n", RAMET_VMM},
        {"{\"return\": {\"pid\": 42}}\n", "{\"return\": {\"exited\": true, \"out-data\": \"abc\"}}\n", RAMET_VMM},
        {"{\"return\": {\"pid\": 42}}\n", "{\"return\": 42}\n", RAMET_TIMEOUT}, /* never says it ended */
        {"{\"return\": {\"pid\": 42}}\n", "garbage\n", RAMET_VMM},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ramet_error err = {0};
        struct ramet_vm_exec_result result = {0};
        struct peer peer;
        check_fails(
            exec_against(STEPS(SYNCED, {.answer = cases[i].start}, {.answer = cases[i].status}), &peer, &result, &err),
            cases[i].code);
        assert_null(result.out);
        assert_non_null(strstr(err.msg, "prog"));
    }
}

static void test_base64(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    for (size_t size = 0; size < 300; size++) {
        uint8_t bytes[300];
        test_fill(bytes, size);
        _autofree_ char *text = ramet_base64_encode(bytes, size), *back = NULL;
        size_t back_size = 0;
        assert_int_equal(strlen(text), (size + 2) / 3 * 4);
        check_ok(ramet_base64_decode(text, &back, &back_size, &err));
        assert_int_equal(back_size, size);
        assert_memory_equal(back, bytes, size);
        assert_int_equal(back[size], 0);
    }
    static const char *const bad[] = {"a", "ab", "abc", "a===", "====", "ab=c", "a=bc", "ab==abcd", "ab\ncd", "ab-_"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        _autofree_ char *back = NULL;
        size_t size;
        check_fails(ramet_base64_decode(bad[i], &back, &size, &err), RAMET_INVALID);
        assert_null(back);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_qmp_commands),
        cmocka_unit_test(test_qmp_late_answer),
        cmocka_unit_test(test_qmp_bad_greetings),
        cmocka_unit_test(test_qmp_death),
        cmocka_unit_test(test_agent_sync),
        cmocka_unit_test(test_agent_set_time),
        cmocka_unit_test(test_agent_silent),
        cmocka_unit_test(test_agent_recovers),
        cmocka_unit_test(test_agent_endless),
        cmocka_unit_test(test_agent_closed),
        cmocka_unit_test(test_agent_exec),
        cmocka_unit_test(test_agent_exec_failures),
        cmocka_unit_test(test_base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
