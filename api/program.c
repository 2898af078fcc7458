/* SPDX-License-Identifier: Apache-2.0 */
#include "program.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>

extern char **environ;

/* Reads to the end, keeping the first bytes, and ends them with NUL. */
static void read_all(int fd, char *text, size_t size)
{
    size_t used = 0;
    char rest[256];
    for (;;) {
        bool full = used + 1 >= size;
        ssize_t n = read(fd, full ? rest : text + used, full ? sizeof rest : size - 1 - used);
        if (n <= 0 && !(n < 0 && errno == EINTR))
            break;
        if (!full && n > 0)
            used += (size_t)n;
    }
    text[used] = '\0';
}

int ramet_program_run(const char *const *argv, const char *package, struct ramet_error *err)
{
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return ramet_error_os(err, errno, "cannot run %s", argv[0]);
    _autoclose_ int in = pipe_fds[0];
    _autoclose_ int out = pipe_fds[1];
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out, STDERR_FILENO);
    pid_t pid;
    int r = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (r != 0) {
        ramet_error_set(err, RAMET_UNAVAILABLE, "cannot run %s: %s", argv[0], strerror(r));
        return ramet_error_hint(err, "install it: apt-get install %s", package);
    }
    close(STEAL_FD(out));
    char said[400];
    int status;
    read_all(in, said, sizeof said);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    said[strcspn(said, "\n")] = '\0';
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return ramet_error_set(err, RAMET_IO, "%s failed: %s", argv[0], said);
    return 0;
}
