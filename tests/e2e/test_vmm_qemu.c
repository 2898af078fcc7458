/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a real Linux guest in a real QEMU starts, does what it is told, and ends. Every failure on the way is reported
 * as what it is and leaves no process behind. Captures and forks: test_vmm_capture.c.
 *
 * Needs RAMET_GUEST_DIR, as built by tools/guest/build; skips without.
 */
#include "vmm_fixture.h"

#include "base/cleanup.h"
#include "vmm/clock.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

static void test_exec(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    struct ramet_vm_exec_result result = {0};
    const char *const cat[] = {"cat", NULL};
    char bytes[70000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 7);
    assert_ok(ramet_vm_exec(booted, cat, NULL, bytes, sizeof bytes, EXEC_MS, &result, &err));
    assert_int_equal(result.exit_code, 0);
    assert_int_equal(result.out_size, sizeof bytes);
    assert_memory_equal(result.out, bytes, sizeof bytes);
    ramet_vm_exec_result_free(&result);

    const char *const argv[] = {"sh", "-c", "echo \"$GREETING $1\"; echo oops >&2; exit 7", "sh", "w\"ö rld", NULL};
    const char *const env[] = {"GREETING=hello", NULL};
    assert_ok(ramet_vm_exec(booted, argv, env, NULL, 0, EXEC_MS, &result, &err));
    assert_int_equal(result.exit_code, 7);
    assert_string_equal(result.out, "hello w\"ö rld\n");
    assert_string_equal(result.err, "oops\n");
    ramet_vm_exec_result_free(&result);

    const char *const killed[] = {"sh", "-c", "kill -TERM $$", NULL};
    assert_ok(ramet_vm_exec(booted, killed, NULL, NULL, 0, EXEC_MS, &result, &err));
    assert_int_equal(result.exit_code, -1);
    assert_int_equal(result.term_signal, SIGTERM);
    ramet_vm_exec_result_free(&result);

    const char *const missing[] = {"/no/such/program", NULL};
    assert_int_equal(ramet_vm_exec(booted, missing, NULL, NULL, 0, EXEC_MS, &result, &err), -RAMET_INVALID);
    assert_non_null(strstr(err.msg, "/no/such/program"));
    const char *const foreign[] = {"echo", "\xff\xfe", NULL};
    assert_int_equal(ramet_vm_exec(booted, foreign, NULL, NULL, 0, EXEC_MS, &result, &err), -RAMET_INVALID);

    uint64_t start_us = ramet_now_us();
    const char *const quick[] = {"true", NULL};
    for (int i = 0; i < 10; i++) {
        assert_ok(ramet_vm_exec(booted, quick, NULL, NULL, 0, EXEC_MS, &result, &err));
        ramet_vm_exec_result_free(&result);
    }
    print_message("exec of true: %.1f ms\n", (double)(ramet_now_us() - start_us) / 10000);
}

static void test_exec_timeout_kills(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    struct ramet_vm_exec_result result = {0};
    const char *const slow[] = {"sleep", "4711", NULL};
    assert_int_equal(ramet_vm_exec(booted, slow, NULL, NULL, 0, 300, &result, &err), -RAMET_TIMEOUT);
    assert_int_equal(guest_number(booted, "pgrep -c -f 'slee[p] 4711' || true"), 0);
}

static void *exec_sleep(void *arg)
{
    struct ramet_error err = {0};
    struct ramet_vm_exec_result result = {0};
    const char *const slow[] = {"sleep", "2", NULL};
    *(int *)arg = ramet_vm_exec(booted, slow, NULL, NULL, 0, EXEC_MS, &result, &err);
    ramet_vm_exec_result_free(&result);
    return NULL;
}

/* A long command does not keep short ones waiting. */
static void test_execs_interleave(void **state)
{
    (void)state;
    pthread_t thread;
    int r = -1;
    char out[16];
    uint64_t start_us = ramet_now_us();
    assert_int_equal(pthread_create(&thread, NULL, exec_sleep, &r), 0);
    guest(booted, out, sizeof out, "echo quick");
    assert_string_equal(out, "quick");
    assert_true(ramet_now_us() - start_us < 1900000);
    pthread_join(thread, NULL);
    assert_int_equal(r, 0);
}

static void test_set_time(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    assert_ok(ramet_vm_set_time(booted, 1900000000LL * 1000000000, EXEC_MS, &err));
    long seconds = guest_number(booted, "date +%s");
    assert_in_range(seconds, 1900000000, 1900000060);
    assert_ok(ramet_vm_set_time(booted, (int64_t)time(NULL) * 1000000000, EXEC_MS, &err));
}

static void test_network_and_console(void **state)
{
    (void)state;
    char out[64], text[64] = "";
    guest(booted, out, sizeof out, "ip -4 addr show eth0 | grep -c 10.0.2.15; echo said-on-console >/dev/console");
    assert_string_equal(out, "1");
    for (int i = 0; i < 100 && !strstr(text, "said"); i++) {
        char command[300];
        snprintf(command, sizeof command, "grep -ao said-on-console %s/console.log | tail -1", boot_dir);
        FILE *f = popen(command, "re");
        assert_non_null(f);
        (void)!fgets(text, sizeof text, f);
        pclose(f);
        ramet_sleep_us(20000);
    }
    assert_non_null(strstr(text, "said-on-console"));
}

struct killing {
    struct ramet_vm *vm;
    int r;
    struct ramet_error err;
};

static void *exec_for_ever(void *arg)
{
    struct killing *k = arg;
    struct ramet_vm_exec_result result = {0};
    const char *const slow[] = {"sleep", "1000", NULL};
    k->r = ramet_vm_exec(k->vm, slow, NULL, NULL, 0, 60000, &result, &k->err);
    return NULL;
}

/* QEMU dying under an exec, a pause and a capture is RAMET_VMM, soon, with the cause in the message. */
static void test_qemu_killed(void **state)
{
    (void)state;
    struct snapshot snapshot;
    char dir[128];
    take(booted, boot_dir, "doomed-base", &snapshot);
    struct killing k = {.vm = restore(&snapshot, "doomed", dir, sizeof dir)};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, exec_for_ever, &k), 0);
    ramet_sleep_us(300000);
    struct ramet_error err = {0};
    struct ramet_vm_capture *capture;
    assert_ok(ramet_vm_capture_prepare(k.vm, true, &capture, &err));
    assert_ok(ramet_vm_pause(k.vm, &err));
    kill(ramet_vm_pid(k.vm), SIGKILL);
    assert_int_equal(ramet_vm_capture_begin(k.vm, capture, &err), -RAMET_VMM);
    assert_non_null(strstr(err.msg, "killed by signal 9"));
    pthread_join(thread, NULL);
    assert_int_equal(k.r, -RAMET_VMM);
    assert_int_equal(ramet_vm_pause(k.vm, &err), -RAMET_VMM);
    assert_int_equal(ramet_vm_ping(k.vm, 1000, &err), -RAMET_VMM);
    assert_false(ramet_vm_alive(k.vm));
    uint64_t pss, private;
    assert_int_equal(ramet_vm_memory_cost(k.vm, &pss, &private, &err), -RAMET_VMM);
    ramet_vm_capture_free(capture);
    assert_int_equal(ramet_vm_capture_prepare(k.vm, true, &capture, &err), -RAMET_VMM);
    ramet_vm_free(k.vm);

    /* Between begin and collect the holder dies with QEMU. */
    struct ramet_vm *vm = restore(&snapshot, "doomed-held", dir, sizeof dir);
    setenv("RAMET_CAPTURE", "hold", 1);
    assert_ok(ramet_vm_capture_prepare(vm, true, &capture, &err));
    assert_ok(ramet_vm_pause(vm, &err));
    assert_ok(ramet_vm_capture_begin(vm, capture, &err));
    unsetenv("RAMET_CAPTURE");
    assert_non_null(capture->hold);
    kill(ramet_vm_pid(vm), SIGKILL);
    for (int i = 0; i < 200 && ramet_vm_alive(vm); i++)
        ramet_sleep_us(5000);
    assert_int_equal(ramet_vm_capture_collect(vm, capture, &err), -RAMET_VMM);
    ramet_vm_free(vm);
    ramet_vm_capture_free(capture);
    close(snapshot.state_fd);
}

/* A guest that powers off or reboots ends its VM, and the message says which. */
static void test_guest_reset(void **state)
{
    (void)state;
    struct snapshot snapshot;
    char dir[128];
    struct ramet_error err = {0};
    take(booted, boot_dir, "reset-base", &snapshot);
    struct ramet_vm *vm = restore(&snapshot, "reset", dir, sizeof dir);
    const char *const reboot[] = {"/bin/busybox", "reboot", "-f", NULL};
    struct ramet_vm_exec_result result = {0};
    assert_int_equal(ramet_vm_exec(vm, reboot, NULL, NULL, 0, EXEC_MS, &result, &err), -RAMET_VMM);
    assert_non_null(strstr(err.msg, "rebooted"));
    ramet_vm_free(vm);
    close(snapshot.state_fd);
}

static void test_start_failures(void **state)
{
    (void)state;
    char dir[128];
    struct ramet_error err = {0};
    struct ramet_vm *vm = NULL;
    make_dir(dir, sizeof dir, "failures");
    assert_int_equal(start_vm(dir, -1, false, &vm, &err), -RAMET_NOT_FOUND); /* no memory file */
    shell("truncate -s 100M %s/memory", dir);
    assert_int_equal(start_vm(dir, -1, false, &vm, &err), -RAMET_INVALID); /* its size differs */
    assert_non_null(strstr(err.msg, "104857600"));
    shell("truncate -s %llu %s/memory", MEMORY_BYTES, dir);
    assert_int_equal(start_vm(dir, -1, false, &vm, &err), -RAMET_VMM); /* no disk: QEMU says so */
    assert_non_null(strstr(err.msg, "No such file or directory"));
    shell("truncate -s 1M %s/disk", dir);
    _autoclose_ int garbage = memfd_create("garbage", MFD_CLOEXEC);
    assert_int_equal(write(garbage, "not a device state", 18), 18);
    assert_int_equal(start_vm(dir, garbage, false, &vm, &err), -RAMET_VMM);
    assert_non_null(strstr(err.msg, "Not a migration stream"));
    setenv("RAMET_QEMU", "/no/such/qemu", 1);
    assert_int_equal(start_vm(dir, -1, false, &vm, &err), -RAMET_UNAVAILABLE);
    assert_non_null(strstr(err.hint, "apt install"));
    unsetenv("RAMET_QEMU");
    /* A guest that never answers: nothing is on this disk. */
    assert_ok(start_vm(dir, -1, false, &vm, &err));
    assert_int_equal(ramet_vm_ping(vm, 500, &err), -RAMET_TIMEOUT);
    ramet_vm_free(vm);
    assert_null(NULL);
}

static void test_nothing_is_left(void **state)
{
    (void)state;
    assert_int_equal(child_count(), 1); /* the shared guest */
}

/* QEMU dies with us, however we die: this program runs itself as the victim. */
static void test_qemu_dies_with_us(void **state)
{
    (void)state;
    char dir[128], command[300];
    make_dir(dir, sizeof dir, "orphan");
    shell("truncate -s %llu %s/memory; truncate -s 1M %s/disk", MEMORY_BYTES, dir, dir);
    snprintf(command, sizeof command, "/proc/%d/exe --orphan %s", (int)getpid(), dir);
    FILE *f = popen(command, "re");
    assert_non_null(f);
    int pid = 0;
    assert_int_equal(fscanf(f, "%d", &pid), 1);
    pclose(f);
    assert_true(pid > 0);
    for (int i = 0; i < 200 && kill(pid, 0) == 0; i++)
        ramet_sleep_us(10000);
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(errno, ESRCH);
}

/* The victim: starts a VM from a thread that ends at once, says its pid, and is killed. */
static void *start_orphan(void *arg)
{
    struct ramet_error err = {0};
    struct ramet_vm *vm = NULL;
    if (start_vm(arg, -1, false, &vm, &err) < 0)
        fprintf(stderr, "%s\n", err.msg);
    return vm;
}

static int orphan_main(char *dir)
{
    pthread_t thread;
    void *vm = NULL;
    if (pthread_create(&thread, NULL, start_orphan, dir) != 0)
        return 1;
    pthread_join(thread, &vm);
    ramet_sleep_us(200000);
    printf("%d\n", vm && ramet_vm_alive(vm) ? (int)ramet_vm_pid(vm) : -1);
    fflush(stdout);
    raise(SIGKILL);
    return 1;
}

int main(int argc, char **argv)
{
    if (!find_guest())
        return 77;
    if (argc == 3 && strcmp(argv[1], "--orphan") == 0)
        return orphan_main(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exec),
        cmocka_unit_test(test_exec_timeout_kills),
        cmocka_unit_test(test_execs_interleave),
        cmocka_unit_test(test_set_time),
        cmocka_unit_test(test_network_and_console),
        cmocka_unit_test(test_qemu_killed),
        cmocka_unit_test(test_guest_reset),
        cmocka_unit_test(test_start_failures),
        cmocka_unit_test(test_qemu_dies_with_us),
        cmocka_unit_test(test_nothing_is_left),
    };
    return run_vmm_tests("vmm_qemu", tests, sizeof tests / sizeof *tests);
}
