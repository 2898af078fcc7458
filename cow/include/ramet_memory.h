/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Branching a VM's memory inside the VMM's own process: for those who write a VMM.
 *
 *     struct ramet_error err = {0};
 *     ramet_memory_open("/var/lib/my-vmm", &(struct ramet_memory_options){0}, &store, &err);
 *     ramet_memory_load(store, "python-ready", &image, &err);       // once; its memory is then resident
 *     ramet_memory_branch(image, &branch, &err);                    // microseconds, as often as you like
 *     slot.userspace_addr = (uintptr_t)ramet_memory_address(branch);
 *     load_my_devices(ramet_memory_state(image, &size), size);      // then run the vCPUs ... and stop them
 *     ramet_memory_snapshot(branch, state, size, &later, &err);     // what changed since the last one
 *     ramet_memory_branch(later, &child, &err);                     // at once; nothing was written to disk
 *     ramet_memory_rollback(branch, image, &err);                   // or back to any image
 *     ramet_memory_commit(later, "step-1", &err);                   // durable, when you want it
 *
 * Words: an *image* is guest memory at an instant and the bytes of device state that go with it; it never changes. A
 * *branch* is a private mapping of an image, the guest's memory. A *store* is a directory; no daemon is needed, and
 * while it is open here no daemon can open it. What was committed here is a snapshot like any other there.
 *
 * Shapes: memory is a whole number of pages of 4096 bytes. State is bytes that the library never looks into.
 *
 * Cost: a branch of an image that was loaded or created is one mmap; the memory it did not write to is shared by all
 * branches of the image. A snapshot copies the pages written since the branch's last snapshot; a rollback touches the
 * pages written since. A branch of a snapshot that was taken here also copies the pages by which that snapshot differs
 * from the image it began with, until so much was copied that a whole memory of its own costs less.
 *
 * Guest memory must stand still while its branch is snapshotted or rolled back: stop the vCPUs and whatever else
 * writes there (device threads, vhost). The mapping's address never changes; KVM memory slots stay as they are.
 *
 * Errors: calls return 0, or a negative `enum ramet_code` with a message and often a remedy in *err, and leave outputs
 * untouched. After a failed snapshot the branch is as before. After a failed rollback its memory is undefined, and only
 * another rollback or freeing it is allowed.
 *
 * Ownership: what a call gives in *ret is the caller's; images are counted (ref, unref), and a branch or a snapshot
 * made from an image holds what it needs of it. Free branches and images before the store is closed.
 *
 * Threads: stores and images may be used by any number of threads at once, a branch by one at a time.
 *
 * Stability: until version 1.0 structs may grow at their end and the library is linked statically. Zero-initialise
 * options; zero means the default.
 */
#ifndef RAMET_MEMORY_H
#define RAMET_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "base/error.h"

#define RAMET_MEMORY_API 1 /* grows when a call's meaning changes */
#define RAMET_MEMORY_ID_SIZE 17

struct ramet_memory_store;
struct ramet_memory_image;
struct ramet_memory_branch;

struct ramet_memory_options {
    size_t cache_bytes; /* decompressed pages kept while reading and writing the store [64 MiB] */
    unsigned threads;   /* for loading and committing [one a CPU] */
};

/* Makes the store when the directory is empty or missing. RAMET_BUSY when another process has it open. */
int ramet_memory_open(const char *dir, const struct ramet_memory_options *options, struct ramet_memory_store **ret,
                      struct ramet_error *err);
void ramet_memory_close(struct ramet_memory_store *store); /* NULL is a no-op */

/* --- images --- */

/* Memory of zeros, without state: what a guest boots in. */
int ramet_memory_create(struct ramet_memory_store *store, uint64_t size_bytes, struct ramet_memory_image **ret,
                        struct ramet_error *err);
/* A stored snapshot by id or tag; all its memory is read. One that is loaded already is shared. */
int ramet_memory_load(struct ramet_memory_store *store, const char *ref, struct ramet_memory_image **ret,
                      struct ramet_error *err);
/*
 * As ramet_memory_load, but returns at once: a page is read when a branch first touches it, once for all branches of
 * the image. A page that cannot be read is never zeros: whoever touches it gets SIGBUS, a system call EFAULT. A vCPU's
 * thread gets SIGBUS inside KVM_RUN or, depending on the KVM, KVM_EXIT_MMIO for an address that is memory.
 * ramet_memory_fault tells why. Needs Linux 6.7 and CAP_SYS_PTRACE or vm.unprivileged_userfaultfd=1;
 * without them it is ramet_memory_load. An image that is loaded already is shared as it is.
 */
int ramet_memory_load_lazily(struct ramet_memory_store *store, const char *ref, struct ramet_memory_image **ret,
                             struct ramet_error *err);
/* 0, or the error behind a SIGBUS at this address (si_addr) in a branch of the store's. */
int ramet_memory_fault(struct ramet_memory_store *store, const void *address, struct ramet_error *err);
struct ramet_memory_image *ramet_memory_image_ref(struct ramet_memory_image *image);
void ramet_memory_image_unref(struct ramet_memory_image *image); /* NULL is a no-op */
uint64_t ramet_memory_size(const struct ramet_memory_image *image);
/* Borrowed, for as long as the image; NULL and 0 when there is none. */
const void *ramet_memory_state(const struct ramet_memory_image *image, size_t *ret_size);
/* Borrowed: what ramet_memory_load and `ramet` find it by, once it is committed. */
const char *ramet_memory_id(const struct ramet_memory_image *image);
/*
 * Makes the image durable; `tag` may be NULL and moves here if it names another. Takes as long as it takes to compress
 * and write what is new; branches go on meanwhile. An image that is durable already only gets the tag.
 */
int ramet_memory_commit(struct ramet_memory_image *image, const char *tag, struct ramet_error *err);
/* Forgets a committed snapshot, by id or tag, and frees what no other needs. Images in use here stay whole, and may be
 * committed again. */
int ramet_memory_remove(struct ramet_memory_store *store, const char *ref, struct ramet_error *err);

/* --- branches --- */

int ramet_memory_branch(struct ramet_memory_image *image, struct ramet_memory_branch **ret, struct ramet_error *err);
void ramet_memory_branch_free(struct ramet_memory_branch *branch); /* unmaps; NULL is a no-op */
void *ramet_memory_address(const struct ramet_memory_branch *branch);
/*
 * The branch's memory as it is now with a copy of `state`, as an image that can be branched and rolled back to at once.
 * `state` may be NULL when there is none.
 */
int ramet_memory_snapshot(struct ramet_memory_branch *branch, const void *state, size_t state_bytes,
                          struct ramet_memory_image **ret, struct ramet_error *err);
/*
 * Makes the branch's memory that of `image`, which may be any of the same size; NULL: the one it was last snapshotted
 * to, rolled back to or made from. Quick when one of the two descends from the other.
 */
int ramet_memory_rollback(struct ramet_memory_branch *branch, struct ramet_memory_image *image,
                          struct ramet_error *err);

#ifdef __cplusplus
}
#endif

#endif
