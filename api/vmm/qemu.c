/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of one QEMU: start, pause, resume, exec, end.
 *
 * launch.c brings it up. It dies with us (process.c). A crash of ours therefore leaves two log files.
 */
#include "vmm/vm.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "vmm/clock.h"
#include "vmm/hold.h"
#include "vmm/launch.h"
#include "vmm/machine.h"
#include "vmm/pagemap.h"
#include "vmm/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { START_MS = 30000, DEATH_MS = 1000 };

static int check_config(const struct ramet_vm_config *config, struct ramet_error *err)
{
    if (config->memory_bytes == 0 || config->memory_bytes % (1 << 20) != 0)
        return ramet_error_set(err, RAMET_INVALID, "%llu bytes of memory: it must be a multiple of 1 MiB",
                               (unsigned long long)config->memory_bytes);
    if (config->cpus == 0 || config->cpus > 64)
        return ramet_error_set(err, RAMET_INVALID, "%u CPUs: from 1 to 64 are possible", config->cpus);
    if (config->disk_count > RAMET_QEMU_DISK_MAX)
        return ramet_error_set(err, RAMET_INVALID, "%zu disks: at most %d are possible", config->disk_count,
                               RAMET_QEMU_DISK_MAX);
    if (config->state_fd < 0 && !config->kernel)
        return ramet_error_set(err, RAMET_INVALID, "neither a kernel to boot nor a state to restore");
    struct stat st;
    if (stat(config->memory_path, &st) != 0)
        return ramet_error_os(err, errno, "memory file \"%s\"", config->memory_path);
    if ((uint64_t)st.st_size != config->memory_bytes)
        return ramet_error_set(err, RAMET_INVALID, "memory file \"%s\" has %lld bytes, the VM %llu",
                               config->memory_path, (long long)st.st_size, (unsigned long long)config->memory_bytes);
    return 0;
}

/* The last lines of QEMU's log, on one line; "" when it is empty. */
static void log_tail(const char *path, char *ret, size_t ret_size)
{
    ret[0] = '\0';
    _autoclose_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    if (size <= 0)
        return;
    off_t at = size > (off_t)ret_size - 1 ? size - (off_t)ret_size + 1 : 0;
    ssize_t n = pread(fd, ret, ret_size - 1, at);
    while (n > 0 && ret[n - 1] == '\n')
        n--;
    ret[n > 0 ? n : 0] = '\0';
    for (char *c = ret; *c; c++)
        if ((unsigned char)*c < ' ')
            *c = c[0] == '\n' ? '|' : ' ';
}

static void describe_end(int status, const char *reason, char *ret, size_t ret_size)
{
    if (strcmp(reason, "guest-reset") == 0)
        snprintf(ret, ret_size, "the guest rebooted, which ends its VM");
    else if (strcmp(reason, "guest-shutdown") == 0)
        snprintf(ret, ret_size, "the guest powered off");
    else if (strcmp(reason, "guest-panic") == 0)
        snprintf(ret, ret_size, "the guest's kernel panicked");
    else if (WIFSIGNALED(status))
        snprintf(ret, ret_size, "QEMU was killed by signal %d", WTERMSIG(status));
    else
        snprintf(ret, ret_size, "QEMU ended with status %d", WEXITSTATUS(status));
}

int ramet_vm_explain(struct ramet_vm *vm, int r, struct ramet_error *err)
{
    int status;
    if (r == -RAMET_INVALID || !vm->process ||
        !ramet_process_wait(vm->process, r == -RAMET_VMM ? DEATH_MS : 0, &status))
        return ramet_error_prefix(err, "VM \"%s\"", vm->name), r;
    char end[96], tail[300], before[200] = "";
    const char *reason = vm->qmp ? ramet_qmp_shutdown_reason(vm->qmp) : "";
    describe_end(status, reason, end, sizeof end);
    log_tail(vm->log_path, tail, sizeof tail);
    if (err && !*reason && WIFEXITED(status)) /* it gave up: over what it refused, perhaps */
        snprintf(before, sizeof before, "%.190s; ", err->msg);
    ramet_error_set(err, RAMET_VMM, "VM \"%s\": %s%s%s%s", vm->name, before, end, tail[0] ? "; it said: " : "", tail);
    ramet_error_hint(err, "its logs: %.180s and console.log beside it", vm->log_path);
    return -RAMET_VMM;
}

/* A VMM of the pool, its name and log made this VM's. NULL when there is none. */
static struct ramet_vm *take_spare(const struct ramet_vm_config *config, const struct ramet_machine *machine,
                                   const char *log_path)
{
    struct ramet_vm *vm = ramet_vm_pool_take(config->pool, machine);
    char *name = vm ? strdup(config->name) : NULL, *path = vm ? strdup(log_path) : NULL;
    if (!name || !path || rename(vm->log_path, path) != 0) {
        free(name);
        free(path);
        ramet_vm_free(vm);
        return NULL;
    }
    free(vm->name);
    free(vm->log_path);
    vm->name = name;
    vm->log_path = path;
    vm->start_timing.spawn_us = 0;
    return vm;
}

static int spawn(struct ramet_vm *vm, const struct ramet_vm_config *config, unsigned timeout_ms,
                 struct ramet_error *err)
{
    const struct ramet_qemu_shape shape = {.name = config->name,
                                           .cpus = config->cpus,
                                           .disk_count = config->disk_count,
                                           .kernel = config->state_fd < 0 ? config->kernel : NULL,
                                           .initrd = config->initrd,
                                           .cmdline = config->cmdline};
    return ramet_launch_spawn(vm, &shape, timeout_ms, err);
}

/* Runs `vm` as configured; an error is explained, and `vm` is then only good for freeing. */
static int run(struct ramet_vm *vm, const struct ramet_vm_config *config, uint64_t deadline_us, struct ramet_error *err)
{
    int r = ramet_launch_run(vm, config, deadline_us, err);
    if (r == 0 && config->start_paused)
        vm->paused_at_us = ramet_now_us();
    return r < 0 ? ramet_vm_explain(vm, r, err) : 0;
}

/* A restore in a spare, if there is one that works. */
static struct ramet_vm *start_in_spare(const struct ramet_vm_config *config, const char *log_path, uint64_t deadline_us)
{
    struct ramet_error err = {0};
    struct ramet_machine machine;
    if (!config->pool || ramet_machine_of(config, &machine, &err) < 0)
        return NULL; /* a fresh QEMU says what is wrong with a disk */
    ramet_vm_pool_note(config->pool, &machine);
    struct ramet_vm *vm = config->state_fd >= 0 ? take_spare(config, &machine, log_path) : NULL;
    if (!vm || run(vm, config, deadline_us, &err) == 0)
        return vm;
    ramet_debug("spare VMM: %s; another is spawned", err.msg);
    ramet_vm_free(vm);
    return NULL;
}

static int start_anew(const struct ramet_vm_config *config, const char *log_path, uint64_t deadline_us,
                      struct ramet_vm **ret, struct ramet_error *err)
{
    struct ramet_vm *vm = ramet_launch_new(config->name, log_path);
    if (!vm)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a VM");
    int r = spawn(vm, config, (unsigned)(ramet_left_us(deadline_us) / 1000), err);
    r = r < 0 ? ramet_vm_explain(vm, r, err) : run(vm, config, deadline_us, err);
    if (r < 0)
        ramet_vm_free(vm);
    else
        *ret = vm;
    return r;
}

int ramet_vm_start(const struct ramet_vm_config *config, struct ramet_vm **ret, struct ramet_error *err)
{
    int r = check_config(config, err);
    if (r < 0)
        return ramet_error_prefix(err, "VM \"%s\"", config->name), r;
    char log_path[PATH_MAX];
    snprintf(log_path, sizeof log_path, "%s/qemu.log", config->run_dir);
    uint64_t deadline_us = ramet_deadline_us(config->start_timeout_ms ? config->start_timeout_ms : START_MS);
    struct ramet_vm *vm = start_in_spare(config, log_path, deadline_us);
    if (!vm && (r = start_anew(config, log_path, deadline_us, &vm, err)) < 0)
        return r;
    *ret = vm;
    return 0;
}

void ramet_vm_free(struct ramet_vm *vm)
{
    if (!vm)
        return;
    ramet_process_free(vm->process);
    ramet_qmp_close(vm->qmp);
    ramet_agent_close(vm->agent);
    ramet_console_close(vm->console);
    ramet_cleanup_close(&vm->hold_fd);
    ramet_cleanup_close(&vm->console_fd);
    free(vm->name);
    free(vm->log_path);
    free(vm->memory_name);
    free(vm);
}

pid_t ramet_vm_pid(const struct ramet_vm *vm) { return ramet_process_pid(vm->process); }
bool ramet_vm_alive(struct ramet_vm *vm) { return !ramet_process_wait(vm->process, 0, NULL); }
const struct ramet_vm_timing *ramet_vm_start_timing(const struct ramet_vm *vm) { return &vm->start_timing; }

int ramet_vm_pause(struct ramet_vm *vm, struct ramet_error *err)
{
    uint64_t start_us = ramet_now_us();
    int r = ramet_qmp_command(vm->qmp, "stop", NULL, RAMET_QMP_TIMEOUT_MS, NULL, err);
    if (r < 0)
        return ramet_vm_explain(vm, r, err);
    vm->paused_at_us = start_us;
    vm->last = (struct ramet_vm_timing){.stop_us = ramet_now_us() - start_us};
    return 0;
}

int ramet_vm_resume(struct ramet_vm *vm, struct ramet_error *err)
{
    uint64_t start_us = ramet_now_us();
    int r = ramet_qmp_command(vm->qmp, "cont", NULL, RAMET_QMP_TIMEOUT_MS, NULL, err);
    if (r < 0)
        return ramet_vm_explain(vm, r, err);
    uint64_t end_us = ramet_now_us();
    vm->last.resume_us = end_us - start_us;
    vm->last.pause_us = vm->paused_at_us ? end_us - vm->paused_at_us : 0;
    vm->paused_at_us = 0;
    return 0;
}

/* What is read is coarser or slower when it fails, nothing else: no error. */
void ramet_vm_read_around(struct ramet_vm *vm)
{
    struct ramet_error err = {0};
    if (vm->hold_fd >= 0 && ramet_hold_read_around(vm->hold_fd, vm->memory_address, vm->memory_bytes, &err) < 0)
        ramet_debug("VM \"%s\": %s", vm->name, err.msg);
}

int ramet_vm_read_memory(struct ramet_vm *vm, uint64_t offset, void *buf, size_t size, struct ramet_error *err)
{
    if (offset > vm->memory_bytes || size > vm->memory_bytes - offset)
        return ramet_error_set(err, RAMET_INVALID, "VM \"%s\": %zu bytes at %llu are beyond its memory", vm->name, size,
                               (unsigned long long)offset);
    int r = ramet_pagemap_read(ramet_vm_pid(vm), vm->memory_address + offset, buf, size, err);
    return r < 0 ? ramet_vm_explain(vm, r, err) : 0;
}

int ramet_vm_memory_cost(struct ramet_vm *vm, uint64_t *ret_pss_bytes, uint64_t *ret_private_bytes,
                         struct ramet_error *err)
{
    char path[40], line[256];
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)ramet_vm_pid(vm));
    FILE *f = fopen(path, "re");
    if (!f)
        return ramet_vm_explain(vm, ramet_error_os(err, errno, "%s", path), err);
    uint64_t pss = 0, private = 0;
    bool found = false;
    while (fgets(line, sizeof line, f)) {
        unsigned long long kib;
        if (sscanf(line, "Pss: %llu kB", &kib) == 1)
            found = (pss = kib << 10, true);
        else if (sscanf(line, "Private_Clean: %llu kB", &kib) == 1 || sscanf(line, "Private_Dirty: %llu kB", &kib) == 1)
        private += kib << 10;
    }
    fclose(f);
    if (!found) /* the file of a dead process opens, but holds nothing */
        return ramet_vm_explain(vm, ramet_error_set(err, RAMET_VMM, "%s holds nothing", path), err);
    *ret_pss_bytes = pss;
    *ret_private_bytes = private;
    return 0;
}

int ramet_vm_ping(struct ramet_vm *vm, unsigned timeout_ms, struct ramet_error *err)
{
    int r = ramet_agent_ping(vm->agent, timeout_ms, err);
    return r < 0 ? ramet_vm_explain(vm, r, err) : 0;
}

int ramet_vm_set_time(struct ramet_vm *vm, int64_t unix_ns, unsigned timeout_ms, struct ramet_error *err)
{
    int r = ramet_agent_set_time(vm->agent, unix_ns, timeout_ms, err);
    return r < 0 ? ramet_vm_explain(vm, r, err) : 0;
}

int ramet_vm_exec(struct ramet_vm *vm, const char *const *argv, const char *const *env, const void *input,
                  size_t input_size, unsigned timeout_ms, struct ramet_vm_exec_result *ret, struct ramet_error *err)
{
    int r = ramet_agent_exec(vm->agent, argv, env, input, input_size, timeout_ms, ret, err);
    return r < 0 ? ramet_vm_explain(vm, r, err) : 0;
}
