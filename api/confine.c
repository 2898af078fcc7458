/* SPDX-License-Identifier: Apache-2.0 */
#include "confine.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>

enum { most_groups = 256, record_size = 16384 };

/* The machine's record of a user; NULL when it has none. `record` holds its strings. */
static const struct passwd *find_user(uint32_t uid, struct passwd *user, char record[static record_size])
{
    struct passwd *found = NULL;
    return getpwuid_r(uid, user, record, record_size, &found) == 0 ? found : NULL;
}

int ramet_confine(const struct ramet_policy *policy, const struct ramet_principal *principal,
                  struct ramet_confinement *ret, struct ramet_error *err)
{
    char record[record_size];
    struct passwd user;
    uid_t uid = (uid_t)principal->uid;
    struct ramet_confinement made = {.confined = !ramet_policy_is_admin(policy, principal)};
    made.known = made.confined ? ramet_policy_agent_uid(policy, principal, &uid) : principal->uid >= 0;
    if (made.confined && !made.known) {
        ramet_error_set(err, RAMET_DENIED, "no user is known whose files \"%s\" could make", principal->name);
        return ramet_error_hint(err, "give its entry in the policy a uid");
    }
    if (made.known) {
        made.uid = made.gid = (uint32_t)uid;
        const struct passwd *known = made.confined ? find_user(made.uid, &user, record) : NULL;
        made.gid = known ? known->pw_gid : made.gid;
    }
    *ret = made;
    return 0;
}

static bool is_member(uint32_t uid, uint32_t gid)
{
    char record[record_size];
    struct passwd user;
    gid_t groups[most_groups];
    int count = most_groups;
    const struct passwd *known = find_user(uid, &user, record);
    if (!known || getgrouplist(known->pw_name, known->pw_gid, groups, &count) < 0)
        return false;
    for (int i = 0; i < count; i++)
        if (groups[i] == gid)
            return true;
    return false;
}

int ramet_confine_check(const struct ramet_confinement *confinement, uint32_t uid, uint32_t gid,
                        struct ramet_error *err)
{
    if (!confinement->confined)
        return 0;
    if (uid != confinement->uid) {
        ramet_error_set(err, RAMET_DENIED, "only admins make files of user %u", uid);
        return ramet_error_hint(err, "this caller's are those of user %u", confinement->uid);
    }
    if (gid == confinement->gid || is_member(uid, gid))
        return 0;
    ramet_error_set(err, RAMET_DENIED, "user %u is not in group %u", uid, gid);
    return ramet_error_hint(err, "leave the group out to get %u", confinement->gid);
}
