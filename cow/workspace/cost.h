/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a branch really costs: the pages and records that it has and another tree has not.
 * Against its base, which is the default, that is what it wrote since it was forked and
 * still holds, and about what its removal gives back; bytes are those before dedup and
 * compression. The cost of asking follows from the answer.
 */
#ifndef RAMET_WORKSPACE_COST_H
#define RAMET_WORKSPACE_COST_H

#include "workspace.h"

struct ramet_wcost {
    uint64_t pages;        /* of 4 KiB, each once for each file that has it */
    uint64_t records;      /* that are new or differ: inodes, names, attributes, groups of 64 pages */
    uint64_t record_bytes; /* keys and values; content in inodes is among them */
};

/* `against` NULL: what it was forked with; all that a workspace that was made empty has. */
int ramet_workspace_cost(struct ramet_workspace *workspace, struct ramet_workspace *against, struct ramet_wcost *ret,
                         struct ramet_error *err);

#endif
