/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list. Import and export of images are not in it: they name files of the host, which
 * the daemon opens with its own rights.
 */
#include "access.h"

#include "glob.h"

#include <string.h>

#define SANDBOX                                                                                                        \
    {                                                                                                                  \
        .where = RAMET_REF_PARAM, .kind = RAMET_OBJECT_SANDBOX                                                         \
    }
#define SNAPSHOT                                                                                                       \
    {                                                                                                                  \
        .where = RAMET_REF_PARAM, .kind = RAMET_OBJECT_SNAPSHOT                                                        \
    }
#define NEW_TAG                                                                                                        \
    {                                                                                                                  \
        .where = RAMET_REF_BODY, .name = "tag", .kind = RAMET_OBJECT_SNAPSHOT, .may_be_new = true                      \
    }
#define SNAPSHOT_IN_BODY                                                                                               \
    {                                                                                                                  \
        .where = RAMET_REF_BODY, .name = "snapshot", .kind = RAMET_OBJECT_SNAPSHOT                                     \
    }
#define WORKSPACE                                                                                                      \
    {                                                                                                                  \
        .where = RAMET_REF_PARAM, .kind = RAMET_OBJECT_WORKSPACE                                                       \
    }
#define WORKSPACE_PARENT                                                                                               \
    {                                                                                                                  \
        .where = RAMET_REF_PARAM, .kind = RAMET_OBJECT_WORKSPACE, .its_parent = true                                   \
    }
#define TREE(in, of)                                                                                                   \
    {                                                                                                                  \
        .where = in, .name = of, .kind = RAMET_OBJECT_WORKSPACE, .is_tree = true                                       \
    }
#define SANDBOX_IN_BODY                                                                                                \
    {                                                                                                                  \
        .where = RAMET_REF_BODY, .name = "sandbox", .kind = RAMET_OBJECT_SANDBOX                                       \
    }
#define SIDE(of)                                                                                                       \
    {                                                                                                                  \
        .where = RAMET_REF_QUERY, .name = of, .kind = RAMET_OBJECT_SANDBOX, .or_snapshot = true                        \
    }

static const struct ramet_access accesses[] = {
    {.operation = "getPrincipal", .everyone = true},
    {.operation = "getOpenapi", .everyone = true},
    {.operation = "getStatus"},
    {.operation = "listSandboxes", .list = "sandboxes", .show = "getSandbox", .list_kind = RAMET_OBJECT_SANDBOX},
    {.operation = "runSandbox",
     .refs = {{.where = RAMET_REF_BODY, .name = "snapshot", .kind = RAMET_OBJECT_SNAPSHOT, .fallback = "debian"}}},
    {.operation = "getSandbox", .refs = {SANDBOX}},
    {.operation = "removeSandbox", .refs = {SANDBOX}},
    {.operation = "forkSandbox", .refs = {SANDBOX, NEW_TAG}},
    {.operation = "execInSandbox", .refs = {SANDBOX}},
    {.operation = "snapshotSandbox", .refs = {SANDBOX, NEW_TAG}},
    {.operation = "rollBackSandbox", .refs = {SANDBOX, SNAPSHOT_IN_BODY}},
    {.operation = "pauseSandbox", .refs = {SANDBOX}},
    {.operation = "resumeSandbox", .refs = {SANDBOX}},
    {.operation = "listSnapshots", .list = "snapshots", .show = "getSnapshot", .list_kind = RAMET_OBJECT_SNAPSHOT},
    {.operation = "getSnapshot", .refs = {SNAPSHOT}},
    {.operation = "removeSnapshot", .refs = {SNAPSHOT}},
    {.operation = "restoreSnapshot", .refs = {SNAPSHOT}},
    {.operation = "setTag",
     .refs = {SNAPSHOT_IN_BODY,
              {.where = RAMET_REF_PARAM, .kind = RAMET_OBJECT_SNAPSHOT, .may_be_new = true, .is_name = true}}},
    {.operation = "removeTag", .refs = {{.where = RAMET_REF_PARAM, .kind = RAMET_OBJECT_SNAPSHOT, .is_name = true}}},
    {.operation = "diffSnapshots", .refs = {SIDE("from"), SIDE("to")}},
    {.operation = "listWorkspaces", .list = "workspaces", .show = "getWorkspace", .list_kind = RAMET_OBJECT_WORKSPACE},
    {.operation = "createWorkspace"},
    {.operation = "getWorkspace", .refs = {WORKSPACE}},
    {.operation = "removeWorkspace", .refs = {WORKSPACE}},
    {.operation = "forkWorkspace", .refs = {WORKSPACE}},
    {.operation = "snapshotWorkspace", .refs = {WORKSPACE}},
    {.operation = "getWorkspaceHistory", .refs = {WORKSPACE}},
    {.operation = "removeWorkspaceState", .refs = {WORKSPACE}},
    {.operation = "rollBackWorkspace", .refs = {WORKSPACE}},
    {.operation = "promoteWorkspace", .refs = {WORKSPACE, WORKSPACE_PARENT}},
    {.operation = "renameWorkspace", .refs = {WORKSPACE}},
    {.operation = "attachWorkspace", .refs = {WORKSPACE, SANDBOX_IN_BODY}},
    {.operation = "diffWorkspace", .refs = {WORKSPACE, TREE(RAMET_REF_QUERY, "against")}},
    {.operation = "mergeWorkspace", .refs = {WORKSPACE, TREE(RAMET_REF_BODY, "from"), TREE(RAMET_REF_BODY, "base")}},
    {.operation = "importWorkspace"},
    {.operation = "importIntoWorkspace", .refs = {WORKSPACE}},
    {.operation = "exportWorkspace", .refs = {WORKSPACE}},
    {.operation = "syncWorkspace", .refs = {WORKSPACE}},
};

const struct ramet_access *ramet_access_find(const char *operation)
{
    for (size_t i = 0; i < sizeof accesses / sizeof *accesses; i++)
        if (strcmp(accesses[i].operation, operation) == 0)
            return &accesses[i];
    return NULL;
}

bool ramet_access_any(const char *pattern)
{
    for (size_t i = 0; i < sizeof accesses / sizeof *accesses; i++)
        if (ramet_glob(pattern, accesses[i].operation))
            return true;
    return false;
}
