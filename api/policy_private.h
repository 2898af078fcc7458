/* SPDX-License-Identifier: Apache-2.0 */
/* Between policy.c, which judges, and policy_parse.c, which reads and shows. */
#ifndef RAMET_API_POLICY_PRIVATE_H
#define RAMET_API_POLICY_PRIVATE_H

#include "digest.h"
#include "policy.h"

#include <stdatomic.h>

#define RAMET_OBJECT_KINDS 3 /* that grants have patterns for; tools are apart */

struct strings {
    char **items; /* owned */
    size_t count;
};

struct grant {
    struct strings operations;
    struct strings objects[RAMET_OBJECT_KINDS]; /* by enum ramet_object_kind */
};

struct ramet_policy_entry {
    char name[RAMET_PRINCIPAL_SIZE], user[RAMET_PRINCIPAL_SIZE], agent[RAMET_PRINCIPAL_SIZE];
    bool admin, has_uid;
    bool implied; /* root or the daemon's user, without an entry of their own */
    uid_t uid;
    struct strings tokens; /* SHA-256 in hex */
    struct grant *grants;
    size_t grant_count;
    struct strings tools;
};

struct ramet_policy {
    atomic_uint refs;
    char id[RAMET_POLICY_ID_SIZE];
    struct ramet_policy_entry *entries;
    size_t count;
};

#endif
