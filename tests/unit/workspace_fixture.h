/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of workspaces share: a store with a workspace, short forms of calls that must succeed, checks of errno. */
#ifndef RAMET_TESTS_WORKSPACE_FIXTURE_H
#define RAMET_TESTS_WORKSPACE_FIXTURE_H

#include "testing.h"

#include "workspace/files.h"

#include <stdbool.h>

extern struct ramet_error err;

struct world {
    char dir[64];
    struct ramet_store *store;
    struct ramet_catalog *catalog;
    struct ramet_workspaces *set;
    struct ramet_workspace *ws; /* "main" */
};

#define RAMET_ROOT RAMET_WORKSPACE_ROOT
#define OWNER                                                                                                          \
    (struct ramet_wowner) { 1000, 1000 }

int world_setup(void **state); /* *state: a struct world */
int world_teardown(void **state);
/* Closes everything, in order, and opens it again. */
void world_reopen(struct world *world);

/* `call` must fail with this errno. */
#define check_errno(call, number)                                                                                      \
    do {                                                                                                               \
        err = (struct ramet_error){0};                                                                                 \
        int check_r_ = (call);                                                                                         \
        if (check_r_ >= 0 || err.os_errno != (number))                                                                 \
            fail_msg("%s: %d, errno %d, not %d (%s)", #call, check_r_, err.os_errno, (number), err.msg);               \
    } while (0)

uint64_t make(struct ramet_workspace *ws, uint64_t dir, const char *name, uint32_t mode);
uint64_t make_file(struct ramet_workspace *ws, uint64_t dir, const char *name);
uint64_t make_dir(struct ramet_workspace *ws, uint64_t dir, const char *name);
uint64_t find(struct ramet_workspace *ws, uint64_t dir, const char *name);
struct ramet_wstat stat_of(struct ramet_workspace *ws, uint64_t ino);
void put_bytes(struct ramet_workspace *ws, uint64_t ino, uint64_t offset, const void *bytes, size_t size);
/* The file holds exactly these bytes. */
void expect_bytes(struct ramet_workspace *ws, uint64_t ino, const void *bytes, size_t size);
/* used_bytes and inodes of the workspace are what its tree adds up to, and every inode's names and counts are right. */
void expect_sound(struct ramet_workspace *ws);

#endif
