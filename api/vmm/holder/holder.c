/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libramet-holder.so, preloaded into the VMM: keeps the guest memory of one instant.
 *
 * A fork of the VMM shares all its pages copy-on-write, so a child that just sits there
 * holds guest memory as it was when the vCPUs stood still, while the VMM goes on. Taking
 * it costs the copying of page tables, not of pages. The VMM marks guest memory
 * MADV_DONTFORK; that is lifted around the fork.
 *
 * The VMM must not notice:
 * - The library's thread blocks every signal, so the VMM's own threads get them all.
 * - The holder is cloned without an exit signal: no SIGCHLD reaches the VMM and its
 *   waitpid does not see the holder; __WALL finds it here.
 * - CLONE_FILES: the holder shares the descriptor table instead of copying it, so that its
 *   end closes (and flushes) nothing.
 * - The holder only makes raw system calls: the heap and every lock are in whatever state
 *   another thread of the VMM left them in.
 * A holder is killed on command, when this thread ends, or when the VMM dies (PDEATHSIG).
 *
 * It also lets the kernel track which pages the guest writes: a userfaultfd in asynchronous
 * write-protect mode (Linux 6.7), which nobody has to serve, for as long as the VMM lives.
 * It ends the mapping of neighbours of a page that is read, so it is asked for with the
 * first capture: a child that is never captured reads its memory file as quickly as ever.
 *
 * It also opens the memory file, whose path it is told, read-only where the VMM asks for
 * read-write: QEMU does, though it maps the file privately, and on the mount a descriptor
 * that could write bypasses the page cache all children share.
 *
 * And it is told how much of the file a fault in guest memory reads: where the VMM asks for huge pages, as QEMU does
 * for guest memory, the kernel reads 2 MiB or more at a fault, though it never makes huge pages of such a file.
 *
 * A machine that was made ahead has a placeholder for memory; before its state is loaded, and thus before anything has
 * looked at its memory, the library maps the memory file in the placeholder's place, as QEMU would have mapped it.
 *
 * Without $RAMET_HOLDER_FD the library does nothing.
 */
#include "protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The headers of Debian 12 are older than the feature: the ABI as of Linux 6.7. */
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

enum { HOLDER_MAX = 8, STACK_SIZE = 64 * 1024 };

/* Only the library's thread touches these. */
static int channel = -1;
static pid_t holders[HOLDER_MAX]; /* 0: free */

static char *_Atomic memory_path; /* set once by the library's thread, read by the VMM's */
static _Atomic unsigned reading;  /* enum ramet_holder_reading; likewise, before memory_path, and cleared once */

static _Noreturn void hold(pid_t parent)
{
    syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (syscall(SYS_getppid) == parent)
        for (;;)
            syscall(SYS_pause);
    for (;;)
        syscall(SYS_exit, 0);
}

/*
 * The translated code of an emulating VMM is tens of megabytes that the holder has no use for:
 * exempting it keeps the fork short and the VMM from copying it page by page afterwards.
 */
static void exempt_code_buffers(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    if (!maps)
        return;
    char line[512], permissions[5];
    unsigned long start, end;
    unsigned long long inode;
    while (fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx %4s %*x %*s %llu", &start, &end, permissions, &inode) == 4 && inode == 0 &&
            strcmp(permissions, "rwxp") == 0)
            madvise((void *)start, end - start, MADV_DONTFORK);
    fclose(maps);
}

static int take(uint64_t address, uint64_t size, pid_t *ret_pid)
{
    pid_t *slot = NULL;
    for (int i = 0; i < HOLDER_MAX && !slot; i++)
        slot = holders[i] == 0 ? &holders[i] : NULL;
    if (!slot)
        return EAGAIN;
    static int exempted;
    if (!exempted++)
        exempt_code_buffers();
    void *memory = (void *)(uintptr_t)address;
    if (madvise(memory, size, MADV_DOFORK) != 0)
        return errno;
    pid_t parent = getpid();
    long pid = syscall(SYS_clone, CLONE_FILES | CLONE_FS, NULL, NULL, NULL, NULL);
    if (pid == 0)
        hold(parent);
    int failure = pid < 0 ? errno : 0;
    madvise(memory, size, MADV_DONTFORK);
    if (failure == 0)
        *slot = *ret_pid = (pid_t)pid;
    return failure;
}

static int drop(pid_t pid)
{
    for (int i = 0; i < HOLDER_MAX; i++)
        if (pid > 0 && holders[i] == pid) {
            kill(pid, SIGKILL);
            while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
                ;
            holders[i] = 0;
            return 0;
        }
    return ESRCH;
}

static int name_memory(const char *path, unsigned how)
{
    if (memory_path)
        return EEXIST;
    atomic_store(&reading, how);
    memory_path = strndup(path, RAMET_HOLDER_PATH_SIZE - 1);
    return memory_path ? 0 : ENOMEM;
}

/* The descriptor stays open: closing it ends the tracking. */
static int track(uint64_t address, uint64_t size)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    if (fd < 0)
        return errno;
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC};
    struct uffdio_register range = {.range = {.start = address, .len = size}, .mode = UFFDIO_REGISTER_MODE_WP};
    if (ioctl(fd, UFFDIO_API, &api) == 0 && ioctl(fd, UFFDIO_REGISTER, &range) == 0)
        return 0;
    int failure = errno;
    close(fd);
    return failure;
}

/* EINVAL: a kernel without huge pages, of which none is needed. */
static int read_around(void *memory, size_t size)
{
    atomic_store(&reading, RAMET_HOLDER_LARGE);
    if (madvise(memory, size, MADV_NORMAL) != 0)
        return errno;
    return madvise(memory, size, MADV_HUGEPAGE) == 0 || errno == EINVAL ? 0 : errno;
}

/* After a failure nothing may be mapped there: the VMM is to be given up. */
static int map(const struct ramet_holder_request *request)
{
    char path[RAMET_HOLDER_PATH_SIZE];
    void *memory = (void *)(uintptr_t)request->address;
    snprintf(path, sizeof path, "%.*s", (int)sizeof path - 1, request->path);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    void *mapped = mmap(memory, request->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0);
    int failure = mapped == MAP_FAILED ? errno : 0;
    close(fd);
    if (failure)
        return failure;
    atomic_store(&reading, request->reading);
    if (madvise(memory, request->size, MADV_DONTFORK) != 0 || madvise(memory, request->size, MADV_DONTDUMP) != 0)
        return errno;
    return madvise(memory, request->size, MADV_HUGEPAGE) == 0 || errno == EINVAL ? 0 : errno;
}

static struct ramet_holder_answer obey(const struct ramet_holder_request *request)
{
    struct ramet_holder_answer answer = {.serial = request->serial};
    switch (request->op) {
    case RAMET_HOLDER_HELLO: break;
    case RAMET_HOLDER_MEMORY: answer.os_errno = name_memory(request->path, request->reading); break;
    case RAMET_HOLDER_AROUND: answer.os_errno = read_around((void *)(uintptr_t)request->address, request->size); break;
    case RAMET_HOLDER_MAP: answer.os_errno = map(request); break;
    case RAMET_HOLDER_TAKE: answer.os_errno = take(request->address, request->size, &answer.pid); break;
    case RAMET_HOLDER_DROP: answer.os_errno = drop(request->pid); break;
    case RAMET_HOLDER_TRACK: answer.os_errno = track(request->address, request->size); break;
    default: answer.os_errno = EINVAL; break;
    }
    return answer;
}

static void *serve(void *unused)
{
    (void)unused;
    prctl(PR_SET_NAME, "ramet-holder");
    for (;;) {
        struct ramet_holder_request request;
        ssize_t n = recv(channel, &request, sizeof request, 0);
        if (n == 0 || (n < 0 && errno != EINTR))
            return NULL;
        if (n != sizeof request)
            continue;
        struct ramet_holder_answer answer = obey(&request);
        (void)!send(channel, &answer, sizeof answer, MSG_NOSIGNAL);
    }
}

static __attribute__((constructor)) void begin(void)
{
    const char *number = getenv(RAMET_HOLDER_FD_ENV);
    if (!number)
        return;
    channel = atoi(number);
    /* Programs the VMM may run have no use for us. */
    unsetenv(RAMET_HOLDER_FD_ENV);
    unsetenv("LD_PRELOAD");
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_SIZE);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    if (pthread_create(&thread, &attr, serve, NULL) != 0)
        close(channel);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static int open_file(const char *path, int flags, mode_t mode)
{
    const char *memory = memory_path;
    if (memory && (flags & (O_ACCMODE | O_CREAT)) == O_RDWR && strcmp(path, memory) == 0)
        flags = (flags & ~O_ACCMODE) | O_RDONLY;
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

#define VISIBLE __attribute__((visibility("default")))

VISIBLE int ramet_madvise(void *start, size_t size, int advice) __asm__("madvise");

int ramet_madvise(void *start, size_t size, int advice)
{
    if (advice == MADV_HUGEPAGE && atomic_load(&reading) != RAMET_HOLDER_LARGE)
        advice = atomic_load(&reading) == RAMET_HOLDER_SINGLE ? MADV_RANDOM : MADV_NORMAL;
    return (int)syscall(SYS_madvise, start, size, advice);
}

/* The names open(2) goes by, with and without large files and fortification. */
VISIBLE int ramet_open(const char *path, int flags, ...) __asm__("open");
VISIBLE int ramet_open64(const char *path, int flags, ...) __asm__("open64");
VISIBLE int ramet_open_2(const char *path, int flags) __asm__("__open_2");
VISIBLE int ramet_open64_2(const char *path, int flags) __asm__("__open64_2");

static mode_t mode_of(int flags, va_list ap) { return flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0; }

int ramet_open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    return open_file(path, flags, mode);
}

int ramet_open64(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    return open_file(path, flags, mode);
}

int ramet_open_2(const char *path, int flags) { return open_file(path, flags, 0); }
int ramet_open64_2(const char *path, int flags) { return open_file(path, flags, 0); }
