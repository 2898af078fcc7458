/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine inside a QEMU: made when its memory and disks are known, or ahead of that, on placeholders.
 *
 * A machine made ahead has as its memory a file of the right size with nothing in it, and as each disk one of the right
 * size with the right partition table. When a VM takes it, the holder library maps the VM's memory file over that
 * memory, and each disk device is given the VM's file. Nothing has looked at memory or disks by then: no vCPU
 * has run, and a machine that awaits a state writes nothing into its memory. So what is looked at while a machine is
 * made has to be known ahead, and is what struct ramet_machine holds. The rest is as in a machine made late; the guest
 * cannot tell.
 *
 * Only under TCG, where guest memory is nothing but a mapping; and only with the holder library.
 *
 * Thread-safety: as launch.h.
 */
#ifndef RAMET_API_VMM_MACHINE_H
#define RAMET_API_VMM_MACHINE_H

#include "vmm/qemu_args.h"
#include "vmm/vm.h"

/* A disk's geometry is what the partition table in its first sector says, or follows from its size. */
enum { RAMET_PARTITIONS_AT = 446, RAMET_PARTITIONS_SIZE = 66 };

struct ramet_machine {
    unsigned cpus;
    size_t disk_count;
    uint64_t memory_bytes;
    struct ramet_machine_disk {
        uint64_t bytes;
        uint8_t partitions[RAMET_PARTITIONS_SIZE];
    } disks[RAMET_QEMU_DISK_MAX];
};

/* Which machine a VM needs; looks at its disks. *ret is whole, and zero where nothing is said, also on failure. */
int ramet_machine_of(const struct ramet_vm_config *config, struct ramet_machine *ret, struct ramet_error *err);
bool ramet_machine_equal(const struct ramet_machine *a, const struct ramet_machine *b);

/* Makes the machine of a spawned VM ahead. RAMET_UNSUPPORTED, with nothing done, when that cannot be; after another
 * failure the VM is only good for ramet_vm_free. */
int ramet_machine_make(struct ramet_vm *vm, const struct ramet_machine *machine, struct ramet_error *err);

/*
 * Gives a spawned VM memory, disks and, when state_fd is not -1, a state to load, and lets it run unless
 * config->start_paused. Makes its machine if that was not done. Returns when QEMU has taken it all; the state is loaded
 * after that.
 */
int ramet_machine_start(struct ramet_vm *vm, const struct ramet_vm_config *config, int state_fd,
                        struct ramet_error *err);

#endif
