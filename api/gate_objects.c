/* SPDX-License-Identifier: Apache-2.0 */
/* Which objects a call is about (access.h), what they are called and whose they are. No state. */
#include "gate_objects.h"

#include "access.h"
#include "base/cleanup.h"
#include "json.h"
#include "owners.h"
#include "service.h"
#include "service_workspaces.h"

#include <stdio.h>
#include <string.h>

static const char *const kind_names[] = {"sandbox", "snapshot", "workspace", "tool"};

/* An object with the memory its strings are in. */
struct found {
    struct ramet_object_names names;
    const char *tags[RAMET_OBJECT_TAGS + 1];
    char owner[RAMET_PRINCIPAL_TEXT];
    struct ramet_object object;
};

/* ---- looking up ---- */

static void fill(const struct ramet_judging *judging, enum ramet_object_kind kind, struct found *f)
{
    for (size_t i = 0; i < f->names.count; i++)
        f->tags[i] = f->names.names[i];
    f->tags[f->names.count] = NULL;
    ramet_owners_get(judging->owners, f->names.id, f->owner);
    f->object = (struct ramet_object){.kind = kind, .id = f->names.id, .tags = f->tags, .owner = f->owner};
}

static bool look_up_workspace(const struct ramet_judging *judging, bool parent, const char *text, struct found *f)
{
    struct ramet_workspace_view view;
    if (ramet_service_workspace_get(judging->service, text, &view, NULL) < 0 ||
        (parent && ramet_service_workspace_get(judging->service, view.parent, &view, NULL) < 0))
        return false;
    snprintf(f->names.id, sizeof f->names.id, "%s", view.id);
    snprintf(f->names.names[0], sizeof f->names.names[0], "%s", view.name);
    f->names.count = 1;
    fill(judging, RAMET_OBJECT_WORKSPACE, f);
    return true;
}

static bool look_up(const struct ramet_judging *judging, const struct ramet_access_ref *ref, const char *text,
                    struct found *f)
{
    enum ramet_object_kind kind = ref->kind;
    if (kind == RAMET_OBJECT_WORKSPACE)
        return look_up_workspace(judging, ref->its_parent, text, f);
    int rc = kind == RAMET_OBJECT_SANDBOX ? ramet_service_sandbox_names(judging->service, text, &f->names, NULL)
                                          : ramet_service_snapshot_names(judging->service, text, &f->names, NULL);
    if (rc < 0 && ref->or_snapshot) {
        kind = RAMET_OBJECT_SNAPSHOT;
        rc = ramet_service_snapshot_names(judging->service, text, &f->names, NULL);
    }
    if (rc == 0)
        fill(judging, kind, f);
    return rc == 0;
}

/* What the call has there, or NULL. */
static const char *ref_text(const struct ramet_access_ref *ref, const struct ramet_call *call)
{
    const char *text = NULL;
    switch (ref->where) {
    case RAMET_REF_PARAM: text = call->param; break;
    case RAMET_REF_BODY: text = ramet_json_str(call->body, ref->name, NULL); break;
    case RAMET_REF_QUERY:
        for (size_t i = 0; i < call->request->query_count; i++)
            if (strcmp(call->request->query[i].name, ref->name) == 0)
                text = call->request->query[i].value;
        break;
    case RAMET_REF_NONE: break;
    }
    return text && *text ? text : ref->fallback;
}

/* ---- judging a call ---- */

static int deny(const struct ramet_call *call, const char *operation, const struct ramet_verdict *verdict,
                const char *kind, const char *name, struct ramet_error *err)
{
    char who[RAMET_PRINCIPAL_TEXT];
    ramet_principal_text(call->principal, who);
    if (name)
        ramet_error_set(err, RAMET_DENIED, "no %s \"%.100s\" on which \"%.100s\" may %s", kind, name, who, operation);
    else
        ramet_error_set(err, RAMET_DENIED, "\"%.100s\" may not %s", who, operation);
    return ramet_error_hint(err, "%s", verdict->reason);
}

static int judge_ref(const struct ramet_judging *judging, const char *operation, const struct ramet_call *call,
                     const struct ramet_access_ref *ref, struct ramet_verdict *verdict, struct ramet_ticket *ticket,
                     struct ramet_error *err)
{
    const char *text = ref_text(ref, call);
    char workspace[RAMET_NAME_SIZE];
    if (text && ref->is_tree) {
        snprintf(workspace, sizeof workspace, "%.*s", (int)strcspn(text, "@"), text);
        text = *workspace ? workspace : NULL;
    }
    if (!text)
        return 0; /* the handler says what it thinks of that */
    _autofree_ struct found *f = calloc(1, sizeof *f);
    if (!f)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to judge a call");
    bool exists = look_up(judging, ref, text, f);
    if (!exists && ref->may_be_new)
        return 0;
    if (!exists)
        snprintf(verdict->reason, sizeof verdict->reason, "nothing of that name that it may use");
    if (!exists || !ramet_policy_allows(judging->policy, call->principal, operation, &f->object, verdict)) {
        verdict->allowed = false;
        return deny(call, operation, verdict, kind_names[ref->kind], text, err);
    }
    if (ref->where == RAMET_REF_PARAM && !ref->is_name && !ref->its_parent)
        snprintf(ticket->param, sizeof ticket->param, "%s", f->names.id);
    return 0;
}

static void name_object(const struct ramet_access *access, const struct ramet_call *call, struct ramet_ticket *ticket)
{
    size_t used = 0;
    if (!access && *call->param)
        snprintf(ticket->object, sizeof ticket->object, "%.100s", call->param);
    for (size_t i = 0; access && i < RAMET_ACCESS_REFS; i++) {
        const char *text = ref_text(&access->refs[i], call);
        if (text && used < sizeof ticket->object)
            used += (size_t)snprintf(ticket->object + used, sizeof ticket->object - used, "%s%s:%.63s", used ? " " : "",
                                     kind_names[access->refs[i].kind], text);
    }
}

/* /v1/tools/{server}/{tool}/call */
static int judge_tool(const struct ramet_judging *judging, const struct ramet_call *call, struct ramet_verdict *verdict,
                      struct ramet_ticket *ticket, struct ramet_error *err)
{
    char name[160];
    snprintf(name, sizeof name, "%.70s/%.80s", call->param, call->param2);
    snprintf(ticket->object, sizeof ticket->object, "tool:%.150s", name);
    return ramet_policy_allows_tool(judging->policy, call->principal, RAMET_ACTION_CALL_TOOL, call->param, call->param2,
                                    verdict)
               ? 0
               : deny(call, RAMET_ACTION_CALL_TOOL, verdict, kind_names[RAMET_OBJECT_TOOL], name, err);
}

int ramet_judge_call(const struct ramet_judging *judging, const char *operation, const struct ramet_call *call,
                     struct ramet_verdict *verdict, struct ramet_ticket *ticket, struct ramet_error *err)
{
    const struct ramet_access *access = ramet_access_find(operation);
    struct ramet_error unheard;
    err = err ? err : &unheard;
    if (strcmp(operation, RAMET_ACTION_CALL_TOOL) == 0)
        return judge_tool(judging, call, verdict, ticket, err);
    name_object(access, call, ticket);
    if (!ramet_policy_allows(judging->policy, call->principal, operation, NULL, verdict))
        return deny(call, operation, verdict, NULL, NULL, err);
    if (!access || ramet_policy_is_admin(judging->policy, call->principal))
        return 0;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < RAMET_ACCESS_REFS; i++)
        if (access->refs[i].where != RAMET_REF_NONE)
            rc = judge_ref(judging, operation, call, &access->refs[i], verdict, ticket, err);
    return rc;
}

/* ---- judging an answer ---- */

static bool may_see(const struct ramet_judging *judging, const struct ramet_access *access,
                    const struct ramet_call *call, const struct ramet_json *item)
{
    struct found f = {0};
    const struct ramet_json *tags = ramet_json_get(item, "tags");
    snprintf(f.names.id, sizeof f.names.id, "%s", ramet_json_str(item, "id", ""));
    const char *name = ramet_json_str(item, "name", NULL);
    if (name)
        snprintf(f.names.names[f.names.count++], RAMET_NAME_SIZE, "%s", name);
    for (size_t i = 0; i < ramet_json_count(tags) && f.names.count < RAMET_OBJECT_TAGS; i++)
        snprintf(f.names.names[f.names.count++], RAMET_NAME_SIZE, "%s",
                 ramet_json_string_value(ramet_json_at(tags, i)));
    fill(judging, access->list_kind, &f);
    return ramet_policy_allows(judging->policy, call->principal, access->show, &f.object, NULL);
}

static void filter(const struct ramet_judging *judging, const struct ramet_access *access,
                   const struct ramet_call *call, struct ramet_json *answer)
{
    const struct ramet_json *list = ramet_json_get(answer, access->list);
    struct ramet_json *kept = ramet_json_array();
    for (size_t i = 0; i < ramet_json_count(list); i++)
        if (may_see(judging, access, call, ramet_json_at(list, i)))
            ramet_json_append(kept, ramet_json_copy(ramet_json_at(list, i)));
    ramet_json_set(answer, access->list, kept);
}

/* {"id": ...} of something that was made. */
static int own(const struct ramet_judging *judging, const char *owner, const struct ramet_json *made,
               struct ramet_error *err)
{
    const char *id = ramet_json_str(made, "id", NULL);
    char known[RAMET_PRINCIPAL_TEXT];
    if (!id)
        return 0;
    ramet_owners_get(judging->owners, id, known);
    return *known ? 0 : ramet_owners_set(judging->owners, id, owner, err); /* one that was there stays whose it was */
}

/* The workspaces of a sandbox that was made with it. */
static int own_attached(const struct ramet_judging *judging, const char *owner, const struct ramet_json *sandbox,
                        struct ramet_error *err)
{
    _autofree_ struct ramet_workspace_view *all = NULL;
    const char *id = ramet_json_str(sandbox, "id", NULL);
    size_t count = 0;
    int rc = id ? ramet_service_workspaces(judging->service, &all, &count, err) : 0;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        char known[RAMET_PRINCIPAL_TEXT];
        if (strcmp(all[i].sandbox, id) != 0)
            continue;
        ramet_owners_get(judging->owners, all[i].id, known);
        if (!*known)
            rc = ramet_owners_set(judging->owners, all[i].id, owner, err);
    }
    return rc;
}

/* The shapes in which answers show what they made: {"sandbox"}, {"snapshot"}, {"children": [...]}, {"sandboxes"}. */
static int own_all(const struct ramet_judging *judging, const char *owner, const struct ramet_json *answer,
                   struct ramet_error *err)
{
    static const char *const lists[] = {"children", "sandboxes"};
    int rc = own(judging, owner, ramet_json_get(answer, "sandbox"), err);
    /* Nothing changed since the last one, so it is the last one, perhaps somebody else's. */
    if (rc == 0 && !ramet_json_bool(answer, "unchanged", false))
        rc = own(judging, owner, ramet_json_get(answer, "snapshot"), err);
    for (size_t i = 0; i < 2; i++) {
        const struct ramet_json *list = ramet_json_get(answer, lists[i]);
        for (size_t j = 0; rc == 0 && j < ramet_json_count(list); j++) {
            const struct ramet_json *sandbox = ramet_json_get(ramet_json_at(list, j), "sandbox");
            rc = own(judging, owner, sandbox, err);
            if (rc == 0)
                rc = own_attached(judging, owner, sandbox, err);
        }
    }
    return rc;
}

int ramet_judge_answer(const struct ramet_judging *judging, const char *operation, const struct ramet_call *call,
                       struct ramet_json *answer, struct ramet_error *err)
{
    static const char *const makers[] = {"runSandbox", "forkSandbox", "snapshotSandbox", "restoreSnapshot"};
    static const char *const workspace_makers[] = {"createWorkspace", "forkWorkspace", "importWorkspace"};
    const struct ramet_access *access = ramet_access_find(operation);
    char owner[RAMET_PRINCIPAL_TEXT];
    if (strcmp(operation, "removeSandbox") == 0 || strcmp(operation, "removeSnapshot") == 0 ||
        strcmp(operation, "removeWorkspace") == 0)
        ramet_owners_forget(judging->owners, call->param); /* where that is its id; else it goes at the next start */
    if (!access || ramet_policy_is_admin(judging->policy, call->principal))
        return 0;
    if (access->list)
        filter(judging, access, call, answer);
    ramet_principal_text(call->principal, owner);
    for (size_t i = 0; i < sizeof makers / sizeof *makers; i++)
        if (strcmp(operation, makers[i]) == 0)
            return own_all(judging, owner, answer, err);
    for (size_t i = 0; i < sizeof workspace_makers / sizeof *workspace_makers; i++)
        if (strcmp(operation, workspace_makers[i]) == 0)
            return own(judging, owner, answer, err);
    return 0;
}
