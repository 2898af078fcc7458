/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a vCPU that touches a damaged page of a lazily loaded image stops there, and the error can be had. Whatever way
 * the machine's KVM takes, it does not run on with other bytes.
 */
#include "testing.h"

#include "base/cleanup.h"
#include "ramet_memory.h"
#include "vm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { memory_bytes = 64 << 20, page_bytes = 4096, pack_bytes_least = 100000 };

static struct ramet_error err;
static struct kvm kvm;
static char dir[64];

/* The pages the guest goes round in hold data that does not shrink; each begins with a word the guest wrote. */
static void store_guest(void)
{
    struct ramet_memory_store *store;
    struct ramet_memory_image *empty, *image;
    struct ramet_memory_branch *branch;
    struct vm vm;
    struct vm_state state;
    check_ok(ramet_memory_open(dir, NULL, &store, &err));
    check_ok(ramet_memory_create(store, memory_bytes, &empty, &err));
    check_ok(ramet_memory_branch(empty, &branch, &err));
    uint8_t *memory = ramet_memory_address(branch);
    assert_int_equal(vm_new(&kvm, memory, memory_bytes, &vm), 0);
    assert_int_equal(vm_boot(&vm, memory), 0);
    assert_int_equal(vm_round(&vm, 1), 0);
    for (size_t page = 0; page < VM_PAGES; page++)
        test_fill(memory + VM_PAGES_AT + page * page_bytes + 8, page_bytes - 8);
    assert_int_equal(vm_save(&vm, &state), 0);
    check_ok(ramet_memory_snapshot(branch, &state, sizeof state, &image, &err));
    check_ok(ramet_memory_commit(image, "guest", &err));
    vm_free(&vm);
    ramet_memory_branch_free(branch);
    ramet_memory_image_unref(image);
    ramet_memory_image_unref(empty);
    ramet_memory_close(store);
}

/* A byte in the middle of the pack: nearly all of it is those pages. */
static void damage(void)
{
    char path[512];
    snprintf(path, sizeof path, "%s/packs", dir);
    DIR *packs = opendir(path);
    assert_non_null(packs);
    for (struct dirent *entry; (entry = readdir(packs));) {
        struct stat st;
        uint8_t byte;
        _autoclose_ int fd = openat(dirfd(packs), entry->d_name, O_RDWR | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < pack_bytes_least)
            continue;
        assert_int_equal(pread(fd, &byte, 1, st.st_size / 2), 1);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, st.st_size / 2), 1);
    }
    closedir(packs);
}

static sigjmp_buf stopped;
static void *volatile stopped_at;

static void on_sigbus(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    stopped_at = info->si_addr;
    siglongjmp(stopped, 1);
}

/* Where the vCPU was stopped, in our memory: by a signal, or by an exit for an address that is memory. */
static void *run_to_damage(struct vm *vm, uint8_t *memory)
{
    struct sigaction old, action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};
    assert_int_equal(sigaction(SIGBUS, &action, &old), 0);
    stopped_at = NULL;
    if (sigsetjmp(stopped, 1) == 0)
        for (int i = 0; i < 2 * VM_PAGES && !stopped_at; i++)
            if (vm_round(vm, 1) < 0) {
                assert_int_equal(vm->run->exit_reason, KVM_EXIT_MMIO);
                assert_true(vm->run->mmio.phys_addr < memory_bytes);
                stopped_at = memory + vm->run->mmio.phys_addr;
            }
    sigaction(SIGBUS, &old, NULL);
    return stopped_at;
}

static void test_vcpu_stops_at_damage(void **state)
{
    (void)state;
    struct ramet_memory_store *store;
    struct ramet_memory_image *image;
    struct ramet_memory_branch *branch;
    struct vm vm;
    size_t size;
    test_dir_make(dir);
    store_guest();
    damage();
    check_ok(ramet_memory_open(dir, NULL, &store, &err));
    int r = ramet_memory_load_lazily(store, "guest", &image, &err);
    if (r == -RAMET_CORRUPT) { /* nothing is lazy on this kernel */
        ramet_memory_close(store);
        test_dir_remove(dir);
        print_message("SKIPPED: no pages on demand here\n");
        skip();
    }
    check_ok(r);
    check_ok(ramet_memory_branch(image, &branch, &err));
    uint8_t *memory = ramet_memory_address(branch);
    assert_int_equal(vm_new(&kvm, memory, memory_bytes, &vm), 0);
    assert_int_equal(vm_load(&vm, ramet_memory_state(image, &size)), 0);
    void *at = run_to_damage(&vm, memory);
    assert_non_null(at);
    check_fails(ramet_memory_fault(store, at, &err), RAMET_CORRUPT);
    vm_free(&vm);
    ramet_memory_branch_free(branch);
    ramet_memory_image_unref(image);
    ramet_memory_close(store);
    test_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_vcpu_stops_at_damage)};
    if (kvm_open(&kvm) < 0) {
        fprintf(stderr, "SKIPPED: /dev/kvm: %s\n", strerror(errno));
        return 77;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kvm_close(&kvm);
    return failed;
}
