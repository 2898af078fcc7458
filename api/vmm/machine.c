/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything goes in batches of QMP commands, which QEMU works off without waiting for us in between: a machine made
 * late in one, one made ahead in two.
 *
 * Placeholders are memfds: no file is made and none has to be removed. QEMU opens them by their /proc names, and keeps
 * them open, which costs nothing as there is next to nothing in them.
 */
#include "vmm/machine.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "vmm/hold.h"
#include "vmm/pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { CALLS_MAX = 2 * RAMET_QEMU_DISK_MAX + 9 };

#define PLACEHOLDER "ramet-placeholder"

/* --- which machine --- */

static int look_at_disk(const char *path, struct ramet_machine_disk *ret, struct ramet_error *err)
{
    _autoclose_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || pread(fd, ret->partitions, sizeof ret->partitions, RAMET_PARTITIONS_AT) < 0)
        return ramet_error_os(err, errno, "disk \"%s\"", path);
    ret->bytes = (uint64_t)st.st_size;
    return 0;
}

int ramet_machine_of(const struct ramet_vm_config *config, struct ramet_machine *ret, struct ramet_error *err)
{
    int r = 0;
    memset(ret, 0, sizeof *ret);
    ret->cpus = config->cpus;
    ret->disk_count = config->disk_count;
    ret->memory_bytes = config->memory_bytes;
    for (size_t i = 0; i < config->disk_count && r == 0; i++)
        r = look_at_disk(config->disks[i].path, &ret->disks[i], err);
    return r;
}

bool ramet_machine_equal(const struct ramet_machine *a, const struct ramet_machine *b)
{
    bool equal = a->cpus == b->cpus && a->disk_count == b->disk_count && a->memory_bytes == b->memory_bytes;
    for (size_t i = 0; i < a->disk_count && equal; i++)
        equal = a->disks[i].bytes == b->disks[i].bytes &&
                memcmp(a->disks[i].partitions, b->disks[i].partitions, sizeof a->disks[i].partitions) == 0;
    return equal;
}

/* --- commands --- */

struct batch {
    struct ramet_qmp_call calls[CALLS_MAX];
    size_t count;
};

/* The arguments of a new command, to be filled in. */
static struct ramet_json *add(struct batch *batch, const char *command)
{
    struct ramet_json *arguments = ramet_json_object();
    batch->calls[batch->count++] = (struct ramet_qmp_call){command, arguments};
    return arguments;
}

static struct ramet_json *add_property(struct batch *batch, const char *path, const char *property)
{
    struct ramet_json *arguments = add(batch, "qom-set");
    ramet_json_set_string(arguments, "path", path);
    ramet_json_set_string(arguments, "property", property);
    return arguments;
}

static void add_memory(struct batch *batch, const char *path, uint64_t bytes)
{
    struct ramet_json *ram = add(batch, "object-add"), *size = ramet_json_object();
    ramet_json_set_string(ram, "qom-type", "memory-backend-file");
    ramet_json_set_string(ram, "id", "ram");
    ramet_json_set_string(ram, "mem-path", path);
    ramet_json_set_u64(ram, "size", bytes);
    ramet_json_set_bool(ram, "share", false);
    ramet_json_set_bool(ram, "merge", false);
    ramet_json_set_bool(ram, "dump", false);
    ramet_json_set_u64(size, "size", bytes);
    ramet_json_set(add_property(batch, "/machine", "memory"), "value", size);
    ramet_json_set_string(add_property(batch, "/machine", "memory-backend"), "value", "ram");
}

/* As a node called NAME and its index. */
static void add_disk(struct batch *batch, const char *name, size_t index, const char *path)
{
    char node[32];
    snprintf(node, sizeof node, "%s%zu", name, index);
    struct ramet_json *raw = add(batch, "blockdev-add"), *file = ramet_json_object();
    ramet_json_set_string(file, "driver", "file");
    ramet_json_set_string(file, "filename", path);
    ramet_json_set_string(file, "locking", "off");
    ramet_json_set_string(raw, "driver", "raw");
    ramet_json_set_string(raw, "node-name", node);
    ramet_json_set_string(raw, "discard", "unmap");
    ramet_json_set_string(raw, "detect-zeroes", "off");
    ramet_json_set(raw, "file", file);
}

/* The device of a machine made ahead gets its file. The placeholder stays, unused: taking it away costs a millisecond.
 */
static void exchange_disk(struct batch *batch, size_t index, const char *path)
{
    char device[48], node[32];
    add_disk(batch, "file", index, path);
    snprintf(device, sizeof device, "/machine/peripheral/blk%zu", index);
    snprintf(node, sizeof node, "file%zu", index);
    ramet_json_set_string(add_property(batch, device, "drive"), "value", node);
}

/*
 * "events": QEMU says when the state is loaded. No announcing: the network is the VM's own, nobody there has to learn
 * where the guest went; asked to announce itself, the guest's kernel is busy with that before its agent answers, for as
 * long again as the agent takes under TCG.
 */
static void add_expectation(struct batch *batch)
{
    struct ramet_json *list = ramet_json_array(), *events = ramet_json_object();
    ramet_json_set_u64(add(batch, "migrate-set-parameters"), "announce-rounds", 0);
    ramet_json_set_string(events, "capability", "events");
    ramet_json_set_bool(events, "state", true);
    ramet_json_append(list, events);
    ramet_json_set(add(batch, "migrate-set-capabilities"), "capabilities", list);
}

/* It arrives with the batch, as a descriptor. */
static void add_state(struct batch *batch)
{
    ramet_json_set_string(add(batch, "getfd"), "fdname", "state");
    ramet_json_set_string(add(batch, "migrate-incoming"), "uri", "fd:state");
}

/* --- ahead --- */

/* A memfd of that size, and the path that QEMU opens it by. */
static int make_placeholder(uint64_t bytes, char path[64], struct ramet_error *err)
{
    int fd = memfd_create(PLACEHOLDER, MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0) {
        int failure = errno;
        ramet_cleanup_close(&fd);
        return ramet_error_os(err, failure, "a placeholder of %llu bytes", (unsigned long long)bytes);
    }
    snprintf(path, 64, "/proc/%d/fd/%d", (int)getpid(), fd);
    return fd;
}

static int add_placeholders(struct batch *batch, const struct ramet_machine *machine, int *fds, size_t *fd_count,
                            struct ramet_error *err)
{
    char path[64];
    int fd = fds[(*fd_count)++] = make_placeholder(machine->memory_bytes, path, err);
    if (fd < 0)
        return fd;
    add_memory(batch, path, machine->memory_bytes);
    for (size_t i = 0; i < machine->disk_count; i++) {
        const struct ramet_machine_disk *disk = &machine->disks[i];
        fd = fds[(*fd_count)++] = make_placeholder(disk->bytes, path, err);
        if (fd < 0)
            return fd;
        static const uint8_t none[RAMET_PARTITIONS_SIZE];
        if (memcmp(disk->partitions, none, sizeof none) != 0 &&
            pwrite(fd, disk->partitions, sizeof disk->partitions, RAMET_PARTITIONS_AT) < 0)
            return ramet_error_os(err, errno, "the placeholder of a disk");
        add_disk(batch, "disk", i, path);
    }
    return 0;
}

static void batch_free(struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++)
        ramet_json_free(batch->calls[i].arguments);
}

static bool can_wait(const struct ramet_vm *vm)
{
    struct ramet_vmm_probe probe;
    return vm->hold_fd >= 0 && ramet_vmm_probe(&probe, NULL) == 0 && strcmp(probe.accelerator, "tcg") == 0;
}

int ramet_machine_make(struct ramet_vm *vm, const struct ramet_machine *machine, struct ramet_error *err)
{
    struct batch batch = {0};
    int fds[RAMET_QEMU_DISK_MAX + 1];
    size_t fd_count = 0;
    if (!can_wait(vm))
        return ramet_error_set(err, RAMET_UNSUPPORTED, "machines are not made ahead here");
    int r = add_placeholders(&batch, machine, fds, &fd_count, err);
    if (r < 0) {
        batch_free(&batch);
    } else {
        add(&batch, "x-exit-preconfig");
        add_expectation(&batch);
        r = ramet_qmp_batch(vm->qmp, batch.calls, batch.count, -1, RAMET_QMP_TIMEOUT_MS, err);
    }
    if (r == 0)
        r = ramet_pagemap_find(ramet_process_pid(vm->process), "/memfd:" PLACEHOLDER, machine->memory_bytes,
                               &vm->memory_address, err);
    for (size_t i = 0; i < fd_count; i++)
        ramet_cleanup_close(&fds[i]);
    vm->made = r == 0;
    return r;
}

/* --- start --- */

/* A library that was there and no longer answers: captures copy inside the pause, as without it. */
static void name_memory(struct ramet_vm *vm, const struct ramet_vm_config *config)
{
    struct ramet_error err = {0};
    if (vm->hold_fd < 0 || ramet_hold_memory(vm->hold_fd, config->memory_path, config->reading, &err) == 0)
        return;
    ramet_debug("VM \"%s\": %s; captures will copy inside the pause", vm->name, err.msg);
    ramet_cleanup_close(&vm->hold_fd);
    vm->hold_fd = -1;
}

static void make_late(struct ramet_vm *vm, const struct ramet_vm_config *config, struct batch *batch, bool restored)
{
    name_memory(vm, config);
    add_memory(batch, config->memory_path, config->memory_bytes);
    for (size_t i = 0; i < config->disk_count; i++)
        add_disk(batch, "disk", i, config->disks[i].path);
    add(batch, "x-exit-preconfig");
    if (restored)
        add_expectation(batch);
}

static int furnish(struct ramet_vm *vm, const struct ramet_vm_config *config, struct batch *batch,
                   struct ramet_error *err)
{
    for (size_t i = 0; i < config->disk_count; i++)
        exchange_disk(batch, i, config->disks[i].path);
    return ramet_hold_map(vm->hold_fd, config->memory_path, config->reading, vm->memory_address, config->memory_bytes,
                          err);
}

/* `cont` while the state still loads is remembered by QEMU: it runs at once when it is loaded. */
int ramet_machine_start(struct ramet_vm *vm, const struct ramet_vm_config *config, int state_fd,
                        struct ramet_error *err)
{
    struct batch batch = {0};
    int r = 0;
    if (vm->made)
        r = furnish(vm, config, &batch, err);
    else
        make_late(vm, config, &batch, state_fd >= 0);
    if (r < 0) {
        batch_free(&batch);
        return r;
    }
    if (state_fd >= 0)
        add_state(&batch);
    if (!config->start_paused)
        add(&batch, "cont");
    r = ramet_qmp_batch(vm->qmp, batch.calls, batch.count, state_fd, RAMET_QMP_TIMEOUT_MS, err);
    if (r < 0 || vm->made)
        return r;
    return ramet_pagemap_find(ramet_process_pid(vm->process), vm->memory_name, vm->memory_bytes, &vm->memory_address,
                              err); /* while the state is loaded */
}
