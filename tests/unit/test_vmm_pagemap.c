/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: exactly the pages a process changed in its private mapping are found and copied, by both methods of scanning
 * and both ways of reading, whatever its list of mappings looks like.
 */
#include "testing.h"

#include "base/cleanup.h"
#include "vmm/pagemap.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGES = 20000, SIZE = PAGES * RAMET_PAGE_SIZE };

static char dir[64];
static char path[96];   /* the memory file: page k begins with the bytes "file" and k */
static uint8_t *memory; /* its private mapping, fresh for each test */
static bool changed[PAGES];

static void page_text(char *ret, const char *who, size_t page) { snprintf(ret, 32, "%s %zu", who, page); }

static int make_file(void **state)
{
    (void)state;
    test_dir_make(dir);
    snprintf(path, sizeof path, "%s/memory, with 'odd' name", dir);
    _autoclose_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && ftruncate(fd, SIZE) == 0);
    for (size_t page = 0; page < PAGES; page += 3) {
        char text[32] = "";
        page_text(text, "file", page);
        assert_int_equal(pwrite(fd, text, sizeof text, (off_t)page * RAMET_PAGE_SIZE), sizeof text);
    }
    return 0;
}

static int remove_file(void **state)
{
    (void)state;
    test_dir_remove(dir);
    return 0;
}

static int map_memory(void **state)
{
    (void)state;
    _autoclose_ int fd = open(path, O_RDWR | O_CLOEXEC);
    memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    memset(changed, 0, sizeof changed);
    return memory == MAP_FAILED ? -1 : 0;
}

static int unmap_memory(void **state)
{
    (void)state;
    return munmap(memory, SIZE);
}

static void change(size_t page)
{
    page_text((char *)memory + page * RAMET_PAGE_SIZE, "ours", page);
    changed[page] = true;
}

/* A mixture: pages untouched, only read, written alone, written in long runs. */
static void change_some(void)
{
    volatile uint8_t sum = 0;
    for (int i = 0; i < 9000; i++) {
        size_t page = test_below(PAGES);
        if (i % 2)
            change(page);
        else
            sum = (uint8_t)(sum + memory[page * RAMET_PAGE_SIZE]);
    }
    size_t first = test_below(PAGES - 1500);
    for (size_t page = first; page < first + 1500; page++)
        change(page);
}

static void assert_runs(const struct ramet_page_runs *runs)
{
    size_t page = 0;
    uint64_t at = 0;
    for (size_t i = 0; i < runs->count; i++) {
        const struct ramet_page_run *run = &runs->items[i];
        assert_true(run->count > 0 && run->count <= RAMET_RUN_PAGES);
        assert_int_equal(run->at, at);
        for (; page < run->page; page++)
            assert_false(changed[page]);
        assert_int_equal(page, run->page);
        for (; page < run->page + run->count; page++)
            assert_true(changed[page]);
        at += run->count;
    }
    for (; page < PAGES; page++)
        assert_false(changed[page]);
    assert_int_equal(runs->page_count, at);
}

static void scan(pid_t pid, enum ramet_page_scan_how how, struct ramet_page_runs *ret)
{
    struct ramet_error err = {0};
    *ret = (struct ramet_page_runs){0};
    check_ok(ramet_pagemap_scan(pid, (uintptr_t)memory, SIZE, how, ret, &err));
    assert_runs(ret);
}

static void test_scan(void **state)
{
    (void)state;
    struct ramet_page_runs runs;
    for (int round = 0; round < 4; round++) {
        for (int how = RAMET_SCAN_PRIVATE; how <= RAMET_SCAN_ENTRIES; how++) {
            scan(getpid(), how, &runs);
            ramet_page_runs_free(&runs);
        }
        change_some();
    }
}

/* More regions than one call of the ioctl returns. */
static void test_scan_every_other_page(void **state)
{
    (void)state;
    struct ramet_page_runs runs;
    for (size_t page = 0; page < PAGES; page += 2)
        change(page);
    scan(getpid(), RAMET_SCAN_PRIVATE, &runs);
    assert_int_equal(runs.count, PAGES / 2);
    ramet_page_runs_free(&runs);
}

static void test_scan_full(void **state)
{
    (void)state;
    struct ramet_page_runs runs;
    for (size_t page = 0; page < PAGES; page++)
        change(page);
    scan(getpid(), RAMET_SCAN_PRIVATE, &runs);
    assert_int_equal(runs.count, (PAGES + RAMET_RUN_PAGES - 1) / RAMET_RUN_PAGES);
    ramet_page_runs_free(&runs);
}

/* A child that shares `memory` copy-on-write and sits still; killed by end_child. */
static pid_t start_child(void)
{
    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            pause();
    assert_true(pid > 0);
    return pid;
}

static void end_child(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void assert_copied(pid_t pid, const struct ramet_page_runs *runs, bool held)
{
    struct ramet_error err = {0};
    _autoclose_ int fd = memfd_create("copy", MFD_CLOEXEC);
    check_ok(ramet_pagemap_copy(pid, (uintptr_t)memory, runs, held, fd, &err));
    for (size_t i = 0; i < runs->count; i++)
        for (uint64_t k = 0; k < runs->items[i].count; k++) {
            char text[32], want[32];
            off_t at = (off_t)((runs->items[i].page + k) * RAMET_PAGE_SIZE);
            assert_int_equal(pread(fd, text, sizeof text, at), sizeof text);
            page_text(want, "ours", runs->items[i].page + k);
            assert_string_equal(text, want);
        }
}

/* What a holder shares with its parent stays as it was at the fork, whatever the parent does. */
static void test_copy(void **state)
{
    (void)state;
    struct ramet_page_runs runs;
    change_some();
    pid_t child = start_child();
    memset(memory, 0xee, SIZE);
    scan(child, RAMET_SCAN_PRIVATE, &runs);
    assert_copied(child, &runs, true);
    assert_copied(child, &runs, false);
    end_child(child);
    ramet_page_runs_free(&runs);
}

static void test_copy_nothing(void **state)
{
    (void)state;
    struct ramet_page_runs runs = {0};
    assert_copied(getpid(), &runs, false);
    assert_copied(getpid(), &runs, true);
}

/* A process that is gone is RAMET_VMM for every step, not an empty result. */
static void test_gone(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    struct ramet_page_runs runs, none = {0};
    uint64_t address;
    uint8_t byte;
    change(7);
    pid_t child = start_child();
    scan(child, RAMET_SCAN_PRIVATE, &runs);
    end_child(child);
    _autoclose_ int fd = memfd_create("copy", MFD_CLOEXEC);
    check_fails(ramet_pagemap_copy(child, (uintptr_t)memory, &runs, false, fd, &err), RAMET_VMM);
    check_fails(ramet_pagemap_scan(child, (uintptr_t)memory, SIZE, RAMET_SCAN_PRIVATE, &none, &err), RAMET_VMM);
    check_fails(ramet_pagemap_find(child, path, SIZE, &address, &err), RAMET_VMM);
    check_fails(ramet_pagemap_read(child, (uintptr_t)memory, &byte, 1, &err), RAMET_VMM);
    ramet_page_runs_free(&runs);
}

static void test_read(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    char text[32], want[32];
    change(12);
    check_ok(ramet_pagemap_read(getpid(), (uintptr_t)memory + 12 * RAMET_PAGE_SIZE, text, sizeof text, &err));
    assert_string_equal(text, "ours 12");
    page_text(want, "file", 15);
    check_ok(ramet_pagemap_read(getpid(), (uintptr_t)memory + 15 * RAMET_PAGE_SIZE, text, sizeof text, &err));
    assert_string_equal(text, want);
    check_fails(ramet_pagemap_read(getpid(), 16, text, sizeof text, &err), RAMET_IO);
}

static void test_find(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    uint64_t address = 0;
    check_ok(ramet_pagemap_find(getpid(), path, SIZE, &address, &err));
    assert_int_equal(address, (uintptr_t)memory);
    check_fails(ramet_pagemap_find(getpid(), path, SIZE + RAMET_PAGE_SIZE, &address, &err), RAMET_NOT_FOUND);
    check_fails(ramet_pagemap_find(getpid(), dir, SIZE, &address, &err), RAMET_NOT_FOUND);

    /* Many areas instead of one, as after madvise on parts. */
    for (size_t page = 100; page < 2000; page += 50)
        assert_int_equal(madvise(memory + page * RAMET_PAGE_SIZE, RAMET_PAGE_SIZE, MADV_DONTFORK), 0);
    check_ok(ramet_pagemap_find(getpid(), path, SIZE, &address, &err));
    assert_int_equal(address, (uintptr_t)memory);

    /* A hole: the mapping is not whole. */
    assert_int_equal(munmap(memory + SIZE / 2, RAMET_PAGE_SIZE), 0);
    check_fails(ramet_pagemap_find(getpid(), path, SIZE, &address, &err), RAMET_NOT_FOUND);
}

static void test_find_ignores_shared(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    uint64_t address;
    _autoclose_ int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(munmap(memory, SIZE), 0);
    memory = mmap(memory, SIZE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
    check_fails(ramet_pagemap_find(getpid(), path, SIZE, &address, &err), RAMET_NOT_FOUND);
}

/* Through symbolic links, after deletion, and for a memfd: the name is what the kernel shows. */
static void test_name(void **state)
{
    (void)state;
    struct ramet_error err = {0};
    char link[128], doomed[128];
    uint64_t address;
    snprintf(link, sizeof link, "%s/link", dir);
    assert_int_equal(symlink(path, link), 0);
    _autofree_ char *name = NULL;
    check_ok(ramet_pagemap_name(link, &name, &err));
    assert_string_equal(name, path);

    snprintf(doomed, sizeof doomed, "%s/doomed", dir);
    _autoclose_ int fd = open(doomed, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, RAMET_PAGE_SIZE), 0);
    _autofree_ char *doomed_name = NULL;
    check_ok(ramet_pagemap_name(doomed, &doomed_name, &err));
    void *map = mmap(NULL, RAMET_PAGE_SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
    assert_int_equal(unlink(doomed), 0);
    check_ok(ramet_pagemap_find(getpid(), doomed_name, RAMET_PAGE_SIZE, &address, &err));
    assert_int_equal(address, (uintptr_t)map);
    munmap(map, RAMET_PAGE_SIZE);

    char fd_path[32];
    _autoclose_ int memfd = memfd_create("guest memory", MFD_CLOEXEC);
    assert_int_equal(ftruncate(memfd, RAMET_PAGE_SIZE), 0);
    snprintf(fd_path, sizeof fd_path, "/proc/self/fd/%d", memfd);
    _autofree_ char *memfd_name = NULL;
    check_ok(ramet_pagemap_name(fd_path, &memfd_name, &err));
    map = mmap(NULL, RAMET_PAGE_SIZE, PROT_READ, MAP_PRIVATE, memfd, 0);
    check_ok(ramet_pagemap_find(getpid(), memfd_name, RAMET_PAGE_SIZE, &address, &err));
    munmap(map, RAMET_PAGE_SIZE);

    _autofree_ char *missing = NULL;
    check_fails(ramet_pagemap_name("/no/such/file", &missing, &err), RAMET_NOT_FOUND);
    assert_null(missing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_scan, map_memory, unmap_memory),
        cmocka_unit_test_setup_teardown(test_scan_every_other_page, map_memory, unmap_memory),
        cmocka_unit_test_setup_teardown(test_scan_full, map_memory, unmap_memory),
        cmocka_unit_test_setup_teardown(test_copy, map_memory, unmap_memory),
        cmocka_unit_test_setup_teardown(test_copy_nothing, map_memory, unmap_memory),
        cmocka_unit_test_setup_teardown(test_gone, map_memory, unmap_memory),
        cmocka_unit_test_setup_teardown(test_read, map_memory, unmap_memory),
        cmocka_unit_test_setup_teardown(test_find, map_memory, unmap_memory),
        cmocka_unit_test_setup_teardown(test_find_ignores_shared, map_memory, unmap_memory),
        cmocka_unit_test_setup_teardown(test_name, map_memory, unmap_memory),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
