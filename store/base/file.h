/* SPDX-License-Identifier: Apache-2.0 */
/* Whole reads and writes, directories and publishing, with errors that name the path. */
#ifndef RAMET_BASE_FILE_H
#define RAMET_BASE_FILE_H

#include "base/error.h"

#include <stdint.h>
#include <sys/types.h>

/* Reads exactly `size` bytes at `offset`; RAMET_CORRUPT when the file ends before. */
int ramet_file_read(int fd, const char *name, void *buf, size_t size, uint64_t offset, struct ramet_error *err);
int ramet_file_write(int fd, const char *name, const void *buf, size_t size, uint64_t offset, struct ramet_error *err);
int ramet_file_sync(int fd, const char *name, struct ramet_error *err); /* fdatasync */

/* All bytes of a regular file of at most `max`, NUL-terminated after *ret_size; owned by the caller. */
int ramet_file_read_all(const char *path, size_t max, char **ret, size_t *ret_size, struct ramet_error *err);
/* Makes `path` a file of these bytes, whole or not at all whatever happens: PATH.tmp, synced, renamed, directory
 * synced. */
int ramet_file_replace(const char *path, const void *data, size_t size, mode_t mode, struct ramet_error *err);

/* mkdir -p with `mode` for what is made. */
int ramet_dir_make(const char *path, mode_t mode, struct ramet_error *err);
int ramet_dir_sync(const char *path, struct ramet_error *err);
/* Removes a directory and all in it; a missing one is fine. Does not cross mounts. */
int ramet_dir_remove(const char *path, struct ramet_error *err);

/* Monotonic microseconds, for durations. */
uint64_t ramet_now_us(void);
/* Unix time in milliseconds. */
int64_t ramet_now_ms(void);
/* `size` bytes from the kernel's generator; never fails on a running system (aborts otherwise). */
void ramet_random(void *buf, size_t size);

#endif
