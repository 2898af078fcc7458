/* SPDX-License-Identifier: Apache-2.0 */
/* What a process holds, what a directory holds, and a limit on memory. */
#include "soak.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct soak_usage soak_usage(void)
{
    struct soak_usage usage = {0};
    char line[512];
    unsigned long resident = 0;
    malloc_trim(0);
    DIR *fds = opendir("/proc/self/fd");
    while (fds && readdir(fds))
        usage.descriptors++;
    closedir(fds);
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps && fgets(line, sizeof line, maps))
        usage.mappings++;
    fclose(maps);
    FILE *statm = fopen("/proc/self/statm", "re");
    if (fscanf(statm, "%*u %lu", &resident) != 1)
        resident = 0;
    fclose(statm);
    usage.resident_bytes = resident * (uint64_t)sysconf(_SC_PAGESIZE);
    return usage;
}

static uint64_t found_bytes;
static size_t found_count;

static int add_file(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)path, (void)ftw;
    if (kind == FTW_F) {
        found_bytes += (uint64_t)st->st_blocks * 512;
        found_count++;
    }
    return 0;
}

uint64_t soak_files(const char *dir, size_t *ret_count)
{
    found_bytes = found_count = 0;
    nftw(dir, add_file, 16, FTW_PHYS);
    *ret_count = found_count;
    return found_bytes;
}

/* --- the limit --- */

static char group[300];
static bool unified; /* version 2 */

static bool write_group(const char *file, uint64_t number)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", group, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && dprintf(fd, "%llu", (unsigned long long)number) > 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

static uint64_t read_group(const char *file)
{
    char path[400];
    unsigned long long number = 0;
    snprintf(path, sizeof path, "%s/%s", group, file);
    FILE *stream = fopen(path, "re");
    if (!stream)
        return 0;
    if (fscanf(stream, "%llu", &number) != 1)
        number = 0;
    fclose(stream);
    return number;
}

/* The caller's own group: "N:memory:PATH" of version 1, "0::PATH" of version 2. */
static bool own_group(const char *controller, const char *mount)
{
    char line[256];
    bool found = false;
    FILE *stream = fopen("/proc/self/cgroup", "re");
    while (stream && !found && fgets(line, sizeof line, stream)) {
        char *name = strchr(line, ':'), *path = name ? strchr(name + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = '\0';
        path[strcspn(path, "\n")] = '\0';
        if ((found = strcmp(name + 1, controller) == 0))
            snprintf(group, sizeof group, "%s%s/ramet-soak-%d", mount, path, (int)getpid());
    }
    if (stream)
        fclose(stream);
    return found;
}

bool soak_limit_make(uint64_t bytes)
{
    if (own_group("memory", "/sys/fs/cgroup/memory") && mkdir(group, 0755) == 0) {
        if (write_group("memory.limit_in_bytes", bytes))
            return true;
        rmdir(group);
    }
    unified = true;
    if (own_group("", "/sys/fs/cgroup") && mkdir(group, 0755) == 0) {
        if (write_group("memory.max", bytes))
            return true;
        rmdir(group);
    }
    group[0] = '\0';
    return false;
}

void soak_limit_enter(void)
{
    if (group[0])
        write_group("cgroup.procs", (uint64_t)getpid());
}

uint64_t soak_limit_remove(void)
{
    if (!group[0])
        return 0;
    uint64_t most = read_group(unified ? "memory.peak" : "memory.max_usage_in_bytes");
    rmdir(group);
    group[0] = '\0';
    return most;
}
