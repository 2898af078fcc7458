/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults under the store: an executable that links this library owns the I/O calls of
 * everything in its process, librocksdb.so's among them, because the dynamic linker
 * takes a symbol from the executable first. Calls on files below one root directory
 * are counted, failed, cut short, torn or recorded; all others pass.
 *
 * io_uring goes round this: tests set RAMET_NO_URING. A file opened before
 * faults_begin is not seen. Reads through stdio are seen as fread_unlocked only, which
 * is what RocksDB uses; writes through stdio (RocksDB's info log) are not.
 *
 * Allocations of code linked statically (ours, not RocksDB's) fail through the linker's
 * --wrap, which linking this library adds.
 *
 * Thread-safe but for begin and end, which no other call may overlap. Watched calls
 * happen one at a time, so that the recorded order is the order on disk.
 */
#ifndef RAMET_TESTS_FAULTS_H
#define RAMET_TESTS_FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Opens count as meta, and so do all changes of names and sizes. */
enum fault_class { FAULT_READ, FAULT_WRITE, FAULT_SYNC, FAULT_META, FAULT_ALLOC };

enum fault_effect {
    FAULT_FAIL,  /* the call fails and does nothing */
    FAULT_SHORT, /* a read or write does half of what was asked and says so */
    FAULT_TORN,  /* half of a write lands, then it and all that follows fails with EIO, reads too */
};

struct fault_plan {
    enum fault_class class;
    enum fault_effect effect;
    uint64_t nth; /* call of that class, from 1 */
    int os_errno; /* with FAULT_FAIL */
    bool onwards; /* not only that call: all of the class from there on */
};

/* Watches what lies below `root`, an absolute path. */
void faults_begin(const char *root);
void faults_end(void);

/* Counts calls from here on and strikes as planned. */
void faults_arm(const struct fault_plan *plan);
/* All calls pass again; whether the plan struck. */
bool faults_disarm(void);

/* --- recording --- */

enum fault_op_kind {
    FAULT_OP_FOUND,    /* a file that was there before is used: binds `file` to `path` */
    FAULT_OP_CREATE,   /* `path` is `file` from here on */
    FAULT_OP_WRITE,    /* `size` bytes of `data` at `offset` */
    FAULT_OP_ZERO,     /* a hole was punched: `size` bytes at `offset` */
    FAULT_OP_TRUNCATE, /* to `size` bytes, or grown to them */
    FAULT_OP_SYNC,     /* fsync or fdatasync; file 0 is a directory */
    FAULT_OP_LOST,     /* a sync that failed: what was dirty is neither durable nor dirty any more */
    FAULT_OP_RENAME,   /* `path`, perhaps a directory, to `path2` */
    FAULT_OP_EXCHANGE, /* `path` and `path2` */
    FAULT_OP_LINK,     /* `path` also as `path2` */
    FAULT_OP_UNLINK,
    FAULT_OP_MKDIR,
    FAULT_OP_RMDIR,
};

struct fault_op {
    enum fault_op_kind kind;
    uint32_t file; /* numbers from 1, never reused */
    uint64_t offset, size;
    uint8_t *data;
    char *path, *path2; /* below the root; of a file operation, the file's name at that time */
};

struct fault_log {
    struct fault_op *ops;
    size_t count, capacity;
};

/* Appends what changes below the root to `log` until faults_end. Failed calls leave no trace but FAULT_OP_LOST. */
void faults_record(struct fault_log *log);
/* Operations recorded so far; 0 when nothing records. */
size_t faults_recorded(void);
void fault_log_free(struct fault_log *log);
/* "write of 4096 bytes at 64 to packs/00000001.pack" */
void fault_op_describe(const struct fault_op *op, char *buf, size_t size);

/* From here on getrandom gives a stream that the seed decides: ids and secrets of a store are the same in each run. */
void faults_seed(uint64_t seed);

/* Zeroed memory that no plan fails; aborts when there is none. For tests; free with free. */
void *faults_calloc(size_t count, size_t size);

#endif
