/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the gate has to know of each operation an agent can be given: which objects a
 * call names and where, and what of the answer it may see.
 * An operation that is not in this list is an admin's: whoever adds a route for agents
 * adds its line in access.c, and whoever forgets has closed it, not opened it.
 */
#ifndef RAMET_API_ACCESS_H
#define RAMET_API_ACCESS_H

#include "policy.h"

#include <stdbool.h>
#include <stddef.h>

#define RAMET_ACCESS_REFS 3

struct ramet_access_ref {
    enum { RAMET_REF_NONE, RAMET_REF_PARAM, RAMET_REF_BODY, RAMET_REF_QUERY } where;
    const char *name; /* of the member of the body or of the query */
    enum ramet_object_kind kind;
    bool or_snapshot;     /* a sandbox, else a snapshot */
    bool may_be_new;      /* a name that is given: when it is taken, then only by what the caller may do this to */
    bool its_parent;      /* what that one was forked from, which the operation changes too */
    bool is_name;         /* the operation is about the name, not about what it names now */
    bool is_tree;         /* "NAME", "NAME@STATE", or "@STATE" of the path's own */
    const char *fallback; /* what is meant when the body has none; NULL: nothing */
};

struct ramet_access {
    const char *operation;
    bool everyone; /* whom the policy knows at all */
    struct ramet_access_ref refs[RAMET_ACCESS_REFS];
    /* What of the answer the caller may see: objects in this member, by the operation that shows one of them. */
    const char *list, *show;
    enum ramet_object_kind list_kind;
};

/* NULL: only admins. */
const struct ramet_access *ramet_access_find(const char *operation);

/* Whether the pattern fits any operation of the list. */
bool ramet_access_any(const char *pattern);

#endif
