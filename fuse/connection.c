/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading and answering requests.
 *
 * Each thread has two descriptors of the connection, clones of the one that is mounted: one
 * that does not wait, to see whether requests queue up, and one that does. An answer goes
 * to the descriptor its request was read from.
 *
 * `readers` threads read, at least one and at most `readers_max`; the others sleep. A reader
 * that finds requests queued RUSH times in a row wakes another. One that finds none goes to
 * sleep, but the last, who waits in read(2). A handler that waits for the disk first hands
 * its place as a reader over.
 *
 * The lock guards the counters and is held for moments. A crash of the process ends the
 * connection: those who wait get ECONNABORTED or ENOTCONN.
 */
#include "connection.h"

#define FUSE_USE_VERSION 314
#include "base/cleanup.h"
#include "base/log.h"
#include "mountpoint.h"
#include "protocol.h"
#include <fuse_lowlevel.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>

/* background: as many as there are, so that requests reach us in the order they were made (ramet_fuse_flush). */
enum { threads_max = 16, rush = 6, background = 65535, settle_tries = 20000, settle_yields = 100, poll_ns = 50000 };
static const size_t in_size = RAMET_FUSE_WRITE_MAX + 4096; /* a page for headers */

struct ramet_fuse_thread {
    struct ramet_fuse *fuse;
    pthread_t id;
    int quick_fd, wait_fd, fd; /* fd: of the request at hand */
    char *in, *out;            /* owned; mapped lazily by the kernel */
    bool reading;              /* its own; counted in `readers` */
    unsigned queued;           /* requests in a row that were there at once */
    /* Odd: it may have a request in its hands. Even: it has none, or (waiting) is in a read(2) that may have got one.
     */
    _Atomic uint64_t turn;
    _Atomic bool waiting;
};

struct ramet_fuse {
    struct ramet_fuse_options options;
    char dir[PATH_MAX];
    dev_t device;
    struct fuse_session *session; /* of libfuse: mounted through it, never read from */
    int fd;
    struct ramet_fuse_thread threads[threads_max];
    unsigned thread_count, readers_max;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t more;
    unsigned readers, wanted; /* wanted: how many should read */
    bool ending;
};

/* --- answers --- */

static void answer(struct ramet_fuse_request *request, int error, const void *data, size_t size)
{
    struct fuse_out_header head = {
        .len = (uint32_t)(sizeof head + size), .error = error, .unique = request->header->unique};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)data, size}};
    /* ENOENT: the caller was killed and does not wait any more. */
    if (writev(request->thread->fd, parts, size ? 2 : 1) < 0 && errno != ENOENT && errno != ENODEV)
        ramet_debug("workspaces: an answer to request %u was refused: %s", request->header->opcode, strerror(errno));
}

void ramet_fuse_reply(struct ramet_fuse_request *request, const void *data, size_t size)
{
    answer(request, 0, data, size);
}

void ramet_fuse_reply_error(struct ramet_fuse_request *request, int os_errno) { answer(request, -os_errno, NULL, 0); }

void *ramet_fuse_buffer(struct ramet_fuse_request *request) { return request->thread->out; }

/* --- readers --- */

/* Waits until another reader is wanted; false when the connection ends. */
static bool begin_reading(struct ramet_fuse_thread *thread)
{
    struct ramet_fuse *fuse = thread->fuse;
    pthread_mutex_lock(&fuse->lock);
    while (!fuse->ending && fuse->readers >= fuse->wanted)
        pthread_cond_wait(&fuse->more, &fuse->lock);
    thread->reading = !fuse->ending;
    fuse->readers += thread->reading;
    pthread_mutex_unlock(&fuse->lock);
    thread->queued = 0;
    return thread->reading;
}

void ramet_fuse_waits(struct ramet_fuse_request *request)
{
    struct ramet_fuse *fuse = request->thread->fuse;
    if (!request->thread->reading)
        return;
    pthread_mutex_lock(&fuse->lock);
    request->thread->reading = false;
    fuse->readers--;
    pthread_cond_signal(&fuse->more);
    pthread_mutex_unlock(&fuse->lock);
}

/* True when this one may stop: others read. */
static bool leave(struct ramet_fuse_thread *thread)
{
    struct ramet_fuse *fuse = thread->fuse;
    pthread_mutex_lock(&fuse->lock);
    bool left = fuse->readers > 1;
    if (left) {
        fuse->readers--;
        fuse->wanted = fuse->readers;
        thread->reading = false;
    }
    pthread_mutex_unlock(&fuse->lock);
    return left;
}

static void call_another(struct ramet_fuse *fuse)
{
    pthread_mutex_lock(&fuse->lock);
    if (fuse->wanted < fuse->readers_max && fuse->wanted <= fuse->readers) {
        fuse->wanted = fuse->readers + 1;
        pthread_cond_signal(&fuse->more);
    }
    pthread_mutex_unlock(&fuse->lock);
}

/*
 * A request, or EAGAIN when none comes for POLL_NS. Whoever got an answer often asks again at once, and waking a thread
 * that sleeps in read(2) takes as long on a virtual machine whose idle CPU is given away (docs/performance.md).
 */
static ssize_t poll_request(struct ramet_fuse_thread *thread)
{
    struct timespec now, end;
    ssize_t size = read(thread->fd = thread->quick_fd, thread->in, in_size);
    if (size >= 0 || errno != EAGAIN)
        return size;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += poll_ns;
    do {
        atomic_fetch_add(&thread->turn, 2); /* nothing in its hands just now: who flushes need not wait for more */
        sched_yield();
        size = read(thread->fd, thread->in, in_size);
        if (size >= 0 || errno != EAGAIN)
            return size;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - end.tv_sec) * 1000000000 + now.tv_nsec < end.tv_nsec);
    errno = EAGAIN;
    return size;
}

/* Size of the next request; 0 to stop reading for now; negative at the end of the connection. */
static ssize_t receive(struct ramet_fuse_thread *thread)
{
    for (;;) {
        atomic_fetch_add(&thread->turn, 1);
        ssize_t size = poll_request(thread);
        if (size > 0) {
            if (++thread->queued % rush == 0)
                call_another(thread->fuse);
            return size;
        }
        int error = errno;
        bool none = error == EAGAIN;
        if (none && leave(thread)) {
            atomic_fetch_add(&thread->turn, 1);
            return 0;
        }
        thread->queued = 0;
        if (none)
            atomic_store(&thread->waiting, true);
        atomic_fetch_add(&thread->turn, 1);
        if (none) {
            pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
            size = read(thread->fd = thread->wait_fd, thread->in, in_size);
            error = errno;
            pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
            if (size > 0)
                atomic_fetch_add(&thread->turn, 1);
            atomic_store(&thread->waiting, false);
            if (size > 0)
                return size;
        }
        errno = error;
        /* ENOENT: the request was taken back. */
        if (errno != EINTR && errno != EAGAIN && errno != ENOENT)
            return -1;
    }
}

static void handle(struct ramet_fuse_thread *thread, size_t size)
{
    const struct fuse_in_header *header = (const struct fuse_in_header *)thread->in;
    struct ramet_fuse_request request = {.context = thread->fuse->options.context,
                                         .header = header,
                                         .body = header + 1,
                                         .size = size - sizeof *header,
                                         .thread = thread};
    static const struct ramet_fuse_operation none;
    const struct ramet_fuse_operation *operation =
        header->opcode < RAMET_FUSE_OPCODES ? &thread->fuse->options.operations[header->opcode] : &none;
    if (!operation->run) {
        ramet_fuse_reply_error(&request, ENOSYS);
    } else if (request.size < operation->size) {
        ramet_fuse_reply_error(&request, EIO);
    } else {
        if (operation->waits)
            ramet_fuse_waits(&request);
        operation->run(&request);
    }
}

static void *serve(void *arg)
{
    struct ramet_fuse_thread *thread = arg;
    ssize_t size = 0;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    while (size >= 0 && begin_reading(thread))
        while (thread->reading && (size = receive(thread)) > 0) {
            handle(thread, (size_t)size);
            atomic_fetch_add(&thread->turn, 1);
        }
    return NULL;
}

/* --- INIT --- */

static void reply_init(struct ramet_fuse_request *request)
{
    const struct fuse_init_in *in = request->body;
    uint64_t have = in->flags | (in->flags & FUSE_INIT_EXT ? (uint64_t)in->flags2 << 32 : 0);
    uint64_t flags = have & (request->thread->fuse->options.flags | FUSE_INIT_EXT | FUSE_BIG_WRITES | FUSE_MAX_PAGES);
    struct fuse_init_out out = {
        .major = FUSE_KERNEL_VERSION,
        .minor = in->minor < FUSE_KERNEL_MINOR_VERSION ? in->minor : FUSE_KERNEL_MINOR_VERSION,
        .max_readahead = RAMET_FUSE_WRITE_MAX,
        .flags = (uint32_t)flags,
        .flags2 = (uint32_t)(flags >> 32),
        .max_background = background,
        .congestion_threshold = background * 3 / 4,
        .max_write = RAMET_FUSE_WRITE_MAX,
        .time_gran = 1,
        .max_pages = RAMET_FUSE_WRITE_MAX / 4096,
    };
    ramet_fuse_reply(request, &out, sizeof out);
}

/* The kernel's first request; before any other is sent. */
static int greet(struct ramet_fuse *fuse, struct ramet_error *err)
{
    struct ramet_fuse_thread *thread = &fuse->threads[0];
    ssize_t size;
    do
        size = read(thread->fd = fuse->fd, thread->in, in_size);
    while (size < 0 && errno == EINTR);
    const struct fuse_in_header *header = (const struct fuse_in_header *)thread->in;
    if (size < (ssize_t)(sizeof *header + 16) || header->opcode != FUSE_INIT)
        return ramet_error_os(err, size < 0 ? errno : EPROTO, "the kernel does not greet on %s", fuse->dir);
    struct ramet_fuse_request request = {.header = header, .body = header + 1, .thread = thread};
    const struct fuse_init_in *in = request.body;
    if (in->major != FUSE_KERNEL_VERSION || in->minor < 31) {
        ramet_fuse_reply_error(&request, EPROTO);
        return ramet_error_set(err, RAMET_UNSUPPORTED, "workspaces need FUSE 7.31 (Linux 5.4); this kernel has %u.%u",
                               in->major, in->minor);
    }
    reply_init(&request);
    return 0;
}

/* --- life --- */

static int clone_fd(const struct ramet_fuse *fuse, int flags, int *ret, struct ramet_error *err)
{
    uint32_t from = (uint32_t)fuse->fd;
    _autoclose_ int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | flags);
    if (fd < 0 || ioctl(fd, FUSE_DEV_IOC_CLONE, &from) < 0)
        return ramet_error_os(err, errno, "cannot clone the connection of %s", fuse->dir);
    *ret = STEAL_FD(fd);
    return 0;
}

static int mount_it(struct ramet_fuse *fuse, struct ramet_error *err)
{
    char options[256], dash_o[] = "-o", program[] = "ramet";
    char *argv[] = {program, dash_o, options, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, argv);
    const struct fuse_lowlevel_ops none = {0};
    bool root = geteuid() == 0;
    snprintf(options, sizeof options, "fsname=%s,subtype=ramet,default_permissions%s", fuse->options.name,
             root ? ",allow_other,suid,dev" : "");
    fuse->session = fuse_session_new(&args, &none, sizeof none, NULL);
    fuse_opt_free_args(&args);
    if (!fuse->session)
        return ramet_error_set(err, RAMET_INTERNAL, "libfuse refuses our options");
    if (fuse_session_mount(fuse->session, fuse->dir) != 0) {
        fuse_session_destroy(STEAL(fuse->session));
        ramet_error_set(err, RAMET_UNSUPPORTED, "cannot mount on %s", fuse->dir);
        return ramet_error_hint(err, "/dev/fuse must exist and be usable, as root or through fusermount3");
    }
    fuse->fd = fuse_session_fd(fuse->session);
    return 0;
}

/* Buffers and descriptors of all threads. */
static int prepare_threads(struct ramet_fuse *fuse, struct ramet_error *err)
{
    int r = 0;
    for (size_t i = 0; i < threads_max; i++)
        fuse->threads[i] = (struct ramet_fuse_thread){.fuse = fuse, .quick_fd = -1, .wait_fd = -1};
    for (size_t i = 0; i < threads_max && r == 0; i++) {
        struct ramet_fuse_thread *thread = &fuse->threads[i];
        if (posix_memalign((void **)&thread->in, 4096, in_size) != 0 ||
            posix_memalign((void **)&thread->out, 4096, RAMET_FUSE_WRITE_MAX) != 0)
            return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the mount on %s", fuse->dir);
        r = clone_fd(fuse, O_NONBLOCK, &thread->quick_fd, err);
        if (r == 0)
            r = clone_fd(fuse, 0, &thread->wait_fd, err);
    }
    return r;
}

static int start_threads(struct ramet_fuse *fuse, struct ramet_error *err)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    fuse->readers_max = cpus < 1 ? 1 : cpus > threads_max / 2 ? threads_max / 2 : (unsigned)cpus;
    fuse->wanted = 1;
    for (; fuse->thread_count < threads_max; fuse->thread_count++) {
        struct ramet_fuse_thread *thread = &fuse->threads[fuse->thread_count];
        int r = pthread_create(&thread->id, NULL, serve, thread);
        if (r != 0)
            return ramet_error_os(err, r, "cannot start the threads of the mount on %s", fuse->dir);
    }
    return 0;
}

/* Where nothing ends their read(2), as the end of the connection does, they are cancelled in it. */
static void end_threads(struct ramet_fuse *fuse, bool cancel)
{
    pthread_mutex_lock(&fuse->lock);
    fuse->ending = true;
    pthread_cond_broadcast(&fuse->more);
    pthread_mutex_unlock(&fuse->lock);
    for (unsigned i = 0; i < fuse->thread_count && cancel; i++)
        pthread_cancel(fuse->threads[i].id);
    for (unsigned i = 0; i < fuse->thread_count; i++)
        pthread_join(fuse->threads[i].id, NULL);
}

static void connection_free(struct ramet_fuse *fuse)
{
    for (size_t i = 0; i < threads_max; i++) {
        free(fuse->threads[i].in);
        free(fuse->threads[i].out);
        if (fuse->threads[i].fuse && fuse->threads[i].quick_fd >= 0)
            close(fuse->threads[i].quick_fd);
        if (fuse->threads[i].fuse && fuse->threads[i].wait_fd >= 0)
            close(fuse->threads[i].wait_fd);
    }
    if (fuse->session) {
        fuse_session_unmount(fuse->session); /* closes the descriptor; what is unmounted already it finds so */
        fuse_session_destroy(fuse->session);
    }
    pthread_cond_destroy(&fuse->more);
    pthread_mutex_destroy(&fuse->lock);
    free(fuse);
}

void ramet_fuse_stop(struct ramet_fuse *fuse)
{
    if (!fuse)
        return;
    umount2(fuse->dir, MNT_DETACH);
    end_threads(fuse, !ramet_mountpoint_abort(fuse->device));
    connection_free(fuse);
}

static int start(struct ramet_fuse *fuse, struct ramet_error *err)
{
    struct stat st;
    int r = mount_it(fuse, err);
    if (r < 0)
        return r;
    r = prepare_threads(fuse, err);
    if (r == 0)
        r = greet(fuse, err);
    if (r == 0)
        r = start_threads(fuse, err);
    if (r == 0 && stat(fuse->dir, &st) < 0)
        r = ramet_error_os(err, errno, "the mount on %s does not answer", fuse->dir);
    if (r < 0)
        return r;
    fuse->device = st.st_dev;
    ramet_mountpoint_raise_readahead(st.st_dev);
    return 0;
}

int ramet_fuse_start(const char *dir, const struct ramet_fuse_options *options, struct ramet_fuse **ret,
                     struct ramet_error *err)
{
    int r = ramet_mountpoint_prepare(dir, err);
    if (r < 0)
        return r;
    struct ramet_fuse *fuse = calloc(1, sizeof *fuse);
    if (!fuse)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to mount");
    fuse->options = *options;
    snprintf(fuse->dir, sizeof fuse->dir, "%s", dir);
    pthread_mutex_init(&fuse->lock, NULL);
    pthread_cond_init(&fuse->more, NULL);
    r = start(fuse, err);
    if (r < 0) {
        umount2(fuse->dir, MNT_DETACH);
        end_threads(fuse, true);
        connection_free(fuse);
        return r;
    }
    *ret = fuse;
    return 0;
}

/* --- flushing --- */

/* A request that is always sent, after all that were made before. */
static int send_one(const struct ramet_fuse *fuse)
{
    struct statfs st;
    return statfs(fuse->dir, &st);
}

/* Waits until the thread is no longer in this turn: most take microseconds. */
static void await_turn(struct ramet_fuse_thread *thread, uint64_t turn)
{
    for (unsigned i = 0; i < settle_tries && atomic_load(&thread->turn) == turn; i++) {
        if (i < settle_yields)
            sched_yield();
        else
            usleep(50);
    }
}

/* Waits until the thread has none of the requests that were made before this call. */
static int settle(struct ramet_fuse *fuse, struct ramet_fuse_thread *thread)
{
    uint64_t turn = atomic_load(&thread->turn);
    /* One that waits in read(2) reads the request that we send, or has got one and moves on. */
    for (unsigned i = 0;
         i < settle_tries && turn % 2 == 0 && atomic_load(&thread->waiting) && atomic_load(&thread->turn) == turn; i++)
        if (send_one(fuse) < 0)
            return -errno;
    turn = atomic_load(&thread->turn);
    if (turn % 2)
        await_turn(thread, turn);
    return 0;
}

int ramet_fuse_flush(struct ramet_fuse *fuse, struct ramet_error *err)
{
    _autoclose_ int fd = open(fuse->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* The kernel sends its dirty pages, and does not wait until they are answered. */
    int r = fd < 0 || syncfs(fd) < 0 || send_one(fuse) < 0 ? -errno : 0;
    for (unsigned i = 0; i < fuse->thread_count && r == 0; i++)
        r = settle(fuse, &fuse->threads[i]);
    return r < 0 ? ramet_error_os(err, -r, "cannot flush what the kernel holds of %s", fuse->dir) : 0;
}

/* --- notifications --- */

static int notify(struct ramet_fuse *fuse, int code, const void *what, size_t what_size, const char *name)
{
    size_t name_size = name ? strlen(name) + 1 : 0;
    struct fuse_out_header head = {.len = (uint32_t)(sizeof head + what_size + name_size), .error = code};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)what, what_size}, {(void *)name, name_size}};
    return writev(fuse->fd, parts, name ? 3 : 2) < 0 ? -errno : 0;
}

int ramet_fuse_inval_entry(struct ramet_fuse *fuse, uint64_t parent, const char *name)
{
    struct fuse_notify_inval_entry_out out = {.parent = parent, .namelen = (uint32_t)strlen(name)};
    return notify(fuse, FUSE_NOTIFY_INVAL_ENTRY, &out, sizeof out, name);
}

int ramet_fuse_inval_inode(struct ramet_fuse *fuse, uint64_t node, int64_t offset, int64_t size)
{
    struct fuse_notify_inval_inode_out out = {.ino = node, .off = offset, .len = size};
    return notify(fuse, FUSE_NOTIFY_INVAL_INODE, &out, sizeof out, NULL);
}

int ramet_fuse_inval_names(struct ramet_fuse *fuse) { return notify(fuse, RAMET_FUSE_NOTIFY_INC_EPOCH, NULL, 0, NULL); }
