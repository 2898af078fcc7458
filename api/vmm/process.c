/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Spawning.
 *
 * Children die with us by PR_SET_PDEATHSIG, which the kernel delivers when the *thread*
 * that spawned them ends, not the process. So all spawning is done by one thread that is
 * started once and never ends before the process does; callers queue and wait.
 *
 * It uses vfork: the daemon may map many gigabytes, whose page tables fork would copy.
 * Between vfork and exec the child shares our memory, so run_child only makes system
 * calls; the thread blocks all signals so that no handler of ours runs there either.
 *
 * `spawner.lock` guards the queue and each job's `done`. `process->lock` guards `reaped`
 * and `status`: a pid is only signalled while unreaped, so it cannot be a stranger's.
 */
#include "vmm/process.h"

#include "base/cleanup.h"
#include "vmm/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { HIGH_FD = 64 };  /* above every descriptor a child gets */
enum { term_ms = 300 }; /* between SIGTERM and SIGKILL */

struct ramet_process {
    pid_t pid;
    int pidfd;
    pthread_mutex_t lock;
    bool reaped;
    int status;
};

struct job {
    const struct ramet_spawn *spawn;
    pid_t parent;
    int null_fd, failure_fd; /* failure_fd: the child writes errno when it cannot exec */
    pid_t pid;               /* result, -1 on failure */
    int os_errno;
    bool done;
    struct job *next;
};

static struct {
    pthread_once_t once;
    pthread_mutex_t lock;
    pthread_cond_t queued, finished;
    struct job *head, **tail;
    bool running;
} spawner = {.once = PTHREAD_ONCE_INIT,
             .lock = PTHREAD_MUTEX_INITIALIZER,
             .queued = PTHREAD_COND_INITIALIZER,
             .finished = PTHREAD_COND_INITIALIZER,
             .tail = &spawner.head};

/* Puts `count` descriptors at 3, 4, ...: first out of the way, then in place, so that none is overwritten. */
static bool place_fds(const int *fds, size_t count)
{
    int high[16];
    if (count > sizeof high / sizeof high[0])
        return errno = EINVAL, false;
    for (size_t i = 0; i < count; i++)
        if ((high[i] = fcntl(fds[i], F_DUPFD, HIGH_FD)) < 0)
            return false;
    for (size_t i = 0; i < count; i++)
        if (dup2(high[i], RAMET_PROCESS_FIRST_FD + (int)i) < 0)
            return false;
    return true;
}

static void reset_signals(void)
{
    struct sigaction standard = {.sa_handler = SIG_DFL};
    for (int s = 1; s < NSIG; s++)
        sigaction(s, &standard, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* In the child, on our memory: system calls only. */
static _Noreturn void run_child(const struct job *job)
{
    const struct ramet_spawn *spawn = job->spawn;
    struct rlimit no_core = {0, 0};
    int failure_fd = fcntl(job->failure_fd, F_DUPFD_CLOEXEC, HIGH_FD);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == job->parent && setsid() >= 0 &&
        dup2(spawn->input_fd ? spawn->input_fd : job->null_fd, STDIN_FILENO) >= 0 &&
        dup2(spawn->output_fd, STDOUT_FILENO) >= 0 &&
        dup2(spawn->error_fd ? spawn->error_fd : spawn->output_fd, STDERR_FILENO) >= 0 &&
        (!spawn->directory || chdir(spawn->directory) == 0) && place_fds(spawn->fds, spawn->fd_count) &&
        close_range(RAMET_PROCESS_FIRST_FD + (unsigned)spawn->fd_count, ~0U, CLOSE_RANGE_CLOEXEC) == 0) {
        setrlimit(RLIMIT_CORE, &no_core);
        reset_signals();
        execve(spawn->argv[0], (char *const *)spawn->argv, (char *const *)spawn->env);
    }
    int failure = errno;
    (void)!write(failure_fd, &failure, sizeof failure);
    _exit(127);
}

/* A frame of its own: nothing here can be clobbered by the child's use of our stack. */
static __attribute__((noinline)) pid_t vfork_child(const struct job *job)
{
    pid_t pid = vfork();
    if (pid == 0)
        run_child(job);
    return pid;
}

static void run_job(struct job *job)
{
    int failure[2];
    if (pipe2(failure, O_CLOEXEC) != 0) {
        job->os_errno = errno;
        return;
    }
    job->null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    job->failure_fd = failure[1];
    pid_t pid = job->null_fd < 0 ? -1 : vfork_child(job);
    if (pid < 0)
        job->os_errno = errno;
    close(failure[1]);
    if (job->null_fd >= 0)
        close(job->null_fd);
    if (pid > 0 && read(failure[0], &job->os_errno, sizeof job->os_errno) > 0)
        waitpid(pid, NULL, 0);
    else
        job->pid = pid;
    close(failure[0]);
}

static void *serve(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&spawner.lock);
    for (;;) {
        while (!spawner.head)
            pthread_cond_wait(&spawner.queued, &spawner.lock);
        struct job *job = spawner.head;
        spawner.head = job->next;
        if (!spawner.head)
            spawner.tail = &spawner.head;
        pthread_mutex_unlock(&spawner.lock);
        run_job(job);
        pthread_mutex_lock(&spawner.lock);
        job->done = true;
        pthread_cond_broadcast(&spawner.finished);
    }
    return NULL;
}

static void start_spawner(void)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    spawner.running = pthread_create(&thread, NULL, serve, NULL) == 0;
    if (spawner.running)
        pthread_detach(thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void run_on_spawner(struct job *job)
{
    pthread_once(&spawner.once, start_spawner);
    if (!spawner.running) {
        job->os_errno = EAGAIN;
        return;
    }
    pthread_mutex_lock(&spawner.lock);
    *spawner.tail = job;
    spawner.tail = &job->next;
    pthread_cond_signal(&spawner.queued);
    while (!job->done)
        pthread_cond_wait(&spawner.finished, &spawner.lock);
    pthread_mutex_unlock(&spawner.lock);
}

int ramet_process_spawn(const struct ramet_spawn *spawn, struct ramet_process **ret, struct ramet_error *err)
{
    struct ramet_process *process = calloc(1, sizeof *process);
    if (!process)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a process");
    struct job job = {.spawn = spawn, .parent = getpid(), .pid = -1};
    run_on_spawner(&job);
    if (job.pid < 0) {
        free(process);
        return ramet_error_os(err, job.os_errno, "starting \"%s\"", spawn->argv[0]);
    }
    process->pid = job.pid;
    pthread_mutex_init(&process->lock, NULL);
    process->pidfd = pidfd_open(job.pid, 0);
    if (process->pidfd < 0) {
        int failure = errno;
        ramet_process_free(process);
        return ramet_error_os(err, failure, "watching \"%s\"", spawn->argv[0]);
    }
    *ret = process;
    return 0;
}

int ramet_process_pidfd(const struct ramet_process *process) { return process->pidfd; }
pid_t ramet_process_pid(const struct ramet_process *process) { return process->pid; }

static bool reap(struct ramet_process *process, int flags)
{
    pthread_mutex_lock(&process->lock);
    if (!process->reaped) {
        pid_t pid;
        do
            pid = waitpid(process->pid, &process->status, flags);
        while (pid < 0 && errno == EINTR);
        process->reaped = pid != 0; /* also when somebody else reaped it: it is gone */
    }
    bool reaped = process->reaped;
    pthread_mutex_unlock(&process->lock);
    return reaped;
}

bool ramet_process_wait(struct ramet_process *process, unsigned timeout_ms, int *ret_status)
{
    uint64_t deadline_us = ramet_deadline_us(timeout_ms);
    while (!reap(process, WNOHANG)) {
        struct pollfd pfd = {.fd = process->pidfd, .events = POLLIN};
        struct timespec left = ramet_timespec_us(ramet_left_us(deadline_us));
        if (ppoll(&pfd, 1, &left, NULL) == 0)
            return false;
    }
    if (ret_status)
        *ret_status = process->status;
    return true;
}

/* Unreaped, its pid is still the number of its session's group and nobody else's. */
static void signal_group(struct ramet_process *process, int number)
{
    pthread_mutex_lock(&process->lock);
    if (!process->reaped)
        kill(-process->pid, number);
    pthread_mutex_unlock(&process->lock);
}

/* True when it ended in time; it is not reaped. */
static bool await_end(const struct ramet_process *process, unsigned timeout_ms)
{
    struct pollfd pfd = {.fd = process->pidfd, .events = POLLIN};
    uint64_t deadline_us = ramet_deadline_us(timeout_ms);
    int ready;
    do {
        struct timespec left = ramet_timespec_us(ramet_left_us(deadline_us));
        ready = ppoll(&pfd, 1, &left, NULL);
    } while (ready < 0 && errno == EINTR);
    return ready > 0;
}

void ramet_process_end(struct ramet_process *process, unsigned timeout_ms, int *ret_status)
{
    if (!await_end(process, timeout_ms)) {
        signal_group(process, SIGTERM);
        await_end(process, term_ms);
    }
    signal_group(process, SIGKILL);
    reap(process, 0);
    if (ret_status)
        *ret_status = process->status;
}

void ramet_process_free(struct ramet_process *process)
{
    if (!process)
        return;
    if (!reap(process, WNOHANG)) {
        kill(process->pid, SIGKILL);
        reap(process, 0);
    }
    if (process->pidfd >= 0)
        close(process->pidfd);
    pthread_mutex_destroy(&process->lock);
    free(process);
}
