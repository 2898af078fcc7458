/* SPDX-License-Identifier: Apache-2.0 */
/* Attributes, permissions, locks, and files that are not data. */
#include "posix.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { user = 65534, group = 65534, other_user = 12345 };

/* Runs it in a child of another user; what it returns not being 0 is a failure. */
static int as_user(uid_t uid, gid_t gid, int (*what)(void))
{
    int status = -1;
    pid_t child = fork();
    if (child == 0)
        _exit(setgroups(0, NULL) < 0 || setgid(gid) < 0 || setuid(uid) < 0 ? 99 : what());
    waitpid(child, &status, 0);
    return status == 0;
}

static int cannot_lock(void)
{
    int fd = open("f", O_RDWR);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 5};
    int record = fcntl(fd, F_SETLK, &lock) < 0 && (errno == EAGAIN || errno == EACCES);
    lock.l_start = 100;
    int apart = fcntl(fd, F_SETLK, &lock) == 0;
    return !(record && apart && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK);
}

void posix_locks(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10};
    CHECK(posix_put("f", "locked") && chmod("f", 0666) == 0);
    int fd = open("f", O_RDWR);
    CHECK(fcntl(fd, F_SETLK, &lock) == 0 && flock(fd, LOCK_EX) == 0);
    CHECK(as_user(user, group, cannot_lock));
    close(fd);
}

void posix_times(void)
{
    struct stat st;
    struct statx sx;
    const struct timespec set[2] = {{1000000000, 123456789}, {-5, 987654321}};
    CHECK(posix_put("f", "t") && utimensat(AT_FDCWD, "f", set, 0) == 0 && stat("f", &st) == 0);
    CHECK(st.st_atim.tv_sec == 1000000000 && st.st_atim.tv_nsec == 123456789);
    CHECK(st.st_mtim.tv_sec == -5 && st.st_mtim.tv_nsec == 987654321);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    CHECK(st.st_ctim.tv_sec >= now.tv_sec - 60 && st.st_ctim.tv_sec <= now.tv_sec + 1);
    CHECK(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS | STATX_BTIME, &sx) == 0 && sx.stx_mask & STATX_BTIME);
    CHECK(sx.stx_btime.tv_sec >= now.tv_sec - 60 && sx.stx_btime.tv_sec <= now.tv_sec + 1);
    CHECK(mkdir("d", 0755) == 0 && utimensat(AT_FDCWD, "d", set, 0) == 0 && posix_put("d/x", "") &&
          stat("d", &st) == 0);
    CHECK(st.st_mtim.tv_sec >= now.tv_sec - 60);
    CHECK(symlink("f", "s") == 0 && utimensat(AT_FDCWD, "s", set, AT_SYMLINK_NOFOLLOW) == 0 && lstat("s", &st) == 0);
    CHECK(st.st_mtim.tv_sec == -5);
}

void posix_xattrs(void)
{
    char buf[4096], big[3000];
    memset(big, 'B', sizeof big);
    CHECK(posix_put("f", "") && getxattr("f", "user.none", buf, sizeof buf) < 0 && errno == ENODATA);
    CHECK(setxattr("f", "user.a", "one", 3, XATTR_CREATE) == 0);
    CHECK(setxattr("f", "user.a", "two", 3, XATTR_CREATE) < 0 && errno == EEXIST);
    CHECK(setxattr("f", "user.b", "", 0, XATTR_REPLACE) < 0 && errno == ENODATA);
    CHECK(setxattr("f", "user.big", big, sizeof big, 0) == 0 && getxattr("f", "user.big", NULL, 0) == sizeof big);
    CHECK(getxattr("f", "user.big", buf, 10) < 0 && errno == ERANGE);
    CHECK(getxattr("f", "user.big", buf, sizeof buf) == sizeof big && memcmp(buf, big, sizeof big) == 0);
    CHECK(listxattr("f", buf, sizeof buf) == 16 && removexattr("f", "user.a") == 0);
    CHECK(listxattr("f", buf, sizeof buf) == 9 && strcmp(buf, "user.big") == 0);
    CHECK(removexattr("f", "user.a") < 0 && errno == ENODATA);
    CHECK(rename("f", "g") == 0 && getxattr("g", "user.big", buf, sizeof buf) == sizeof big);
    CHECK(setxattr("g", "trusted.t", "x", 1, 0) == 0 && getxattr("g", "trusted.t", buf, sizeof buf) == 1);
}

/* An ACL as the kernel takes it: version 2, then tag, permissions and id. */
struct entry {
    uint16_t tag, perm;
    uint32_t id;
};
struct acl {
    uint32_t version;
    struct entry entries[5];
};
static struct acl acl_of(uint16_t mask, uint32_t uid, uint16_t perm)
{
    const uint32_t none = UINT32_MAX;
    return (struct acl){2, {{1, 7, none}, {2, perm, uid}, {4, 5, none}, {0x10, mask, none}, {0x20, 0, none}}};
}

static int can_read(void)
{
    int fd = open("f", O_RDONLY);
    return fd < 0;
}
static int cannot_read(void) { return !(open("f", O_RDONLY) < 0 && errno == EACCES); }

void posix_acls(void)
{
    struct stat st;
    struct acl acl = acl_of(7, other_user, 4), got;
    CHECK(posix_put("f", "acl") && chmod("f", 0640) == 0 && chmod(".", 0755) == 0);
    CHECK(as_user(other_user, other_user, cannot_read));
    CHECK(setxattr("f", "system.posix_acl_access", &acl, sizeof acl, 0) == 0);
    CHECK(stat("f", &st) == 0 && (st.st_mode & 07777) == 0770);
    CHECK(as_user(other_user, other_user, can_read) && as_user(user, group, cannot_read));
    CHECK(chmod("f", 0600) == 0 && as_user(other_user, other_user, cannot_read)); /* the mask went */
    CHECK(getxattr("f", "system.posix_acl_access", &got, sizeof got) == sizeof got && got.entries[3].perm == 0);
    acl = acl_of(5, other_user, 7);
    CHECK(mkdir("d", 0755) == 0 && setxattr("d", "system.posix_acl_default", &acl, sizeof acl, 0) == 0);
    umask(077); /* the default ACL takes its place */
    CHECK(posix_put("d/f", "x") && mkdir("d/e", 0777) == 0);
    umask(022);
    CHECK(stat("d/f", &st) == 0 && (st.st_mode & 0777) == 0640);
    CHECK(getxattr("d/f", "system.posix_acl_access", &got, sizeof got) == sizeof got && got.entries[1].perm == 7);
    CHECK(getxattr("d/e", "system.posix_acl_default", &got, sizeof got) == sizeof got);
    CHECK(getxattr("d/f", "system.posix_acl_default", &got, sizeof got) < 0 && errno == ENODATA);
}

static int write_f(void)
{
    int fd = open("f", O_WRONLY);
    return write(fd, "x", 1) != 1;
}
static int truncate_f(void) { return truncate("f", 2) != 0; }

static int mode_is(const char *path, mode_t mode)
{
    struct stat st;
    return stat(path, &st) == 0 && (st.st_mode & 07777) == mode;
}

void posix_set_id_bits(void)
{
    struct stat st;
    CHECK(posix_put("f", "set") && chown("f", user, group) == 0 && chmod("f", 06777) == 0);
    CHECK(as_user(user, group, write_f) && mode_is("f", 0777));
    CHECK(chmod("f", 06777) == 0 && as_user(user, group, truncate_f) && mode_is("f", 0777));
    CHECK(chmod("f", 06777) == 0 && write_f() == 0 && mode_is("f", 06777)); /* root may */
    CHECK(chmod("f", 04755) == 0 && chown("f", other_user, other_user) == 0 && mode_is("f", 0755));
    CHECK(mkdir("d", 0755) == 0 && chown("d", 0, group) == 0 && chmod("d", 02755) == 0);
    CHECK(posix_put("d/f", "") && stat("d/f", &st) == 0 && st.st_gid == group);
    CHECK(mkdir("d/e", 0755) == 0 && stat("d/e", &st) == 0 && st.st_gid == group && st.st_mode & S_ISGID);
}

static int denied(void)
{
    return !(open("secret", O_RDONLY) < 0 && errno == EACCES && open("new", O_CREAT | O_WRONLY, 0644) < 0 &&
             errno == EACCES && chmod("secret", 0644) < 0 && errno == EPERM && unlink("sticky/f") < 0 &&
             (errno == EPERM || errno == EACCES) && open("sticky/mine", O_CREAT | O_WRONLY, 0644) >= 0 &&
             unlink("sticky/mine") == 0);
}

void posix_permissions(void)
{
    struct stat st;
    CHECK(posix_put("secret", "s") && chmod("secret", 0600) == 0);
    CHECK(mkdir("sticky", 0755) == 0 && chmod("sticky", 01777) == 0 && posix_put("sticky/f", ""));
    CHECK(as_user(user, group, denied));
    umask(027);
    int fd = open("masked", O_CREAT | O_WRONLY, 0666);
    umask(022);
    CHECK(fstat(fd, &st) == 0 && (st.st_mode & 0777) == 0640);
    close(fd);
}

void posix_special_files(void)
{
    struct stat st;
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 1) == 0);
    CHECK(connect(client, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(stat("socket", &st) == 0 && S_ISSOCK(st.st_mode));
    close(listener), close(client);
    CHECK(mkfifo("fifo", 0644) == 0 && stat("fifo", &st) == 0 && S_ISFIFO(st.st_mode));
    int fd = open("fifo", O_RDWR);
    char c = 0;
    CHECK(write(fd, "f", 1) == 1 && read(fd, &c, 1) == 1 && c == 'f');
    close(fd);
    CHECK(mknod("null", S_IFCHR | 0666, makedev(1, 3)) == 0 && stat("null", &st) == 0);
    CHECK(S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
    CHECK(mknod("large", S_IFBLK | 0600, makedev(0x123, 0x45678)) == 0 && stat("large", &st) == 0);
    CHECK(st.st_rdev == makedev(0x123, 0x45678));
}

void posix_handles(void)
{
    struct {
        struct file_handle handle;
        unsigned char bytes[128];
    } h = {.handle.handle_bytes = 128};
    int mount_id, top = open(".", O_RDONLY | O_DIRECTORY);
    char c = 0;
    CHECK(posix_put("f", "h") && name_to_handle_at(AT_FDCWD, "f", &h.handle, &mount_id, 0) == 0);
    int fd = open_by_handle_at(top, &h.handle, O_RDONLY);
    CHECK(fd >= 0 && read(fd, &c, 1) == 1 && c == 'h');
    CHECK(fsync(fd) == 0 && fdatasync(fd) == 0 && fsync(top) == 0);
    close(fd), close(top);
}

void posix_space(void)
{
    struct statvfs st;
    CHECK(statvfs(".", &st) == 0 && st.f_blocks > 0 && st.f_bfree > 0 && st.f_bfree <= st.f_blocks);
    CHECK(st.f_namemax == 255 && st.f_files > 0 && st.f_bavail <= st.f_bfree);
}
