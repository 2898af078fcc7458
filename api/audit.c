/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adders queue the middle of a line; one thread numbers are already fixed in the
 * order of the queue, so it only chains, writes and syncs what waits, a group at a
 * time, and then publishes the head.
 *
 * Locking: `lock` guards the queue, `added`, `synced`, `head` and the flags. The
 * files and `tail` belong to the writer. No lock is held across I/O.
 *
 * A write or sync that fails is undone (the file is cut back to what was synced, since
 * after a failed sync nobody knows what the kernel kept) and tried again until it
 * succeeds or the daemon gives up at its stop. A crash leaves whole lines, perhaps one
 * torn one that was never acknowledged, and a head that is at most one group behind.
 */
#include "audit.h"

#include "audit_files.h"
#include "audit_line.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "digest.h"
#include "json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define ROTATE_BYTES (64u << 20)
#define QUEUE_MAX 4096
#define RETRY_MS 200
#define STOP_TRIES 15 /* times RETRY_MS */
#define KEY_SIZE 32

struct item {
    struct item *next;
    char time[32];
    char *middle; /* the line's members after "prev", owned */
};

struct ramet_audit {
    char dir[PATH_MAX - 32];
    unsigned char key[KEY_SIZE];
    uint64_t rotate_bytes;
    unsigned queue_max;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t more, less; /* the queue grew, or the daemon stops; lines were synced, or the writer gave up */
    struct item *first, **last;
    unsigned waiting;
    uint64_t added, synced; /* numbers of the last line queued and synced */
    struct ramet_audit_point head;
    bool stopping, gave_up;
    bool stuck; /* the last try to write failed */
    /* the writer's */
    int fd, head_fd;
    unsigned number;               /* of the file */
    uint64_t size;                 /* of what is synced of it */
    struct ramet_audit_point tail; /* of what was written */
};

/* ---- a line ---- */

static void print_time(char ret[static 32])
{
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t n = strftime(ret, 32, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(ret + n, 32 - n, ".%06ldZ", now.tv_nsec / 1000);
}

static struct item *item_new(char *middle)
{
    struct item *item = middle ? calloc(1, sizeof *item) : NULL;
    if (item)
        item->middle = middle;
    else
        free(middle);
    return item;
}

static void items_free(struct item *item)
{
    while (item) {
        struct item *next = item->next;
        free(item->middle);
        free(item);
        item = next;
    }
}

/* ---- adding ---- */

static int given_up(struct ramet_error *err)
{
    ramet_error_set(err, RAMET_UNAVAILABLE, "the daemon is stopping and the audit could not be written");
    return ramet_error_hint(err, "nothing is done that the audit does not tell; its disk may be full");
}

/* Under the lock. */
static void enqueue(struct ramet_audit *audit, struct item *item)
{
    print_time(item->time); /* here, so that the times of lines never go back */
    *audit->last = item;
    audit->last = &item->next;
    audit->waiting++;
    audit->added++;
    pthread_cond_signal(&audit->more);
}

static int wait_synced(struct ramet_audit *audit, uint64_t seq, struct ramet_error *err)
{
    while (audit->synced < seq && !audit->gave_up)
        pthread_cond_wait(&audit->less, &audit->lock);
    return audit->synced >= seq ? 0 : given_up(err);
}

int ramet_audit_add(struct ramet_audit *audit, const struct ramet_audit_line *line, bool durable, uint64_t *ret_seq,
                    struct ramet_error *err)
{
    struct item *item = item_new(ramet_audit_line_middle(line));
    if (!item)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a line of the audit");
    pthread_mutex_lock(&audit->lock);
    while ((audit->waiting >= audit->queue_max || audit->stuck) && !audit->gave_up)
        pthread_cond_wait(&audit->less, &audit->lock);
    if (audit->gave_up) {
        pthread_mutex_unlock(&audit->lock);
        items_free(item);
        return given_up(err);
    }
    enqueue(audit, item);
    uint64_t seq = audit->added;
    int rc = durable ? wait_synced(audit, seq, err) : 0;
    pthread_mutex_unlock(&audit->lock);
    if (rc == 0 && ret_seq)
        *ret_seq = seq;
    return rc;
}

int ramet_audit_wait(struct ramet_audit *audit, uint64_t seq, struct ramet_error *err)
{
    pthread_mutex_lock(&audit->lock);
    int rc = wait_synced(audit, seq, err);
    pthread_mutex_unlock(&audit->lock);
    return rc;
}

int ramet_audit_flush(struct ramet_audit *audit, struct ramet_error *err)
{
    pthread_mutex_lock(&audit->lock);
    int rc = wait_synced(audit, audit->added, err);
    pthread_mutex_unlock(&audit->lock);
    return rc;
}

/* ---- the writer ---- */

static int open_file(struct ramet_audit *audit, struct ramet_error *err)
{
    char path[PATH_MAX];
    int rc = ramet_audit_path(audit->dir, audit->number, path, err);
    if (rc < 0)
        return rc;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct stat st;
    if (fd < 0)
        return ramet_error_os(err, errno, "cannot open \"%.300s\"", path);
    if (fstat(fd, &st) != 0 || ramet_dir_sync(audit->dir, err) < 0) {
        close(fd);
        return ramet_error_os(err, errno, "cannot make \"%.300s\" durable", path);
    }
    if (audit->fd >= 0)
        close(audit->fd);
    audit->fd = fd;
    audit->size = (uint64_t)st.st_size;
    return 0;
}

/* The lines of a group, and where the chain stands after them. NULL: no memory. */
static char *group_text(const struct item *item, struct ramet_audit_point *point, size_t *ret_size)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, ret_size);
    if (!out)
        return NULL;
    for (; item; item = item->next) {
        _autofree_ char *line = NULL;
        int size = asprintf(&line, "{\"seq\":%" PRIu64 ",\"time\":\"%s\",\"prev\":\"%s\",%s", point->seq + 1,
                            item->time, point->hash, item->middle);
        if (size < 0)
            break;
        point->seq++;
        ramet_digest_sure(line, (size_t)size, point->hash);
        fprintf(out, "%s,\"hash\":\"%s\"}\n", line, point->hash);
    }
    bool failed = ferror(out) || item;
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}

/* Writes and syncs a group at the end of what is synced, from scratch at each try. */
static int write_group(struct ramet_audit *audit, const struct item *items, struct ramet_error *err)
{
    struct ramet_audit_point point = audit->tail;
    size_t size = 0;
    int rc = 0;
    if (audit->size >= audit->rotate_bytes) {
        audit->number++;
        rc = open_file(audit, err);
        if (rc < 0)
            audit->number--;
    }
    _autofree_ char *text = rc == 0 ? group_text(items, &point, &size) : NULL;
    if (rc == 0 && !text)
        rc = ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the audit's lines");
    if (rc == 0 && ftruncate(audit->fd, (off_t)audit->size) != 0)
        rc = ramet_error_os(err, errno, "cannot cut the audit");
    if (rc == 0)
        rc = ramet_file_write(audit->fd, "the audit", text, size, audit->size, err);
    if (rc == 0)
        rc = ramet_file_sync(audit->fd, "the audit", err);
    if (rc < 0)
        return rc;
    audit->size += size;
    audit->tail = point;
    /* Not synced: after a crash of the host it may be behind, which is no sign of anything. */
    if (ramet_audit_write_head(audit->head_fd, &point, err) < 0)
        ramet_warn("audit: %s", err->msg);
    return 0;
}

/* False: the daemon stops and it cannot be written. */
static bool write_until_done(struct ramet_audit *audit, const struct item *items)
{
    struct ramet_error err = {0};
    const struct timespec pause = {.tv_nsec = RETRY_MS * 1000000L};
    for (unsigned tries = 0, stop_tries = 0; write_group(audit, items, &err) < 0; tries++) {
        if (tries % 50 == 0)
            ramet_log(RAMET_LOG_ERROR, "audit: %s; calls wait until it can be written", err.msg);
        pthread_mutex_lock(&audit->lock);
        audit->stuck = true;
        stop_tries += audit->stopping;
        pthread_mutex_unlock(&audit->lock);
        if (stop_tries > STOP_TRIES)
            return false;
        nanosleep(&pause, NULL);
    }
    return true;
}

static void *writer(void *arg)
{
    struct ramet_audit *audit = arg;
    pthread_mutex_lock(&audit->lock);
    while (!audit->gave_up) {
        while (!audit->first && !audit->stopping)
            pthread_cond_wait(&audit->more, &audit->lock);
        if (!audit->first)
            break;
        struct item *items = audit->first;
        unsigned count = audit->waiting;
        audit->first = NULL;
        audit->last = &audit->first;
        pthread_mutex_unlock(&audit->lock);
        bool written = write_until_done(audit, items);
        items_free(items);
        pthread_mutex_lock(&audit->lock);
        audit->waiting -= count; /* only now: what is being written counts against the limit too */
        audit->gave_up = !written;
        audit->stuck = false;
        if (written) {
            audit->synced = audit->tail.seq;
            audit->head = audit->tail;
        }
        pthread_cond_broadcast(&audit->less);
    }
    pthread_mutex_unlock(&audit->lock);
    return NULL;
}

/* ---- opening ---- */

/* The key is made once; losing it only makes old hashes of arguments unlike new ones. */
static int open_key(struct ramet_audit *audit, struct ramet_error *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/key", audit->dir);
    _autoclose_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return ramet_error_os(err, errno, "cannot open \"%.300s\"", path);
    ssize_t n = read(fd, audit->key, KEY_SIZE);
    if (n == KEY_SIZE)
        return 0;
    ramet_random(audit->key, KEY_SIZE);
    int rc = ramet_file_write(fd, path, audit->key, KEY_SIZE, 0, err);
    return rc < 0 ? rc : ramet_file_sync(fd, path, err);
}

static int open_head(struct ramet_audit *audit, struct ramet_error *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/head", audit->dir);
    audit->head_fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return audit->head_fd >= 0 ? 0 : ramet_error_os(err, errno, "cannot open \"%.300s\"", path);
}

/* Finds the last whole line of the open file; *ret_torn is what follows it. False: there is none. */
static bool last_line(struct ramet_audit *audit, struct ramet_audit_point *ret, uint64_t *ret_torn)
{
    static const size_t window = 2 * RAMET_AUDIT_LINE_MAX;
    uint64_t from = audit->size > window ? audit->size - window : 0;
    size_t size = (size_t)(audit->size - from);
    _autofree_ char *text = malloc(size + 1);
    *ret_torn = audit->size;
    if (!text || ramet_file_read(audit->fd, "the audit", text, size, from, NULL) < 0)
        return false;
    char *end = memrchr(text, '\n', size);
    if (!end)
        return false;
    *ret_torn = size - (size_t)(end + 1 - text);
    char *begin = memrchr(text, '\n', (size_t)(end - text));
    begin = begin ? begin + 1 : text;
    _cleanup_(ramet_json_cleanup) struct ramet_json *line = NULL;
    if (ramet_json_parse(begin, (size_t)(end - begin), &line, NULL) < 0 ||
        strlen(ramet_json_str(line, "hash", "")) != RAMET_AUDIT_HASH_SIZE - 1)
        return false;
    ret->seq = (uint64_t)ramet_json_int(line, "seq", 0);
    strcpy(ret->hash, ramet_json_str(line, "hash", ""));
    return true;
}

/* Stands at the end of the newest file that has a line. What is torn behind it was never acknowledged. */
static int find_tail(struct ramet_audit *audit, uint64_t *ret_torn, struct ramet_error *err)
{
    _autofree_ unsigned *numbers = NULL;
    size_t count = 0;
    int rc = ramet_audit_list(audit->dir, &numbers, &count, err);
    audit->tail = (struct ramet_audit_point){.hash = RAMET_AUDIT_NO_HASH};
    audit->number = 1;
    for (size_t i = count; rc == 0 && i-- > 0;) {
        uint64_t torn;
        audit->number = numbers[i];
        rc = open_file(audit, err);
        if (rc < 0)
            return rc;
        bool found = last_line(audit, &audit->tail, &torn);
        *ret_torn += torn;
        if (found) {
            audit->size -= torn; /* the next group is written over it */
            return 0;
        }
    }
    if (rc == 0) {
        rc = open_file(audit, err);
        audit->size = 0;
    }
    return rc;
}

static int tell(struct ramet_audit *audit, const char *error, const char *reason, struct ramet_error *err)
{
    const struct ramet_principal self = ramet_principal_daemon();
    const struct ramet_audit_line line = {
        .principal = &self, .action = "openAudit", .allowed = true, .error = error, .reason = reason};
    return ramet_audit_add(audit, &line, true, NULL, err);
}

/* What the files say of the time before: a head ahead of the lines means that lines were taken away. */
static int tell_opening(struct ramet_audit *audit, const struct ramet_audit_point *head, uint64_t torn,
                        struct ramet_error *err)
{
    char reason[256];
    if (head->seq > audit->tail.seq || (head->seq == audit->tail.seq && strcmp(head->hash, audit->tail.hash) != 0)) {
        snprintf(reason, sizeof reason, "the head tells of line %" PRIu64 ", the files end with line %" PRIu64,
                 head->seq, audit->tail.seq);
        ramet_warn("audit: %s: lines were taken away or changed; 'ramet audit verify' says more", reason);
        return tell(audit, "damaged", reason, err);
    }
    if (torn) {
        snprintf(reason, sizeof reason, "%" PRIu64 " bytes after line %" PRIu64 " were torn in a crash", torn,
                 audit->tail.seq);
        return tell(audit, NULL, reason, err);
    }
    return 0;
}

static void audit_free(struct ramet_audit *audit)
{
    if (audit->fd >= 0)
        close(audit->fd);
    if (audit->head_fd >= 0)
        close(audit->head_fd);
    items_free(audit->first);
    pthread_cond_destroy(&audit->less);
    pthread_cond_destroy(&audit->more);
    pthread_mutex_destroy(&audit->lock);
    free(audit);
}

static struct ramet_audit *audit_new(const struct ramet_audit_options *options)
{
    struct ramet_audit *audit = calloc(1, sizeof *audit);
    if (!audit)
        return NULL;
    audit->fd = audit->head_fd = -1;
    audit->last = &audit->first;
    audit->rotate_bytes = options && options->rotate_bytes ? options->rotate_bytes : ROTATE_BYTES;
    audit->queue_max = options && options->queue_max ? options->queue_max : QUEUE_MAX;
    pthread_mutex_init(&audit->lock, NULL);
    pthread_cond_init(&audit->more, NULL);
    pthread_cond_init(&audit->less, NULL);
    return audit;
}

int ramet_audit_open(const char *dir, const struct ramet_audit_options *options, struct ramet_audit **ret,
                     struct ramet_error *err)
{
    struct ramet_audit *audit = audit_new(options);
    struct ramet_audit_point head;
    uint64_t torn = 0;
    if (!audit)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the audit");
    int rc = snprintf(audit->dir, sizeof audit->dir, "%s", dir) < (int)sizeof audit->dir
                 ? ramet_dir_make(dir, 0700, err)
                 : ramet_error_set(err, RAMET_INVALID, "path \"%.100s...\" is too long", dir);
    if (rc == 0)
        rc = open_key(audit, err);
    if (rc == 0 && ramet_audit_read_head(dir, &head, err) < 0)
        head = (struct ramet_audit_point){.seq = UINT64_MAX}; /* unreadable: told as damage */
    if (rc == 0)
        rc = open_head(audit, err);
    if (rc == 0)
        rc = find_tail(audit, &torn, err);
    audit->head = audit->tail;
    audit->added = audit->synced = audit->tail.seq;
    if (rc == 0 && pthread_create(&audit->thread, NULL, writer, audit) != 0)
        rc = ramet_error_set(err, RAMET_NO_MEMORY, "cannot start a thread for the audit");
    if (rc < 0) {
        audit_free(audit);
        return rc;
    }
    rc = tell_opening(audit, &head, torn, err);
    if (rc < 0) {
        ramet_audit_close(audit);
        return rc;
    }
    *ret = audit;
    return 0;
}

void ramet_audit_give_up(struct ramet_audit *audit)
{
    pthread_mutex_lock(&audit->lock);
    audit->stopping = true;
    pthread_cond_signal(&audit->more);
    pthread_mutex_unlock(&audit->lock);
}

void ramet_audit_close(struct ramet_audit *audit)
{
    if (!audit)
        return;
    ramet_audit_give_up(audit);
    pthread_join(audit->thread, NULL);
    if (audit->synced < audit->added)
        ramet_log(RAMET_LOG_ERROR, "audit: %" PRIu64 " lines could not be written", audit->added - audit->synced);
    audit_free(audit);
}

/* ---- hashes and the head ---- */

void ramet_audit_hash(const struct ramet_audit *audit, const void *bytes, size_t size,
                      char ret[static RAMET_AUDIT_HASH_SIZE])
{
    ramet_digest_keyed(audit->key, KEY_SIZE, bytes, size, ret);
}

void ramet_audit_hash_json(const struct ramet_audit *audit, const struct ramet_json *value,
                           char ret[static RAMET_AUDIT_HASH_SIZE])
{
    _autofree_ char *text = value ? ramet_json_canonical(value) : NULL;
    const char *bytes = text ? text : value ? "no memory" : "{}";
    ramet_audit_hash(audit, bytes, strlen(bytes), ret);
}

void ramet_audit_head(struct ramet_audit *audit, uint64_t *ret_seq, char ret_hash[static RAMET_AUDIT_HASH_SIZE])
{
    pthread_mutex_lock(&audit->lock);
    *ret_seq = audit->head.seq;
    memcpy(ret_hash, audit->head.hash, RAMET_AUDIT_HASH_SIZE);
    pthread_mutex_unlock(&audit->lock);
}

const char *ramet_audit_dir(const struct ramet_audit *audit) { return audit->dir; }
