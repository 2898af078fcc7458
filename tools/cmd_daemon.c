/* SPDX-License-Identifier: Apache-2.0 */
/*
 * up, down, status. `up` waits for the daemon's own word on a pipe and `down` for the
 * process itself through a pidfd: neither sleeps nor guesses.
 */
#include "base/cleanup.h"
#include "cli.h"
#include "cli_print.h"
#include "commands.h"
#include "json.h"
#include "paths.h"
#include "progress.h"
#include "ramet.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

extern char **environ;

#define ARGS_MAX 24

struct daemon_args {
    char program[PATH_MAX], ready_fd[16];
    const char *argv[ARGS_MAX];
    size_t count;
};

/* ---- status ---- */

static int get_status(struct cli *cli, struct ramet_json **ret)
{
    return cli_call(cli, "GET", CLI_PATH("/v1/status", "", ""), NULL, "asking the daemon", ret);
}

int cmd_status(struct cli *cli, int argc, char **argv)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    const struct cli_usage usage = {.line = "status", .summary = "Shows where the daemon runs and keeps things."};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc == 0)
        rc = get_status(cli, &answer);
    if (rc == 0 && !cli->json)
        cli_object(answer);
    return rc;
}

/* ---- up ---- */

/* The rametd beside this program, else the one on PATH. */
static void find_program(char ret[static PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", ret, PATH_MAX - sizeof "/rametd");
    ret[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(ret, '/');
    if (slash)
        strcpy(slash, "/rametd");
    if (!slash || access(ret, X_OK) != 0)
        strcpy(ret, "rametd");
}

static void add_arg(struct daemon_args *args, const char *option, const char *value)
{
    if (value && args->count + 3 <= ARGS_MAX) {
        args->argv[args->count++] = option;
        args->argv[args->count++] = value;
    }
}

static int cannot_start(struct cli *cli, const struct daemon_args *args, int os_errno)
{
    ramet_error_set(&cli->err, RAMET_UNAVAILABLE, "cannot start \"%.300s\": %s", args->program, strerror(os_errno));
    return ramet_error_hint(&cli->err, "rametd belongs beside ramet or on PATH");
}

static int spawn(struct cli *cli, const struct daemon_args *args, int log_fd, int ready_fd, pid_t *ret)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, log_fd, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, log_fd, STDERR_FILENO);
    posix_spawn_file_actions_adddup2(&actions, ready_fd, ready_fd); /* onto itself: it survives the exec */
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID);
    int os_errno = posix_spawnp(ret, args->program, &actions, &attr, (char *const *)args->argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    return os_errno ? cannot_start(cli, args, os_errno) : 0;
}

/* Reads the daemon's word until it says it or dies: "ready", or its error as JSON. */
static int await_ready(struct cli *cli, int fd, pid_t pid, const char *log_path)
{
    char word[4096];
    size_t size = 0;
    ssize_t n;
    struct progress *progress = progress_start("starting the daemon");
    while ((n = read(fd, word + size, sizeof word - 1 - size)) > 0 || (n < 0 && errno == EINTR))
        size += n > 0 ? (size_t)n : 0;
    progress_stop(progress);
    word[size] = '\0';
    if (strcmp(word, "ready\n") == 0)
        return 0;
    waitpid(pid, NULL, 0);
    if (size)
        return ramet_wire_error_read(word, size, 0, &cli->err);
    ramet_error_set(&cli->err, RAMET_UNAVAILABLE, "the daemon died while it started");
    return ramet_error_hint(&cli->err, "its log is %.200s", log_path);
}

static int start(struct cli *cli, struct daemon_args *args, const char *socket)
{
    _autofree_ char *log_path = NULL;
    pid_t pid;
    int rc = ramet_paths_make_parents(socket, &cli->err), ends[2];
    if (rc < 0)
        return rc;
    if (asprintf(&log_path, "%s.log", socket) < 0)
        return ramet_error_set(&cli->err, RAMET_NO_MEMORY, "no memory for a path");
    _autoclose_ int log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log_fd < 0)
        return ramet_error_os(&cli->err, errno, "cannot open the log \"%s\"", log_path);
    if (pipe2(ends, O_CLOEXEC) != 0)
        return ramet_error_os(&cli->err, errno, "cannot make a pipe");
    snprintf(args->ready_fd, sizeof args->ready_fd, "%d", ends[1]);
    add_arg(args, "--ready-fd", args->ready_fd);
    rc = spawn(cli, args, log_fd, ends[1], &pid);
    close(ends[1]);
    if (rc == 0)
        rc = await_ready(cli, ends[0], pid, log_path);
    close(ends[0]);
    return rc;
}

static int report_up(struct cli *cli, const char *how)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    int rc = get_status(cli, &answer);
    if (rc == 0 && !cli->json)
        printf("rametd %s %s: pid %s, store %s, socket %s\n", ramet_json_str(answer, "version", "?"), how,
               cli_value(answer, "pid").s, ramet_json_str(answer, "store", "?"), ramet_json_str(answer, "socket", "?"));
    return rc;
}

static int up(struct cli *cli, struct daemon_args *args, bool foreground)
{
    char socket[PATH_MAX];
    struct ramet_client_status status;
    int rc = ramet_paths_socket(cli->socket, socket, &cli->err);
    if (rc == 0)
        rc = ramet_client_new(cli->socket, &cli->client, &cli->err);
    if (rc < 0)
        return rc;
    if (foreground) {
        execvp(args->program, (char *const *)args->argv);
        return cannot_start(cli, args, errno);
    }
    rc = ramet_client_get_status(cli->client, &status, &cli->err);
    if (rc == 0)
        return report_up(cli, "already runs");
    if (rc == -RAMET_UNAVAILABLE)
        rc = start(cli, args, socket);
    return rc < 0 ? rc : report_up(cli, "runs");
}

int cmd_up(struct cli *cli, int argc, char **argv)
{
    const char *store = NULL, *mount = NULL, *run = NULL, *log_level = NULL, *policy = NULL, *listen = NULL;
    bool foreground = false;
    const struct cli_option options[] = {
        {0, "store", "DIR", CLI_TEXT, &store, "snapshots and their data [$RAMET_STORE]"},
        {0, "mount", "DIR", CLI_TEXT, &mount, "mount point of images [$RAMET_MOUNT]"},
        {0, "run-dir", "DIR", CLI_TEXT, &run, "sockets and logs of VMs [$RAMET_RUN]"},
        {0, "policy", "FILE", CLI_TEXT, &policy, "who may do what"},
        {0, "listen", "PLACE", CLI_TEXT, &listen, "TCP too: PORT or HOST:PORT; needs tokens in the policy"},
        {0, "log-level", "L", CLI_TEXT, &log_level, "error, warn, info or debug [info]"},
        {0, "foreground", NULL, CLI_FLAG, &foreground, "become the daemon; log to stderr"},
        {0},
    };
    const struct cli_usage usage = {.line = "up [OPTION]...",
                                    .summary = "Starts the daemon, or finds it running; its log is beside its socket.",
                                    .options = options};
    struct daemon_args args = {.argv = {"rametd"}, .count = 1};
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc < 0)
        return rc;
    find_program(args.program);
    add_arg(&args, "--socket", cli->socket);
    add_arg(&args, "--store", store);
    add_arg(&args, "--mount", mount);
    add_arg(&args, "--run-dir", run);
    add_arg(&args, "--policy", policy);
    add_arg(&args, "--listen", listen);
    add_arg(&args, "--log-level", log_level);
    return up(cli, &args, foreground);
}

/* ---- down ---- */

/* Signals the daemon whose status we have and waits until its process is gone. */
static int stop(struct cli *cli, int pid)
{
    _autoclose_ int fd = pidfd_open(pid, 0);
    struct ramet_client_status again;
    if (fd < 0)
        return errno == ESRCH ? 0 : ramet_error_os(&cli->err, errno, "cannot watch the daemon, process %d", pid);
    /* Now that the process is held: is it still the daemon, and not another with its number? */
    int rc = ramet_client_get_status(cli->client, &again, &cli->err);
    if (rc == -RAMET_UNAVAILABLE)
        return 0;
    if (rc < 0 || again.pid != pid)
        return rc < 0 ? rc : ramet_error_set(&cli->err, RAMET_BUSY, "another daemon has just started; try again");
    if (pidfd_send_signal(fd, SIGTERM, NULL, 0) != 0)
        return ramet_error_os(&cli->err, errno, "cannot stop the daemon, process %d", pid);
    struct pollfd gone = {.fd = fd, .events = POLLIN};
    struct progress *progress = progress_start("stopping the daemon and its sandboxes");
    while (poll(&gone, 1, -1) < 0 && errno == EINTR)
        ;
    progress_stop(progress);
    return 0;
}

int cmd_down(struct cli *cli, int argc, char **argv)
{
    const struct cli_usage usage = {.line = "down",
                                    .summary = "Stops the daemon and every sandbox; snapshots that are on disk stay."};
    struct ramet_client_status status;
    int rc = cli_parse(cli, &usage, &argc, argv);
    if (rc == 0)
        rc = ramet_client_new(cli->socket, &cli->client, &cli->err);
    if (rc == 0)
        rc = ramet_client_get_status(cli->client, &status, &cli->err);
    bool ran = rc == 0;
    if (ran)
        rc = stop(cli, status.pid);
    else if (rc == -RAMET_UNAVAILABLE)
        rc = 0; /* it is down, as asked */
    if (rc == 0 && cli->json)
        printf("{\"stopped\": %s}\n", ran ? "true" : "false");
    else if (rc == 0)
        printf(ran ? "stopped rametd at %s\n" : "no daemon runs at %s\n", ramet_client_socket(cli->client));
    return rc;
}
