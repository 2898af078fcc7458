/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workspace import and export: archives between the daemon and a file, standard input or output. A directory goes
 * through tar(1), which reads it with the rights of whoever calls.
 */
#include "cmd_workspace_tar.h"
#include "base/cleanup.h"
#include "cli.h"
#include "cli_print.h"
#include "json.h"
#include "progress.h"
#include "ramet.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Where an archive comes from. */
struct source {
    int fd;
    pid_t tar; /* that writes it; 0: none */
    struct ramet_error err;
};

static int fail(struct source *source, int os_errno, const char *what)
{
    return ramet_error_os(&source->err, os_errno, "%s", what);
}

/* Whether tar(1) archived everything; its own words are on standard error already. */
static int end_tar(struct source *source)
{
    int status = 0;
    pid_t tar = source->tar;
    source->tar = 0;
    if (tar == 0)
        return 0;
    while (waitpid(tar, &status, 0) < 0)
        if (errno != EINTR)
            return fail(source, errno, "cannot wait for tar");
    if (status != 0)
        return ramet_error_set(&source->err, RAMET_INVALID, "tar could not read all of the directory");
    return 0;
}

/* Nothing of an archive that broke off is imported, so its maker is asked before its end is told. */
static long give(void *context, char *buf, size_t max)
{
    struct source *source = context;
    ssize_t got;
    do
        got = read(source->fd, buf, max);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return fail(source, errno, "cannot read the archive");
    return got == 0 && end_tar(source) < 0 ? -1 : got;
}

static int start_tar(const char *directory, struct source *ret)
{
    char *const argv[] = {"tar",
                          "--create",
                          "--file=-",
                          "--format=pax",
                          "--xattrs",
                          "--sparse",
                          "--xattrs-include=*",
                          "--numeric-owner",
                          "--directory",
                          (char *)directory,
                          ".",
                          NULL};
    extern char **environ;
    int ends[2];
    posix_spawn_file_actions_t actions;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return fail(ret, errno, "cannot make a pipe");
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    int failed = posix_spawnp(&ret->tar, "tar", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    ret->fd = ends[0];
    if (!failed)
        return 0;
    ret->tar = 0;
    fail(ret, failed, "cannot run tar to read the directory");
    return ramet_error_hint(&ret->err, "install GNU tar, or import an archive");
}

static int open_source(const char *name, struct source *ret)
{
    struct stat st;
    *ret = (struct source){.fd = STDIN_FILENO};
    if (strcmp(name, "-") == 0)
        return 0;
    if (stat(name, &st) != 0)
        return ramet_error_os(&ret->err, errno, "cannot read \"%.300s\"", name);
    if (S_ISDIR(st.st_mode)) {
        ret->fd = -1;
        return start_tar(name, ret);
    }
    ret->fd = open(name, O_RDONLY | O_CLOEXEC);
    return ret->fd < 0 ? ramet_error_os(&ret->err, errno, "cannot read \"%.300s\"", name) : 0;
}

static void close_source(struct source *source)
{
    if (source->fd > STDERR_FILENO)
        close(source->fd);
    end_tar(source);
}

static int connect_daemon(struct cli *cli)
{
    return cli->client ? 0 : ramet_client_new(cli->socket, &cli->client, &cli->err);
}

/* "?a=1&b=2", owned by the caller; NULL: no memory. Values that are NULL or "" are left out. */
static char *query(const char *const pairs[][2], size_t count)
{
    char *text = strdup("");
    for (size_t i = 0; text && i < count; i++) {
        if (!pairs[i][1] || !*pairs[i][1])
            continue;
        _autofree_ char *value = ramet_client_path("", pairs[i][1], "");
        char *longer = NULL;
        if (!value || asprintf(&longer, "%s%c%s=%s", text, *text ? '&' : '?', pairs[i][0], value) < 0)
            longer = NULL;
        free(text);
        text = longer;
    }
    return text;
}

static int send_archive(struct cli *cli, const char *method, const char *path, const char *from,
                        struct ramet_json **ret)
{
    struct source source;
    _autofree_ char *answer = NULL;
    int rc = open_source(from, &source);
    if (rc == 0) {
        struct progress *progress = progress_start("importing");
        rc = ramet_client_send(cli->client, method, path, give, &source, &answer, &cli->err);
        progress_stop(progress);
    }
    close_source(&source);
    if (source.err.code) { /* whatever became of the call, that is why */
        cli->err = source.err;
        rc = -(int)source.err.code;
    }
    return rc < 0 ? rc : ramet_json_parse(answer, strlen(answer), ret, &cli->err);
}

int cmd_workspace_import(struct cli *cli, const struct workspace_archive *options, const char *workspace,
                         const char *from)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *answer = NULL;
    const char *const pairs[][2] = {{"into", options->into},         {"name", options->into ? NULL : workspace},
                                    {"uid", options->uid},           {"gid", options->gid},
                                    {"quota_bytes", options->bytes}, {"quota_inodes", options->inodes}};
    _autofree_ char *suffix = NULL, *path = NULL, *text = query(pairs, options->into ? 1 : 6);
    if (text && asprintf(&suffix, "%s%s", options->into ? "/tar" : "", text) < 0)
        suffix = NULL;
    if (suffix)
        path = options->into ? ramet_client_path("/v1/workspaces/", workspace, suffix)
                             : ramet_client_path("/v1/workspaces/import", "", suffix);
    if (!path)
        return ramet_error_set(&cli->err, RAMET_NO_MEMORY, "no memory for a call");
    int rc = connect_daemon(cli);
    if (rc == 0)
        rc = send_archive(cli, options->into ? "PUT" : "POST", path, from, &answer);
    if (rc < 0 || cli->json)
        return rc < 0 ? rc : cli_print_json(cli, answer);
    const struct ramet_json *sums = ramet_json_get(answer, "imported");
    printf("imported %s files, %s into %s: %s\n", cli_value(sums, "files").s, cli_value(sums, "bytes").s, workspace,
           ramet_json_str(answer, "path", "?"));
    return 0;
}

/* ---- export ---- */

struct sink {
    int fd;
    struct ramet_error err;
};

static bool take(void *context, const char *bytes, size_t size)
{
    struct sink *sink = context;
    while (size > 0) {
        ssize_t done = write(sink->fd, bytes, size);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0) {
            ramet_error_os(&sink->err, errno, "cannot write the archive");
            return false;
        }
        bytes += done;
        size -= (size_t)done;
    }
    return true;
}

int cmd_workspace_export(struct cli *cli, const struct workspace_archive *options, const char *workspace,
                         const char *path)
{
    const char *const pairs[][2] = {{"path", path}, {"state", options->state}};
    struct sink sink = {.fd = STDOUT_FILENO};
    _autofree_ char *text = query(pairs, 2), *suffix = NULL, *url = NULL;
    if (isatty(STDOUT_FILENO)) {
        ramet_error_set(&cli->err, RAMET_INVALID, "an archive is not written to a terminal");
        return ramet_error_hint(&cli->err, "ramet workspace export %s > FILE.tar", workspace);
    }
    if (text && asprintf(&suffix, "/tar%s", text) < 0)
        suffix = NULL;
    if (suffix)
        url = ramet_client_path("/v1/workspaces/", workspace, suffix);
    if (!url)
        return ramet_error_set(&cli->err, RAMET_NO_MEMORY, "no memory for a call");
    int rc = connect_daemon(cli);
    if (rc == 0)
        rc = ramet_client_receive(cli->client, url, take, &sink, &cli->err);
    if (sink.err.code) {
        cli->err = sink.err;
        rc = -(int)sink.err.code;
    }
    return rc;
}
