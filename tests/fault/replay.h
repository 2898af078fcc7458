/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a recording (faults.h): the directory as it would be found after a crash.
 *
 * What a power cut is taken to do:
 *   - names and sizes are a journalled file system's: each change of them is durable in
 *     the order it was made, whether synced or not;
 *   - a file's bytes are durable from the fsync or fdatasync on that follows them. Bytes
 *     that were not synced are lost wholly, or any subset of their 4 KiB blocks is there;
 *     a file that grew by writes is as long as what is there of it;
 *   - a punched hole is bytes (zeros) like any other;
 *   - a sync that failed loses the bytes it was to make durable, although reading them
 *     back works until the machine goes down and later syncs succeed.
 * After a kill everything written is there.
 *
 * Made for many crash points in ascending order: going forward applies only the
 * operations between, and of the target directory only files are written again whose
 * content changed or that somebody wrote to since. One thread. Failures abort: this is
 * the tests' own machinery.
 */
#ifndef RAMET_TESTS_REPLAY_H
#define RAMET_TESTS_REPLAY_H

#include "faults.h"

enum replay_variant {
    REPLAY_KILL, /* kill -9 after the operation */
    REPLAY_LOST, /* power cut after it; nothing unsynced is there */
    REPLAY_TORN, /* power cut in the middle of it; a random part of what is unsynced is there */
    REPLAY_VARIANTS
};

struct replay;

/*
 * `base` is the directory as it was when recording began, read now; NULL: empty. `target` is made here and is what
 * replay_make fills; it must be on a file system with sparse files. The log must outlive the replay.
 */
struct replay *replay_new(const struct fault_log *log, const char *base, const char *target);
void replay_free(struct replay *replay); /* the target stays */
/* Fills the target as after the first `count` operations. `seed` decides what REPLAY_TORN keeps. */
void replay_make(struct replay *replay, size_t count, enum replay_variant variant, uint64_t seed);
const char *replay_variant_name(enum replay_variant variant);

#endif
