/* SPDX-License-Identifier: Apache-2.0 */
/* From what a door knows of its caller to a principal. No state. */
#include "principal.h"

#include "policy.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

const char *ramet_door_name(enum ramet_door door)
{
    static const char *const names[] = {"socket", "tcp", "mount", "daemon"};
    return names[door];
}

/* The token of "Bearer TOKEN", or NULL. */
static const char *bearer(const char *authorization)
{
    static const char scheme[] = "Bearer ";
    if (strncasecmp(authorization, scheme, sizeof scheme - 1) != 0)
        return NULL;
    const char *token = authorization + sizeof scheme - 1;
    return token + strspn(token, " ");
}

static int find_entry(const struct ramet_policy *policy, const struct ramet_caller *caller,
                      const struct ramet_policy_entry **ret, struct ramet_error *err)
{
    if (caller->authorization) {
        const char *token = bearer(caller->authorization);
        *ret = token && *token ? ramet_policy_by_token(policy, token) : NULL;
        if (*ret)
            return 0;
        ramet_error_set(err, RAMET_DENIED,
                        token ? "the policy has no principal with this bearer token"
                              : "the Authorization header is no bearer token");
        return ramet_error_hint(err, "send 'Authorization: Bearer TOKEN'; the policy has the token's SHA-256");
    }
    if (caller->uid < 0) {
        ramet_error_set(err, RAMET_DENIED, "this door needs a bearer token");
        return ramet_error_hint(err, "send 'Authorization: Bearer TOKEN'; the policy has the token's SHA-256");
    }
    *ret = ramet_policy_by_uid(policy, (uid_t)caller->uid);
    if (*ret)
        return 0;
    ramet_error_set(err, RAMET_DENIED, "user %" PRId64 " may not use this daemon", caller->uid);
    return ramet_error_hint(err, "an entry of the policy with this uid, or a token of it, lets it in");
}

/* Takes "a, b" apart into the chain. */
static int read_act(const struct ramet_policy *policy, const char *act, struct ramet_principal *ret,
                    struct ramet_error *err)
{
    for (act += strspn(act, ", "); *act; act += strspn(act, ", ")) {
        size_t size = strcspn(act, ", ");
        if (ret->act_count == RAMET_ACT_MAX)
            return ramet_error_set(err, RAMET_DENIED, "Ramet-Act names more than %d principals", RAMET_ACT_MAX);
        char *name = ret->act[ret->act_count];
        snprintf(name, RAMET_PRINCIPAL_SIZE, "%.*s", (int)size, act);
        if (size >= RAMET_PRINCIPAL_SIZE || !ramet_policy_by_name(policy, name))
            return ramet_error_set(err, RAMET_DENIED, "Ramet-Act: the policy has no principal \"%.63s\"", name);
        ret->act_count++;
        act += size;
    }
    return 0;
}

int ramet_principal_identify(const struct ramet_policy *policy, const struct ramet_caller *caller,
                             struct ramet_principal *ret, struct ramet_error *err)
{
    const struct ramet_policy_entry *entry = NULL;
    struct ramet_error unheard = {0};
    err = err ? err : &unheard; /* a hint keeps the code it finds there */
    struct ramet_principal who = {.door = caller->door, .uid = caller->uid, .pid = caller->pid};
    *ret = who;
    int rc = find_entry(policy, caller, &entry, err);
    if (rc < 0)
        return rc;
    ramet_policy_entry_names(entry, &who);
    rc = caller->act ? read_act(policy, caller->act, &who, err) : 0;
    if (rc == 0)
        *ret = who;
    return rc;
}

int ramet_principal_of_uid(const struct ramet_policy *policy, uid_t uid, pid_t pid, struct ramet_principal *ret,
                           struct ramet_error *err)
{
    const struct ramet_caller caller = {.door = RAMET_DOOR_MOUNT, .uid = uid, .pid = pid};
    return ramet_principal_identify(policy, &caller, ret, err);
}

struct ramet_principal ramet_principal_daemon(void)
{
    return (struct ramet_principal){.name = "@daemon", .user = "daemon", .door = RAMET_DOOR_DAEMON, .uid = -1};
}

bool ramet_principal_equal(const struct ramet_principal *a, const struct ramet_principal *b)
{
    bool equal = strcmp(a->name, b->name) == 0 && a->act_count == b->act_count;
    for (unsigned i = 0; equal && i < a->act_count; i++)
        equal = strcmp(a->act[i], b->act[i]) == 0;
    return equal;
}

void ramet_principal_text(const struct ramet_principal *principal, char ret[static RAMET_PRINCIPAL_TEXT])
{
    char *to = stpcpy(ret, principal->name);
    for (unsigned i = 0; i < principal->act_count; i++)
        to = stpcpy(stpcpy(to, ">"), principal->act[i]);
}
