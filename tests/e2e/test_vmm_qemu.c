/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a real Linux guest in a real QEMU can be forked while it runs. Children go on exactly where the parent was,
 * differ from then on, can be forked again, and know that they are clones; the parent never notices. Every failure on
 * the way is reported as what it is and leaves no process behind.
 *
 * Needs RAMET_GUEST_DIR, as built by tools/guest/build; skips without.
 */
#include "base/cleanup.h"
#include "base/log.h"
#include "vmm/clock.h"
#include "vmm/vm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#define MEMORY_BYTES (256ULL << 20)
enum { PAGE = 4096, BOOT_MS = 60000, EXEC_MS = 20000 };

static char work_dir[64];       /* everything the test writes */
static char guest_dir[256];     /* RAMET_GUEST_DIR */
static struct ramet_vm *booted; /* one guest for all tests that do not harm it */
static char boot_dir[128];

static void shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *fmt, ...)
{
    char command[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(command, sizeof command, fmt, ap);
    va_end(ap);
    if (system(command) != 0)
        fail_msg("failed: %s", command);
}

#define assert_ok(call)                                                                                                \
    do {                                                                                                               \
        int r_ = (call);                                                                                               \
        if (r_ < 0)                                                                                                    \
            fail_msg("%s: %s: %s (%s)", #call, ramet_code_name(r_), err.msg, err.hint);                                \
    } while (0)

static void make_dir(char *ret, size_t size, const char *name)
{
    snprintf(ret, size, "%s/%s", work_dir, name);
    assert_int_equal(mkdir(ret, 0700), 0);
}

/* Starts a VM whose files lie in `dir`: "memory", "disk". state_fd -1 boots. */
static int start_vm(const char *dir, int state_fd, bool paused, struct ramet_vm **ret, struct ramet_error *err)
{
    char memory[160], disk[160], kernel[300], initrd[300], cmdline_path[300], cmdline[1024] = "";
    snprintf(memory, sizeof memory, "%s/memory", dir);
    snprintf(disk, sizeof disk, "%s/disk", dir);
    snprintf(kernel, sizeof kernel, "%s/vmlinuz", guest_dir);
    snprintf(initrd, sizeof initrd, "%s/initrd.img", guest_dir);
    snprintf(cmdline_path, sizeof cmdline_path, "%s/cmdline", guest_dir);
    FILE *f = fopen(cmdline_path, "re");
    assert_non_null(f);
    assert_non_null(fgets(cmdline, sizeof cmdline, f));
    fclose(f);
    cmdline[strcspn(cmdline, "\n")] = '\0';
    struct ramet_vm_disk disks[] = {{.path = disk}};
    struct ramet_vm_config config = {.name = strrchr(dir, '/') + 1,
                                     .run_dir = dir,
                                     .memory_path = memory,
                                     .memory_bytes = MEMORY_BYTES,
                                     .cpus = 1,
                                     .disks = disks,
                                     .disk_count = 1,
                                     .kernel = kernel,
                                     .initrd = initrd,
                                     .cmdline = cmdline,
                                     .state_fd = state_fd,
                                     .start_paused = paused};
    return ramet_vm_start(&config, ret, err);
}

/* Runs a shell command in the guest, which must succeed, and returns its output without the last newline. */
static void guest(struct ramet_vm *vm, char *out, size_t out_size, const char *command)
{
    const char *const argv[] = {"/bin/sh", "-c", command, NULL};
    struct ramet_vm_exec_result result = {0};
    struct ramet_error err = {0};
    assert_ok(ramet_vm_exec(vm, argv, NULL, NULL, 0, EXEC_MS, &result, &err));
    if (result.exit_code != 0)
        fail_msg("in the guest: %s: exit %d: %s", command, result.exit_code, result.err);
    snprintf(out, out_size, "%s", result.out);
    size_t size = strlen(out);
    if (size > 0 && out[size - 1] == '\n')
        out[size - 1] = '\0';
    ramet_vm_exec_result_free(&result);
}

static long guest_number(struct ramet_vm *vm, const char *command)
{
    char out[64];
    guest(vm, out, sizeof out, command);
    return atol(out);
}

/* A process in the guest that counts in its own memory and says on request how far it is. */
static const char counter[] = "cat >/tmp/counter.py <<'E'\n"
                              "import time, os\n"
                              "n = 0\n"
                              "while True:\n"
                              "    n += 1\n"
                              "    with open('/tmp/count.new', 'w') as f: f.write(str(n))\n"
                              "    os.rename('/tmp/count.new', '/tmp/count')\n"
                              "    time.sleep(0.02)\n"
                              "E\n"
                              "python3 /tmp/counter.py </dev/null >/dev/null 2>&1 &\n"
                              "until [ -e /tmp/count ]; do sleep 0.05; done";

static void generation_id(struct ramet_vm *vm, char *ret, size_t size)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *value = NULL;
    struct ramet_error err = {0};
    assert_ok(ramet_qmp_command(vm->qmp, "query-vm-generation-id", NULL, 5000, &value, &err));
    snprintf(ret, size, "%s", ramet_json_str(value, "guid", ""));
    assert_int_equal(strlen(ret), 36);
}

/* The snapshot of one instant: base memory and captured pages, disk, device state. */
struct snapshot {
    char dir[128];
    int state_fd;
    long count; /* the counter's value some time before */
};

static void write_memory(const char *base, const struct ramet_vm_capture *capture, const char *path)
{
    shell("cp --sparse=always %s %s", base, path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    if (capture->page_count) {
        uint8_t *packed = mmap(NULL, capture->page_count * PAGE, PROT_READ, MAP_SHARED, capture->memory_fd, 0);
        assert_true(packed != MAP_FAILED);
        for (size_t i = 0; i < capture->page_count; i++) {
            assert_true(i == 0 || capture->pages[i] > capture->pages[i - 1]);
            assert_int_equal(pwrite(fd, packed + i * PAGE, PAGE, (off_t)(capture->pages[i] * PAGE)), PAGE);
        }
        munmap(packed, capture->page_count * PAGE);
    }
    close(fd);
}

static void print_timing(const char *what, const struct ramet_vm_capture *capture)
{
    const struct ramet_vm_timing *t = &capture->timing;
    print_message(
        "%s: %.1f MiB private, state %llu bytes; us: stop %llu state %llu hold %llu scan %llu copy %llu resume "
        "%llu PAUSE %llu\n",
        what, (double)capture->page_count / 256, (unsigned long long)capture->state_bytes,
        (unsigned long long)t->stop_us, (unsigned long long)t->state_us, (unsigned long long)t->hold_us,
        (unsigned long long)t->scan_us, (unsigned long long)t->copy_us, (unsigned long long)t->resume_us,
        (unsigned long long)t->pause_us);
}

/* Takes a snapshot of a running VM, whose files are in `from`, into a new directory. */
static void take(struct ramet_vm *vm, const char *from, const char *name, struct snapshot *ret)
{
    struct ramet_error err = {0};
    struct ramet_vm_capture *capture;
    make_dir(ret->dir, sizeof ret->dir, name);
    ret->count = guest_number(vm, "cat /tmp/count");
    assert_ok(ramet_vm_pause(vm, &err));
    assert_ok(ramet_vm_capture_begin(vm, &capture, &err));
    shell("cp --sparse=always %s/disk %s/disk", from, ret->dir);
    assert_ok(ramet_vm_resume(vm, &err));
    assert_ok(ramet_vm_capture_collect(vm, capture, &err));
    print_timing(name, capture);
    char base[160], memory[160];
    snprintf(base, sizeof base, "%s/memory", from);
    snprintf(memory, sizeof memory, "%s/memory", ret->dir);
    write_memory(base, capture, memory);
    ret->state_fd = STEAL_FD(capture->state_fd);
    ramet_vm_capture_free(capture);
}

static struct ramet_vm *restore(const struct snapshot *snapshot, const char *name, char *dir, size_t dir_size)
{
    struct ramet_error err = {0};
    struct ramet_vm *vm;
    make_dir(dir, dir_size, name);
    shell("ln -s %s/memory %s/memory && cp --sparse=always %s/disk %s/disk", snapshot->dir, dir, snapshot->dir, dir);
    assert_ok(start_vm(dir, snapshot->state_fd, false, &vm, &err));
    assert_ok(ramet_vm_ping(vm, EXEC_MS, &err));
    const struct ramet_vm_timing *t = ramet_vm_start_timing(vm);
    uint64_t pss, private;
    assert_ok(ramet_vm_memory_cost(vm, &pss, &private, &err));
    assert_true(pss > 0 && private > 0);
    print_message("%s: spawn %llu us, load %llu us, %.1f MiB private\n", name, (unsigned long long)t->spawn_us,
                  (unsigned long long)t->load_us, (double)private / (1 << 20));
    return vm;
}

static void assert_advances(struct ramet_vm *vm, long from)
{
    long count = guest_number(vm, "cat /tmp/count");
    assert_true(count >= from);
    for (int i = 0; i < 100 && guest_number(vm, "cat /tmp/count") <= count; i++)
        ramet_sleep_us(50000);
    assert_true(guest_number(vm, "cat /tmp/count") > count);
}

/* A clone is alive, is a clone and not its parent, and the guest's kernel was told so. */
static void assert_clone(struct ramet_vm *child, const struct snapshot *snapshot, const char *parent_id)
{
    char id[64], out[64];
    assert_advances(child, snapshot->count);
    generation_id(child, id, sizeof id);
    assert_string_not_equal(id, parent_id);
    guest(child, out, sizeof out, "dmesg | grep -c 'crng reseeded due to virtual machine fork'");
    assert_true(atol(out) >= 1);
}

static void write_mark(struct ramet_vm *vm, const char *mark)
{
    char command[128], out[64];
    snprintf(command, sizeof command, "echo %s >/tmp/mark; echo %s >/root/mark; sync", mark, mark);
    guest(vm, out, sizeof out, command);
}

static void assert_mark(struct ramet_vm *vm, const char *mark)
{
    char out[64], both[64];
    guest(vm, out, sizeof out, "echo 3 >/proc/sys/vm/drop_caches; cat /tmp/mark /root/mark | tr '\\n' ' '");
    snprintf(both, sizeof both, "%s %s ", mark, mark);
    assert_string_equal(out, both);
}

/* The whole story: two children, one grandchild, everybody alive and different. */
static void fork_family(const char *prefix)
{
    struct snapshot first, second;
    char name[4][32], dir[3][128], id[64];
    for (int i = 0; i < 4; i++)
        snprintf(name[i], sizeof name[i], "%s-%d", prefix, i);
    write_mark(booted, "parent");
    generation_id(booted, id, sizeof id);
    char snap[48];
    snprintf(snap, sizeof snap, "%s-first", prefix);
    take(booted, boot_dir, snap, &first);
    struct ramet_vm *a = restore(&first, name[0], dir[0], sizeof dir[0]);
    struct ramet_vm *b = restore(&first, name[1], dir[1], sizeof dir[1]);
    assert_clone(a, &first, id);
    assert_clone(b, &first, id);
    write_mark(a, "a");
    write_mark(b, "b");
    assert_mark(a, "a");
    assert_mark(b, "b");
    assert_mark(booted, "parent");
    assert_advances(booted, first.count);

    generation_id(a, id, sizeof id);
    snprintf(snap, sizeof snap, "%s-second", prefix);
    take(a, dir[0], snap, &second);
    struct ramet_vm *grandchild = restore(&second, name[2], dir[2], sizeof dir[2]);
    assert_clone(grandchild, &second, id);
    assert_mark(grandchild, "a");
    write_mark(grandchild, "aa");
    assert_mark(a, "a");
    assert_mark(grandchild, "aa");
    assert_advances(a, second.count);

    ramet_vm_free(grandchild);
    ramet_vm_free(b);
    ramet_vm_free(a);
    close(first.state_fd);
    close(second.state_fd);
}

static void test_fork_with_copy(void **state)
{
    (void)state;
    setenv("RAMET_CAPTURE", "copy", 1);
    fork_family("copy");
    unsetenv("RAMET_CAPTURE");
}

static void test_fork_with_holder(void **state)
{
    (void)state;
    assert_true(booted->hold_fd >= 0);
    fork_family("held");
}

/* Captured pages over the base file are, byte for byte, the memory of the paused VM; whichever method took them. */
static void compare_capture(bool copy)
{
    struct ramet_error err = {0};
    struct ramet_vm_capture *capture;
    char base[160], path[160];
    if (copy)
        setenv("RAMET_CAPTURE", "copy", 1);
    assert_ok(ramet_vm_pause(booted, &err));
    assert_ok(ramet_vm_capture_begin(booted, &capture, &err));
    assert_true((capture->hold == NULL) == copy);
    assert_ok(ramet_vm_capture_collect(booted, capture, &err));
    unsetenv("RAMET_CAPTURE");
    snprintf(base, sizeof base, "%s/memory", boot_dir);
    snprintf(path, sizeof path, "%s/compare", work_dir);
    write_memory(base, capture, path);
    _autoclose_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    enum { CHUNK = 1 << 20 };
    _autofree_ uint8_t *ours = malloc(CHUNK), *theirs = malloc(CHUNK);
    for (uint64_t at = 0; at < MEMORY_BYTES; at += CHUNK) {
        assert_int_equal(pread(fd, ours, CHUNK, (off_t)at), CHUNK);
        assert_ok(ramet_vm_read_memory(booted, at, theirs, CHUNK, &err));
        assert_memory_equal(ours, theirs, CHUNK);
    }
    assert_int_equal(ramet_vm_read_memory(booted, MEMORY_BYTES, theirs, 1, &err), -RAMET_INVALID);
    assert_ok(ramet_vm_resume(booted, &err));
    ramet_vm_capture_free(capture);
    unlink(path);
}

static void test_capture_is_memory(void **state)
{
    (void)state;
    compare_capture(true);
    compare_capture(false);
}

static void test_capture_needs_pause(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    struct ramet_vm_capture *capture;
    assert_int_equal(ramet_vm_capture_begin(booted, &capture, &err), -RAMET_CONFLICT);
}

/* The pause must not grow with what is dirty when a holder takes the memory; prints what it measures. */
static void test_pause_with_much_dirty(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    char out[16];
    guest(booted, out, sizeof out, "head -c 100000000 /dev/urandom >/dev/shm/dirt");
    for (int i = 0; i < 6; i++) {
        struct ramet_vm_capture *capture;
        if (i % 2)
            setenv("RAMET_CAPTURE", "copy", 1);
        assert_ok(ramet_vm_pause(booted, &err));
        assert_ok(ramet_vm_capture_begin(booted, &capture, &err));
        assert_ok(ramet_vm_resume(booted, &err));
        assert_ok(ramet_vm_capture_collect(booted, capture, &err));
        unsetenv("RAMET_CAPTURE");
        assert_true(capture->page_count > 95 * 256);
        print_timing(i % 2 ? "copied" : "held", capture);
        ramet_vm_capture_free(capture);
    }
    guest(booted, out, sizeof out, "rm /dev/shm/dirt");
}

/* An abandoned capture leaves no holder. */
static void test_capture_abandoned(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    for (int i = 0; i < 20; i++) {
        struct ramet_vm_capture *capture;
        assert_ok(ramet_vm_pause(booted, &err));
        assert_ok(ramet_vm_capture_begin(booted, &capture, &err));
        assert_non_null(capture->hold);
        assert_ok(ramet_vm_resume(booted, &err));
        ramet_vm_capture_free(capture);
    }
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)ramet_vm_pid(booted), (int)ramet_vm_pid(booted));
    _autoclose_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd < 0 || read(fd, text, sizeof text - 1) <= 0);
}

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
    assert_ok(ramet_vm_pause(k.vm, &err));
    kill(ramet_vm_pid(k.vm), SIGKILL);
    struct ramet_vm_capture *capture;
    assert_int_equal(ramet_vm_capture_begin(k.vm, &capture, &err), -RAMET_VMM);
    assert_non_null(strstr(err.msg, "killed by signal 9"));
    pthread_join(thread, NULL);
    assert_int_equal(k.r, -RAMET_VMM);
    assert_int_equal(ramet_vm_pause(k.vm, &err), -RAMET_VMM);
    assert_int_equal(ramet_vm_ping(k.vm, 1000, &err), -RAMET_VMM);
    assert_false(ramet_vm_alive(k.vm));
    uint64_t pss, private;
    assert_int_equal(ramet_vm_memory_cost(k.vm, &pss, &private, &err), -RAMET_VMM);
    ramet_vm_free(k.vm);

    /* Between begin and collect the holder dies with QEMU. */
    struct ramet_vm *vm = restore(&snapshot, "doomed-held", dir, sizeof dir);
    assert_ok(ramet_vm_pause(vm, &err));
    assert_ok(ramet_vm_capture_begin(vm, &capture, &err));
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

static void test_start_paused(void **state)
{
    (void)state;
    struct snapshot snapshot;
    char dir[128];
    struct ramet_error err = {0};
    struct ramet_vm *vm;
    struct ramet_vm_capture *capture;
    take(booted, boot_dir, "paused-base", &snapshot);
    make_dir(dir, sizeof dir, "paused");
    shell("cp --sparse=always %s/memory %s/disk %s/", snapshot.dir, snapshot.dir, dir);
    assert_ok(start_vm(dir, snapshot.state_fd, true, &vm, &err));
    assert_int_equal(ramet_vm_ping(vm, 300, &err), -RAMET_TIMEOUT);
    /* Never ran, yet can be forked: only what loading the state wrote is private. */
    assert_ok(ramet_vm_capture_begin(vm, &capture, &err));
    assert_ok(ramet_vm_resume(vm, &err));
    assert_ok(ramet_vm_capture_collect(vm, capture, &err));
    print_timing("never ran", capture);
    assert_true(capture->page_count < 64);
    ramet_vm_capture_free(capture);
    assert_ok(ramet_vm_ping(vm, EXEC_MS, &err));
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

/* Without the library, or with one that does not load, captures still work. */
static void test_without_holder(void **state)
{
    (void)state;
    struct snapshot snapshot, again;
    char dir[128], path[160];
    snprintf(path, sizeof path, "%s/not-a-library.so", work_dir);
    shell("echo garbage >%s", path);
    take(booted, boot_dir, "plain-base", &snapshot);
    setenv("RAMET_HOLDER", path, 1);
    struct ramet_vm *vm = restore(&snapshot, "plain", dir, sizeof dir);
    unsetenv("RAMET_HOLDER");
    assert_int_equal(vm->hold_fd, -1);
    take(vm, dir, "plain-again", &again);
    ramet_vm_free(vm);
    close(snapshot.state_fd);
    close(again.state_fd);
}

/* Children of this process, except the one that lists them. */
static int child_count(void)
{
    int count = 0;
    DIR *proc = opendir("/proc");
    assert_non_null(proc);
    for (struct dirent *entry; (entry = readdir(proc));) {
        char path[300], text[512];
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        _autoclose_ int fd = entry->d_name[0] > '9' ? -1 : open(path, O_RDONLY | O_CLOEXEC);
        ssize_t size = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
        text[size > 0 ? size : 0] = '\0';
        const char *name_end = strrchr(text, ')');
        int parent = 0;
        if (name_end && sscanf(name_end + 1, " %*c %d", &parent) == 1 && parent == getpid())
            count++;
    }
    closedir(proc);
    return count;
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

static int boot_guest(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    struct ramet_vmm_probe probe = {0};
    char out[16];
    snprintf(work_dir, sizeof work_dir, "/tmp/ramet-vmm-XXXXXX");
    if (!mkdtemp(work_dir))
        return -1;
    uint64_t start_us = ramet_now_us();
    assert_ok(ramet_vmm_probe(&probe, &err));
    print_message("QEMU %s, %s, probed in %llu ms\n", probe.version, probe.accelerator,
                  (unsigned long long)(ramet_now_us() - start_us) / 1000);
    make_dir(boot_dir, sizeof boot_dir, "boot");
    shell("cp --sparse=always %s/disk.raw %s/disk && truncate -s %llu %s/memory", guest_dir, boot_dir, MEMORY_BYTES,
          boot_dir);
    start_us = ramet_now_us();
    assert_ok(start_vm(boot_dir, -1, false, &booted, &err));
    assert_ok(ramet_vm_ping(booted, BOOT_MS, &err));
    print_message("agent answered %llu ms after start\n", (unsigned long long)(ramet_now_us() - start_us) / 1000);
    guest(booted, out, sizeof out, counter);
    return 0;
}

static int free_guest(void **state)
{
    (void)state;
    ramet_vm_free(booted);
    int left = child_count();
    if (left != 0)
        print_error("%d children left\n", left);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", work_dir);
    return system(command) == 0 && left == 0 ? 0 : -1;
}

int main(int argc, char **argv)
{
    const char *dir = getenv("RAMET_GUEST_DIR");
    if (!dir) {
        fprintf(stderr, "skipped: RAMET_GUEST_DIR is not set; make a guest with tools/guest/build DIR\n");
        return 77;
    }
    snprintf(guest_dir, sizeof guest_dir, "%s", dir);
    if (argc == 3 && strcmp(argv[1], "--orphan") == 0)
        return orphan_main(argv[2]);
    if (getenv("RAMET_TEST_DEBUG"))
        ramet_log_set_level(RAMET_LOG_DEBUG);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exec),
        cmocka_unit_test(test_exec_timeout_kills),
        cmocka_unit_test(test_execs_interleave),
        cmocka_unit_test(test_capture_needs_pause),
        cmocka_unit_test(test_capture_is_memory),
        cmocka_unit_test(test_fork_with_copy),
        cmocka_unit_test(test_fork_with_holder),
        cmocka_unit_test(test_capture_abandoned),
        cmocka_unit_test(test_pause_with_much_dirty),
        cmocka_unit_test(test_start_paused),
        cmocka_unit_test(test_without_holder),
        cmocka_unit_test(test_set_time),
        cmocka_unit_test(test_network_and_console),
        cmocka_unit_test(test_qemu_killed),
        cmocka_unit_test(test_guest_reset),
        cmocka_unit_test(test_start_failures),
        cmocka_unit_test(test_qemu_dies_with_us),
        cmocka_unit_test(test_nothing_is_left),
    };
    return cmocka_run_group_tests(tests, boot_guest, free_guest);
}
