/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Import and export: snapshots from files and files from snapshots. Formats other than
 * raw go through qemu-img. A file that is written appears whole under its name or not
 * at all.
 */
#include "base/cleanup.h"
#include "base/file.h"
#include "image_file.h"
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

static int import_file(struct ramet_service *service, struct ramet_ingest *ingest, struct ramet_snapshot *snapshot,
                       const char *name, const char *path, struct ramet_error *err)
{
    _autoclose_ int fd = -1;
    uint64_t size = 0;
    struct ramet_page_map map;
    struct ramet_image *image;
    if (!path)
        return 0;
    int r = open_source(service, path, strcmp(name, "disk0") == 0, &fd, &size, err);
    if (r == 0)
        r = ramet_image_put_file(service->store, ingest, fd, path, size, NULL, &map, err);
    if (r == 0)
        r = ramet_image_new_stored(ramet_catalog_images(service->catalog), size, map.root, &image, err);
    if (r == 0)
        r = ramet_snapshot_add_image(snapshot, name, image, err);
    if (r == 0 && strcmp(name, "memory") == 0)
        snapshot->memory_bytes = size;
    return r;
}

static int import_files(struct ramet_service *service, const struct ramet_import_request *request,
                        struct ramet_ingest *ingest, struct ramet_snapshot *snapshot, struct ramet_error *err)
{
    int r = import_file(service, ingest, snapshot, "memory", request->memory, err);
    if (r == 0)
        r = import_file(service, ingest, snapshot, "state", request->state, err);
    if (r == 0)
        r = import_file(service, ingest, snapshot, "disk0", request->disk, err);
    if (r == 0)
        r = import_file(service, ingest, snapshot, "kernel", request->kernel, err);
    if (r == 0)
        r = import_file(service, ingest, snapshot, "initrd", request->initrd, err);
    uint64_t stored = 0;
    if (r == 0)
        r = ramet_ingest_stored_bytes(ingest, &stored, err);
    atomic_store(&snapshot->stored_bytes, stored);
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
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL;
    struct ramet_ingest *ingest = NULL;
    int r = check_import(request, err);
    if (r == 0)
        r = ramet_snapshot_new(service->catalog, &snapshot, err);
    if (r < 0)
        return r;
    snapshot->memory_bytes = request->memory_bytes ? request->memory_bytes : UINT64_C(256) << 20;
    snapshot->cpus = request->cpus ? request->cpus : 1;
    if (request->cmdline && !(snapshot->cmdline = strdup(request->cmdline)))
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to import");
    if ((r = ramet_ingest_begin(service->store, &ingest, err)) < 0)
        return r;
    r = import_files(service, request, ingest, snapshot, err);
    if (r == 0)
        r = publish(service, snapshot, request->tag, err);
    ramet_ingest_end(ingest);
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
                         const char *format, uint64_t *ret_bytes, struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL;
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
    r = qcow2 ? write_qcow2(image, aside, ret_bytes, err) : write_raw(image, aside, ret_bytes, err);
    if (r == 0 && rename(aside, path) < 0)
        r = ramet_error_os(err, errno, "cannot publish %s", path);
    if (r < 0)
        unlink(aside);
    return r;
}
