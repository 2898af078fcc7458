/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/child.h"

#include "base/cleanup.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *path_of(const char *const *env)
{
    for (; env && *env; env++)
        if (strncmp(*env, "PATH=", 5) == 0)
            return *env + 5;
    return "/usr/local/bin:/usr/bin:/bin";
}

/* The program's path, as a shell would find it. Owned by the caller. */
static int find_program(const char *name, const char *const *env, char **ret, struct ramet_error *err)
{
    if (!strchr(name, '/')) {
        for (const char *at = path_of(env); *at;) {
            int size = (int)strcspn(at, ":");
            char *path = NULL;
            if (size && asprintf(&path, "%.*s/%s", size, at, name) >= 0 && access(path, X_OK) == 0) {
                *ret = path;
                return 0;
            }
            if (size)
                free(path);
            at += size + (at[size] == ':');
        }
        ramet_error_set(err, RAMET_UNAVAILABLE, "the command \"%.200s\" is not installed", name);
        return ramet_error_hint(err, "install it, or name its path: the daemon looks on its own PATH");
    }
    *ret = strdup(name);
    return *ret ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory to start \"%.200s\"", name);
}

int ramet_child_start(const char *const *argv, const char *const *env, const char *directory, struct ramet_child *ret,
                      struct ramet_error *err)
{
    _autofree_ char *program = NULL;
    size_t count = 0;
    int rc = find_program(argv[0], env, &program, err);
    if (rc < 0)
        return rc;
    while (argv[count])
        count++;
    _autofree_ const char **found = calloc(count + 1, sizeof *found);
    int in[2] = {-1, -1}, out[2] = {-1, -1}, errors[2] = {-1, -1};
    if (!found || pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(errors, O_CLOEXEC) < 0) {
        rc = ramet_error_set(err, RAMET_NO_MEMORY, "no memory or no descriptors to start \"%.200s\"", argv[0]);
    } else {
        memcpy(found, argv, count * sizeof *argv);
        found[0] = program;
        rc = ramet_process_spawn(&(struct ramet_spawn){.argv = found,
                                                       .env = env,
                                                       .output_fd = out[1],
                                                       .input_fd = in[0],
                                                       .error_fd = errors[1],
                                                       .directory = directory ? directory : "/"},
                                 &ret->process, err);
    }
    const int theirs[] = {in[0], out[1], errors[1]};
    for (size_t i = 0; i < 3; i++)
        if (theirs[i] >= 0)
            close(theirs[i]);
    ret->in_fd = in[1];
    ret->out_fd = out[0];
    ret->err_fd = errors[0];
    return rc;
}
