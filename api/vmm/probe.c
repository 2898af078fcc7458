/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this host can run. The result is kept for the life of the process, failures are not: QEMU may be
 * installed while the daemon runs. `cache.lock` guards the cache and makes others wait for the first probe.
 */
#include "vmm/probe.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "vmm/kvm_guest.h"
#include "vmm/process.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { VERSION_MS = 10000, KVM_MS = 2000 };

static struct {
    pthread_mutex_t lock;
    bool known;
    struct ramet_vmm_probe probe;
} cache = {.lock = PTHREAD_MUTEX_INITIALIZER};

static char *find_in_path(const char *name)
{
    const char *path = getenv("PATH");
    for (const char *dir = path ? path : "/usr/bin:/bin"; *dir;) {
        size_t size = strcspn(dir, ":");
        char *candidate = NULL;
        if (size > 0 && asprintf(&candidate, "%.*s/%s", (int)size, dir, name) < 0)
            return NULL;
        if (candidate && access(candidate, X_OK) == 0)
            return candidate;
        free(candidate);
        dir += size + (dir[size] == ':');
    }
    return NULL;
}

int ramet_qemu_find(char **ret, struct ramet_error *err)
{
    const char *chosen = getenv("RAMET_QEMU");
    char *path = chosen && strchr(chosen, '/') ? strdup(chosen) : find_in_path(chosen ? chosen : "qemu-system-x86_64");
    if (!path || access(path, X_OK) != 0) {
        free(path);
        ramet_error_set(err, RAMET_UNAVAILABLE, "QEMU not found: \"%s\" cannot be executed",
                        chosen ? chosen : "qemu-system-x86_64");
        ramet_error_hint(err, "apt install qemu-system-x86, or set RAMET_QEMU to the program");
        return -RAMET_UNAVAILABLE;
    }
    *ret = path;
    return 0;
}

/* Runs a program to its end. True when it ended in time; *ret_status is as waitpid gives it. */
static int run(const char *const *argv, const int *fds, size_t fd_count, int output_fd, unsigned timeout_ms,
               int *ret_status, struct ramet_error *err)
{
    struct ramet_process *process;
    struct ramet_spawn spawn = {
        .argv = argv, .env = (const char *const *)environ, .fds = fds, .fd_count = fd_count, .output_fd = output_fd};
    int r = ramet_process_spawn(&spawn, &process, err);
    if (r < 0)
        return r;
    if (!ramet_process_wait(process, timeout_ms, ret_status))
        r = ramet_error_set(err, RAMET_TIMEOUT, "\"%s\" did not end within %u ms", argv[0], timeout_ms);
    ramet_process_free(process);
    return r;
}

static int read_version(const char *qemu, char *ret, size_t ret_size, struct ramet_error *err)
{
    _autoclose_ int output = memfd_create("ramet-probe", MFD_CLOEXEC);
    if (output < 0)
        return ramet_error_os(err, errno, "memory for a probe");
    const char *const argv[] = {qemu, "--version", NULL};
    int status;
    int r = run(argv, NULL, 0, output, VERSION_MS, &status, err);
    if (r < 0)
        return r;
    char text[512] = "";
    ssize_t size = pread(output, text, sizeof text - 1, 0);
    const char *version = size > 0 ? strstr(text, "version ") : NULL;
    if (!version)
        return ramet_error_set(err, RAMET_UNSUPPORTED, "\"%s --version\" does not answer like QEMU", qemu);
    version += strlen("version ");
    snprintf(ret, ret_size, "%.*s", (int)strcspn(version, " (\n"), version);
    return 0;
}

static int check_version(const char *version, struct ramet_error *err)
{
    int major = 0, minor = 0;
    sscanf(version, "%d.%d", &major, &minor);
    if (major > 7 || (major == 7 && minor >= 2))
        return 0;
    ramet_error_set(err, RAMET_UNSUPPORTED, "QEMU %s is too old; 7.2 or later is needed", version);
    ramet_error_hint(err, "install QEMU 7.2 or later, or set RAMET_QEMU to one");
    return -RAMET_UNSUPPORTED;
}

/* A memfd holding the probe guest, or -1. */
static int guest_image(void)
{
    size_t size = (size_t)(ramet_kvm_guest_end - ramet_kvm_guest_start);
    int fd = memfd_create("ramet-kvm-guest", MFD_CLOEXEC);
    if (fd >= 0 && write(fd, ramet_kvm_guest_start, size) != (ssize_t)size) {
        close(fd);
        return -1;
    }
    return fd;
}

/*
 * KVM that opens is not yet KVM that works: nested hosts may emulate it a thousand times too slowly. The tiny guest
 * has to reach its end in time.
 */
static bool kvm_works(const char *qemu)
{
    _autoclose_ int image = access("/dev/kvm", R_OK | W_OK) == 0 ? guest_image() : -1;
    _autoclose_ int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (image < 0 || null_fd < 0)
        return false;
    const char *const argv[] = {qemu,        "-nodefaults", "-no-user-config",
                                "-display",  "none",        "-machine",
                                "q35",       "-accel",      "kvm",
                                "-cpu",      "host",        "-m",
                                "16",        "-no-reboot",  "-kernel",
                                "/dev/fd/3", "-device",     "isa-debug-exit,iobase=0xf4,iosize=0x01",
                                NULL};
    int status = -1;
    struct ramet_error err = {0};
    int r = run(argv, &image, 1, null_fd, KVM_MS, &status, &err);
    bool works = r == 0 && WIFEXITED(status) && WEXITSTATUS(status) == RAMET_KVM_GUEST_EXIT;
    if (!works)
        ramet_debug("/dev/kvm does not work here (%s), using TCG", r < 0 ? err.msg : "its guest failed");
    return works;
}

static int probe(struct ramet_vmm_probe *ret, struct ramet_error *err)
{
    _autofree_ char *qemu = NULL;
    struct ramet_vmm_probe found = {0};
    int r = ramet_qemu_find(&qemu, err);
    if (r == 0)
        r = read_version(qemu, found.version, sizeof found.version, err);
    if (r == 0)
        r = check_version(found.version, err);
    if (r < 0)
        return r;
    const char *chosen = getenv("RAMET_ACCEL");
    snprintf(found.accelerator, sizeof found.accelerator, "%s", chosen ? chosen : kvm_works(qemu) ? "kvm" : "tcg");
    *ret = found;
    return 0;
}

int ramet_vmm_probe(struct ramet_vmm_probe *ret, struct ramet_error *err)
{
    pthread_mutex_lock(&cache.lock);
    int r = cache.known ? 0 : probe(&cache.probe, err);
    cache.known = r == 0;
    if (r == 0)
        *ret = cache.probe;
    pthread_mutex_unlock(&cache.lock);
    return r < 0 ? (ramet_error_prefix(err, "looking for a VMM"), r) : 0;
}
