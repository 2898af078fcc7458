/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real guest for the tests of the VMM driver: one that is booted for all tests of a program, VMs of one's own
 * beside it, and snapshots of them as plain files. Everything asserts that it works.
 */
#ifndef RAMET_TESTS_VMM_FIXTURE_H
#define RAMET_TESTS_VMM_FIXTURE_H

#include "vmm/vm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MEMORY_BYTES (256ULL << 20)
enum { PAGE = 4096, EXEC_MS = 20000 };

extern char work_dir[64];       /* everything the tests write */
extern struct ramet_vm *booted; /* for all tests that do not harm it; counts in /tmp/count */
extern char boot_dir[128];      /* of `booted` */

#define assert_ok(call)                                                                                                \
    do {                                                                                                               \
        int r_ = (call);                                                                                               \
        if (r_ < 0)                                                                                                    \
            fail_msg("%s: %s: %s (%s)", #call, ramet_code_name(r_), err.msg, err.hint);                                \
    } while (0)

/* Finds the guest that tools/guest/build made; false, having said so, when there is none: exit with 77 then. */
bool find_guest(void);
/* Boots the guest, runs the tests, and checks that nothing is left. */
int run_vmm_tests(const char *name, const struct CMUnitTest *tests, size_t count);

void shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void make_dir(char *ret, size_t size, const char *name); /* in work_dir */

/* Starts a VM whose files lie in `dir`: "memory", "disk". state_fd -1 boots. */
int start_vm(const char *dir, int state_fd, bool paused, struct ramet_vm **ret, struct ramet_error *err);
/* Runs a shell command in the guest, which must succeed, and returns its output without the last newline. */
void guest(struct ramet_vm *vm, char *out, size_t out_size, const char *command);
long guest_number(struct ramet_vm *vm, const char *command);
void generation_id(struct ramet_vm *vm, char *ret, size_t size);
/* The guest's counter goes on from there. */
void assert_advances(struct ramet_vm *vm, long from);
int child_count(void); /* children of this process, except the one that lists them */

/* The snapshot of one instant: base memory and captured pages, disk, device state. */
struct snapshot {
    char dir[128];
    int state_fd;
    long count; /* the counter's value some time before */
};

/* Takes a snapshot of a running VM, whose files are in `from`, into a new directory. */
void take(struct ramet_vm *vm, const char *from, const char *name, struct snapshot *ret);
/* Puts the captured pages over a copy of `base`. */
void write_memory(const char *base, const struct ramet_vm_capture *capture, const char *path);
void print_timing(const char *what, const struct ramet_vm_capture *capture);
/* A VM on a snapshot, in a new directory, whose guest answers. */
struct ramet_vm *restore(const struct snapshot *snapshot, const char *name, char *dir, size_t dir_size);

#endif
