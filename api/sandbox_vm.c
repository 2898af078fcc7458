/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a sandbox's branch and the snapshot it starts from to a VM: which files it maps and opens. They are on our own
 * mount, so nothing here may hold a lock the mount's threads need; the mount needs none of the service's.
 */
#include "base/cleanup.h"
#include "base/file.h"
#include "image_file.h"
#include "service_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

enum { start_timeout_ms = 60000 };

/* Copies the device state image into a memfd for the VMM. */
static int open_state(struct ramet_image *state, struct ramet_error *err)
{
    uint64_t size = ramet_image_size(state), bytes;
    _autoclose_ int fd = memfd_create("ramet-state", MFD_CLOEXEC);
    if (fd < 0)
        return ramet_error_os(err, errno, "cannot make a memfd of %llu bytes", (unsigned long long)size);
    int r = ramet_image_write_file(state, fd, "device state", &bytes, err);
    return r < 0 ? r : STEAL_FD(fd);
}

/* The file the VM maps: the snapshot's memory on the mount, or zeros for a boot. */
static int prepare_memory(struct ramet_service *service, const struct ramet_sandbox_plan *plan, const char *run_dir,
                          char path[PATH_MAX], struct ramet_image **ret, struct ramet_error *err)
{
    struct ramet_image *memory = ramet_snapshot_image(plan->base, "memory");
    if (memory) {
        snprintf(path, PATH_MAX, "%s/snapshots/%s/memory", service->mount_dir, plan->base->id);
        *ret = ramet_image_ref(memory);
        return 0;
    }
    snprintf(path, PATH_MAX, "%.4000s/memory", run_dir);
    _autoclose_ int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)plan->memory_bytes) < 0)
        return ramet_error_os(err, errno, "cannot make %s", path);
    return ramet_image_new_stored(ramet_catalog_images(service->catalog), plan->memory_bytes, RAMET_CHUNK_ZERO, ret,
                                  err);
}

int ramet_sandbox_vm_new(struct ramet_sandbox *sandbox, const struct ramet_sandbox_plan *plan, struct ramet_vm **ret,
                         struct ramet_image **ret_memory, struct ramet_error *err)
{
    struct ramet_service *service = sandbox->service;
    char run_dir[PATH_MAX], memory[PATH_MAX], kernel[PATH_MAX], initrd[PATH_MAX];
    char disks[RAMET_BRANCH_DISKS_MAX][PATH_MAX];
    struct ramet_vm_disk vm_disks[RAMET_BRANCH_DISKS_MAX];
    _autoclose_ int state_fd = -1;
    struct ramet_image *base_memory = NULL, *state = ramet_snapshot_image(plan->base, "state");
    snprintf(run_dir, sizeof run_dir, "%s/%s", service->run_dir, sandbox->branch->id);
    int r = ramet_dir_make(run_dir, 0700, err);
    if (r == 0)
        r = prepare_memory(service, plan, run_dir, memory, &base_memory, err);
    if (r == 0 && state && (state_fd = open_state(state, err)) < 0)
        r = -err->code;
    if (r < 0) {
        ramet_image_unref(base_memory);
        return r;
    }
    for (size_t i = 0; i < sandbox->branch->disk_count; i++) {
        char disk[RAMET_DISK_NAME_SIZE];
        ramet_disk_name(disk, i);
        snprintf(disks[i], sizeof disks[i], "%s/branches/%s/%s", service->mount_dir, sandbox->branch->name, disk);
        vm_disks[i] = (struct ramet_vm_disk){.path = disks[i]};
    }
    snprintf(kernel, sizeof kernel, "%s/snapshots/%s/kernel", service->mount_dir, plan->base->id);
    snprintf(initrd, sizeof initrd, "%s/snapshots/%s/initrd", service->mount_dir, plan->base->id);
    struct ramet_vm_config config = {
        .name = sandbox->branch->name,
        .run_dir = run_dir,
        .memory_path = memory,
        .memory_bytes = plan->memory_bytes,
        .cpus = plan->cpus,
        .disks = vm_disks,
        .disk_count = sandbox->branch->disk_count,
        .state_fd = state_fd,
        .reading = sandbox->warmup ? RAMET_VM_READ_SINGLE
                   : plan->parent  ? RAMET_VM_READ_NEAR
                                   : RAMET_VM_READ_LARGE,
        .start_timeout_ms = start_timeout_ms,
        .start_paused = plan->start_paused,
        .pool = service->pool,
    };
    if (!state) {
        config.kernel = kernel;
        config.initrd = ramet_snapshot_image(plan->base, "initrd") ? initrd : NULL;
        config.cmdline = plan->base->cmdline;
    }
    r = ramet_vm_start(&config, ret, err);
    if (r < 0)
        ramet_image_unref(base_memory);
    else
        *ret_memory = base_memory;
    return r;
}
