/* SPDX-License-Identifier: Apache-2.0 */
/* Whose files a call makes. An admin says so itself; an agent makes its own user's, in one of that user's groups. */
#ifndef RAMET_API_CONFINE_H
#define RAMET_API_CONFINE_H

#include "policy.h"

struct ramet_confinement {
    bool confined;     /* the rest is what it may; else all is allowed and the rest is the default */
    bool known;        /* whether uid and gid are */
    uint32_t uid, gid; /* gid: the user's primary group, or the same number where the machine does not know the user */
};

/* DENIED for an agent whose user is not known. */
int ramet_confine(const struct ramet_policy *policy, const struct ramet_principal *principal,
                  struct ramet_confinement *ret, struct ramet_error *err);
/* Whether it may make files of this owner. DENIED, with the reason. */
int ramet_confine_check(const struct ramet_confinement *confinement, uint32_t uid, uint32_t gid,
                        struct ramet_error *err);

#endif
