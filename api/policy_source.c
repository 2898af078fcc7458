/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file is looked at (one stat) each time the policy is asked for. `lock` guards
 * all fields; the file is read under it, so that two callers do not read it twice:
 * it is small, and whoever asks must wait for the answer anyway.
 */
#include "policy_source.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "policy.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX (1u << 20)

/* What tells one state of a file from another. */
struct mark {
    struct timespec modified, changed;
    ino_t inode;
    off_t size;
    int os_errno; /* it cannot be looked at */
};

struct ramet_policy_source {
    char *path; /* NULL: no file */
    pthread_mutex_t lock;
    struct ramet_policy *policy;
    struct mark mark;
    struct ramet_error error; /* of the file as it is marked */
};

static struct mark look(const char *path)
{
    struct mark mark = {0};
    struct stat st;
    if (stat(path, &st) != 0) {
        mark.os_errno = errno;
        return mark;
    }
    mark.modified = st.st_mtim;
    mark.changed = st.st_ctim;
    mark.inode = st.st_ino;
    mark.size = st.st_size;
    return mark;
}

static bool same_time(struct timespec a, struct timespec b) { return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec; }

static bool same_mark(const struct mark *a, const struct mark *b)
{
    return same_time(a->modified, b->modified) && same_time(a->changed, b->changed) && a->inode == b->inode &&
           a->size == b->size && a->os_errno == b->os_errno;
}

/* A policy that others can write gives everything to them. */
static int check_file(int fd, const char *path, struct stat *ret, struct ramet_error *err)
{
    if (fstat(fd, ret) != 0)
        return ramet_error_os(err, errno, "cannot look at the policy \"%.300s\"", path);
    if (!S_ISREG(ret->st_mode) || ret->st_size > FILE_MAX)
        return ramet_error_set(err, RAMET_INVALID, "the policy \"%.300s\" is no file of at most %u bytes", path,
                               FILE_MAX);
    if ((ret->st_mode & 022) || (ret->st_uid != 0 && ret->st_uid != geteuid())) {
        ramet_error_set(err, RAMET_DENIED,
                        "the policy \"%.300s\" can be written by others than root and the daemon's user", path);
        return ramet_error_hint(err, "chown it and 'chmod go-w' it");
    }
    return 0;
}

static int read_policy(const char *path, struct ramet_policy **ret, struct ramet_error *err)
{
    _autoclose_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0)
        return ramet_error_os(err, errno, "cannot open the policy \"%.300s\"", path);
    int rc = check_file(fd, path, &st, err);
    if (rc < 0)
        return rc;
    _autofree_ char *text = malloc((size_t)st.st_size + 1);
    if (!text)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the policy");
    ssize_t n = read(fd, text, (size_t)st.st_size + 1);
    if (n < 0)
        return ramet_error_os(err, errno, "cannot read the policy \"%.300s\"", path);
    rc = ramet_policy_parse(text, (size_t)n, ret, err);
    return rc < 0 ? ramet_error_prefix(err, "policy \"%.200s\"", path) : 0;
}

/* Under the lock. The mark is taken first: a change while we read is seen the next time. */
static int refresh(struct ramet_policy_source *source, struct ramet_error *err)
{
    struct ramet_policy *policy = NULL;
    source->mark = look(source->path);
    source->error = (struct ramet_error){0};
    int rc = read_policy(source->path, &policy, &source->error);
    if (rc < 0) {
        if (err)
            *err = source->error;
        return rc;
    }
    ramet_policy_unref(source->policy);
    source->policy = policy;
    return 0;
}

int ramet_policy_source_open(const char *path, struct ramet_policy_source **ret, struct ramet_error *err)
{
    struct ramet_policy_source *source = calloc(1, sizeof *source);
    if (source && path)
        source->path = strdup(path);
    if (!source || (path && !source->path)) {
        free(source);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the policy");
    }
    pthread_mutex_init(&source->lock, NULL);
    int rc = path ? refresh(source, err) : ramet_policy_default(&source->policy, err);
    if (rc < 0) {
        ramet_policy_source_free(source);
        return rc;
    }
    *ret = source;
    return 0;
}

void ramet_policy_source_free(struct ramet_policy_source *source)
{
    if (!source)
        return;
    ramet_policy_unref(source->policy);
    pthread_mutex_destroy(&source->lock);
    free(source->path);
    free(source);
}

struct ramet_policy *ramet_policy_source_get(struct ramet_policy_source *source)
{
    pthread_mutex_lock(&source->lock);
    if (source->path) {
        struct mark mark = look(source->path);
        if (!same_mark(&mark, &source->mark)) {
            if (refresh(source, NULL) < 0)
                ramet_warn("the policy before it stays in force: %s", source->error.msg);
            else
                ramet_info("policy %s is in force", ramet_policy_id(source->policy));
        }
    }
    struct ramet_policy *policy = ramet_policy_ref(source->policy);
    pthread_mutex_unlock(&source->lock);
    return policy;
}

int ramet_policy_source_reload(struct ramet_policy_source *source, struct ramet_error *err)
{
    if (!source->path) {
        ramet_error_set(err, RAMET_CONFLICT, "the daemon has no policy file");
        return ramet_error_hint(err, "start it with 'rametd --policy FILE'");
    }
    pthread_mutex_lock(&source->lock);
    int rc = refresh(source, err);
    pthread_mutex_unlock(&source->lock);
    return rc;
}

const char *ramet_policy_source_path(const struct ramet_policy_source *source) { return source->path; }

int ramet_policy_source_error(struct ramet_policy_source *source, struct ramet_error *err)
{
    pthread_mutex_lock(&source->lock);
    if (source->error.code)
        *err = source->error;
    int code = source->error.code;
    pthread_mutex_unlock(&source->lock);
    return -code;
}
