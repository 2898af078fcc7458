/* SPDX-License-Identifier: Apache-2.0 */
#include "userfault.h"

#include "base/page_scan.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than the <linux/userfaultfd.h> of Debian 12: the ABI as of Linux 6.7. */
#define FEATURE_POISON (1ULL << 14)
#define FEATURE_WP_ASYNC (1ULL << 15)
struct poison_arg {
    struct uffdio_range range;
    uint64_t mode;
    int64_t updated;
};
#define POISON_IOCTL _IOWR(UFFDIO, 0x08, struct poison_arg)

static int open_with(int flags, uint64_t features, const char *what, struct ramet_error *err)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags);
    struct uffdio_api api = {.api = UFFD_API, .features = features};
    if (fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0)
        return fd;
    int failure = errno;
    if (fd >= 0)
        close(fd);
    ramet_error_set(err, RAMET_UNSUPPORTED, "userfaultfd: this kernel does not let us %s", what);
    return ramet_error_hint(err, failure == EPERM ? "it needs CAP_SYS_PTRACE or vm.unprivileged_userfaultfd=1"
                                                  : "Linux 6.7 or later does");
}

int ramet_userfault_open(struct ramet_error *err)
{
    /* Nothing is asked of us when a page is written, so that faults inside the kernel need no privilege. */
    return open_with(UFFD_USER_MODE_ONLY, FEATURE_WP_ASYNC, "track writes", err);
}

int ramet_userfault_open_serving(struct ramet_error *err)
{
    return open_with(0, UFFD_FEATURE_MISSING_SHMEM | FEATURE_WP_ASYNC | FEATURE_POISON, "serve pages", err);
}

static int enlist(int fd, void *address, uint64_t size, uint64_t mode, struct ramet_error *err)
{
    struct uffdio_register range = {.range = {.start = (uintptr_t)address, .len = size}, .mode = mode};
    if (ioctl(fd, UFFDIO_REGISTER, &range) < 0)
        return ramet_error_os(err, errno, "userfaultfd does not take a branch's memory");
    return 0;
}

int ramet_userfault_track(int fd, void *address, uint64_t size, struct ramet_error *err)
{
    return enlist(fd, address, size, UFFDIO_REGISTER_MODE_WP, err);
}

int ramet_userfault_serve(int fd, void *address, uint64_t size, struct ramet_error *err)
{
    return enlist(fd, address, size, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP, err);
}

bool ramet_userfault_next(int fd, uintptr_t *ret_page)
{
    struct uffd_msg message;
    while (read(fd, &message, sizeof message) == sizeof message)
        if (message.event == UFFD_EVENT_PAGEFAULT) {
            *ret_page = message.arg.pagefault.address & ~(uintptr_t)(RAMET_PAGE_SIZE - 1);
            return true;
        }
    return false;
}

void ramet_userfault_wake(int fd, uintptr_t page)
{
    struct uffdio_range range = {.start = page, .len = RAMET_PAGE_SIZE};
    ioctl(fd, UFFDIO_WAKE, &range);
}

/*
 * A page that was placed here once and let go leaves a mark that it is write-protected, and what bears a mark is not
 * poisoned: the mark goes first. A page that is there meanwhile only needs waking.
 */
void ramet_userfault_poison(int fd, uintptr_t page)
{
    struct uffdio_writeprotect mark = {.range = {.start = page, .len = RAMET_PAGE_SIZE},
                                       .mode = UFFDIO_WRITEPROTECT_MODE_DONTWAKE};
    struct poison_arg arg = {.range = {.start = page, .len = RAMET_PAGE_SIZE}};
    ioctl(fd, UFFDIO_WRITEPROTECT, &mark);
    if (ioctl(fd, POISON_IOCTL, &arg) < 0)
        ramet_userfault_wake(fd, page);
}

int ramet_userfault_place(int fd, void *address, const void *pages, uint64_t size, struct ramet_error *err)
{
    for (uint64_t done = 0; done < size;) {
        struct uffdio_copy copy = {.dst = (uintptr_t)address + done,
                                   .src = (uintptr_t)pages + done,
                                   .len = size - done,
                                   .mode = UFFDIO_COPY_MODE_WP};
        if (ioctl(fd, UFFDIO_COPY, &copy) == 0)
            return 0;
        if (copy.copy > 0)
            done += (uint64_t)copy.copy;
        else if (errno != EAGAIN)
            return ramet_error_os(err, errno, "cannot place pages in a branch's memory");
    }
    return 0;
}
