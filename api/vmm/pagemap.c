/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding guest memory and its private pages through /proc/PID/maps and /proc/PID/pagemap.
 * Scanning is in base/page_scan.c, copying in pagemap_copy.c. The scanned process may run on
 * or die; then the result is of no use, so the caller scans only what stands still.
 */
#include "vmm/pagemap.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char deleted_mark[] = " (deleted)";

static void strip_deleted(char *name)
{
    size_t size = strlen(name), mark = sizeof deleted_mark - 1;
    if (size > mark && strcmp(name + size - mark, deleted_mark) == 0)
        name[size - mark] = '\0';
}

int ramet_pagemap_name(const char *path, char **ret, struct ramet_error *err)
{
    _autoclose_ int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return ramet_error_os(err, errno, "memory file \"%s\"", path);
    char link[40], name[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, name, sizeof name - 1);
    if (size < 0)
        return ramet_error_os(err, errno, "memory file \"%s\": its name", path);
    name[size] = '\0';
    strip_deleted(name);
    if (strchr(name, '\n'))
        return ramet_error_set(err, RAMET_INVALID, "the memory file's path holds a newline");
    *ret = strdup(name);
    return *ret ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a path");
}

static int open_proc(pid_t pid, const char *what, struct ramet_error *err)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, what);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    if (errno == ENOENT || errno == ESRCH)
        return ramet_error_set(err, RAMET_VMM, "process %d is gone", (int)pid);
    return ramet_error_os(err, errno, "%s", path);
}

/* One line of /proc/PID/maps. */
struct area {
    uint64_t start, end, offset;
    bool private;
    char *name; /* inside the line */
};

static bool parse_area(char *line, struct area *ret)
{
    char permissions[5];
    int name_at = 0;
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*s %*u %n", &ret->start, &ret->end, permissions,
               &ret->offset, &name_at) != 4 ||
        name_at == 0)
        return false;
    ret->private = permissions[3] == 'p';
    ret->name = line + name_at;
    ret->name[strcspn(ret->name, "\n")] = '\0';
    strip_deleted(ret->name);
    return true;
}

int ramet_pagemap_find(pid_t pid, const char *name, uint64_t size, uint64_t *ret_address, struct ramet_error *err)
{
    int fd = open_proc(pid, "maps", err);
    if (fd < 0)
        return fd;
    FILE *maps = fdopen(fd, "re");
    if (!maps) {
        close(fd);
        return ramet_error_os(err, errno, "/proc/%d/maps", (int)pid);
    }
    _autofree_ char *line = NULL;
    size_t capacity = 0;
    uint64_t base = 0, covered = 0; /* file bytes [0, covered) are mapped at base */
    while (covered < size && getline(&line, &capacity, maps) > 0) {
        struct area area;
        if (!parse_area(line, &area) || !area.private || strcmp(area.name, name) != 0)
            continue;
        if (area.offset == 0)
            base = area.start;
        else if (covered == 0 || area.offset != covered || area.start != base + covered)
            continue;
        covered = area.offset + (area.end - area.start);
    }
    fclose(maps);
    if (covered < size)
        return ramet_error_set(err, RAMET_NOT_FOUND, "process %d does not map all of \"%s\" privately", (int)pid, name);
    *ret_address = base;
    return 0;
}

int ramet_pagemap_scan(pid_t pid, uint64_t address, uint64_t size, enum ramet_page_scan_how how,
                       struct ramet_page_runs *ret, struct ramet_error *err)
{
    _autoclose_ int fd = open_proc(pid, "pagemap", err);
    if (fd < 0)
        return fd;
    int r = ramet_page_scan(fd, address, size, how, ret, err);
    if (r < 0)
        ramet_error_prefix(err, "scanning the memory of process %d", (int)pid);
    return r;
}
