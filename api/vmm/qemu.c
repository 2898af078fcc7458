/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of one QEMU: start, pause, resume, exec, end.
 *
 * QEMU inherits one end each of four socket pairs (QMP, guest agent, console, memory
 * holder): no socket has a name, so there is no path that could be too long, taken over or
 * left behind, and each closes when either side ends. run_dir only gets two logs.
 *
 * QEMU always starts with its vCPUs stopped; the state is loaded, and only then is it
 * told to run. It dies with us (process.c). A crash of ours therefore leaves two log files.
 */
#include "vmm/vm.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "vmm/clock.h"
#include "vmm/hold.h"
#include "vmm/holder/protocol.h"
#include "vmm/pagemap.h"
#include "vmm/probe.h"
#include "vmm/qemu_args.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { START_MS = 30000, DEATH_MS = 1000, LOAD_POLL_US = 300 };

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
    char end[96], tail[300];
    describe_end(status, vm->qmp ? ramet_qmp_shutdown_reason(vm->qmp) : "", end, sizeof end);
    log_tail(vm->log_path, tail, sizeof tail);
    ramet_error_set(err, RAMET_VMM, "VM \"%s\": %s%s%s", vm->name, end, tail[0] ? "; it said: " : "", tail);
    ramet_error_hint(err, "its logs: %.180s and console.log beside it", vm->log_path);
    return -RAMET_VMM;
}

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
static const char **environment(const char *library, const char *memory_path, char **preload, char **holder_fd,
                                char **holder_memory)
{
    size_t count = 0;
    while (environ[count])
        count++;
    const char **env = calloc(count + 4, sizeof *env);
    if (!env)
        return NULL;
    size_t used = 0;
    for (size_t i = 0; i < count; i++)
        if (!library || strncmp(environ[i], "LD_PRELOAD=", 11) != 0)
            env[used++] = environ[i];
    if (library && asprintf(preload, "LD_PRELOAD=%s", library) >= 0 &&
        asprintf(holder_fd, "%s=%d", RAMET_HOLDER_FD_ENV, RAMET_PROCESS_FIRST_FD + RAMET_QEMU_HOLDER) >= 0 &&
        asprintf(holder_memory, "%s=%s", RAMET_HOLDER_MEMORY_ENV, memory_path) >= 0) {
        env[used++] = *preload;
        env[used++] = *holder_fd;
        env[used++] = *holder_memory;
    }
    return env;
}

static int spawn_qemu(struct ramet_vm *vm, const struct ramet_vm_config *config, const char *library, int (*pairs)[2],
                      struct ramet_error *err)
{
    struct ramet_vmm_probe probe;
    _autofree_ char *qemu = NULL, *preload = NULL, *holder_fd = NULL, *holder_memory = NULL;
    int r = ramet_vmm_probe(&probe, err);
    if (r == 0)
        r = ramet_qemu_find(&qemu, err);
    if (r < 0)
        return r;
    _autofree_ const char **env = environment(library, config->memory_path, &preload, &holder_fd, &holder_memory);
    _cleanup_(ramet_qemu_args_free) char **argv = ramet_qemu_args(qemu, probe.accelerator, config);
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
static int connect_qemu(struct ramet_vm *vm, const struct ramet_vm_config *config, int (*pairs)[2], unsigned timeout_ms,
                        struct ramet_error *err)
{
    for (int i = 0; i < RAMET_QEMU_FD_COUNT; i++) {
        close(pairs[i][1]);
        pairs[i][1] = -1;
    }
    _autofree_ char *console_path = NULL;
    if (asprintf(&console_path, "%s/console.log", config->run_dir) < 0) {
        console_path = NULL;
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a path");
    }
    int r = ramet_console_open(STEAL_FD(pairs[RAMET_QEMU_CONSOLE][0]), console_path, &vm->console, err);
    if (r == 0)
        r = ramet_agent_open(STEAL_FD(pairs[RAMET_QEMU_AGENT][0]), &vm->agent, err);
    if (r == 0)
        r = ramet_qmp_open(STEAL_FD(pairs[RAMET_QEMU_QMP][0]), timeout_ms, &vm->qmp, err);
    return r;
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

static int launch(struct ramet_vm *vm, const struct ramet_vm_config *config, unsigned timeout_ms,
                  struct ramet_error *err)
{
    int pairs[RAMET_QEMU_FD_COUNT][2];
    int r = open_pairs(pairs, err);
    if (r < 0)
        return r;
    uint64_t start_us = ramet_now_us();
    _autofree_ char *library = ramet_hold_library();
    r = spawn_qemu(vm, config, library, pairs, err);
    if (r == 0)
        r = connect_qemu(vm, config, pairs, timeout_ms, err);
    if (r == 0)
        r = ramet_pagemap_find(ramet_process_pid(vm->process), vm->memory_name, vm->memory_bytes, &vm->memory_address,
                               err);
    if (r == 0 && library)
        connect_holder(vm, STEAL_FD(pairs[RAMET_QEMU_HOLDER][0]));
    vm->start_timing.spawn_us = ramet_now_us() - start_us;
    close_pairs(pairs);
    return r;
}

static int read_status(struct ramet_vm *vm, char *ret, size_t ret_size, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *value = NULL;
    int r = ramet_qmp_command(vm->qmp, "query-status", NULL, RAMET_QMP_TIMEOUT_MS, &value, err);
    if (r == 0)
        snprintf(ret, ret_size, "%s", ramet_json_str(value, "status", ""));
    return r;
}

/* A state QEMU cannot load ends it; its log says which device refused. */
static int await_loaded(struct ramet_vm *vm, uint64_t deadline_us, struct ramet_error *err)
{
    for (;;) {
        char status[32];
        int r = read_status(vm, status, sizeof status, err);
        if (r < 0 || strcmp(status, "inmigrate") != 0)
            return r;
        if (ramet_left_us(deadline_us) == 0)
            return ramet_error_set(err, RAMET_TIMEOUT, "the device state was not loaded in time");
        ramet_sleep_us(LOAD_POLL_US);
    }
}

static int load_state(struct ramet_vm *vm, int state_fd, uint64_t deadline_us, struct ramet_error *err)
{
    uint64_t start_us = ramet_now_us();
    /* Opened anew: siblings that load the same memfd must not share its offset. */
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", state_fd);
    _autoclose_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ramet_error_os(err, errno, "opening the device state");
    int r = ramet_qmp_give_fd(vm->qmp, "state", fd, RAMET_QMP_TIMEOUT_MS, err);
    if (r < 0)
        return r;
    struct ramet_json *arguments = ramet_json_object();
    ramet_json_set_string(arguments, "uri", "fd:state");
    r = ramet_qmp_command(vm->qmp, "migrate-incoming", arguments, RAMET_QMP_TIMEOUT_MS, NULL, err);
    if (r == 0)
        r = await_loaded(vm, deadline_us, err);
    vm->start_timing.load_us = ramet_now_us() - start_us;
    return r < 0 ? (ramet_error_prefix(err, "loading the device state"), r) : 0;
}

static int start_steps(struct ramet_vm *vm, const struct ramet_vm_config *config, struct ramet_error *err)
{
    unsigned timeout_ms = config->start_timeout_ms ? config->start_timeout_ms : START_MS;
    uint64_t deadline_us = ramet_deadline_us(timeout_ms);
    int r = ramet_pagemap_name(config->memory_path, &vm->memory_name, err);
    if (r == 0)
        r = launch(vm, config, timeout_ms, err);
    if (r == 0 && config->state_fd >= 0)
        r = load_state(vm, config->state_fd, deadline_us, err);
    if (r == 0 && config->start_paused)
        vm->paused_at_us = ramet_now_us();
    if (r == 0 && !config->start_paused)
        r = ramet_qmp_command(vm->qmp, "cont", NULL, RAMET_QMP_TIMEOUT_MS, NULL, err);
    return r < 0 ? ramet_vm_explain(vm, r, err) : 0;
}

int ramet_vm_start(const struct ramet_vm_config *config, struct ramet_vm **ret, struct ramet_error *err)
{
    int r = check_config(config, err);
    if (r < 0)
        return ramet_error_prefix(err, "VM \"%s\"", config->name), r;
    struct ramet_vm *vm = calloc(1, sizeof *vm);
    if (!vm)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a VM");
    vm->hold_fd = -1;
    vm->memory_bytes = config->memory_bytes;
    vm->name = strdup(config->name);
    if (asprintf(&vm->log_path, "%s/qemu.log", config->run_dir) < 0)
        vm->log_path = NULL;
    r = vm->name && vm->log_path ? start_steps(vm, config, err)
                                 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a VM");
    if (r < 0) {
        ramet_vm_free(vm);
        return r;
    }
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
