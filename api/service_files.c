/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Import and export: snapshots from files and files from snapshots. Formats other than
 * raw go through qemu-img. A file that is written appears whole under its name or not
 * at all.
 */
#include "base/cleanup.h"
#include "base/file.h"
#include "digest.h"
#include "image_file.h"
#include "jobs.h"
#include "mount.h"
#include "program.h"
#include "service_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char *const qemu_img_package = "qemu-utils";

/* --- import --- */

/* Whether the file begins like one of the formats qemu-img reads and we do not. */
static bool is_foreign(int fd)
{
    static const char *const magics[] = {"QFI\xfb", "KDMV", "vhdxfile", "conectix"};
    char head[8] = {0};
    if (pread(fd, head, sizeof head, 0) < 4)
        return false;
    for (size_t i = 0; i < sizeof magics / sizeof *magics; i++)
        if (memcmp(head, magics[i], strlen(magics[i])) == 0)
            return true;
    return false;
}

/* Converts to raw in an unnamed file of the store's directory. */
static int open_converted(struct ramet_service *service, const char *path, int *ret_fd, struct ramet_error *err)
{
    char temporary[PATH_MAX];
    snprintf(temporary, sizeof temporary, "%s/import-XXXXXX", ramet_store_dir(service->store));
    _autoclose_ int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return ramet_error_os(err, errno, "cannot make %s", temporary);
    const char *argv[] = {"qemu-img", "convert", "-O", "raw", path, temporary, NULL};
    int r = ramet_program_run(argv, qemu_img_package, err);
    unlink(temporary);
    if (r == 0)
        *ret_fd = STEAL_FD(fd);
    return r < 0 ? ramet_error_prefix(err, "cannot import %s", path) : 0;
}

static int open_source(struct ramet_service *service, const char *path, bool convert, int *ret_fd, uint64_t *ret_size,
                       struct ramet_error *err)
{
    struct stat st;
    _autoclose_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ramet_error_os(err, errno, "cannot open %s", path);
    if (convert && is_foreign(fd)) {
        close(STEAL_FD(fd));
        int r = open_converted(service, path, &fd, err);
        if (r < 0)
            return r;
    }
    if (fstat(fd, &st) < 0)
        return ramet_error_os(err, errno, "cannot examine %s", path);
    if (!S_ISREG(st.st_mode) || st.st_size == 0)
        return ramet_error_set(err, RAMET_INVALID, "%s is empty or no regular file", path);
    *ret_size = (uint64_t)st.st_size;
    *ret_fd = STEAL_FD(fd);
    return 0;
}

struct import {
    struct ramet_service *service;
    struct ramet_snapshot *parent, *snapshot; /* borrowed; parent may be NULL */
    struct ramet_ingest *ingest;
};

static int find_parent(struct ramet_service *service, const char *ref, struct ramet_snapshot **ret,
                       struct ramet_error *err)
{
    int r = ramet_catalog_find(service->catalog, ref, ret, err);
    if (r < 0 || atomic_load(&(*ret)->durable))
        return r < 0 ? ramet_error_prefix(err, "the import's parent") : 0;
    ramet_error_set(err, RAMET_CONFLICT, "the import's parent, snapshot \"%s\", is not on disk yet", ref);
    return ramet_error_hint(err, "try again when 'ramet show %s' says that it is durable", ref);
}

/* Puts an image, where `later` as a later state of the parent's of that name. */
static int import_file(struct import *import, const char *name, const char *path, bool later, struct ramet_error *err)
{
    struct ramet_service *service = import->service;
    struct ramet_image *image = later && import->parent ? ramet_snapshot_image(import->parent, name) : NULL;
    _autoclose_ int fd = -1;
    uint64_t size = 0;
    struct ramet_page_map map, base;
    if (!path)
        return 0;
    int r = image ? ramet_image_map(image, &base, err) : 0;
    if (r == 0)
        r = open_source(service, path, strcmp(name, "disk0") == 0, &fd, &size, err);
    if (r == 0)
        r = ramet_image_put_file(service->store, import->ingest, fd, path, size, image ? &base : NULL, &map, err);
    if (r == 0)
        r = ramet_image_new_stored(ramet_catalog_images(service->catalog), size, map.root, &image, err);
    if (r == 0)
        r = ramet_snapshot_add_image(import->snapshot, name, image, err);
    if (r == 0 && strcmp(name, "memory") == 0)
        import->snapshot->memory_bytes = size;
    return r;
}

static int import_files(struct import *import, const struct ramet_import_request *request, struct ramet_error *err)
{
    int r = import_file(import, "memory", request->memory, true, err);
    if (r == 0)
        r = import_file(import, "state", request->state, false, err);
    if (r == 0)
        r = import_file(import, "disk0", request->disk, true, err);
    if (r == 0)
        r = import_file(import, "kernel", request->kernel, false, err);
    if (r == 0)
        r = import_file(import, "initrd", request->initrd, false, err);
    uint64_t stored = 0;
    if (r == 0)
        r = ramet_ingest_stored_bytes(import->ingest, &stored, err);
    atomic_store(&import->snapshot->stored_bytes, stored);
    return r;
}

/* Makes the imported snapshot visible and durable. The ingest is still open: nothing it put can be collected. */
static int publish(struct ramet_service *service, struct ramet_snapshot *snapshot, const char *tag,
                   struct ramet_error *err)
{
    int r = ramet_catalog_add(service->catalog, snapshot, NULL, err);
    if (r < 0)
        return r;
    if ((r = ramet_catalog_commit(service->catalog, snapshot, err)) < 0) {
        ramet_catalog_remove(service->catalog, snapshot, NULL);
        return r;
    }
    ramet_mount_snapshot_changed(service->mount, snapshot->id);
    if (!tag)
        return 0;
    r = ramet_catalog_tag(service->catalog, snapshot, tag, err);
    ramet_mount_snapshot_changed(service->mount, tag);
    return r;
}

static int check_import(const struct ramet_import_request *request, struct ramet_error *err)
{
    if (!request->disk && !request->kernel && !request->memory) {
        ramet_error_set(err, RAMET_INVALID, "nothing to import");
        return ramet_error_hint(err, "name a disk, a kernel, or a memory and a state");
    }
    if (!request->memory != !request->state)
        return ramet_error_set(err, RAMET_INVALID, "a memory can be restored only with its state: give both or none");
    return request->tag ? ramet_name_check(request->tag, "tag", err) : 0;
}

int ramet_service_import(struct ramet_service *service, const struct ramet_import_request *request,
                         struct ramet_snapshot_info *ret, struct ramet_error *err)
{
    _cleanup_(ramet_jobs_cleanup) struct ramet_jobs *held = ramet_jobs_hold(service->jobs);
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL, *parent = NULL;
    int r = check_import(request, err);
    if (r == 0 && request->parent)
        r = find_parent(service, request->parent, &parent, err);
    if (r == 0)
        r = ramet_snapshot_new(service->catalog, &snapshot, err);
    if (r < 0)
        return r;
    if (parent)
        memcpy(snapshot->parent, parent->id, sizeof snapshot->parent);
    snapshot->memory_bytes = request->memory_bytes ? request->memory_bytes : UINT64_C(256) << 20;
    snapshot->cpus = request->cpus ? request->cpus : 1;
    if (request->cmdline && !(snapshot->cmdline = strdup(request->cmdline)))
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to import");
    struct import import = {.service = service, .parent = parent, .snapshot = snapshot};
    if ((r = ramet_ingest_begin(service->store, &import.ingest, err)) < 0)
        return r;
    r = import_files(&import, request, err);
    if (r == 0)
        r = publish(service, snapshot, request->tag, err);
    ramet_ingest_end(import.ingest);
    if (r == 0)
        ramet_snapshot_fill_info(service, snapshot, ret);
    return r;
}

/* --- export --- */

static int write_raw(struct ramet_image *image, const char *path, uint64_t *ret_bytes, struct ramet_error *err)
{
    _autoclose_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return ramet_error_os(err, errno, "cannot make %s", path);
    int r = ramet_image_write_file(image, fd, path, ret_bytes, err);
    return r < 0 ? r : ramet_file_sync(fd, path, err);
}

static int write_qcow2(struct ramet_image *image, const char *path, uint64_t *ret_bytes, struct ramet_error *err)
{
    char raw[PATH_MAX];
    snprintf(raw, sizeof raw, "%.4000s.raw", path);
    const char *argv[] = {"qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path, NULL};
    int r = write_raw(image, raw, ret_bytes, err);
    if (r == 0)
        r = ramet_program_run(argv, qemu_img_package, err);
    unlink(raw);
    return r;
}

int ramet_service_export(struct ramet_service *service, const char *ref, const char *name, const char *path,
                         const char *format, struct ramet_export *ret, struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL;
    struct ramet_export result = {0};
    char aside[PATH_MAX];
    bool qcow2 = format && strcmp(format, "qcow2") == 0;
    if (format && !qcow2 && strcmp(format, "raw") != 0)
        return ramet_error_set(err, RAMET_INVALID, "format \"%s\" is neither raw nor qcow2", format);
    int r = ramet_catalog_find(service->catalog, ref, &snapshot, err);
    if (r < 0)
        return r;
    struct ramet_image *image = ramet_snapshot_image(snapshot, name);
    if (!image) {
        ramet_error_set(err, RAMET_NOT_FOUND, "snapshot %s has no image \"%s\"", snapshot->id, name);
        return ramet_error_hint(err, "it lists them in snapshots/%s on the mount", snapshot->id);
    }
    if (access(path, F_OK) == 0) {
        ramet_error_set(err, RAMET_EXISTS, "%s is there already", path);
        return ramet_error_hint(err, "remove it or choose another name");
    }
    if (snprintf(aside, sizeof aside, "%s.part", path) >= 4000)
        return ramet_error_set(err, RAMET_INVALID, "the path is too long");
    r = qcow2 ? write_qcow2(image, aside, &result.size_bytes, err) : write_raw(image, aside, &result.size_bytes, err);
    if (r == 0)
        r = ramet_digest_file(aside, result.sha256, err);
    if (r == 0 && rename(aside, path) < 0)
        r = ramet_error_os(err, errno, "cannot publish %s", path);
    if (r < 0)
        unlink(aside);
    else
        *ret = result;
    return r;
}
