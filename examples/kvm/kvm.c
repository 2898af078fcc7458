/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VMM with branches: `example-kvm DIR [BRANCHES]` keeps its store in DIR.
 *
 * It boots a guest that counts, takes a snapshot in the middle, and runs branches of it side
 * by side. Each continues with the instruction after the snapshot and gets other numbers
 * from its VMM, so that they part; the parent goes on undisturbed; a rollback takes a branch
 * back; the snapshot is stored, and after everything was closed it runs again. Each step is
 * checked against what the guest should have counted. Exit status 77: no KVM here.
 */
#include "vm.h"

#include "ramet_memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { memory_bytes = 64 << 20 };

static struct ramet_error err;

/* A VM on a branch, and what its guest should have counted. */
struct machine {
    struct ramet_memory_branch *branch;
    struct vm vm;
    uint64_t sum, rounds;
};

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "example-kvm: %s: %s\n", what, why);
    exit(1);
}

static void memory_call(int r, const char *what)
{
    if (r < 0)
        fail(what, err.msg);
}

static void kvm_call(int r, const char *what)
{
    if (r < 0)
        fail(what, strerror(errno));
}

static void expect(const char *what, uint64_t value, uint64_t wanted)
{
    if (value == wanted)
        return;
    fprintf(stderr, "example-kvm: %s is %llu, not %llu\n", what, (unsigned long long)value, (unsigned long long)wanted);
    exit(1);
}

static void machine_new(const struct kvm *kvm, struct ramet_memory_image *image, struct machine *ret)
{
    memory_call(ramet_memory_branch(image, &ret->branch, &err), "branch");
    kvm_call(vm_new(kvm, ramet_memory_address(ret->branch), ramet_memory_size(image), &ret->vm), "new VM");
    ret->sum = ret->rounds = 0;
}

/* A VM that continues where the image's did. */
static void machine_resume(const struct kvm *kvm, struct ramet_memory_image *image, const struct machine *then,
                           struct machine *ret)
{
    size_t size;
    const struct vm_state *state = ramet_memory_state(image, &size);
    expect("size of the state", size, sizeof *state);
    machine_new(kvm, image, ret);
    kvm_call(vm_load(&ret->vm, state), "load the state");
    ret->sum = then->sum;
    ret->rounds = then->rounds;
}

static void machine_free(struct machine *machine)
{
    vm_free(&machine->vm);
    ramet_memory_branch_free(machine->branch);
}

static void machine_check(struct machine *machine)
{
    const uint8_t *memory = ramet_memory_address(machine->branch);
    const uint64_t *kept = (const uint64_t *)(memory + VM_SUM_AT);
    const uint64_t *page = (const uint64_t *)(memory + VM_PAGES_AT + (machine->rounds % VM_PAGES << 12));
    struct vm_state state;
    kvm_call(vm_save(&machine->vm, &state), "save the state");
    expect("the sum in a register", state.regs.r12, machine->sum);
    expect("the rounds in a register", state.regs.r13, machine->rounds);
    expect("the sum in memory", kept[0], machine->sum);
    expect("the rounds in memory", kept[1], machine->rounds);
    expect("the page of the round", page[0], machine->sum);
}

static void machine_run(struct machine *machine, uint32_t input, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        kvm_call(vm_round(&machine->vm, input), "run");
        machine->sum += input;
        machine->rounds++;
    }
    machine_check(machine);
}

static struct ramet_memory_image *machine_snapshot(struct machine *machine)
{
    struct ramet_memory_image *image;
    struct vm_state state;
    kvm_call(vm_save(&machine->vm, &state), "save the state");
    memory_call(ramet_memory_snapshot(machine->branch, &state, sizeof state, &image, &err), "snapshot");
    return image;
}

static void machine_rollback(struct machine *machine, struct ramet_memory_image *image, const struct machine *then)
{
    size_t size;
    memory_call(ramet_memory_rollback(machine->branch, image, &err), "rollback");
    kvm_call(vm_load(&machine->vm, ramet_memory_state(image, &size)), "load the state");
    machine->sum = then->sum;
    machine->rounds = then->rounds;
    machine_check(machine);
}

static void run_branches(const struct kvm *kvm, struct ramet_memory_image *image, const struct machine *then,
                         unsigned count)
{
    struct machine *machines = calloc(count, sizeof *machines);
    if (!machines)
        fail("branches", "no memory");
    for (unsigned i = 0; i < count; i++)
        machine_resume(kvm, image, then, &machines[i]);
    for (unsigned turn = 0; turn < 3; turn++)
        for (unsigned i = 0; i < count; i++)
            machine_run(&machines[i], 1000 + i, 10 + i % 7);
    printf("%u branches continued from round %llu and parted: sums %llu to %llu\n", count,
           (unsigned long long)then->rounds, (unsigned long long)machines[0].sum,
           (unsigned long long)machines[count - 1].sum);
    for (unsigned i = 0; i < count; i++)
        machine_free(&machines[i]);
    free(machines);
}

/* Gives where the stored snapshot, tagged "middle", stood. */
static struct machine first_life(const struct kvm *kvm, const char *dir, unsigned branches)
{
    struct ramet_memory_store *store;
    struct ramet_memory_image *empty;
    struct machine parent, child;
    memory_call(ramet_memory_open(dir, NULL, &store, &err), "open");
    memory_call(ramet_memory_create(store, memory_bytes, &empty, &err), "create");
    machine_new(kvm, empty, &parent);
    kvm_call(vm_boot(&parent.vm, ramet_memory_address(parent.branch)), "boot");
    machine_run(&parent, 7, 100);
    struct ramet_memory_image *middle = machine_snapshot(&parent);
    struct machine then = parent;
    printf("snapshot %s after %llu rounds\n", ramet_memory_id(middle), (unsigned long long)then.rounds);

    run_branches(kvm, middle, &then, branches);
    machine_run(&parent, 9, 50); /* undisturbed by them */

    machine_resume(kvm, middle, &then, &child);
    machine_run(&child, 3, 20);
    struct ramet_memory_image *nested = machine_snapshot(&child);
    struct machine nested_then = child;
    run_branches(kvm, nested, &nested_then, branches);
    machine_run(&child, 4, 20);
    machine_rollback(&child, nested, &nested_then);
    machine_run(&child, 5, 20);
    machine_rollback(&child, middle, &then);
    machine_run(&child, 6, 20);
    printf("a branch was rolled back twice and goes on: sum %llu\n", (unsigned long long)child.sum);

    memory_call(ramet_memory_commit(middle, "middle", &err), "commit");
    machine_run(&parent, 11, 30);
    machine_free(&child);
    machine_free(&parent);
    ramet_memory_image_unref(nested);
    ramet_memory_image_unref(middle);
    ramet_memory_image_unref(empty);
    ramet_memory_close(store);
    return then;
}

/* Runs the stored snapshot, its pages read when the guest touches them and, once that image is gone, all at once. */
static void second_life(const struct kvm *kvm, const char *dir, const struct machine *then, unsigned branches)
{
    struct ramet_memory_store *store;
    struct ramet_memory_image *middle;
    memory_call(ramet_memory_open(dir, NULL, &store, &err), "open");
    printf("the store was closed and opened\n");
    memory_call(ramet_memory_load_lazily(store, "middle", &middle, &err), "load");
    run_branches(kvm, middle, then, branches);
    ramet_memory_image_unref(middle);
    memory_call(ramet_memory_load(store, "middle", &middle, &err), "load");
    run_branches(kvm, middle, then, branches);
    ramet_memory_image_unref(middle);
    ramet_memory_close(store);
}

int main(int argc, char **argv)
{
    struct kvm kvm;
    unsigned branches = argc > 2 ? (unsigned)atoi(argv[2]) : 8;
    if (argc < 2 || branches < 1) {
        fprintf(stderr, "usage: example-kvm DIR [BRANCHES]\n");
        return 2;
    }
    if (kvm_open(&kvm) < 0) {
        fprintf(stderr, "example-kvm: SKIPPED: /dev/kvm: %s\n", strerror(errno));
        return 77;
    }
    struct machine then = first_life(&kvm, argv[1], branches);
    second_life(&kvm, argv[1], &then, branches);
    kvm_close(&kvm);
    return 0;
}
