/* SPDX-License-Identifier: Apache-2.0 */
#include "mountpoint.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

static int busy(const char *dir, const char *why, struct ramet_error *err)
{
    ramet_error_set(err, RAMET_BUSY, "cannot mount on %s: %s", dir, why);
    return ramet_error_hint(err, "choose another mount point with RAMET_MOUNT");
}

static bool is_mount_point(const char *dir)
{
    char parent[PATH_MAX + 4];
    struct stat here, above;
    snprintf(parent, sizeof parent, "%s/..", dir);
    return stat(dir, &here) == 0 && stat(parent, &above) == 0 && here.st_dev != above.st_dev;
}

int ramet_mountpoint_prepare(const char *dir, struct ramet_error *err)
{
    struct statfs fs; /* asks the daemon; stat may answer from the kernel's cache long after it died */
    while (statfs(dir, &fs) < 0 && errno == ENOTCONN) {
        ramet_info("%s is the mount of a daemon that died; detaching it", dir);
        if (umount2(dir, MNT_DETACH) < 0)
            return ramet_error_os(err, errno, "cannot detach the stale mount on %s", dir);
    }
    int r = ramet_dir_make(dir, 0755, err);
    if (r < 0)
        return r;
    if (is_mount_point(dir))
        return busy(dir, "something is mounted there", err);
    DIR *entries = opendir(dir);
    if (!entries)
        return ramet_error_os(err, errno, "cannot use %s", dir);
    bool empty = true;
    for (struct dirent *e; (e = readdir(entries));)
        empty &= strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
    closedir(entries);
    return empty ? 0 : busy(dir, "the directory is not empty", err);
}

static void write_setting(const char *path, const char *value)
{
    FILE *file = fopen(path, "we");
    if (!file)
        return;
    fputs(value, file);
    fclose(file);
}

void ramet_mountpoint_raise_readahead(dev_t device)
{
    char path[96];
    snprintf(path, sizeof path, "/sys/class/bdi/%u:%u/read_ahead_kb", major(device), minor(device));
    write_setting(path, "1024");
}

/* The control filesystem is mounted for us alone: many machines have none at /sys/fs/fuse/connections. */
bool ramet_mountpoint_abort(dev_t device)
{
    char name[32];
    snprintf(name, sizeof name, "%u/abort", minor(device));
    _autoclose_ int context = fsopen("fusectl", FSOPEN_CLOEXEC);
    if (context < 0 || fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return false;
    _autoclose_ int control = fsmount(context, FSMOUNT_CLOEXEC, 0);
    _autoclose_ int file = control < 0 ? -1 : openat(control, name, O_WRONLY | O_CLOEXEC);
    return file >= 0 ? write(file, "1", 1) == 1 : control >= 0 && errno == ENOENT;
}
