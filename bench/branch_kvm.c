/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The embedder's side of bench/branch.py: branches of a resident memory in one process, each
 * with a VM of examples/kvm. What stands beside them is the machine's limit: the same VM,
 * with the same system calls, on a plain memfd that is mapped privately and knows no store.
 *
 *     ramet-branch-bench first DIR N      branch to first exit of the guest, N times each
 *     ramet-branch-bench many DIR N       N branches at once: time and memory
 *     ramet-branch-bench dirty DIR N      snapshots and rollbacks by how much was written
 *
 * The memory is 512 MiB, all of it data, and stored in DIR, where the first call makes it.
 */
#include "branch_bare.h"
#include "tool.h"

#include "ramet_memory.h"
#include "vm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { memory_mib = 512, pages = memory_mib * 256 };
static const uint64_t memory_bytes = (uint64_t)pages * RAMET_PAGE_SIZE;
static const char tag[] = "bench";

static struct kvm kvm;
static struct ramet_memory_store *store;
static struct ramet_memory_image *image;
static int plain_fd; /* the same memory without a store */
static struct vm_state state;

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void works(int r, const char *what)
{
    if (r >= 0)
        return;
    fprintf(stderr, "ramet-branch-bench: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *works_map(void *address)
{
    works(address == MAP_FAILED ? -1 : 0, "mmap");
    return address;
}

/* --- the memory --- */

static void make_image(void)
{
    struct ramet_memory_image *empty, *full;
    struct ramet_memory_branch *branch;
    struct vm vm;
    runs(ramet_memory_create(store, memory_bytes, &empty, &err));
    runs(ramet_memory_branch(empty, &branch, &err));
    uint8_t *memory = ramet_memory_address(branch);
    for (uint64_t page = 0; page < pages; page++)
        fill_page(memory + page * RAMET_PAGE_SIZE, page, 64);
    works(vm_new(&kvm, memory, memory_bytes, &vm), "new VM");
    works(vm_boot(&vm, memory), "boot");
    for (int i = 0; i < 10; i++)
        works(vm_round(&vm, 1), "run");
    works(vm_save(&vm, &state), "save");
    vm_free(&vm);
    runs(ramet_memory_snapshot(branch, &state, sizeof state, &full, &err));
    runs(ramet_memory_commit(full, tag, &err));
    ramet_memory_branch_free(branch);
    ramet_memory_image_unref(full);
    ramet_memory_image_unref(empty);
}

static void open_all(const char *dir)
{
    struct rlimit files;
    size_t size;
    works(getrlimit(RLIMIT_NOFILE, &files), "getrlimit");
    files.rlim_cur = files.rlim_max;
    works(setrlimit(RLIMIT_NOFILE, &files), "setrlimit");
    works(kvm_open(&kvm), "/dev/kvm");
    runs(ramet_memory_open(dir, NULL, &store, &err));
    if (ramet_memory_load(store, tag, &image, &err) < 0) {
        make_image();
        runs(ramet_memory_load(store, tag, &image, &err));
    }
    memcpy(&state, ramet_memory_state(image, &size), sizeof state);
    struct ramet_memory_branch *branch;
    runs(ramet_memory_branch(image, &branch, &err));
    plain_fd = memfd_create("plain", MFD_CLOEXEC);
    works(plain_fd, "memfd");
    const char *memory = ramet_memory_address(branch);
    for (uint64_t done = 0; done < memory_bytes;) {
        ssize_t n = write(plain_fd, memory + done, memory_bytes - done);
        works(n <= 0 ? -1 : 0, "write");
        done += (uint64_t)n;
    }
    ramet_memory_branch_free(branch);
}

static void close_all(void)
{
    close(plain_fd);
    ramet_memory_image_unref(image);
    ramet_memory_close(store);
    kvm_close(&kvm);
}

/* --- one branch --- */

struct machine {
    struct ramet_memory_branch *branch; /* NULL: bare */
    void *memory;
    struct vm vm;
};

static void *map_plain(void)
{
    return works_map(mmap(NULL, memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, plain_fd, 0));
}

/* Ends with the guest's first exit. */
static void start(struct machine *machine, bool bare)
{
    *machine = (struct machine){0};
    if (!bare)
        runs(ramet_memory_branch(image, &machine->branch, &err));
    machine->memory = bare ? map_plain() : ramet_memory_address(machine->branch);
    works(vm_new(&kvm, machine->memory, memory_bytes, &machine->vm), "new VM");
    works(vm_load(&machine->vm, &state), "load");
    works(vm_round(&machine->vm, 1), "run");
}

static void end(struct machine *machine)
{
    vm_free(&machine->vm);
    ramet_memory_branch_free(machine->branch);
    if (!machine->branch)
        munmap(machine->memory, memory_bytes);
}

static double time_one(bool bare)
{
    struct machine machine;
    double begin = now_us();
    start(&machine, bare);
    double took = now_us() - begin;
    end(&machine);
    return took;
}

static void measure_first(size_t count)
{
    double *ours = make_memory(count * sizeof *ours), *bare = make_memory(count * sizeof *bare);
    for (size_t i = 0; i < 20; i++)
        time_one(i % 2);
    for (size_t i = 0; i < count; i++) { /* in turn, and each as often first */
        bool bare_first = i % 2;
        (bare_first ? bare : ours)[i] = time_one(bare_first);
        (bare_first ? ours : bare)[i] = time_one(!bare_first);
    }
    emit("first.exit", "us", ours, count);
    emit("first.exit.bare", "us", bare, count);
    free(ours);
    free(bare);
}

/* --- many at once --- */

static double field_kib(const char *path, const char *name)
{
    char line[256];
    double kib = -1;
    FILE *file = fopen(path, "re");
    while (file && kib < 0 && fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':')
            kib = strtod(line + strlen(name) + 1, NULL);
    if (file)
        fclose(file);
    works(kib < 0 ? -1 : 0, name);
    return kib;
}

/* What the process holds alone, its page tables, and what the machine has left. */
struct memory_use {
    double private_kib, tables_kib, available_kib;
};

static struct memory_use memory_use(void)
{
    return (struct memory_use){
        .private_kib = field_kib("/proc/self/smaps_rollup", "Private_Dirty") +
                       field_kib("/proc/self/smaps_rollup", "Private_Clean"),
        .tables_kib = field_kib("/proc/self/status", "VmPTE"),
        .available_kib = field_kib("/proc/meminfo", "MemAvailable"),
    };
}

/* The kernel gives a VM's memory back some time after it ended. */
static struct memory_use settled_use(void)
{
    struct memory_use use = memory_use(), next;
    for (int still = 0, tries = 0; still < 3 && tries < 100; tries++, use = next) {
        usleep(50000);
        next = memory_use();
        still = next.available_kib <= use.available_kib + 512 ? still + 1 : 0;
    }
    return use;
}

enum { rounds = 3 };

/* Samples of one kind, a round each. */
struct many {
    double total_ms[rounds], process_kb[rounds], machine_kb[rounds];
};

static void take_many(struct many *many, int round, const struct memory_use *before, double began_us, size_t count)
{
    double took = now_us() - began_us, n = (double)count;
    struct memory_use after = memory_use();
    many->total_ms[round] = took / 1000;
    many->process_kb[round] =
        (after.private_kib - before->private_kib + after.tables_kib - before->tables_kib) * 1.024 / n;
    many->machine_kb[round] = (before->available_kib - after.available_kib) * 1.024 / n;
}

static void many_machines(struct many *many, int round, size_t count, bool bare)
{
    struct machine *machines = make_memory(count * sizeof *machines);
    struct memory_use before = settled_use();
    double begin = now_us();
    for (size_t i = 0; i < count; i++)
        start(&machines[i], bare);
    take_many(many, round, &before, begin, count);
    for (size_t i = 0; i < count; i++)
        end(&machines[i]);
    free(machines);
}

/* Without a VM: what is the library's own. A page of each is written. */
static void many_mappings(struct many *many, int round, size_t count)
{
    struct ramet_memory_branch **branches = make_memory(count * sizeof *branches);
    struct memory_use before = settled_use();
    double begin = now_us();
    for (size_t i = 0; i < count; i++) {
        runs(ramet_memory_branch(image, &branches[i], &err));
        *(volatile char *)ramet_memory_address(branches[i]) = 1;
    }
    take_many(many, round, &before, begin, count);
    for (size_t i = 0; i < count; i++)
        ramet_memory_branch_free(branches[i]);
    free(branches);
}

static void emit_many(const char *name, const struct many *many)
{
    char full[64];
    snprintf(full, sizeof full, "%s.total", name);
    emit(full, "ms", many->total_ms, rounds);
    snprintf(full, sizeof full, "%s.idle.process", name);
    emit(full, "KB", many->process_kb, rounds);
    snprintf(full, sizeof full, "%s.idle.machine", name);
    emit(full, "KB", many->machine_kb, rounds);
}

/* In turn; a round before that is not counted fills the kernel's own caches. */
static void measure_many(size_t count)
{
    struct many ours, bare, mappings;
    many_machines(&bare, 0, count, true);
    for (int round = 0; round < rounds; round++) {
        many_machines(&ours, round, count, false);
        many_machines(&bare, round, count, true);
        many_mappings(&mappings, round, count);
    }
    emit_many("many", &ours);
    emit_many("many.bare", &bare);
    emit_many("mappings", &mappings);
}

/* --- snapshots and rollbacks --- */

enum { sizes = 4 };
static const unsigned dirty_mib[sizes] = {1, 4, 16, 64};

/* Writes every n-th page: all alone, as a guest's are at worst. */
static void dirty(uint8_t *memory, unsigned mib, uint8_t value)
{
    unsigned step = memory_mib / mib;
    for (uint64_t page = 0; page < pages; page += step)
        memory[page * RAMET_PAGE_SIZE + 100] = value;
}

static void touch(const uint8_t *memory)
{
    volatile uint8_t sum = 0;
    for (uint64_t page = 0; page < pages; page++)
        sum = (uint8_t)(sum + memory[page * RAMET_PAGE_SIZE]);
}

struct dirty_samples {
    double *first, *again, *child, *rollback, *rollback_bare;
};

/* One life: `mib` are written before each step. `touched`: the guest has read all its memory before. */
static void dirty_once(unsigned mib, bool touched, struct dirty_samples *samples, size_t i)
{
    struct machine machine, bare;
    struct ramet_memory_image *first, *again;
    struct ramet_memory_branch *child;
    start(&machine, false);
    if (touched)
        touch(machine.memory);
    dirty(machine.memory, mib, 1);
    double begin = now_us();
    runs(ramet_memory_rollback(machine.branch, NULL, &err));
    samples->rollback[i] = now_us() - begin;

    start(&bare, true);
    if (touched)
        touch(bare.memory);
    dirty(bare.memory, mib, 1);
    begin = now_us();
    works(madvise(bare.memory, memory_bytes, MADV_DONTNEED), "madvise");
    samples->rollback_bare[i] = now_us() - begin;
    end(&bare);

    if (touched)
        touch(machine.memory);
    dirty(machine.memory, mib, 2);
    begin = now_us();
    runs(ramet_memory_snapshot(machine.branch, &state, sizeof state, &first, &err));
    samples->first[i] = now_us() - begin;
    dirty(machine.memory, 1, 3);
    begin = now_us();
    runs(ramet_memory_snapshot(machine.branch, &state, sizeof state, &again, &err));
    samples->again[i] = now_us() - begin;
    begin = now_us();
    runs(ramet_memory_branch(first, &child, &err));
    samples->child[i] = now_us() - begin;
    ramet_memory_branch_free(child);
    ramet_memory_image_unref(again);
    ramet_memory_image_unref(first);
    end(&machine);
}

static void emit_dirty(const char *what, unsigned mib, bool touched, const double *samples, size_t count)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%umib%s", what, mib, touched ? ".touched" : "");
    emit(name, "us", samples, count);
}

static void measure_dirty(unsigned mib, bool touched, size_t count)
{
    double *all = make_memory(5 * count * sizeof *all);
    struct dirty_samples samples = {all, all + count, all + 2 * count, all + 3 * count, all + 4 * count};
    for (size_t i = 0; i < count; i++)
        dirty_once(mib, touched, &samples, i);
    emit_dirty("snapshot", mib, touched, samples.first, count);
    emit_dirty("snapshot.1more", mib, touched, samples.again, count);
    emit_dirty("child", mib, touched, samples.child, count);
    emit_dirty("rollback", mib, touched, samples.rollback, count);
    emit_dirty("rollback.bare", mib, touched, samples.rollback_bare, count);
    free(all);
}

/* What copying costs at least: pages that lie apart, to memory that is there. */
static void measure_copy(size_t count)
{
    double *samples = make_memory(count * sizeof *samples);
    uint8_t *from = map_plain(), *to = make_memory((size_t)64 << 20);
    touch(from);
    memset(to, 1, (size_t)64 << 20);
    for (size_t s = 0; s < sizes; s++) {
        size_t n = (size_t)dirty_mib[s] << 8, step = pages / n;
        for (size_t i = 0; i < count; i++) {
            double begin = now_us();
            for (size_t page = 0; page < n; page++)
                memcpy(to + page * RAMET_PAGE_SIZE, from + page * step * RAMET_PAGE_SIZE, RAMET_PAGE_SIZE);
            samples[i] = now_us() - begin;
        }
        emit_dirty("memcpy", dirty_mib[s], false, samples, count);
    }
    munmap(from, memory_bytes);
    free(to);
    free(samples);
}

int main(int argc, char **argv)
{
    const char *what = argc == 4 ? argv[1] : "";
    size_t count = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
    if (count == 0) {
        fprintf(stderr, "usage: ramet-branch-bench first|many|dirty DIR N, or fork - N\n");
        return 2;
    }
    if (strcmp(what, "fork") == 0) {
        measure_process_fork(count);
        return 0;
    }
    open_all(argv[2]);
    if (strcmp(what, "first") == 0) {
        measure_first(count);
    } else if (strcmp(what, "many") == 0) {
        measure_many(count);
    } else if (strcmp(what, "dirty") == 0) {
        for (size_t s = 0; s < sizes; s++)
            measure_dirty(dirty_mib[s], false, count);
        measure_dirty(16, true, count);
        measure_copy(count);
    }
    close_all();
    return 0;
}
