/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of the kernel's FUSE protocol (up to 7.45) that are not in Debian's <linux/fuse.h> (7.38). */
#ifndef RAMET_FUSE_PROTOCOL_H
#define RAMET_FUSE_PROTOCOL_H

#include <linux/fuse.h>

#define RAMET_FUSE_DIRECT_IO_ALLOW_MMAP (UINT64_C(1) << 36)
#define RAMET_FUSE_STATX 52
#define RAMET_FUSE_NOTIFY_INC_EPOCH 8 /* Linux 6.16 */

struct ramet_fuse_statx_in {
    uint32_t getattr_flags, reserved;
    uint64_t fh;
    uint32_t sx_flags, sx_mask;
};

struct ramet_fuse_sx_time {
    int64_t tv_sec;
    uint32_t tv_nsec;
    int32_t reserved;
};

struct ramet_fuse_statx_out {
    uint64_t attr_valid;
    uint32_t attr_valid_nsec, flags;
    uint64_t spare[2];
    struct {
        uint32_t mask, blksize;
        uint64_t attributes;
        uint32_t nlink, uid, gid;
        uint16_t mode, reserved;
        uint64_t ino, size, blocks, attributes_mask;
        struct ramet_fuse_sx_time atime, btime, ctime, mtime;
        uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
        uint64_t reserved2[14];
    } stat;
};
_Static_assert(sizeof(struct ramet_fuse_statx_out) == 288, "as the kernel's fuse_statx_out");

#endif
