/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the file to a policy, strictly: an unknown member, a name used twice or a
 * pattern that can fit nothing is refused, since each is a rule that does not do what
 * its writer believes.
 */
#include "access.h"
#include "base/cleanup.h"
#include "json.h"
#include "policy.h"
#include "policy_private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char *const object_keys[RAMET_OBJECT_KINDS] = {"sandboxes", "snapshots", "workspaces"};

/* ---- life ---- */

static void strings_free(struct strings *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
}

static void entry_clear(struct ramet_policy_entry *entry)
{
    for (size_t i = 0; i < entry->grant_count; i++) {
        strings_free(&entry->grants[i].operations);
        for (size_t kind = 0; kind < RAMET_OBJECT_KINDS; kind++)
            strings_free(&entry->grants[i].objects[kind]);
    }
    free(entry->grants);
    strings_free(&entry->tokens);
    strings_free(&entry->tools);
}

struct ramet_policy *ramet_policy_ref(struct ramet_policy *policy)
{
    atomic_fetch_add(&policy->refs, 1);
    return policy;
}

void ramet_policy_unref(struct ramet_policy *policy)
{
    if (!policy || atomic_fetch_sub(&policy->refs, 1) != 1)
        return;
    for (size_t i = 0; i < policy->count; i++)
        entry_clear(&policy->entries[i]);
    free(policy->entries);
    free(policy);
}

void ramet_policy_cleanup(struct ramet_policy **policy) { ramet_policy_unref(*policy); }

static int no_memory(struct ramet_error *err)
{
    return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a policy");
}

/* `count` entries of the file, and room for the implied ones. */
static struct ramet_policy *policy_new(size_t count)
{
    struct ramet_policy *policy = calloc(1, sizeof *policy);
    if (policy)
        policy->entries = calloc(count + 2, sizeof *policy->entries);
    if (!policy || !policy->entries) {
        free(policy);
        return NULL;
    }
    atomic_init(&policy->refs, 1);
    return policy;
}

/* ---- members ---- */

static bool is_name(const char *s)
{
    static const char first[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    size_t size = strlen(s);
    return size > 0 && size < RAMET_PRINCIPAL_SIZE && strchr(first, *s) &&
           strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@:-") == size;
}

static int read_name(const struct ramet_json *value, const char *key, char ret[static RAMET_PRINCIPAL_SIZE],
                     struct ramet_error *err)
{
    const char *name = NULL;
    int rc = ramet_json_want_string(value, key, &name, err);
    if (rc < 0 || !name)
        return rc;
    if (!is_name(name))
        return ramet_error_set(err, RAMET_INVALID, "\"%s\": \"%.80s\" is no name of 1 to %d letters, digits and ._@:-",
                               key, name, RAMET_PRINCIPAL_SIZE - 1);
    strcpy(ret, name);
    return 0;
}

typedef int check_string(const char *key, const char *text, struct ramet_error *err);

/* An array of strings; with `lone`, a string stands for an array of one. */
static int read_strings(const struct ramet_json *object, const char *key, bool lone, check_string *check,
                        struct strings *ret, struct ramet_error *err)
{
    const struct ramet_json *value = ramet_json_get(object, key);
    bool single = lone && ramet_json_string_value(value);
    if (!value)
        return 0;
    if (!single && !ramet_json_is_array(value))
        return ramet_error_set(err, RAMET_INVALID, "\"%s\" must be an array of strings", key);
    size_t count = single ? 1 : ramet_json_count(value);
    ret->items = calloc(count ? count : 1, sizeof *ret->items);
    if (!ret->items)
        return no_memory(err);
    for (size_t i = 0; i < count; i++) {
        const char *text = ramet_json_string_value(single ? value : ramet_json_at(value, i));
        if (!text || !*text)
            return ramet_error_set(err, RAMET_INVALID, "\"%s\" must be an array of strings that are not empty", key);
        int rc = check(key, text, err);
        if (rc < 0)
            return rc;
        ret->items[i] = strdup(text);
        if (!ret->items[i])
            return no_memory(err);
        ret->count++;
    }
    return 0;
}

static int check_operation(const char *key, const char *text, struct ramet_error *err)
{
    if (ramet_access_any(text))
        return 0;
    ramet_error_set(err, RAMET_INVALID, "\"%s\": \"%.80s\" fits no operation that an agent can be given", key, text);
    return ramet_error_hint(err, "docs/operations.md lists them; they are operationIds of GET /openapi.yaml");
}

static int check_object(const char *key, const char *text, struct ramet_error *err)
{
    if (*text != '@' || strcmp(text, "@own") == 0)
        return 0;
    return ramet_error_set(err, RAMET_INVALID, "\"%s\": \"%.80s\" is neither a pattern nor \"@own\"", key, text);
}

static int check_tool(const char *key, const char *text, struct ramet_error *err)
{
    const char *slash = strchr(text, '/');
    if (slash && slash != text && slash[1])
        return 0;
    ramet_error_set(err, RAMET_INVALID, "\"%s\": \"%.80s\" is no pattern \"server/tool\"", key, text);
    return ramet_error_hint(err, "every tool of a server is \"server/*\"");
}

static int check_token(const char *key, const char *text, struct ramet_error *err)
{
    if (strlen(text) == RAMET_DIGEST_SIZE - 1 && strspn(text, "0123456789abcdef") == RAMET_DIGEST_SIZE - 1)
        return 0;
    /* Perhaps the token itself: it is not repeated. */
    ramet_error_set(err, RAMET_INVALID, "\"%s\" is no SHA-256 in 64 lower-case hex digits", key);
    return ramet_error_hint(err, "printf %%s TOKEN | sha256sum");
}

/* ---- entries ---- */

static int read_grant(const struct ramet_json *value, struct grant *grant, struct ramet_error *err)
{
    static const char *const keys[] = {"operations", "sandboxes", "snapshots", "workspaces", NULL};
    if (!ramet_json_is_object(value))
        return ramet_error_set(err, RAMET_INVALID, "it must be an object");
    int rc = ramet_json_want_only(value, keys, err);
    if (rc == 0)
        rc = read_strings(value, "operations", false, check_operation, &grant->operations, err);
    for (size_t kind = 0; rc == 0 && kind < RAMET_OBJECT_KINDS; kind++)
        rc = read_strings(value, object_keys[kind], false, check_object, &grant->objects[kind], err);
    if (rc == 0 && grant->operations.count == 0)
        rc = ramet_error_set(err, RAMET_INVALID, "\"operations\" is missing");
    return rc;
}

static int read_grants(const struct ramet_json *value, struct ramet_policy_entry *entry, struct ramet_error *err)
{
    const struct ramet_json *grants = ramet_json_get(value, "allow");
    size_t count = ramet_json_count(grants);
    if (!grants)
        return 0;
    if (!ramet_json_is_array(grants))
        return ramet_error_set(err, RAMET_INVALID, "\"allow\" must be an array of objects");
    entry->grants = calloc(count ? count : 1, sizeof *entry->grants);
    if (!entry->grants)
        return no_memory(err);
    entry->grant_count = count; /* those not read yet are empty */
    for (size_t i = 0; i < count; i++) {
        int rc = read_grant(ramet_json_at(grants, i), &entry->grants[i], err);
        if (rc < 0)
            return ramet_error_prefix(err, "\"allow\"[%zu]", i);
    }
    return 0;
}

static int read_role(const struct ramet_json *value, bool *ret_admin, struct ramet_error *err)
{
    const char *role = NULL;
    int rc = ramet_json_want_string(value, "role", &role, err);
    if (rc < 0)
        return rc;
    *ret_admin = role && strcmp(role, "admin") == 0;
    if (*ret_admin || (role && strcmp(role, "agent") == 0))
        return 0;
    return ramet_error_set(err, RAMET_INVALID, "\"role\" must be \"admin\" or \"agent\"");
}

static int read_entry(const struct ramet_json *value, struct ramet_policy_entry *entry, struct ramet_error *err)
{
    static const char *const keys[] = {"name", "user", "agent", "uid", "role", "token_sha256", "allow", "tools", NULL};
    uint64_t uid = UINT64_MAX;
    if (!ramet_json_is_object(value))
        return ramet_error_set(err, RAMET_INVALID, "it must be an object");
    int rc = ramet_json_want_only(value, keys, err);
    if (rc == 0)
        rc = read_name(value, "name", entry->name, err);
    if (rc == 0 && !*entry->name)
        rc = ramet_error_set(err, RAMET_INVALID, "\"name\" is missing");
    if (rc == 0)
        rc = read_role(value, &entry->admin, err);
    strcpy(entry->user, entry->name);
    if (!entry->admin)
        strcpy(entry->agent, entry->name);
    if (rc == 0)
        rc = read_name(value, "user", entry->user, err);
    if (rc == 0)
        rc = read_name(value, "agent", entry->agent, err);
    if (rc == 0)
        rc = ramet_json_want_u64(value, "uid", 0, UINT32_MAX - 1, &uid, err);
    entry->has_uid = uid != UINT64_MAX;
    entry->uid = (uid_t)uid;
    if (rc == 0)
        rc = read_strings(value, "token_sha256", true, check_token, &entry->tokens, err);
    if (rc == 0)
        rc = read_grants(value, entry, err);
    if (rc == 0)
        rc = read_strings(value, "tools", false, check_tool, &entry->tools, err);
    if (rc == 0 && entry->admin && (entry->grant_count || entry->tools.count))
        rc = ramet_error_set(err, RAMET_INVALID,
                             "an admin may do everything: \"allow\" and \"tools\" limit agents only");
    return rc;
}

/* ---- the whole ---- */

static bool shares_token(const struct ramet_policy_entry *a, const struct ramet_policy_entry *b)
{
    for (size_t i = 0; i < a->tokens.count; i++)
        for (size_t j = 0; j < b->tokens.count; j++)
            if (strcmp(a->tokens.items[i], b->tokens.items[j]) == 0)
                return true;
    return false;
}

static int check_unique(const struct ramet_policy *policy, struct ramet_error *err)
{
    for (size_t i = 0; i < policy->count; i++)
        for (size_t j = 0; j < i; j++) {
            const struct ramet_policy_entry *a = &policy->entries[j], *b = &policy->entries[i];
            const char *same = strcmp(a->name, b->name) == 0                  ? "name"
                               : a->has_uid && b->has_uid && a->uid == b->uid ? "uid"
                               : shares_token(a, b)                           ? "token"
                                                                              : NULL;
            if (same)
                return ramet_error_set(err, RAMET_INVALID, "principals \"%s\" and \"%s\" have the same %s", a->name,
                                       b->name, same);
        }
    return 0;
}

static void imply_admin(struct ramet_policy *policy, uid_t uid, const char *name)
{
    if (ramet_policy_by_uid(policy, uid))
        return;
    struct ramet_policy_entry *entry = &policy->entries[policy->count++];
    entry->admin = entry->implied = entry->has_uid = true;
    entry->uid = uid;
    strcpy(entry->name, name);
    snprintf(entry->user, sizeof entry->user, uid == 0 ? "root" : "uid:%u", (unsigned)uid);
}

/* Names that no entry of a file can have. */
static void imply_admins(struct ramet_policy *policy)
{
    imply_admin(policy, 0, "@root");
    imply_admin(policy, geteuid(), "@owner");
}

static int read_all(const struct ramet_json *top, struct ramet_policy *policy, struct ramet_error *err)
{
    static const char *const keys[] = {"principals", NULL};
    const struct ramet_json *list = ramet_json_get(top, "principals");
    int rc = ramet_json_want_only(top, keys, err);
    for (size_t i = 0; rc == 0 && i < ramet_json_count(list); i++) {
        struct ramet_policy_entry *entry = &policy->entries[policy->count++];
        rc = read_entry(ramet_json_at(list, i), entry, err);
        if (rc < 0)
            *entry->name ? ramet_error_prefix(err, "principal \"%s\"", entry->name)
                         : ramet_error_prefix(err, "\"principals\"[%zu]", i);
    }
    return rc == 0 ? check_unique(policy, err) : rc;
}

int ramet_policy_parse(const char *text, size_t size, struct ramet_policy **ret, struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *top = NULL;
    char digest[RAMET_DIGEST_SIZE];
    int rc = ramet_json_parse(text, size, &top, err);
    if (rc < 0)
        return rc;
    const struct ramet_json *list = ramet_json_get(top, "principals");
    if (!ramet_json_is_object(top) || !ramet_json_is_array(list))
        return ramet_error_set(err, RAMET_INVALID, "a policy is {\"principals\": [...]}");
    struct ramet_policy *policy = policy_new(ramet_json_count(list));
    if (!policy)
        return no_memory(err);
    rc = read_all(top, policy, err);
    if (rc < 0) {
        ramet_policy_unref(policy);
        return rc;
    }
    imply_admins(policy);
    ramet_digest_sure(text, size, digest);
    snprintf(policy->id, sizeof policy->id, "%.*s", RAMET_POLICY_ID_SIZE - 1, digest);
    *ret = policy;
    return 0;
}

int ramet_policy_default(struct ramet_policy **ret, struct ramet_error *err)
{
    struct ramet_policy *policy = policy_new(0);
    if (!policy)
        return no_memory(err);
    imply_admins(policy);
    strcpy(policy->id, "default");
    *ret = policy;
    return 0;
}

/* ---- showing ---- */

static void set_strings(struct ramet_json *object, const char *key, const struct strings *list)
{
    if (list->count == 0)
        return;
    struct ramet_json *array = ramet_json_array();
    for (size_t i = 0; i < list->count; i++)
        ramet_json_append(array, ramet_json_string(list->items[i]));
    ramet_json_set(object, key, array);
}

static struct ramet_json *grants_json(const struct ramet_policy_entry *entry)
{
    struct ramet_json *array = ramet_json_array();
    for (size_t i = 0; i < entry->grant_count; i++) {
        struct ramet_json *grant = ramet_json_object();
        set_strings(grant, "operations", &entry->grants[i].operations);
        for (size_t kind = 0; kind < RAMET_OBJECT_KINDS; kind++)
            set_strings(grant, object_keys[kind], &entry->grants[i].objects[kind]);
        ramet_json_append(array, grant);
    }
    return array;
}

static struct ramet_json *entry_json(const struct ramet_policy_entry *entry)
{
    struct ramet_json *o = ramet_json_object();
    ramet_json_set_string(o, "name", entry->name);
    ramet_json_set_string(o, "user", entry->user);
    ramet_json_set_string(o, "agent", entry->agent);
    ramet_json_set_string(o, "role", entry->admin ? "admin" : "agent");
    if (entry->has_uid)
        ramet_json_set_i64(o, "uid", entry->uid);
    ramet_json_set_u64(o, "tokens", entry->tokens.count);
    if (!entry->admin) {
        ramet_json_set(o, "allow", grants_json(entry));
        struct ramet_json *tools = ramet_json_array();
        for (size_t i = 0; i < entry->tools.count; i++)
            ramet_json_append(tools, ramet_json_string(entry->tools.items[i]));
        ramet_json_set(o, "tools", tools);
    }
    return o;
}

struct ramet_json *ramet_policy_json(const struct ramet_policy *policy)
{
    struct ramet_json *list = ramet_json_array();
    for (size_t i = 0; i < policy->count; i++)
        ramet_json_append(list, entry_json(&policy->entries[i]));
    return list;
}
