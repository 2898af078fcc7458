/* SPDX-License-Identifier: Apache-2.0 */
#include "userfault.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than the <linux/userfaultfd.h> of Debian 12. */
#define FEATURE_WP_ASYNC (1ULL << 15)

int ramet_userfault_open(struct ramet_error *err)
{
    /* Nothing is asked of us when a page is written, so that faults inside the kernel need no privilege. */
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    struct uffdio_api api = {.api = UFFD_API, .features = FEATURE_WP_ASYNC};
    if (fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return ramet_error_set(err, RAMET_UNSUPPORTED, "this kernel does not track writes (Linux 6.7 does)");
}

int ramet_userfault_track(int fd, void *address, uint64_t size, struct ramet_error *err)
{
    struct uffdio_register range = {.range = {.start = (uintptr_t)address, .len = size},
                                    .mode = UFFDIO_REGISTER_MODE_WP};
    if (ioctl(fd, UFFDIO_REGISTER, &range) < 0)
        return ramet_error_os(err, errno, "cannot track writes to a branch's memory");
    return 0;
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
