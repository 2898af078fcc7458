/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm_fixture.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "vmm/clock.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { BOOT_MS = 60000 };

char work_dir[64];
struct ramet_vm *booted;
char boot_dir[128];
static char guest_dir[256]; /* RAMET_GUEST_DIR */

void shell(const char *fmt, ...)
{
    char command[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(command, sizeof command, fmt, ap);
    va_end(ap);
    if (system(command) != 0)
        fail_msg("failed: %s", command);
}

void make_dir(char *ret, size_t size, const char *name)
{
    snprintf(ret, size, "%s/%s", work_dir, name);
    assert_int_equal(mkdir(ret, 0700), 0);
}

/* Starts a VM whose files lie in `dir`: "memory", "disk". state_fd -1 boots. */
int start_vm(const char *dir, int state_fd, bool paused, struct ramet_vm **ret, struct ramet_error *err)
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
void guest(struct ramet_vm *vm, char *out, size_t out_size, const char *command)
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

long guest_number(struct ramet_vm *vm, const char *command)
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

void generation_id(struct ramet_vm *vm, char *ret, size_t size)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *value = NULL;
    struct ramet_error err = {0};
    assert_ok(ramet_qmp_command(vm->qmp, "query-vm-generation-id", NULL, 5000, &value, &err));
    snprintf(ret, size, "%s", ramet_json_str(value, "guid", ""));
    assert_int_equal(strlen(ret), 36);
}

/* Puts the captured pages over a copy of `base`. */
void write_memory(const char *base, const struct ramet_vm_capture *capture, const char *path)
{
    shell("cp --sparse=always %s %s", base, path);
    _autoclose_ int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    uint8_t *memory = mmap(NULL, MEMORY_BYTES, PROT_READ, MAP_SHARED, capture->memory_fd, 0);
    assert_true(memory != MAP_FAILED);
    size_t count = 0;
    for (uint64_t page = 0; page < MEMORY_BYTES / PAGE; page++)
        if (capture->bitmap[page / 64] >> page % 64 & 1) {
            assert_int_equal(pwrite(fd, memory + page * PAGE, PAGE, (off_t)(page * PAGE)), PAGE);
            count++;
        }
    assert_int_equal(count, capture->page_count);
    munmap(memory, MEMORY_BYTES);
}

void print_timing(const char *what, const struct ramet_vm_capture *capture)
{
    const struct ramet_vm_timing *t = &capture->timing;
    print_message(
        "%s: %.1f MiB, state %llu bytes; us: prepare %llu, stop %llu state %llu scan %llu copy %llu hold %llu "
        "resume %llu PAUSE %llu, collect %llu\n",
        what, (double)capture->page_count / 256, (unsigned long long)capture->state_bytes,
        (unsigned long long)t->prepare_us, (unsigned long long)t->stop_us, (unsigned long long)t->state_us,
        (unsigned long long)t->scan_us, (unsigned long long)t->copy_us, (unsigned long long)t->hold_us,
        (unsigned long long)t->resume_us, (unsigned long long)t->pause_us, (unsigned long long)t->collect_us);
}

/* Takes a snapshot of a running VM, whose files are in `from`, into a new directory. */
void take(struct ramet_vm *vm, const char *from, const char *name, struct snapshot *ret)
{
    struct ramet_error err = {0};
    struct ramet_vm_capture *capture;
    make_dir(ret->dir, sizeof ret->dir, name);
    ret->count = guest_number(vm, "cat /tmp/count");
    assert_ok(ramet_vm_capture_prepare(vm, true, &capture, &err));
    assert_ok(ramet_vm_pause(vm, &err));
    assert_ok(ramet_vm_capture_begin(vm, capture, &err));
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

struct ramet_vm *restore(const struct snapshot *snapshot, const char *name, char *dir, size_t dir_size)
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

void assert_advances(struct ramet_vm *vm, long from)
{
    long count = guest_number(vm, "cat /tmp/count");
    assert_true(count >= from);
    for (int i = 0; i < 100 && guest_number(vm, "cat /tmp/count") <= count; i++)
        ramet_sleep_us(50000);
    assert_true(guest_number(vm, "cat /tmp/count") > count);
}

/* Children of this process, except the one that lists them. */
int child_count(void)
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

int run_vmm_tests(const char *name, const struct CMUnitTest *tests, size_t count)
{
    if (getenv("RAMET_TEST_DEBUG"))
        ramet_log_set_level(RAMET_LOG_DEBUG);
    return _cmocka_run_group_tests(name, tests, count, boot_guest, free_guest);
}

bool find_guest(void)
{
    const char *dir = getenv("RAMET_GUEST_DIR");
    if (dir)
        snprintf(guest_dir, sizeof guest_dir, "%s", dir);
    else
        fprintf(stderr, "skipped: RAMET_GUEST_DIR is not set; make a guest with tools/guest/build DIR\n");
    return dir;
}
