/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the HTTP layer over a real Unix socket, without the service: what is malformed,
 * too large, unknown or not allowed gets the right status and an error that names it;
 * slow requests do not hold up others; a stop waits for them; a socket is taken over
 * from the dead and never from the living.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "http.h"
#include "json.h"
#include "ramet.h"
#include "routes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

struct fixture {
    char dir[64], socket[96], lock[104];
    struct ramet_http_socket *sock;
    struct ramet_http *http;
    struct ramet_router router;
    struct ramet_client *client;
};

/* ---- routes of the test ---- */

static sem_t entered, release; /* how the tests hold a request inside its handler */

static int echo(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    static const char *const keys[] = {"text", "count", NULL};
    uint64_t count = 0;
    const char *text = "";
    int rc = ramet_json_want_only(call->body, keys, err);
    if (rc == 0)
        rc = ramet_json_want_string(call->body, "text", &text, err);
    if (rc == 0)
        rc = ramet_json_want_u64(call->body, "count", 1, 8, &count, err);
    if (rc < 0)
        return rc;
    *ret = ramet_json_object();
    ramet_json_set_u64(*ret, "size", strlen(text));
    return 0;
}

static int hold(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    (void)call, (void)err;
    sem_post(&entered);
    sem_wait(&release);
    *ret = ramet_json_object();
    return 0;
}

static int item(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    const char *from = NULL;
    int rc = ramet_call_query(call, "from", &from, err);
    if (rc < 0)
        return rc;
    *ret = ramet_json_object();
    ramet_json_set_string(*ret, "item", call->param);
    ramet_json_set_string(*ret, "from", from);
    ramet_json_set_i64(*ret, "pid", call->request->caller.pid);
    return 0;
}

static int taken(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    (void)ret;
    ramet_error_set(err, RAMET_EXISTS, "\"%s\" is taken", call->param);
    return ramet_error_hint(err, "choose another");
}

static const char *const item_query[] = {"from", NULL};
static const struct ramet_route routes[] = {
    {"POST", "/echo", "echo", echo, 201, true, NULL, NULL, NULL, NULL, NULL, NULL, false},
    {"GET", "/hold", "hold", hold, 200, false, NULL, NULL, NULL, NULL, NULL, NULL, false},
    {"GET", "/items/{item}", "item", item, 200, false, item_query, NULL, NULL, NULL, NULL, NULL, false},
    {"PUT", "/items/{item}", "taken", taken, 200, true, NULL, NULL, NULL, NULL, NULL, NULL, false},
    {"GET", "/items/{item}/text", "text", NULL, 200, false, NULL, "plain\n", NULL, "text/plain", NULL, NULL, false},
};

/* ---- fixture ---- */

static void start(struct fixture *f)
{
    struct ramet_error err = {0};
    f->router = (struct ramet_router){.routes = routes, .count = sizeof routes / sizeof *routes};
    if (ramet_http_listen(f->socket, &f->sock, &err) < 0 ||
        ramet_http_start(f->sock, ramet_router_handle, &f->router, &f->http, &err) < 0 ||
        ramet_client_new(f->socket, &f->client, &err) < 0)
        fail_msg("%s", err.msg);
}

static void stop(struct fixture *f)
{
    ramet_client_free(f->client);
    ramet_http_free(f->http);
    ramet_http_socket_free(f->sock);
    f->client = NULL;
    f->http = NULL;
    f->sock = NULL;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/ramet-test-http-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->socket, sizeof f->socket, "%s/api.sock", f->dir);
    snprintf(f->lock, sizeof f->lock, "%s.lock", f->socket);
    sem_init(&entered, 0, 0);
    sem_init(&release, 0, 0);
    start(f);
    *state = f;
    return 0;
}

/* Nothing of the server is left behind: the directory is empty. */
static int teardown(void **state)
{
    struct fixture *f = *state;
    stop(f);
    int rc = rmdir(f->dir);
    free(f);
    return rc;
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* Sends bytes as they are and reads until the server closes; "Connection: close" is the sender's to ask for. */
static char *raw(const struct fixture *f, const char *text)
{
    static char answer[65536];
    _autoclose_ int fd = connect_to(f->socket);
    size_t used = 0;
    ssize_t n;
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
    shutdown(fd, SHUT_WR);
    while ((n = read(fd, answer + used, sizeof answer - 1 - used)) > 0)
        used += (size_t)n;
    answer[used] = '\0';
    return answer;
}

static void expect(struct fixture *f, const char *method, const char *path, const char *body, int status,
                   const char *contains)
{
    struct ramet_error err = {0};
    _autofree_ char *answer = NULL;
    int got = 0, rc = ramet_client_call(f->client, method, path, body, &got, &answer, &err);
    const char *text = rc < 0 ? err.msg : answer;
    if (got != status || !strstr(text, contains))
        fail_msg("%s %s: got %d \"%s\", want %d with \"%s\"", method, path, got, text, status, contains);
}

/* ---- requests ---- */

static void test_answers(void **state)
{
    struct fixture *f = *state;
    char pid[32];
    snprintf(pid, sizeof pid, "\"pid\":%d", getpid());
    expect(f, "POST", "/echo", "{\"text\":\"four\"}", 201, "{\"size\":4}");
    expect(f, "POST", "/echo", NULL, 201, "{\"size\":0}");
    expect(f, "GET", "/items/a?from=b%20c", NULL, 200, "\"from\":\"b c\"");
    expect(f, "GET", "/items/a%20b?from=c", NULL, 200, "\"item\":\"a b\"");
    expect(f, "GET", "/items/a?from=b", NULL, 200, pid);
    expect(f, "GET", "/items/a/text", NULL, 200, "plain\n");
}

static void test_handler_errors(void **state)
{
    struct fixture *f = *state;
    struct ramet_error err = {0};
    int status;
    assert_int_equal(ramet_client_call(f->client, "PUT", "/items/x", NULL, &status, NULL, &err), -RAMET_EXISTS);
    assert_int_equal(status, 409);
    assert_string_equal(err.msg, "\"x\" is taken");
    assert_string_equal(err.hint, "choose another");
}

static void test_bad_bodies(void **state)
{
    struct fixture *f = *state;
    expect(f, "POST", "/echo", "{\"text\":", 400, "line 1");
    expect(f, "POST", "/echo", "[]", 400, "object");
    expect(f, "POST", "/echo", "{\"txet\":\"\"}", 400, "\"txet\"");
    expect(f, "POST", "/echo", "{\"text\":1}", 400, "\"text\"");
    expect(f, "POST", "/echo", "{\"count\":9}", 400, "1 to 8");
    expect(f, "GET", "/items/a?from=b", "{}", 400, "no body");
    assert_non_null(strstr(raw(f, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
                                  "Content-Length: 2\r\nConnection: close\r\n\r\n{}"),
                           "HTTP/1.1 415"));
    assert_non_null(strstr(raw(f, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json; charset=utf-8\r\n"
                                  "Content-Length: 2\r\nConnection: close\r\n\r\n{}"),
                           "HTTP/1.1 201"));
}

static void test_oversized_bodies(void **state)
{
    struct fixture *f = *state;
    static const size_t sizes[] = {RAMET_HTTP_BODY_MAX + 1, 4 * RAMET_HTTP_BODY_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        _autofree_ char *body = malloc(sizes[i] + 1);
        memset(body, ' ', sizes[i]);
        body[sizes[i]] = '\0';
        expect(f, "POST", "/echo", body, 413, "larger than 1048576 bytes");
        body[0] = '{';
        body[RAMET_HTTP_BODY_MAX - 1] = '}';
        body[RAMET_HTTP_BODY_MAX] = '\0';
        expect(f, "POST", "/echo", body, 201, "size");
    }
    assert_non_null(strstr(raw(f, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{"), " 413 "));
}

static void test_unknown_and_not_allowed(void **state)
{
    struct fixture *f = *state;
    static const char *const unknown[] = {"/", "/nothing", "/items", "/items/", "/items/a/b", "/echo/", "//echo"};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        expect(f, "GET", unknown[i], NULL, 404, "no such path");
    expect(f, "GET", "/items/a?from=b&x=1", NULL, 400, "\"x\"");
    expect(f, "GET", "/items/a?from=", NULL, 400, "\"from\"");
    expect(f, "GET", "/items/a?from=1&b=2&c=3&d=4&e=5&f=6&g=7&h=8&i=9", NULL, 400, "query parameters");
    expect(f, "DELETE", "/items/a", NULL, 405, "DELETE is not allowed");
    expect(f, "PATCH", "/echo", NULL, 405, "PATCH");
    assert_non_null(
        strstr(raw(f, "DELETE /items/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), "Allow: GET, PUT\r\n"));
}

static void test_malformed_requests(void **state)
{
    struct fixture *f = *state;
    char long_header[80000];
    static const char *const bad[] = {"GARBAGE\r\n\r\n", "\x16\x03\x01\x02\r\n\r\n", "GET\r\n\r\n",
                                      "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
                                      "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *answer = raw(f, bad[i]);
        if (strstr(answer, "HTTP/1.1 2"))
            fail_msg("request %zu was accepted: %s", i, answer);
    }
    int n = snprintf(long_header, sizeof long_header, "GET /items/a?from=b HTTP/1.1\r\nHost: x\r\nX-Long: ");
    memset(long_header + n, 'x', sizeof long_header - (size_t)n - 5);
    strcpy(long_header + sizeof long_header - 5, "\r\n\r\n");
    assert_null(strstr(raw(f, long_header), "HTTP/1.1 2"));
    expect(f, "GET", "/items/a?from=b", NULL, 200, "item"); /* it still serves */
}

static void test_keep_alive(void **state)
{
    struct fixture *f = *state;
    const char *answer = raw(f, "GET /items/1?from=x HTTP/1.1\r\nHost: x\r\n\r\n"
                                "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
                                "GET /items/2?from=x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_non_null(strstr(answer, "\"item\":\"1\""));
    assert_non_null(strstr(answer, "HTTP/1.1 404"));
    assert_non_null(strstr(answer, "\"item\":\"2\""));
}

static void test_other_users_are_refused(void **state)
{
    struct fixture *f = *state;
    if (geteuid() != 0) {
        print_message("skipped: only root can become another user\n");
        skip();
    }
    assert_int_equal(chmod(f->dir, 0755), 0);
    assert_int_equal(chmod(f->socket, 0666), 0);
    pid_t pid = fork();
    if (pid == 0) {
        if (setuid(65534) != 0)
            _exit(2);
        _exit(strstr(raw(f, "GET /items/a?from=b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), " 403 ") ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* ---- concurrency and stop ---- */

static void *call_hold(void *arg)
{
    struct fixture *f = arg;
    int status = 0;
    ramet_client_call(f->client, "GET", "/hold", NULL, &status, NULL, NULL);
    return (void *)(intptr_t)status;
}

enum { HOLDERS = 12 };

static void hold_all(struct fixture *f, pthread_t threads[static HOLDERS])
{
    for (int i = 0; i < HOLDERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_hold, f), 0);
    for (int i = 0; i < HOLDERS; i++)
        sem_wait(&entered);
}

static void join_all(pthread_t threads[static HOLDERS])
{
    for (int i = 0; i < HOLDERS; i++) {
        void *status;
        pthread_join(threads[i], &status);
        assert_int_equal((intptr_t)status, 200);
    }
}

static void release_all(void)
{
    for (int i = 0; i < HOLDERS; i++)
        sem_post(&release);
}

static void test_slow_requests_do_not_block(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[HOLDERS];
    hold_all(f, threads);
    for (int i = 0; i < 20; i++)
        expect(f, "POST", "/echo", "{\"text\":\"x\"}", 201, "size");
    release_all();
    join_all(threads);
}

static void test_stop_waits_for_requests(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[HOLDERS];
    hold_all(f, threads);
    /* A connection from before the stop gets an answer, and it is 503. */
    expect(f, "GET", "/items/a?from=b", NULL, 200, "item");
    assert_false(ramet_http_drain(f->http, 50));
    expect(f, "GET", "/items/a?from=b", NULL, 503, "stopping");
    release_all();
    assert_true(ramet_http_drain(f->http, 10000));
    join_all(threads);
}

/* ---- the socket ---- */

static void test_socket_is_private(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    assert_int_equal(stat(f->socket, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 07777, 0600);
}

static void test_busy_socket_is_refused(void **state)
{
    struct fixture *f = *state;
    struct ramet_http_socket *second = NULL;
    struct ramet_error err = {0};
    assert_int_equal(ramet_http_listen(f->socket, &second, &err), -RAMET_BUSY);
    assert_non_null(strstr(err.msg, f->socket));
    assert_non_null(strstr(err.hint, "ramet down"));
    assert_null(second);
    expect(f, "POST", "/echo", NULL, 201, "size"); /* the first one is unharmed */
}

/* A child listens and dies at once, leaving its files as a crash does. */
static void test_stale_socket_is_replaced(void **state)
{
    struct fixture *f = *state;
    stop(f);
    pid_t pid = fork();
    if (pid == 0) {
        struct ramet_http_socket *sock;
        _exit(ramet_http_listen(f->socket, &sock, NULL) < 0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(access(f->socket, F_OK), 0);
    assert_int_equal(access(f->lock, F_OK), 0);
    start(f);
    expect(f, "POST", "/echo", NULL, 201, "size");
}

static void test_foreign_listener_and_file(void **state)
{
    struct fixture *f = *state;
    struct ramet_http_socket *sock = NULL;
    struct ramet_error err = {0};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    stop(f);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", f->socket);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(ramet_http_listen(f->socket, &sock, &err), -RAMET_BUSY);
    close(fd);
    unlink(f->socket);

    close(open(f->socket, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_int_equal(ramet_http_listen(f->socket, &sock, &err), -RAMET_EXISTS);
    assert_int_equal(access(f->socket, F_OK), 0); /* not ours to delete */
    unlink(f->socket);
    assert_int_equal(access(f->lock, F_OK), -1);
    start(f);
}

static void test_socket_paths(void **state)
{
    struct fixture *f = *state;
    struct ramet_http_socket *sock = NULL;
    struct ramet_error err = {0};
    char path[300];
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    assert_int_equal(ramet_http_listen(path, &sock, &err), -RAMET_INVALID);
    assert_int_equal(ramet_http_listen("", &sock, &err), -RAMET_INVALID);
    snprintf(path, sizeof path, "%s/new/deep/api.sock", f->dir);
    assert_int_equal(ramet_http_listen(path, &sock, &err), 0);
    ramet_http_socket_free(sock);
    snprintf(path, sizeof path, "%s/new/deep", f->dir);
    assert_int_equal(rmdir(path), 0);
    snprintf(path, sizeof path, "%s/new", f->dir);
    assert_int_equal(rmdir(path), 0);
}

static void test_client_without_daemon(void **state)
{
    struct fixture *f = *state;
    struct ramet_client *client;
    struct ramet_error err = {0};
    char path[128];
    int status = 5;
    snprintf(path, sizeof path, "%s/none.sock", f->dir);
    assert_int_equal(ramet_client_new(path, &client, &err), 0);
    assert_int_equal(ramet_client_call(client, "GET", "/v1/status", NULL, &status, NULL, &err), -RAMET_UNAVAILABLE);
    assert_int_equal(status, 0);
    assert_non_null(strstr(err.msg, path));
    assert_non_null(strstr(err.hint, "ramet up"));
    ramet_client_free(client);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_answers),
        TEST(test_handler_errors),
        TEST(test_bad_bodies),
        TEST(test_oversized_bodies),
        TEST(test_unknown_and_not_allowed),
        TEST(test_malformed_requests),
        TEST(test_keep_alive),
        TEST(test_other_users_are_refused),
        TEST(test_slow_requests_do_not_block),
        TEST(test_stop_waits_for_requests),
        TEST(test_socket_is_private),
        TEST(test_busy_socket_is_refused),
        TEST(test_stale_socket_is_replaced),
        TEST(test_foreign_listener_and_file),
        TEST(test_socket_paths),
        TEST(test_client_without_daemon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
