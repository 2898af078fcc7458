/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What programs rely on in a directory, checked from outside: posix DIR. Run as root on a local file system it proves
 * itself; run on a workspace it proves the workspace. Every check works in a directory of its own; the exit status is
 * the number of checks that failed.
 */
#include "posix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static const char *current;
static unsigned failed;

void posix_check(int good, const char *what, int line)
{
    if (good)
        return;
    failed++;
    fprintf(stderr, "%s, line %d: %s (errno %d, %s)\n", current, line, what, errno, strerror(errno));
}

int posix_put(const char *path, const char *text)
{
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0644);
    ssize_t size = (ssize_t)strlen(text);
    int good = fd >= 0 && write(fd, text, (size_t)size) == size;
    return close(fd) == 0 && good;
}

int posix_is(const char *path, const char *text)
{
    char buf[4096];
    int fd = open(path, O_RDONLY);
    ssize_t size = fd < 0 ? -1 : read(fd, buf, sizeof buf);
    if (fd >= 0)
        close(fd);
    return size == (ssize_t)strlen(text) && memcmp(buf, text, (size_t)size) == 0;
}

/* --- names --- */

static void open_unlinked(void)
{
    char buf[8] = "";
    struct stat st;
    CHECK(posix_put("f", "before"));
    int fd = open("f", O_RDWR);
    CHECK(unlink("f") == 0 && access("f", F_OK) < 0);
    CHECK(fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_size == 6);
    CHECK(pwrite(fd, "after!", 6, 0) == 6 && pread(fd, buf, 6, 0) == 6 && memcmp(buf, "after!", 6) == 0);
    CHECK(posix_put("f", "other") && pread(fd, buf, 6, 0) == 6 && memcmp(buf, "after!", 6) == 0);
    CHECK(close(fd) == 0 && posix_is("f", "other"));
}

static void replaced_while_open(void)
{
    char buf[8];
    CHECK(posix_put("a", "aaa") && posix_put("b", "bbb"));
    int fd = open("b", O_RDONLY);
    CHECK(rename("a", "b") == 0 && posix_is("b", "aaa"));
    CHECK(pread(fd, buf, 3, 0) == 3 && memcmp(buf, "bbb", 3) == 0);
    close(fd);
}

static void removed_working_directory(void)
{
    struct stat st;
    CHECK(mkdir("d", 0755) == 0 && chdir("d") == 0 && rmdir("../d") == 0);
    CHECK(stat(".", &st) == 0 && st.st_nlink == 0);
    CHECK(open("f", O_CREAT | O_WRONLY, 0644) < 0 && errno == ENOENT);
    CHECK(chdir(posix_home()) == 0);
}

static void rename_flags(void)
{
    CHECK(posix_put("a", "1") && posix_put("b", "2") && mkdir("d", 0755) == 0 && posix_put("d/f", "3"));
    CHECK(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE) < 0 && errno == EEXIST);
    CHECK(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_EXCHANGE) == 0 && posix_is("a", "2") && posix_is("b", "1"));
    CHECK(renameat2(AT_FDCWD, "a", AT_FDCWD, "d", RENAME_EXCHANGE) == 0 && posix_is("d", "2") && posix_is("a/f", "3"));
    CHECK(renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_NOREPLACE) == 0 && posix_is("c", "1"));
    CHECK(rename("a", "a/below") < 0 && errno == EINVAL);
    CHECK(mkdir("full", 0755) == 0 && posix_put("full/f", "") && mkdir("e", 0755) == 0);
    CHECK(rename("e", "full") < 0 && (errno == ENOTEMPTY || errno == EEXIST));
}

static void links(void)
{
    struct stat a, b;
    CHECK(posix_put("a", "x") && link("a", "b") == 0 && stat("a", &a) == 0 && stat("b", &b) == 0);
    CHECK(a.st_ino == b.st_ino && a.st_nlink == 2);
    CHECK(posix_put("b", "through b") && posix_is("a", "through b"));
    CHECK(rename("a", "b") == 0 && access("a", F_OK) == 0); /* both are one file: nothing happens */
    CHECK(unlink("a") == 0 && stat("b", &b) == 0 && b.st_nlink == 1);
    CHECK(symlink("b", "s") == 0 && posix_is("s", "through b") && symlink("loop", "loop") == 0);
    CHECK(open("loop", O_RDONLY) < 0 && errno == ELOOP);
    CHECK(mkdir("d", 0755) == 0 && link("d", "e") < 0 && errno == EPERM);
    CHECK(stat(".", &a) == 0 && a.st_nlink == 3);
}

static void temporary_file(void)
{
    char path[64];
    struct stat st;
    int fd = open(".", O_TMPFILE | O_RDWR, 0600);
    CHECK(fd >= 0 && write(fd, "hidden", 6) == 6 && fstat(fd, &st) == 0 && st.st_nlink == 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK(linkat(AT_FDCWD, path, AT_FDCWD, "shown", AT_SYMLINK_FOLLOW) == 0 && posix_is("shown", "hidden"));
    CHECK(close(fd) == 0 && stat("shown", &st) == 0 && st.st_nlink == 1 && posix_is("shown", "hidden"));
    fd = open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK(linkat(AT_FDCWD, path, AT_FDCWD, "never", AT_SYMLINK_FOLLOW) < 0);
    close(fd);
}

static void long_names(void)
{
    char name[257];
    memset(name, 'n', sizeof name);
    name[255] = 0;
    CHECK(posix_put(name, "long") && posix_is(name, "long") && unlink(name) == 0);
    name[255] = 'n', name[256] = 0;
    CHECK(open(name, O_CREAT | O_WRONLY, 0644) < 0 && errno == ENAMETOOLONG);
    CHECK(mkdir("deep", 0755) == 0 && chdir("deep") == 0);
    for (int i = 0; i < 300; i++)
        CHECK(mkdir("deep", 0755) == 0 && chdir("deep") == 0);
    CHECK(posix_put("f", "bottom") && posix_is("f", "bottom"));
    CHECK(chdir(posix_home()) == 0);
}

/* A thousand names, listed while every one read is removed: each is seen once. */
static void remove_while_listing(void)
{
    char name[32];
    unsigned seen = 0;
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "f%d", i);
        CHECK(posix_put(name, ""));
    }
    DIR *dir = opendir(".");
    for (struct dirent *e; (e = readdir(dir));)
        if (*e->d_name != '.')
            seen += unlink(e->d_name) == 0;
    closedir(dir);
    CHECK(seen == 1000 && mkdir("../gone", 0755) == 0 && rmdir("../gone") == 0);
    CHECK(chdir("..") == 0 && rmdir("remove_while_listing") == 0 && mkdir("remove_while_listing", 0755) == 0);
    CHECK(chdir("remove_while_listing") == 0);
}

static void places_in_listings(void)
{
    char name[32], at_place[256] = "";
    long place = 0;
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "f%d", i);
        CHECK(posix_put(name, ""));
    }
    DIR *dir = opendir(".");
    for (int i = 0; i < 150; i++)
        readdir(dir);
    place = telldir(dir);
    snprintf(at_place, sizeof at_place, "%s", readdir(dir)->d_name);
    while (readdir(dir))
        ;
    seekdir(dir, place);
    struct dirent *e = readdir(dir);
    CHECK(e && strcmp(e->d_name, at_place) == 0);
    CHECK(posix_put("late", ""));
    rewinddir(dir);
    unsigned late = 0, count = 0;
    while ((e = readdir(dir))) {
        count++;
        late += strcmp(e->d_name, "late") == 0;
    }
    CHECK(late == 1 && count == 303);
    closedir(dir);
}

/* --- running --- */

static const struct {
    const char *name;
    void (*run)(void);
} checks[] = {
    {"open_unlinked", open_unlinked},
    {"replaced_while_open", replaced_while_open},
    {"removed_working_directory", removed_working_directory},
    {"rename_flags", rename_flags},
    {"links", links},
    {"temporary_file", temporary_file},
    {"long_names", long_names},
    {"remove_while_listing", remove_while_listing},
    {"places_in_listings", places_in_listings},
    {"sparse", posix_sparse},
    {"allocation", posix_allocation},
    {"copy_range", posix_copy_range},
    {"shared_mapping", posix_shared_mapping},
    {"appending", posix_appending},
    {"direct", posix_direct},
    {"sizes", posix_sizes},
    {"locks", posix_locks},
    {"times", posix_times},
    {"xattrs", posix_xattrs},
    {"acls", posix_acls},
    {"set_id_bits", posix_set_id_bits},
    {"permissions", posix_permissions},
    {"special_files", posix_special_files},
    {"handles", posix_handles},
    {"space", posix_space},
};

static char home[4096];
const char *posix_home(void) { return home; }

int main(int argc, char **argv)
{
    if (argc != 2 || chdir(argv[1]) < 0 || geteuid() != 0) {
        fprintf(stderr, "usage, as root: %s DIR\n", argv[0]);
        return 255;
    }
    umask(022);
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        current = checks[i].name;
        snprintf(home, sizeof home, "%s/%s", argv[1], current);
        if (mkdir(home, 0755) < 0 || chdir(home) < 0) {
            perror(home);
            return 255;
        }
        unsigned before = failed;
        checks[i].run();
        printf("%s %s\n", failed == before ? "ok  " : "FAIL", current);
    }
    return failed > 250 ? 250 : (int)failed;
}
