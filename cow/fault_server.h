/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages on demand: a thread that answers faults in mappings of residents whose file is not
 * filled yet (ramet_resident_lazy). What it reads goes into the file, so that a page is read
 * once for all branches and mapped by each as any other.
 *
 * A page that cannot be read is poisoned: whoever touches it gets SIGBUS, and the error is
 * kept with the address. Nothing ever reads as zeros that is not.
 *
 * Thread-safe.
 */
#ifndef RAMET_COW_FAULT_SERVER_H
#define RAMET_COW_FAULT_SERVER_H

#include "resident.h"

struct ramet_fault_server;

/* RAMET_UNSUPPORTED where the kernel has no such thing (Linux 6.7) or does not let this user have it. */
int ramet_fault_server_new(struct ramet_fault_server **ret, struct ramet_error *err);
/* No mapping may be left. NULL is a no-op. */
void ramet_fault_server_free(struct ramet_fault_server *server);
/* For ramet_userfault_place; borrowed. */
int ramet_fault_server_fd(const struct ramet_fault_server *server);
/* Serves, and tracks writes to, a private mapping of the resident's root. */
int ramet_fault_server_add(struct ramet_fault_server *server, void *address, struct ramet_resident *resident,
                           struct ramet_error *err);
/* Before it is unmapped, when nobody touches it any more. Forgets its errors. */
void ramet_fault_server_remove(struct ramet_fault_server *server, void *address);
/* 0, or the error for which the page at this address, in a mapping that is served, could not be read. */
int ramet_fault_server_error(struct ramet_fault_server *server, const void *address, struct ramet_error *err);

#endif
