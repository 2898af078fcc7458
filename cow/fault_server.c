/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread reads messages, fills the block of the root's file a fault lies in, and wakes
 * who waits. Two branches that fault in one block send two messages; the second finds it
 * filled.
 *
 * Lock: guards the lists. It is not held across reads of the store; afterwards the mapping
 * is looked up again, since it may be gone: a signal can take a waiting thread away. The
 * answers that act on the mapping are given under the lock.
 */
#include "fault_server.h"

#include "base/cleanup.h"
#include "userfault.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/eventfd.h>

struct served {
    struct served *next;
    uint64_t serial;
    uintptr_t address;
    struct ramet_resident *resident; /* owned */
};

struct failure {
    struct failure *next;
    uintptr_t page;
    struct ramet_error err;
};

struct ramet_fault_server {
    int fd, stop_fd;
    pthread_t thread;
    pthread_mutex_t lock;
    struct served *served;    /* lock */
    struct failure *failures; /* lock */
    uint64_t next_serial;     /* lock */
};

static bool covers(const struct served *served, uintptr_t address)
{
    return address - served->address < ramet_resident_size(served->resident);
}

static struct served *find(struct ramet_fault_server *server, uintptr_t address)
{
    struct served *served = server->served;
    while (served && !covers(served, address))
        served = served->next;
    return served;
}

static struct failure *find_failure(struct ramet_fault_server *server, uintptr_t page)
{
    struct failure *failure = server->failures;
    while (failure && failure->page != page)
        failure = failure->next;
    return failure;
}

/* Under the lock. Without memory for it the touch is SIGBUS all the same, and the error unknown. */
static void keep_failure(struct ramet_fault_server *server, uintptr_t page, const struct ramet_error *err)
{
    struct failure *failure = find_failure(server, page) ? NULL : malloc(sizeof *failure);
    if (!failure)
        return;
    *failure = (struct failure){.next = server->failures, .page = page, .err = *err};
    server->failures = failure;
}

static void answer(struct ramet_fault_server *server, uintptr_t page)
{
    struct ramet_error err = {0};
    pthread_mutex_lock(&server->lock);
    struct served *served = find(server, page);
    struct ramet_resident *resident = served ? ramet_resident_ref(served->resident) : NULL;
    uint64_t serial = served ? served->serial : 0, index = served ? (page - served->address) / RAMET_PAGE_SIZE : 0;
    pthread_mutex_unlock(&server->lock);
    if (!resident)
        return;
    int r = ramet_resident_fill(resident, index, &err);
    pthread_mutex_lock(&server->lock);
    served = find(server, page);
    if (served && served->serial == serial) {
        if (r < 0) {
            keep_failure(server, page, &err);
            ramet_userfault_poison(server->fd, page);
        } else {
            ramet_userfault_wake(server->fd, page);
        }
    }
    pthread_mutex_unlock(&server->lock);
    ramet_resident_unref(resident);
}

static void *serve(void *ctx)
{
    struct ramet_fault_server *server = ctx;
    struct pollfd fds[2] = {{.fd = server->fd, .events = POLLIN}, {.fd = server->stop_fd, .events = POLLIN}};
    while (!fds[1].revents) {
        uintptr_t page;
        if (poll(fds, 2, -1) < 0)
            continue;
        while (ramet_userfault_next(server->fd, &page))
            answer(server, page);
    }
    return NULL;
}

int ramet_fault_server_new(struct ramet_fault_server **ret, struct ramet_error *err)
{
    struct ramet_fault_server *server = calloc(1, sizeof *server);
    if (!server)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to serve pages on demand");
    pthread_mutex_init(&server->lock, NULL);
    server->stop_fd = -1;
    int r = server->fd = ramet_userfault_open_serving(err);
    if (r >= 0) {
        server->stop_fd = eventfd(0, EFD_CLOEXEC);
        r = server->stop_fd < 0 ? errno : pthread_create(&server->thread, NULL, serve, server);
        if (r != 0)
            r = ramet_error_os(err, r, "cannot serve pages on demand");
    }
    if (r < 0) {
        ramet_cleanup_close(&server->stop_fd);
        ramet_cleanup_close(&server->fd);
        pthread_mutex_destroy(&server->lock);
        free(server);
        return r;
    }
    *ret = server;
    return 0;
}

void ramet_fault_server_free(struct ramet_fault_server *server)
{
    if (!server)
        return;
    eventfd_write(server->stop_fd, 1);
    pthread_join(server->thread, NULL);
    ramet_cleanup_close(&server->stop_fd);
    ramet_cleanup_close(&server->fd);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

int ramet_fault_server_fd(const struct ramet_fault_server *server) { return server->fd; }

int ramet_fault_server_add(struct ramet_fault_server *server, void *address, struct ramet_resident *resident,
                           struct ramet_error *err)
{
    struct served *served = malloc(sizeof *served);
    if (!served)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to serve pages on demand");
    pthread_mutex_lock(&server->lock);
    *served = (struct served){.next = server->served,
                              .serial = ++server->next_serial,
                              .address = (uintptr_t)address,
                              .resident = ramet_resident_ref(ramet_resident_root(resident))};
    server->served = served;
    pthread_mutex_unlock(&server->lock);
    int r = ramet_userfault_serve(server->fd, address, ramet_resident_size(resident), err);
    if (r < 0)
        ramet_fault_server_remove(server, address);
    return r;
}

void ramet_fault_server_remove(struct ramet_fault_server *server, void *address)
{
    pthread_mutex_lock(&server->lock);
    struct served **at = &server->served, *served;
    while (*at && (*at)->address != (uintptr_t)address)
        at = &(*at)->next;
    if ((served = *at))
        *at = served->next;
    for (struct failure **failure = &server->failures; served && *failure;) {
        struct failure *here = *failure;
        if (covers(served, here->page)) {
            *failure = here->next;
            free(here);
        } else {
            failure = &here->next;
        }
    }
    pthread_mutex_unlock(&server->lock);
    if (served)
        ramet_resident_unref(served->resident);
    free(served);
}

int ramet_fault_server_error(struct ramet_fault_server *server, const void *address, struct ramet_error *err)
{
    uintptr_t page = (uintptr_t)address & ~(uintptr_t)(RAMET_PAGE_SIZE - 1);
    int r = 0;
    pthread_mutex_lock(&server->lock);
    const struct failure *failure = find_failure(server, page);
    if (failure) {
        r = -failure->err.code;
        if (err)
            *err = failure->err;
    }
    pthread_mutex_unlock(&server->lock);
    return r;
}
