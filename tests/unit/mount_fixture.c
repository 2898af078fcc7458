/* SPDX-License-Identifier: Apache-2.0 */
#include "mount_fixture.h"

#include "base/cleanup.h"
#include "base/file.h"

#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static struct ramet_error err;

void mounted_open(struct mounted *m)
{
    char store[PATH_MAX];
    snprintf(store, sizeof store, "%s/store", m->dir);
    check_ok(ramet_store_open(store, NULL, &m->store, &err));
    check_ok(ramet_catalog_open(m->store, &m->catalog, &err));
    check_ok(ramet_workspaces_open(m->catalog, &m->set, &err));
    check_ok(ramet_workspace_mount_start(m->root, m->set, &m->mount, &err));
}

void mounted_close(struct mounted *m)
{
    ramet_workspace_mount_stop(STEAL(m->mount));
    ramet_workspaces_close(STEAL(m->set));
    ramet_catalog_close(STEAL(m->catalog));
    ramet_store_close(STEAL(m->store));
}

void mounted_make(struct mounted *m)
{
    test_dir_make(m->dir);
    assert_int_equal(chmod(m->dir, 0755), 0);
    snprintf(m->root, sizeof m->root, "%s/mnt", m->dir);
    check_ok(ramet_dir_make(m->root, 0755, &err));
    mounted_open(m);
}

void mounted_remove(struct mounted *m)
{
    assert_int_equal(chdir("/"), 0);
    mounted_close(m);
    umount2(mounted_at(m, RAMET_WORKSPACES_PLAIN, ""), MNT_DETACH); /* what a failed test left */
    umount2(mounted_at(m, RAMET_WORKSPACES_AUDITED, ""), MNT_DETACH);
    test_dir_remove(m->dir);
}

const char *mounted_at(const struct mounted *m, const char *door, const char *path)
{
    static char full[4][PATH_MAX + 256];
    static unsigned turn;
    char *to = full[turn++ % 4];
    snprintf(to, sizeof full[0], "%s/%s/%s", m->root, door, path);
    return to;
}
