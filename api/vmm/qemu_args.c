/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtual machine, device by device. A restored VM must be given the same machine,
 * CPU and devices in the same slots as the one whose state it loads, so nothing here may
 * depend on the host beyond the accelerator. Changing it breaks stored snapshots.
 *
 * What was measured (QEMU 7.2, TCG, 512 MiB guest) and decided:
 * - q35 without its legacy devices: boots 0.5 s faster than pc (no IDE probing), has ACPI,
 *   which VMGenID needs; microvm boots as fast but cannot have vmgenid. The version is fixed,
 *   since "q35" alone means another machine after each QEMU upgrade.
 * - Legacy (pre-1.0) virtio: a modern virtio-pci device saves 1024 queues, 45 KiB. With four
 *   of them device state is 207 KiB and takes 3.4 ms to save and 13 ms to load; legacy,
 *   27 KiB, 1.4 ms and 8 ms.
 * - Nehalem under TCG is x86-64-v2 without AVX, which TCG emulates slowly. cx16 is taken away:
 *   QEMU 7.2's cmpxchg16b sometimes leaves garbage in the guest's flags, and Linux, which
 *   uses it in its allocator, crashed in 1 of 5 boots; 0 of 75 without. rdrand gives the
 *   guest its random seed at once.
 * - vapic off: its state refers to an option ROM that is only for 32-bit Windows.
 * - merge=off, dump=off: no KSM scanning, no guest memory in core dumps.
 * - cache=writeback with raw: a completed guest write has been written to the file, and
 *   `stop` drains and flushes, so the file then holds every write.
 * - No -kernel in a restore: it is in guest memory already, and loading it costs 200 ms. A
 *   restored machine has no firmware to reboot into, hence -no-reboot: a reset ends the VM.
 */
#include "vmm/qemu_args.h"

#include "vmm/process.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char machine[] = "pc-q35-7.2,vmport=off,hpet=off,sata=off,smbus=off,i8042=off,usb=off,graphics=off";

struct list {
    char **items;
    size_t count;
    bool failed;
};

/* Takes over `text`; NULL poisons the list. */
static void add_owned(struct list *list, char *text)
{
    char **grown = text ? reallocarray(list->items, list->count + 2, sizeof *grown) : NULL;
    if (!grown) {
        free(text);
        list->failed = true;
        return;
    }
    list->items = grown;
    list->items[list->count++] = text;
    list->items[list->count] = NULL;
}

static void add(struct list *list, const char *text) { add_owned(list, strdup(text)); }

static void add_option(struct list *list, const char *option, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void add_option(struct list *list, const char *option, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    add(list, option);
    add_owned(list, text);
}

static void add_cpu(struct list *list, const char *accelerator, unsigned cpus)
{
    if (strcmp(accelerator, "tcg") == 0) {
        /* The buffer of translated code: an idle clone touches little of it, a busy one no more than this. */
        add_option(list, "-accel", "tcg,tb-size=64");
        add_option(list, "-cpu", "Nehalem-v1,-cx16,+rdrand,+rdtscp,+fsgsbase,+smep,+smap,check=off");
    } else {
        add_option(list, "-accel", "%s", accelerator);
        add_option(list, "-cpu", "host,migratable=on");
    }
    add_option(list, "-smp", "%u", cpus);
}

static void add_devices(struct list *list, size_t disk_count)
{
    enum { FIRST = RAMET_PROCESS_FIRST_FD };
    add_option(list, "-chardev", "socket,id=qmp,fd=%d", FIRST + RAMET_QEMU_QMP);
    add_option(list, "-mon", "chardev=qmp,mode=control");
    add_option(list, "-chardev", "socket,id=console,fd=%d", FIRST + RAMET_QEMU_CONSOLE);
    add_option(list, "-serial", "chardev:console");
    add_option(list, "-chardev", "socket,id=agent,fd=%d", FIRST + RAMET_QEMU_AGENT);
    add_option(list, "-device", "virtio-serial-pci,addr=0x2,disable-modern=on");
    add_option(list, "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0");
    add_option(list, "-netdev", "user,id=net");
    add_option(list, "-device", "virtio-net-pci,netdev=net,romfile=,addr=0x3,disable-modern=on");
    add_option(list, "-device", "virtio-rng-pci,addr=0x4,disable-modern=on");
    add_option(list, "-device", "vmgenid,guid=auto");
    for (size_t i = 0; i < disk_count; i++) /* their files are opened later, as nodes of these names */
        add_option(list, "-device",
                   "virtio-blk-pci,id=blk%zu,drive=disk%zu,write-cache=on,addr=0x%zx,disable-modern=on", i, i, 8 + i);
}

/* Where execution begins: a kernel, or a state that is loaded over QMP. */
static void add_start(struct list *list, const struct ramet_qemu_shape *shape)
{
    if (!shape->kernel) {
        add_option(list, "-incoming", "defer");
        return;
    }
    add_option(list, "-kernel", "%s", shape->kernel);
    if (shape->initrd)
        add_option(list, "-initrd", "%s", shape->initrd);
    if (shape->cmdline)
        add_option(list, "-append", "%s", shape->cmdline);
}

/* In QEMU's option syntax a comma inside a value is doubled. */
static void add_name(struct list *list, const char *name)
{
    char text[128] = "guest=";
    size_t used = strlen(text);
    for (; *name && used < sizeof text - 3; name++) {
        if (*name == ',')
            text[used++] = ',';
        text[used++] = *name;
    }
    text[used] = '\0';
    add_option(list, "-name", "%s,debug-threads=on", text);
}

char **ramet_qemu_args(const char *qemu, const char *accelerator, const struct ramet_qemu_shape *shape)
{
    struct list list = {0};
    add(&list, qemu);
    add_name(&list, shape->name);
    add(&list, "-nodefaults");
    add(&list, "-no-user-config");
    add_option(&list, "-display", "none");
    add_option(&list, "-machine", "%s", machine);
    add_option(&list, "-global", "apic-common.vapic=off");
    add_option(&list, "-global", "migration.send-configuration=off");
    add_cpu(&list, accelerator, shape->cpus);
    add_devices(&list, shape->disk_count);
    add_start(&list, shape);
    add(&list, "-no-reboot");
    add(&list, "-S");         /* ramet_launch_run gives the word */
    add(&list, "-preconfig"); /* memory and disks come over QMP */
    if (list.failed)
        ramet_qemu_args_free(&list.items);
    return list.items;
}

void ramet_qemu_args_free(char ***args)
{
    for (char **arg = *args; arg && *arg; arg++)
        free(*arg);
    free(*args);
    *args = NULL;
}
