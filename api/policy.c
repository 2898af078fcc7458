/* SPDX-License-Identifier: Apache-2.0 */
/* The judgement. Pure: nothing here reads anything but its arguments. */
#include "policy.h"

#include "access.h"
#include "glob.h"
#include "policy_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- finding entries ---- */

const struct ramet_policy_entry *ramet_policy_by_uid(const struct ramet_policy *policy, uid_t uid)
{
    for (size_t i = 0; i < policy->count; i++)
        if (policy->entries[i].has_uid && policy->entries[i].uid == uid)
            return &policy->entries[i];
    return NULL;
}

/* Every hash is compared, whichever fits: time tells nothing of them. */
const struct ramet_policy_entry *ramet_policy_by_token(const struct ramet_policy *policy, const char *token)
{
    const struct ramet_policy_entry *found = NULL;
    char digest[RAMET_DIGEST_SIZE];
    ramet_digest_sure(token, strlen(token), digest);
    for (size_t i = 0; i < policy->count; i++)
        for (size_t j = 0; j < policy->entries[i].tokens.count; j++)
            if (ramet_digest_equal(policy->entries[i].tokens.items[j], digest))
                found = &policy->entries[i];
    return found;
}

const struct ramet_policy_entry *ramet_policy_by_name(const struct ramet_policy *policy, const char *name)
{
    for (size_t i = 0; i < policy->count; i++)
        if (strcmp(policy->entries[i].name, name) == 0)
            return &policy->entries[i];
    return NULL;
}

void ramet_policy_entry_names(const struct ramet_policy_entry *entry, struct ramet_principal *ret)
{
    memcpy(ret->name, entry->name, sizeof ret->name);
    memcpy(ret->user, entry->user, sizeof ret->user);
    memcpy(ret->agent, entry->agent, sizeof ret->agent);
}

/* ---- the verdict ---- */

__attribute__((format(printf, 3, 4))) static bool verdict(struct ramet_verdict *ret, bool allowed, const char *fmt, ...)
{
    va_list ap;
    if (!ret)
        return allowed;
    ret->allowed = allowed;
    va_start(ap, fmt);
    vsnprintf(ret->reason, sizeof ret->reason, fmt, ap);
    va_end(ap);
    return allowed;
}

static bool fits(const struct strings *patterns, const char *text)
{
    for (size_t i = 0; text && *text && i < patterns->count; i++)
        if (ramet_glob(patterns->items[i], text))
            return true;
    return false;
}

/* Whether `owner` is this much of the principal's chain, or acts for it. */
static bool owns(const char *self, const char *owner)
{
    size_t size = strlen(self);
    return owner && *owner && strncmp(owner, self, size) == 0 && (!owner[size] || owner[size] == '>');
}

static bool grant_fits(const struct grant *grant, const char *self, const struct ramet_object *object)
{
    const struct strings *patterns = &grant->objects[object->kind];
    for (size_t i = 0; i < patterns->count; i++)
        if (strcmp(patterns->items[i], "@own") == 0 && owns(self, object->owner))
            return true;
    if (fits(patterns, object->id) || fits(patterns, object->name))
        return true;
    for (size_t i = 0; object->tags && object->tags[i]; i++)
        if (fits(patterns, object->tags[i]))
            return true;
    return false;
}

/* ---- tools ---- */

static bool is_tool_action(const char *action)
{
    static const char *const actions[] = {RAMET_ACTION_LIST_TOOLS, RAMET_ACTION_READ_TOOL, RAMET_ACTION_SEARCH_TOOLS,
                                          RAMET_ACTION_CALL_TOOL};
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
        if (strcmp(actions[i], action) == 0)
            return true;
    return false;
}

/* A name without a slash is a server: it is seen when one of its tools might be. */
static bool tool_fits(const char *pattern, const char *name)
{
    const char *slash = strchr(pattern, '/');
    if (strchr(name, '/'))
        return ramet_glob(pattern, name);
    return slash && ramet_glob_part(pattern, (size_t)(slash - pattern), name);
}

static bool entry_allows_tool(const struct ramet_policy_entry *entry, const struct ramet_object *object,
                              struct ramet_verdict *ret)
{
    for (size_t i = 0; i < entry->tools.count; i++)
        if (!object || tool_fits(entry->tools.items[i], object->name ? object->name : ""))
            return verdict(ret, true, "tools of \"%s\": %.60s", entry->name, entry->tools.items[i]);
    return verdict(ret, false, "no pattern in tools of \"%s\" fits", entry->name);
}

/* ---- operations ---- */

static bool entry_allows(const struct ramet_policy_entry *entry, const char *self, const char *action,
                         const struct ramet_object *object, struct ramet_verdict *ret)
{
    bool has_operation = false;
    if (entry->admin)
        return verdict(ret, true, "\"%s\" is an admin", entry->name);
    if (is_tool_action(action) || (object && object->kind == RAMET_OBJECT_TOOL))
        return entry_allows_tool(entry, object, ret);
    const struct ramet_access *access = ramet_access_find(action);
    if (access && access->everyone)
        return verdict(ret, true, "%.60s is for everyone", action);
    if (!access)
        return verdict(ret, false, "%.60s is for admins only", action);
    for (size_t i = 0; i < entry->grant_count; i++) {
        if (!fits(&entry->grants[i].operations, action))
            continue;
        has_operation = true;
        if (!object || grant_fits(&entry->grants[i], self, object))
            return verdict(ret, true, "allow[%zu] of \"%s\"", i, entry->name);
    }
    return verdict(ret, false,
                   has_operation ? "no grant of \"%s\" for %.60s reaches it" : "\"%s\" has no grant for %.60s",
                   entry->name, action);
}

bool ramet_policy_allows(const struct ramet_policy *policy, const struct ramet_principal *principal, const char *action,
                         const struct ramet_object *object, struct ramet_verdict *ret)
{
    char self[RAMET_PRINCIPAL_TEXT] = "";
    char *to = self;
    if (principal->door == RAMET_DOOR_DAEMON)
        return verdict(ret, true, "the daemon itself");
    for (unsigned i = 0; i <= principal->act_count; i++) {
        const char *name = i == 0 ? principal->name : principal->act[i - 1];
        const struct ramet_policy_entry *entry = *name ? ramet_policy_by_name(policy, name) : NULL;
        to = stpcpy(stpcpy(to, i == 0 ? "" : ">"), name);
        if (!entry)
            return verdict(ret, false, *name ? "the policy has no principal \"%s\"" : "nobody%s", name);
        if (!entry_allows(entry, self, action, object, ret))
            return false;
    }
    return true;
}

bool ramet_policy_allows_tool(const struct ramet_policy *policy, const struct ramet_principal *principal,
                              const char *action, const char *server, const char *tool, struct ramet_verdict *ret)
{
    char name[1024];
    const struct ramet_object object = {.kind = RAMET_OBJECT_TOOL, .name = name};
    /* Patterns have one slash, so a name with a second one would be judged as another. */
    if ((size_t)snprintf(name, sizeof name, "%s/%s", server, tool) >= sizeof name || strchr(server, '/'))
        return verdict(ret, ramet_policy_is_admin(policy, principal), "only admins reach a tool of this name");
    return ramet_policy_allows(policy, principal, action, &object, ret);
}

bool ramet_policy_is_admin(const struct ramet_policy *policy, const struct ramet_principal *principal)
{
    if (principal->door == RAMET_DOOR_DAEMON)
        return true;
    for (unsigned i = 0; i <= principal->act_count; i++) {
        const struct ramet_policy_entry *entry =
            ramet_policy_by_name(policy, i == 0 ? principal->name : principal->act[i - 1]);
        if (!entry || !entry->admin)
            return false;
    }
    return true;
}

bool ramet_policy_agent_uid(const struct ramet_policy *policy, const struct ramet_principal *principal, uid_t *ret)
{
    const struct ramet_policy_entry *first = ramet_policy_by_name(policy, principal->name);
    for (unsigned i = 0; i <= principal->act_count; i++) {
        const struct ramet_policy_entry *entry = i == 0 ? first : ramet_policy_by_name(policy, principal->act[i - 1]);
        if (entry && !entry->admin && entry->has_uid) {
            *ret = entry->uid;
            return true;
        }
    }
    if (!first || first->admin || principal->uid < 0)
        return false;
    *ret = (uid_t)principal->uid;
    return true;
}

bool ramet_policy_admits_others(const struct ramet_policy *policy)
{
    for (size_t i = 0; i < policy->count; i++)
        if (!policy->entries[i].implied)
            return true;
    return false;
}

bool ramet_policy_has_tokens(const struct ramet_policy *policy)
{
    for (size_t i = 0; i < policy->count; i++)
        if (policy->entries[i].tokens.count)
            return true;
    return false;
}

const char *ramet_policy_id(const struct ramet_policy *policy) { return policy->id; }
