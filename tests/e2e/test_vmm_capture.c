/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a real Linux guest in a real QEMU can be forked while it runs. Children go on exactly where the parent was,
 * differ from then on, can be forked again, and know that they are clones; the parent never notices. A capture is the
 * memory of the paused VM byte for byte, whichever way it was taken and whatever the guest did meanwhile, and one after
 * another holds only what changed between them.
 *
 * Needs RAMET_GUEST_DIR, as built by tools/guest/build; skips without.
 */
#include "vmm_fixture.h"

#include "base/cleanup.h"
#include "vmm/clock.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

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

/* Each way of securing memory: a copy inside the pause, a memory holder, tracked writes. */
static void test_fork_family(void **state)
{
    (void)state;
    assert_true(booted->hold_fd >= 0);
    setenv("RAMET_CAPTURE", "copy", 1);
    fork_family("copy");
    setenv("RAMET_CAPTURE", "hold", 1);
    fork_family("held");
    unsetenv("RAMET_CAPTURE");
    fork_family("tracked");
}

/* Compares the file with the memory of the paused VM. */
static void assert_memory(struct ramet_vm *vm, const char *path)
{
    enum { CHUNK = 1 << 20 };
    struct ramet_error err = {0};
    _autoclose_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    _autofree_ uint8_t *ours = malloc(CHUNK), *theirs = malloc(CHUNK);
    for (uint64_t at = 0; at < MEMORY_BYTES; at += CHUNK) {
        assert_int_equal(pread(fd, ours, CHUNK, (off_t)at), CHUNK);
        assert_ok(ramet_vm_read_memory(vm, at, theirs, CHUNK, &err));
        assert_memory_equal(ours, theirs, CHUNK);
    }
    assert_int_equal(ramet_vm_read_memory(vm, MEMORY_BYTES, theirs, 1, &err), -RAMET_INVALID);
}

/*
 * Takes a capture of `booted`, during which the guest runs `meanwhile` between copying ahead and the pause; puts it
 * over the memory in `base` and compares. Its pages are counted, and whether a holder took part.
 */
static void capture_memory(bool whole, const char *meanwhile, const char *base, const char *path, size_t *ret_pages,
                           bool *ret_held)
{
    struct ramet_error err = {0};
    struct ramet_vm_capture *capture;
    char out[16];
    assert_ok(ramet_vm_capture_prepare(booted, whole, &capture, &err));
    if (meanwhile)
        guest(booted, out, sizeof out, meanwhile);
    assert_ok(ramet_vm_pause(booted, &err));
    assert_ok(ramet_vm_capture_begin(booted, capture, &err));
    *ret_held = capture->hold;
    assert_ok(ramet_vm_capture_collect(booted, capture, &err));
    write_memory(base, capture, path);
    assert_memory(booted, path);
    assert_ok(ramet_vm_resume(booted, &err));
    print_timing(path, capture);
    *ret_pages = capture->page_count;
    ramet_vm_capture_free(capture);
}

static void test_capture_is_memory(void **state)
{
    (void)state;
    static const char *const methods[] = {"copy", "hold"};
    char base[160], path[160];
    size_t pages;
    bool held;
    snprintf(base, sizeof base, "%s/memory", boot_dir);
    snprintf(path, sizeof path, "%s/compare", work_dir);
    for (int i = 0; i < 2; i++) {
        setenv("RAMET_CAPTURE", methods[i], 1);
        capture_memory(true, NULL, base, path, &pages, &held);
        assert_int_equal(held, i);
    }
    unsetenv("RAMET_CAPTURE");
    unlink(path);
}

#define DIRTY(mib) "head -c " #mib "000000 /dev/urandom >/dev/shm/dirt"

/* Captures one after another: each holds what changed since the one before, and all of them together the memory. */
static void test_captures_grow_from_each_other(void **state)
{
    (void)state;
    char out[16], base[160], path[6][160];
    size_t pages, all;
    bool held;
    snprintf(base, sizeof base, "%s/memory", boot_dir);
    for (int i = 0; i < 6; i++)
        snprintf(path[i], sizeof path[i], "%s/capture-%d", work_dir, i);
    guest(booted, out, sizeof out, DIRTY(60));
    capture_memory(true, NULL, base, path[0], &all, &held);
    assert_true(all > 50 * 256 && !held);
    /* Next to nothing happened. */
    capture_memory(false, NULL, path[0], path[1], &pages, &held);
    assert_true(pages < 8 * 256 && !held);
    /* 4 MB are written in the same place again: they count, what was written before does not. */
    guest(booted, out, sizeof out, "head -c 4000000 /dev/urandom | dd of=/dev/shm/dirt conv=notrunc status=none");
    capture_memory(false, NULL, path[1], path[2], &pages, &held);
    assert_true(pages > 900 && pages < 12 * 256 && !held);
    /* The guest writes much behind the back of copying ahead: a holder keeps it. */
    capture_memory(false, "head -c 20000000 /dev/urandom | dd of=/dev/shm/dirt conv=notrunc status=none", path[2],
                   path[3], &pages, &held);
    assert_true(pages > 18 * 256 && held);
    /* A capture that is thrown away takes its pages with it, so the next one asks for the whole. */
    capture_memory(true, NULL, base, path[4], &pages, &held);
    assert_true(pages >= all && !held);
    capture_memory(false, NULL, path[4], path[5], &pages, &held);
    assert_true(pages < 8 * 256);
    guest(booted, out, sizeof out, "rm /dev/shm/dirt");
    shell("rm %s/capture-*", work_dir);
}

/* A guest that never stops writing all over its memory while captures follow one another. */
static void test_capture_of_a_busy_guest(void **state)
{
    (void)state;
    char out[16], base[160], path[2][160];
    size_t pages;
    bool held;
    snprintf(base, sizeof base, "%s/memory", boot_dir);
    for (int i = 0; i < 2; i++)
        snprintf(path[i], sizeof path[i], "%s/busy-%d", work_dir, i);
    guest(booted, out, sizeof out,
          "setsid sh -c 'while :; do head -c 30000000 /dev/urandom >/dev/shm/dirt; done' </dev/null >/dev/null 2>&1 & "
          "echo $! >/tmp/busy; sleep 0.5");
    for (int i = 0; i < 6; i++)
        capture_memory(i == 0, NULL, i == 0 ? base : path[(i + 1) % 2], path[i % 2], &pages, &held);
    guest(booted, out, sizeof out, "kill -9 -$(cat /tmp/busy) $(cat /tmp/busy); rm -f /dev/shm/dirt");
    shell("rm %s/busy-*", work_dir);
}

static void test_capture_needs_pause(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    struct ramet_vm_capture *capture;
    assert_ok(ramet_vm_capture_prepare(booted, true, &capture, &err));
    assert_int_equal(ramet_vm_capture_begin(booted, capture, &err), -RAMET_CONFLICT);
    ramet_vm_capture_free(capture);
}

/* An abandoned capture leaves no holder. */
static void test_capture_abandoned(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    setenv("RAMET_CAPTURE", "hold", 1);
    for (int i = 0; i < 20; i++) {
        struct ramet_vm_capture *capture;
        assert_ok(ramet_vm_capture_prepare(booted, true, &capture, &err));
        assert_ok(ramet_vm_pause(booted, &err));
        assert_ok(ramet_vm_capture_begin(booted, capture, &err));
        assert_non_null(capture->hold);
        assert_ok(ramet_vm_resume(booted, &err));
        ramet_vm_capture_free(capture);
    }
    unsetenv("RAMET_CAPTURE");
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)ramet_vm_pid(booted), (int)ramet_vm_pid(booted));
    _autoclose_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd < 0 || read(fd, text, sizeof text - 1) <= 0);
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
    assert_ok(ramet_vm_capture_prepare(vm, true, &capture, &err));
    assert_ok(ramet_vm_capture_begin(vm, capture, &err));
    assert_ok(ramet_vm_resume(vm, &err));
    assert_ok(ramet_vm_capture_collect(vm, capture, &err));
    print_timing("never ran", capture);
    assert_true(capture->page_count < 64);
    ramet_vm_capture_free(capture);
    assert_ok(ramet_vm_ping(vm, EXEC_MS, &err));
    ramet_vm_free(vm);
    close(snapshot.state_fd);
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

int main(void)
{
    if (!find_guest())
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_capture_needs_pause),
        cmocka_unit_test(test_capture_is_memory),
        cmocka_unit_test(test_captures_grow_from_each_other),
        cmocka_unit_test(test_capture_of_a_busy_guest),
        cmocka_unit_test(test_fork_family),
        cmocka_unit_test(test_capture_abandoned),
        cmocka_unit_test(test_start_paused),
        cmocka_unit_test(test_without_holder),
    };
    return run_vmm_tests("vmm_capture", tests, sizeof tests / sizeof *tests);
}
