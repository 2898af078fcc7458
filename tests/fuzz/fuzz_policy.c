/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A policy's file; and the same bytes as a line of the audit. A policy that is taken lets nobody in whom it does not
 * name, shows itself, and gives agents nothing that is for admins.
 */
#include "audit_files.h"
#include "fuzz.h"
#include "json.h"
#include "policy.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ramet_policy *policy = NULL;
    struct ramet_principal nobody = {.uid = -1};
    struct ramet_audit_point point = {.hash = RAMET_AUDIT_NO_HASH};
    if (size == 0)
        return 0;
    const char *text = (const char *)data + 1;
    ramet_audit_check_line(text, size - 1, &point, NULL);
    if (ramet_policy_parse(text, size - 1, &policy, NULL) < 0)
        return 0;
    struct ramet_json *list = ramet_policy_json(policy);
    FUZZ_CHECK(list && ramet_json_count(list) > 0);
    for (size_t i = 0; i < ramet_json_count(list); i++) {
        struct ramet_principal who = {.uid = -1};
        const struct ramet_json *shown = ramet_json_at(list, i);
        const struct ramet_policy_entry *entry = ramet_policy_by_name(policy, ramet_json_str(shown, "name", ""));
        FUZZ_CHECK(entry != NULL);
        ramet_policy_entry_names(entry, &who);
        bool admin = strcmp(ramet_json_str(shown, "role", ""), "admin") == 0;
        FUZZ_CHECK(ramet_policy_allows(policy, &who, "importSnapshot", NULL, NULL) == admin);
    }
    FUZZ_CHECK(!ramet_policy_allows(policy, &nobody, "getStatus", NULL, NULL));
    ramet_json_free(list);
    ramet_policy_unref(policy);
    return 0;
}
