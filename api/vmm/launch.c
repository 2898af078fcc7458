/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every QEMU starts in -preconfig: its process is there and answers, its machine is not made. Then machine.c gives it
 * memory, disks and the state; in a QEMU that waited in the pool it may have made the machine already. What cannot be
 * given late is the shape: devices, CPUs, and the name in the process list.
 *
 * Measured (2 cores, TCG, 512 MiB guest): the spawn takes 17-25 ms, mostly dynamic linking and the
 * setting up of the accelerator; making the machine 9-13 ms; loading the state 7-9 ms.
 *
 * QEMU inherits one end each of four socket pairs (QMP, guest agent, console, memory
 * holder): no socket has a name, so there is no path that could be too long, taken over or
 * left behind, and each closes when either side ends.
 */
#include "vmm/launch.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "vmm/clock.h"
#include "vmm/hold.h"
#include "vmm/holder/protocol.h"
#include "vmm/machine.h"
#include "vmm/pagemap.h"
#include "vmm/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

struct ramet_vm *ramet_launch_new(const char *name, const char *log_path)
{
    struct ramet_vm *vm = calloc(1, sizeof *vm);
    if (!vm)
        return NULL;
    vm->hold_fd = vm->console_fd = -1;
    vm->name = strdup(name);
    vm->log_path = strdup(log_path);
    if (vm->name && vm->log_path)
        return vm;
    ramet_vm_free(vm);
    return NULL;
}

/* --- spawn --- */

static void close_pairs(int (*pairs)[2])
{
    for (int i = 0; i < RAMET_QEMU_FD_COUNT; i++)
        for (int side = 0; side < 2; side++) {
            ramet_cleanup_close(&pairs[i][side]);
            pairs[i][side] = -1;
        }
}

static int open_pairs(int (*pairs)[2], struct ramet_error *err)
{
    for (int i = 0; i < RAMET_QEMU_FD_COUNT; i++) {
        int type = i == RAMET_QEMU_HOLDER ? SOCK_SEQPACKET : SOCK_STREAM;
        if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pairs[i]) != 0) {
            int failure = errno;
            close_pairs(pairs);
            return ramet_error_os(err, failure, "sockets for QEMU");
        }
    }
    return 0;
}

/* Our environment, with the holder library preloaded when there is one. Owned by the caller, like the strings. */
static const char **environment(const char *library, char **preload, char **holder_fd)
{
    size_t count = 0;
    while (environ[count])
        count++;
    const char **env = calloc(count + 3, sizeof *env);
    if (!env)
        return NULL;
    size_t used = 0;
    for (size_t i = 0; i < count; i++)
        if (!library || strncmp(environ[i], "LD_PRELOAD=", 11) != 0)
            env[used++] = environ[i];
    if (library && asprintf(preload, "LD_PRELOAD=%s", library) >= 0 &&
        asprintf(holder_fd, "%s=%d", RAMET_HOLDER_FD_ENV, RAMET_PROCESS_FIRST_FD + RAMET_QEMU_HOLDER) >= 0) {
        env[used++] = *preload;
        env[used++] = *holder_fd;
    }
    return env;
}

static int spawn_qemu(struct ramet_vm *vm, const struct ramet_qemu_shape *shape, const char *library, int (*pairs)[2],
                      struct ramet_error *err)
{
    struct ramet_vmm_probe probe;
    _autofree_ char *qemu = NULL, *preload = NULL, *holder_fd = NULL;
    int r = ramet_vmm_probe(&probe, err);
    if (r == 0)
        r = ramet_qemu_find(&qemu, err);
    if (r < 0)
        return r;
    _autofree_ const char **env = environment(library, &preload, &holder_fd);
    _cleanup_(ramet_qemu_args_free) char **argv = ramet_qemu_args(qemu, probe.accelerator, shape);
    if (!env || !argv)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for QEMU's command line");
    _autoclose_ int log_fd = open(vm->log_path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0)
        return ramet_error_os(err, errno, "QEMU's log \"%s\"", vm->log_path);
    int fds[RAMET_QEMU_FD_COUNT];
    for (int i = 0; i < RAMET_QEMU_FD_COUNT; i++)
        fds[i] = pairs[i][1];
    struct ramet_spawn spawn = {.argv = (const char *const *)argv,
                                .env = env,
                                .fds = fds,
                                .fd_count = RAMET_QEMU_FD_COUNT,
                                .output_fd = log_fd};
    return ramet_process_spawn(&spawn, &vm->process, err);
}

/* Our ends of the pairs go to their owners, QEMU's are closed: from then on an end of file means QEMU is gone. */
static int connect_qemu(struct ramet_vm *vm, int (*pairs)[2], unsigned timeout_ms, struct ramet_error *err)
{
    for (int i = 0; i < RAMET_QEMU_FD_COUNT; i++) {
        close(pairs[i][1]);
        pairs[i][1] = -1;
    }
    vm->console_fd = STEAL_FD(pairs[RAMET_QEMU_CONSOLE][0]);
    int r = ramet_agent_open(STEAL_FD(pairs[RAMET_QEMU_AGENT][0]), &vm->agent, err);
    return r < 0 ? r : ramet_qmp_open(STEAL_FD(pairs[RAMET_QEMU_QMP][0]), timeout_ms, &vm->qmp, err);
}

/* Without a working holder captures copy inside the pause, so this cannot fail. */
static void connect_holder(struct ramet_vm *vm, int fd)
{
    struct ramet_error err = {0};
    if (ramet_hold_hello(fd, &err) == 0) {
        vm->hold_fd = fd;
        return;
    }
    ramet_debug("VM \"%s\": %s; captures will copy inside the pause", vm->name, err.msg);
    close(fd);
}

int ramet_launch_spawn(struct ramet_vm *vm, const struct ramet_qemu_shape *shape, unsigned timeout_ms,
                       struct ramet_error *err)
{
    int pairs[RAMET_QEMU_FD_COUNT][2];
    int r = open_pairs(pairs, err);
    if (r < 0)
        return r;
    uint64_t start_us = ramet_now_us();
    _autofree_ char *library = ramet_hold_library();
    r = spawn_qemu(vm, shape, library, pairs, err);
    if (r == 0)
        r = connect_qemu(vm, pairs, timeout_ms, err);
    if (r == 0 && library)
        connect_holder(vm, STEAL_FD(pairs[RAMET_QEMU_HOLDER][0]));
    vm->start_timing.spawn_us = ramet_now_us() - start_us;
    close_pairs(pairs);
    return r;
}

/* --- run --- */

static int open_console(struct ramet_vm *vm, const struct ramet_vm_config *config, struct ramet_error *err)
{
    _autofree_ char *path = NULL;
    if (asprintf(&path, "%s/console.log", config->run_dir) < 0) {
        path = NULL;
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a path");
    }
    return ramet_console_open(STEAL_FD(vm->console_fd), path, &vm->console, err);
}

/* Opened anew: siblings that load the same memfd must not share its offset. */
static int reopen_state(int state_fd, int *ret, struct ramet_error *err)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", state_fd);
    *ret = open(path, O_RDONLY | O_CLOEXEC);
    return *ret < 0 ? ramet_error_os(err, errno, "opening the device state") : 0;
}

/* A state QEMU cannot load ends it; its log says which device refused. */
static int await_loaded(struct ramet_vm *vm, bool start_paused, uint64_t deadline_us, struct ramet_error *err)
{
    bool running = false;
    int r = ramet_qmp_await_loaded(vm->qmp, deadline_us, &running, err);
    if (r == 0 && !running && !start_paused)
        r = ramet_error_set(err, RAMET_VMM, "QEMU loaded the state, but does not run it");
    return r < 0 ? (ramet_error_prefix(err, "loading the device state"), r) : 0;
}

int ramet_launch_run(struct ramet_vm *vm, const struct ramet_vm_config *config, uint64_t deadline_us,
                     struct ramet_error *err)
{
    uint64_t start_us = ramet_now_us();
    _autoclose_ int state_fd = -1;
    vm->memory_bytes = config->memory_bytes;
    int r = ramet_pagemap_name(config->memory_path, &vm->memory_name, err);
    if (r == 0)
        r = open_console(vm, config, err);
    if (r == 0 && config->state_fd >= 0)
        r = reopen_state(config->state_fd, &state_fd, err);
    if (r < 0)
        return r;
    r = ramet_machine_start(vm, config, state_fd, err);
    if (r == 0 && config->state_fd >= 0)
        r = await_loaded(vm, config->start_paused, deadline_us, err);
    vm->start_timing.load_us = ramet_now_us() - start_us;
    return r;
}
