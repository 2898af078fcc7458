/* SPDX-License-Identifier: Apache-2.0 */
/* What changed between two documents of a server. Pure function. */
#ifndef RAMET_API_TOOLS_DIFF_H
#define RAMET_API_TOOLS_DIFF_H

#include "base/error.h"

struct ramet_json;
struct ramet_tools_doc;

/*
 * {"server", "from", "to", "changes": [{"kind", "name", "change", "paths": [...]}]}: of each tool, prompt, resource and
 * template by its name, then of what the server says of itself ("server" as the kind). "change" is added, removed or
 * changed; "paths" are the members of it that differ. Owned by the caller.
 */
int ramet_tools_diff(const struct ramet_tools_doc *from, const struct ramet_tools_doc *to, struct ramet_json **ret,
                     struct ramet_error *err);

#endif
