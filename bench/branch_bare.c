/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What keeping a VM's memory by forking the process that has it costs, and nothing else. Each fork is timed from the
 * call to its return in the parent, which is when a VM could go on; the child waits until it is killed. Between forks
 * the written pages are written again, as a guest does.
 */
#include "branch_bare.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "tool.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { page_size = 4096 };
#define MIB ((size_t)1 << 20)
#define MEMORY (512 * MIB)

static uint8_t *map_memory(void)
{
    _autoclose_ int fd = memfd_create("memory", MFD_CLOEXEC);
    runs(fd < 0 || ftruncate(fd, (off_t)MEMORY) < 0 ? ramet_error_os(&err, errno, "a memfd of 512 MiB") : 0);
    uint8_t *whole = mmap(NULL, MEMORY, PROT_WRITE, MAP_SHARED, fd, 0);
    runs(whole == MAP_FAILED ? ramet_error_os(&err, errno, "mapping 512 MiB") : 0);
    memset(whole, 0x5a, MEMORY);
    munmap(whole, MEMORY);
    uint8_t *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    runs(memory == MAP_FAILED ? ramet_error_os(&err, errno, "mapping 512 MiB") : 0);
    return memory;
}

static uint64_t time_fork(void)
{
    uint64_t began = ramet_now_us();
    pid_t child = fork();
    if (child == 0)
        for (;;)
            pause();
    uint64_t took = ramet_now_us() - began;
    runs(child < 0 ? ramet_error_os(&err, errno, "fork") : 0);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return took;
}

void measure_process_fork(size_t count)
{
    static const size_t dirty_mib[] = {0, 16, 64, 256};
    for (size_t k = 0; k < sizeof dirty_mib / sizeof *dirty_mib; k++) {
        uint8_t *memory = map_memory();
        volatile uint8_t sum = 0;
        for (size_t at = 0; at < 96 * MIB; at += page_size)
            sum = (uint8_t)(sum + memory[at]);
        char name[48];
        snprintf(name, sizeof name, "bare.fork.%zu", dirty_mib[k]);
        for (size_t i = 0; i < count; i++) {
            for (size_t page = 0; page < dirty_mib[k] * MIB / page_size; page++)
                memory[page * page_size * 2] = (uint8_t)i; /* every other page: runs do not help */
            emit_one(name, "us", (double)time_fork());
        }
        munmap(memory, MEMORY);
    }
}
