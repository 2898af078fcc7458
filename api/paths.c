/* SPDX-License-Identifier: Apache-2.0 */
/* Default places, from the environment and the working directory. */
#include "paths.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The value of a variable that is set to something. */
static const char *env(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

__attribute__((format(printf, 3, 4))) static int put(char ret[static PATH_MAX], struct ramet_error *err,
                                                     const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(ret, PATH_MAX, fmt, ap);
    va_end(ap);
    return n < PATH_MAX ? 0 : ramet_error_set(err, RAMET_INVALID, "path \"%.100s...\" is too long", ret);
}

int ramet_paths_absolute(const char *path, char ret[static PATH_MAX], struct ramet_error *err)
{
    char here[PATH_MAX];
    if (*path == '/')
        return put(ret, err, "%s", path);
    if (!getcwd(here, sizeof here))
        return ramet_error_os(err, errno, "cannot tell the working directory that \"%.200s\" is relative to", path);
    return put(ret, err, "%s/%s", here, path);
}

static int default_socket(char ret[static PATH_MAX], struct ramet_error *err)
{
    const char *runtime = env("XDG_RUNTIME_DIR");
    if (geteuid() == 0)
        return put(ret, err, "/run/ramet/ramet.sock");
    if (runtime)
        return put(ret, err, "%s/ramet/ramet.sock", runtime);
    return put(ret, err, "/tmp/ramet-%u/ramet.sock", (unsigned)geteuid());
}

static int default_store(char ret[static PATH_MAX], struct ramet_error *err)
{
    const char *data = env("XDG_DATA_HOME"), *home = env("HOME");
    if (geteuid() == 0)
        return put(ret, err, "/var/lib/ramet");
    if (data)
        return put(ret, err, "%s/ramet", data);
    if (home)
        return put(ret, err, "%s/.local/share/ramet", home);
    ramet_error_set(err, RAMET_INVALID, "no place for a store: HOME is not set");
    return ramet_error_hint(err, "give --store or set RAMET_STORE");
}

static int beside(const char *socket, const char *name, char ret[static PATH_MAX], struct ramet_error *err)
{
    return put(ret, err, "%.*s/%s", (int)(strrchr(socket, '/') - socket), socket, name);
}

int ramet_paths_socket(const char *given, char ret[static PATH_MAX], struct ramet_error *err)
{
    const char *path = given ? given : env("RAMET_SOCKET");
    return path ? ramet_paths_absolute(path, ret, err) : default_socket(ret, err);
}

int ramet_paths_resolve(const struct ramet_paths_given *given, struct ramet_paths *ret, struct ramet_error *err)
{
    const char *store = given->store ? given->store : env("RAMET_STORE");
    const char *mount = given->mount ? given->mount : env("RAMET_MOUNT");
    const char *run = given->run ? given->run : env("RAMET_RUN");
    int rc = ramet_paths_socket(given->socket, ret->socket, err);
    if (rc == 0)
        rc = store ? ramet_paths_absolute(store, ret->store, err) : default_store(ret->store, err);
    if (rc == 0)
        rc = mount ? ramet_paths_absolute(mount, ret->mount, err) : beside(ret->socket, "mnt", ret->mount, err);
    if (rc == 0)
        rc = run ? ramet_paths_absolute(run, ret->run, err) : beside(ret->socket, "vm", ret->run, err);
    return rc;
}

int ramet_paths_make_parents(const char *path, struct ramet_error *err)
{
    char dir[PATH_MAX];
    int rc = put(dir, err, "%s", path);
    if (rc < 0)
        return rc;
    for (char *slash = strchr(dir + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(dir, 0700) != 0 && errno != EEXIST)
            return ramet_error_os(err, errno, "cannot make the directory \"%.300s\"", dir);
        *slash = '/';
    }
    return 0;
}
