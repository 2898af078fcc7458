/* SPDX-License-Identifier: Apache-2.0 */
/* From a ref to the object's id and names, for those who judge whether it may be used at all. */
#include "base/cleanup.h"
#include "service_private.h"

#include <string.h>

int ramet_service_sandbox_names(struct ramet_service *service, const char *ref, struct ramet_object_names *ret,
                                struct ramet_error *err)
{
    _cleanup_(ramet_sandbox_cleanup) struct ramet_sandbox *sandbox = NULL;
    int rc = ramet_sandbox_find(service, ref, &sandbox, err);
    if (rc < 0)
        return rc;
    memcpy(ret->id, sandbox->branch->id, sizeof ret->id);
    memcpy(ret->names[0], sandbox->branch->name, sizeof ret->names[0]);
    ret->count = 1;
    return 0;
}

int ramet_service_snapshot_names(struct ramet_service *service, const char *ref, struct ramet_object_names *ret,
                                 struct ramet_error *err)
{
    _cleanup_(ramet_snapshot_cleanup) struct ramet_snapshot *snapshot = NULL;
    _autofree_ struct ramet_tag *tags = NULL;
    size_t count = 0;
    int rc = ramet_catalog_find(service->catalog, ref, &snapshot, err);
    if (rc == 0)
        rc = ramet_catalog_tags(service->catalog, &tags, &count, err);
    if (rc < 0)
        return rc;
    memcpy(ret->id, snapshot->id, sizeof ret->id);
    ret->count = 0;
    for (size_t i = 0; i < count && ret->count < RAMET_OBJECT_TAGS; i++)
        if (strcmp(tags[i].snapshot, snapshot->id) == 0)
            memcpy(ret->names[ret->count++], tags[i].name, sizeof ret->names[0]);
    return 0;
}
