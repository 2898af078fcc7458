/* SPDX-License-Identifier: Apache-2.0 */
/* The life of the mount of tools/. */
#include "tools_mount.h"

#include "session.h"
#include "tools_ops.h"

#include <stdlib.h>

struct ramet_tools_mount {
    struct ramet_session session;
    struct ramet_tools_context context;
};

static void free_mount(struct ramet_tools_mount *mount)
{
    ramet_tools_context_free(&mount->context);
    free(mount);
}

int ramet_tools_mount_start(const char *dir, const struct ramet_tools_source *source, struct ramet_tools_mount **ret,
                            struct ramet_error *err)
{
    struct ramet_tools_mount *mount = calloc(1, sizeof *mount);
    if (!mount)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the mount of tools");
    ramet_tools_context_init(&mount->context, source);
    const struct ramet_session_options options = {.mount = "ro,fsname=ramet-tools,subtype=ramet,default_permissions",
                                                  .ops = &ramet_tools_ops,
                                                  .context = &mount->context,
                                                  .threads_max = 8};
    int r = ramet_session_start(&mount->session, dir, &options, err);
    if (r < 0) {
        free_mount(mount);
        return r;
    }
    *ret = mount;
    return 0;
}

void ramet_tools_mount_stop(struct ramet_tools_mount *mount)
{
    if (!mount)
        return;
    ramet_session_stop(&mount->session);
    free_mount(mount);
}
