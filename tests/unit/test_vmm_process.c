/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a child starts with exactly what it was given, its end is seen once and by
 * everybody who asks, and none is ever left behind. A guest's console cannot fill the disk.
 */
#include "testing.h"

#include "base/cleanup.h"
#include "vmm/clock.h"
#include "vmm/console.h"
#include "vmm/process.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs a shell script to its end and returns its exit status; its output goes to `out`. */
static int run_shell(const char *script, const int *fds, size_t fd_count, char *out, size_t out_size)
{
    struct ramet_error err = {0};
    _autoclose_ int output = memfd_create("output", MFD_CLOEXEC);
    const char *const argv[] = {"/bin/sh", "-c", script, NULL}, *const env[] = {"ONLY=this", NULL};
    struct ramet_spawn spawn = {.argv = argv, .env = env, .fds = fds, .fd_count = fd_count, .output_fd = output};
    struct ramet_process *process = NULL;
    int status = -1;
    check_ok(ramet_process_spawn(&spawn, &process, &err));
    assert_true(ramet_process_wait(process, 5000, &status));
    assert_true(ramet_process_wait(process, 0, &status));
    ramet_process_free(process);
    ssize_t n = pread(output, out, out_size - 1, 0);
    out[n > 0 ? n : 0] = '\0';
    return status;
}

static void test_output_and_status(void **state)
{
    (void)state;
    char out[256];
    int status = run_shell("echo out; echo err >&2; echo $ONLY$HOME; readlink /proc/self/fd/0; exit 5", NULL, 0, out,
                           sizeof out);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 5);
    assert_string_equal(out, "out\nerr\nthis\n/dev/null\n");
    status = run_shell("kill -TERM $$", NULL, 0, out, sizeof out);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGTERM);
}

/* Descriptors arrive at 3, 4, ... whatever their numbers are here, and no other does. */
static void test_descriptors(void **state)
{
    (void)state;
    char out[256];
    int fds[3];
    for (int i = 0; i < 3; i++) {
        char text[16];
        fds[i] = memfd_create("given", MFD_CLOEXEC);
        snprintf(text, sizeof text, "number %d\n", i);
        assert_true(write(fds[i], text, strlen(text)) > 0 && lseek(fds[i], 0, SEEK_SET) == 0);
    }
    int shuffled[] = {fds[2], fds[0], fds[1]};
    _autoclose_ int leaky = dup(fds[0]); /* without close-on-exec */
    run_shell("cat <&3; cat <&4; cat <&5; [ -e /proc/self/fd/7 ] && echo leak; set -- /proc/$$/fd/*; echo $#", shuffled,
              3, out, sizeof out);
    /* 0 to 5, and the directory that is being listed */
    assert_string_equal(out, "number 2\nnumber 0\nnumber 1\n7\n");
    for (int i = 0; i < 3; i++)
        close(fds[i]);
}

/* The daemon ignores and blocks signals; its children must not. */
static void test_signals_are_default(void **state)
{
    (void)state;
    char out[256];
    sigset_t block, before;
    sigemptyset(&block);
    sigaddset(&block, SIGUSR1);
    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &block, &before);
    run_shell("grep -E 'Sig(Blk|Ign)' /proc/self/status | cut -f2", NULL, 0, out, sizeof out);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    signal(SIGPIPE, SIG_DFL);
    assert_string_equal(out, "0000000000000000\n0000000000000000\n");
}

static void test_missing_program(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    const char *const argv[] = {"/no/such/program", NULL}, *const env[] = {NULL};
    struct ramet_spawn spawn = {.argv = argv, .env = env, .output_fd = STDERR_FILENO};
    struct ramet_process *process = NULL;
    check_fails(ramet_process_spawn(&spawn, &process, &err), RAMET_NOT_FOUND);
    assert_non_null(strstr(err.msg, "/no/such/program"));
    assert_null(process);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no zombie */
    assert_int_equal(errno, ECHILD);
}

static void *spawn_sleeper(void *ret)
{
    const char *const argv[] = {"/bin/sleep", "1000", NULL}, *const env[] = {NULL};
    struct ramet_spawn spawn = {.argv = argv, .env = env, .output_fd = STDERR_FILENO};
    struct ramet_error err = {0};
    ramet_process_spawn(&spawn, ret, &err);
    return NULL;
}

/* The thread that asked for a child may end; the child lives on until freed. */
static void test_free_kills(void **state)
{
    (void)state;
    struct ramet_process *processes[8] = {NULL};
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, spawn_sleeper, &processes[i]), 0);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    ramet_sleep_us(50000);
    for (int i = 0; i < 8; i++) {
        assert_non_null(processes[i]);
        pid_t pid = ramet_process_pid(processes[i]);
        uint64_t start_us = ramet_now_us();
        assert_false(ramet_process_wait(processes[i], 5, NULL));
        assert_true(ramet_now_us() - start_us >= 5000);
        assert_int_equal(getsid(pid), pid);
        ramet_process_free(processes[i]);
        assert_int_equal(kill(pid, 0), -1);
    }
    ramet_process_free(NULL);
}

static size_t file_size(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (size_t)st.st_size : 0;
}

static void test_console_is_bounded(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    struct ramet_console *console = NULL;
    char dir[64], path[96], old_path[100], line[64];
    int pair[2];
    test_dir_make(dir);
    snprintf(path, sizeof path, "%s/console.log", dir);
    snprintf(old_path, sizeof old_path, "%s.1", path);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    check_ok(ramet_console_open(pair[0], path, &console, &err));
    for (int i = 0; i < 100000; i++) {
        int n = snprintf(line, sizeof line, "line %d of a guest that talks too much\n", i);
        assert_int_equal(send(pair[1], line, (size_t)n, MSG_NOSIGNAL), n);
    }
    close(pair[1]);
    for (int i = 0; i < 200; i++) /* the end of the last line */
        ramet_sleep_us(1000);
    ramet_console_close(console);
    ramet_console_close(NULL);
    assert_in_range(file_size(path), 1, 1 << 20);
    assert_in_range(file_size(old_path), 1, 1 << 20);
    _autoclose_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = pread(fd, line, sizeof line - 1, (off_t)file_size(path) - 20);
    assert_int_equal(n, 20);
    line[n] = '\0';
    assert_non_null(strstr(line, "talks too much\n"));
    test_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_output_and_status),   cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_signals_are_default), cmocka_unit_test(test_missing_program),
        cmocka_unit_test(test_free_kills),          cmocka_unit_test(test_console_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
