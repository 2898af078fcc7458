/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each hold owns a duplicate of the socket, so it can be dropped whenever its owner
 * likes. A VMM that dies takes its holders with it; dropping then does nothing.
 */
#include "vmm/hold.h"

#include "base/cleanup.h"
#include "vmm/clock.h"
#include "vmm/holder/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

enum { HELLO_MS = 300, ANSWER_MS = 5000 };

struct ramet_vm_hold {
    int fd;
    pid_t vmm, pid;
};

static bool readable(const char *path) { return access(path, R_OK) == 0; }

/* Looks beside the running program, as built or as installed. */
static char *library_near_program(void)
{
    static const char *const places[] = {"libramet-holder.so", "../lib/libramet-holder.so",
                                         "../lib/ramet/libramet-holder.so"};
    char program[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", program, sizeof program - 1);
    if (size <= 0)
        return NULL;
    program[size] = '\0';
    char *slash = strrchr(program, '/');
    for (size_t i = 0; slash && i < sizeof places / sizeof places[0]; i++) {
        char *path = NULL;
        if (asprintf(&path, "%.*s/%s", (int)(slash - program), program, places[i]) < 0)
            return NULL;
        if (readable(path))
            return path;
        free(path);
    }
    return NULL;
}

char *ramet_hold_library(void)
{
    const char *capture = getenv("RAMET_CAPTURE"), *chosen = getenv("RAMET_HOLDER");
    if (capture && strcmp(capture, "copy") == 0)
        return NULL;
    if (chosen)
        return readable(chosen) ? strdup(chosen) : NULL;
    char *path = library_near_program();
#ifdef RAMET_HOLDER_PATH
    if (!path && readable(RAMET_HOLDER_PATH))
        path = strdup(RAMET_HOLDER_PATH);
#endif
    return path;
}

static int ask(int fd, struct ramet_holder_request *request, unsigned timeout_ms, struct ramet_holder_answer *ret,
               struct ramet_error *err)
{
    static _Atomic uint32_t last_serial;
    request->serial = ++last_serial;
    if (send(fd, request, sizeof *request, MSG_NOSIGNAL) < 0)
        return ramet_error_set(err, RAMET_VMM, "the VMM is gone");
    uint64_t deadline_us = ramet_deadline_us(timeout_ms);
    for (;;) {
        struct pollfd pfd = {.fd = fd, .events = POLLIN};
        struct timespec left = ramet_timespec_us(ramet_left_us(deadline_us));
        int n = ppoll(&pfd, 1, &left, NULL);
        if (n == 0)
            return ramet_error_set(err, RAMET_TIMEOUT, "libramet-holder.so does not answer inside the VMM");
        if (n < 0)
            continue;
        ssize_t got = recv(fd, ret, sizeof *ret, MSG_DONTWAIT);
        if (got == sizeof *ret && ret->serial == request->serial)
            return 0;
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
            return ramet_error_set(err, RAMET_VMM, "the VMM is gone");
    }
}

int ramet_hold_hello(int fd, struct ramet_error *err)
{
    struct ramet_holder_request request = {.op = RAMET_HOLDER_HELLO};
    struct ramet_holder_answer answer;
    return ask(fd, &request, HELLO_MS, &answer, err);
}

static int ask_about(int fd, const char *path, struct ramet_holder_request *request, const char *doing,
                     struct ramet_error *err)
{
    struct ramet_holder_answer answer;
    if (strlen(path) >= sizeof request->path)
        return ramet_error_set(err, RAMET_INVALID, "the path of the memory file is too long");
    strcpy(request->path, path);
    int r = ask(fd, request, ANSWER_MS, &answer, err);
    return r == 0 && answer.os_errno != 0 ? ramet_error_os(err, answer.os_errno, "%s", doing) : r;
}

int ramet_hold_memory(int fd, const char *path, enum ramet_vm_reading reading, struct ramet_error *err)
{
    struct ramet_holder_request request = {.op = RAMET_HOLDER_MEMORY, .reading = reading};
    return ask_about(fd, path, &request, "naming the memory file", err);
}

int ramet_hold_map(int fd, const char *path, enum ramet_vm_reading reading, uint64_t address, uint64_t size,
                   struct ramet_error *err)
{
    struct ramet_holder_request request = {
        .op = RAMET_HOLDER_MAP, .reading = reading, .address = address, .size = size};
    return ask_about(fd, path, &request, "mapping the memory file", err);
}

int ramet_hold_take(int fd, pid_t vmm, uint64_t address, uint64_t size, struct ramet_vm_hold **ret,
                    struct ramet_error *err)
{
    struct ramet_vm_hold *hold = calloc(1, sizeof *hold);
    if (!hold)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a memory holder");
    struct ramet_holder_request request = {.op = RAMET_HOLDER_TAKE, .address = address, .size = size};
    struct ramet_holder_answer answer;
    hold->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    int r = hold->fd < 0 ? ramet_error_os(err, errno, "a descriptor for the memory holder")
                         : ask(fd, &request, ANSWER_MS, &answer, err);
    if (r == 0 && answer.os_errno != 0)
        r = ramet_error_os(err, answer.os_errno, "forking a memory holder");
    if (r < 0) {
        if (hold->fd >= 0)
            close(hold->fd);
        free(hold);
        return r;
    }
    hold->vmm = vmm;
    hold->pid = answer.pid;
    *ret = hold;
    return 0;
}

int ramet_hold_track(int fd, uint64_t address, uint64_t size, struct ramet_error *err)
{
    struct ramet_holder_request request = {.op = RAMET_HOLDER_TRACK, .address = address, .size = size};
    struct ramet_holder_answer answer;
    int r = ask(fd, &request, ANSWER_MS, &answer, err);
    if (r == 0 && answer.os_errno != 0)
        r = ramet_error_set(err, RAMET_UNSUPPORTED, "writes to guest memory cannot be tracked: %s",
                            strerror(answer.os_errno));
    return r;
}

int ramet_hold_read_around(int fd, uint64_t address, uint64_t size, struct ramet_error *err)
{
    struct ramet_holder_request request = {.op = RAMET_HOLDER_AROUND, .address = address, .size = size};
    struct ramet_holder_answer answer;
    int r = ask(fd, &request, HELLO_MS, &answer, err);
    return r == 0 && answer.os_errno != 0 ? ramet_error_os(err, answer.os_errno, "advising the VMM's memory") : r;
}

/* The parent of a process, from its /proc/PID/stat; 0 when it is gone. */
static pid_t parent_of(pid_t pid)
{
    char path[40], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    _autoclose_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (size <= 0)
        return 0;
    text[size] = '\0';
    int parent = 0;
    const char *name_end = strrchr(text, ')');
    return name_end && sscanf(name_end + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

int ramet_hold_pid(const struct ramet_vm_hold *hold, pid_t *ret, struct ramet_error *err)
{
    if (hold->pid <= 0 || parent_of(hold->pid) != hold->vmm)
        return ramet_error_set(err, RAMET_VMM, "the memory holder %d is gone", (int)hold->pid);
    *ret = hold->pid;
    return 0;
}

void ramet_hold_drop(struct ramet_vm_hold *hold)
{
    if (!hold)
        return;
    struct ramet_holder_request request = {.op = RAMET_HOLDER_DROP, .pid = hold->pid};
    struct ramet_holder_answer answer;
    ask(hold->fd, &request, ANSWER_MS, &answer, NULL);
    close(hold->fd);
    free(hold);
}
