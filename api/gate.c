/* SPDX-License-Identifier: Apache-2.0 */
/* The order in which a call is judged, told, let through and told again. No lock of its own. */
#include "gate.h"

#include "access.h"
#include "audit.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "gate_objects.h"
#include "json.h"
#include "owners.h"
#include "policy.h"
#include "policy_source.h"
#include "service.h"
#include "service_workspaces.h"
#include "workspace_mount.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

struct ramet_gate {
    struct ramet_policy_source *policies;
    struct ramet_audit *audit;
    struct ramet_owners *owners;
    struct ramet_service *service;
    struct ramet_router_gate door;
};

/* ---- who ---- */

static int admit(void *context, struct ramet_http_request *request, struct ramet_http_response *response,
                 struct ramet_error *err)
{
    struct ramet_gate *gate = context;
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy = ramet_policy_source_get(gate->policies);
    int rc = ramet_http_check_origin(request, err);
    if (rc < 0)
        return rc;
    rc = ramet_principal_identify(policy, &request->caller, &request->principal, err);
    if (rc == 0)
        return 0;
    const struct ramet_audit_line line = {.principal = &request->principal,
                                          .action = "connect",
                                          .object = request->path,
                                          .reason = err->msg,
                                          .policy = ramet_policy_id(policy),
                                          .client = ramet_http_header(request, "User-Agent"),
                                          .error = "denied"};
    int told = ramet_audit_add(gate->audit, &line, true, NULL, err);
    if (told == 0 && (request->caller.authorization || request->caller.uid < 0)) {
        response->status = 401;
        ramet_http_add_header(response, "WWW-Authenticate", "Bearer");
    }
    return told < 0 ? told : rc;
}

/* ---- telling ---- */

static struct ramet_audit_line line_of(const struct ramet_call *call, const char *operation, const char *object)
{
    static const struct ramet_origin unknown;
    const struct ramet_origin *origin = call->origin ? call->origin : &unknown;
    return (struct ramet_audit_line){.principal = call->principal,
                                     .action = operation,
                                     .object = object,
                                     .allowed = true,
                                     .client = origin->client,
                                     .session = origin->session,
                                     .trace = origin->trace,
                                     .method = origin->method,
                                     .tool = origin->tool,
                                     .protocol = origin->protocol,
                                     .request_id = origin->request_id};
}

/* A call of an MCP server's tool names both. */
static void name_tool(struct ramet_audit_line *line, const struct ramet_call *call)
{
    if (strcmp(line->action, RAMET_ACTION_CALL_TOOL) == 0 && *call->param2) {
        line->server = call->param;
        line->tool = call->param2;
    }
}

static bool changes(const struct ramet_route *route) { return strcmp(route->method, "GET") != 0; }

/* Everything the caller gave but the path's parameter, which the line has in clear. */
static void hash_arguments(struct ramet_gate *gate, const struct ramet_call *call, char ret[static 65])
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *query = NULL;
    if (!call->body && call->request->query_count) {
        query = ramet_json_object();
        for (size_t i = 0; i < call->request->query_count; i++)
            ramet_json_set_string(query, call->request->query[i].name, call->request->query[i].value);
    }
    ramet_audit_hash_json(gate->audit, call->body ? call->body : query, ret);
}

/* ---- entering ---- */

static int enter(void *context, const struct ramet_route *route, const struct ramet_call *call,
                 struct ramet_ticket *ticket, struct ramet_error *err)
{
    struct ramet_gate *gate = context;
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy = ramet_policy_source_get(gate->policies);
    struct ramet_verdict verdict = {0};
    bool admin = ramet_policy_is_admin(policy, call->principal);
    const struct ramet_judging judging = {.service = gate->service, .owners = gate->owners, .policy = policy};
    int rc = ramet_judge_call(&judging, route->operation, call, &verdict, ticket, err);
    ticket->begun_us = ramet_now_us();
    hash_arguments(gate, call, ticket->arguments);
    if (rc == 0 && !changes(route))
        return 0;
    struct ramet_audit_line line = line_of(call, route->operation, ticket->object);
    line.allowed = rc == 0;
    line.reason = verdict.reason;
    line.policy = ramet_policy_id(policy);
    line.arguments = ticket->arguments;
    line.error = rc < 0 ? ramet_code_name(rc) : NULL;
    name_tool(&line, call);
    int told = ramet_audit_add(gate->audit, &line, rc < 0 || !admin, &ticket->seq, rc < 0 ? NULL : err);
    ticket->told = told == 0;
    return rc < 0 ? rc : told;
}

/* ---- leaving ---- */

static int leave(void *context, const struct ramet_route *route, const struct ramet_call *call,
                 const struct ramet_ticket *ticket, struct ramet_json *answer, const struct ramet_error *failure,
                 struct ramet_error *err)
{
    struct ramet_gate *gate = context;
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy = ramet_policy_source_get(gate->policies);
    const struct ramet_judging judging = {.service = gate->service, .owners = gate->owners, .policy = policy};
    int rc = answer ? ramet_judge_answer(&judging, route->operation, call, answer, err) : 0;
    char seq[24];
    struct ramet_audit_line line = line_of(call, route->operation, ticket->object);
    snprintf(seq, sizeof seq, "%" PRIu64, ticket->seq);
    line.done = true;
    line.duration_us = ramet_now_us() - ticket->begun_us;
    line.policy = ramet_policy_id(policy);
    line.arguments = ticket->arguments;
    line.call = ticket->told ? seq : NULL;
    line.error = failure ? ramet_code_name(failure->code) : rc < 0 ? ramet_code_name(rc) : NULL;
    name_tool(&line, call);
    int told = ramet_audit_add(gate->audit, &line, false, NULL, err);
    if (told == 0 && ticket->told)
        told = ramet_audit_wait(gate->audit, ticket->seq, err);
    return rc < 0 ? rc : told;
}

/* ---- tools ---- */

int ramet_gate_judge_tool(struct ramet_gate *gate, const struct ramet_principal *principal, const char *action,
                          const char *server, const char *tool, struct ramet_error *err)
{
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy = ramet_policy_source_get(gate->policies);
    struct ramet_verdict verdict = {0};
    char who[RAMET_PRINCIPAL_TEXT], object[320];
    bool allowed = ramet_policy_allows_tool(policy, principal, action, server, tool, &verdict);
    snprintf(object, sizeof object, "tool:%.150s/%.150s", server, tool);
    const struct ramet_audit_line line = {.principal = principal,
                                          .action = action,
                                          .object = object,
                                          .allowed = allowed,
                                          .reason = verdict.reason,
                                          .policy = ramet_policy_id(policy),
                                          .server = server,
                                          .tool = tool,
                                          .error = allowed ? NULL : "denied"};
    int rc = ramet_audit_add(gate->audit, &line, !allowed, NULL, err);
    if (rc < 0 || allowed)
        return rc;
    ramet_principal_text(principal, who);
    ramet_error_set(err, RAMET_DENIED, "no tool \"%.100s/%.100s\" that \"%.100s\" may use", server, tool, who);
    ramet_error_hint(err, "%s", verdict.reason);
    return -RAMET_DENIED;
}

/* ---- opens ---- */

static int opening(void *context, const struct ramet_workspace_open *open, struct ramet_error *err)
{
    struct ramet_gate *gate = context;
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy = ramet_policy_source_get(gate->policies);
    _autofree_ char *object = NULL;
    struct ramet_principal principal;
    char access[40];
    if (asprintf(&object, "file:%s/%s", open->workspace, open->path ? open->path : "(removed)") < 0)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to audit an open");
    /* Whom the policy does not know is told by number: what may be opened is for modes and owners to say. */
    ramet_principal_of_uid(policy, open->uid, open->pid, &principal, NULL);
    snprintf(access, sizeof access, "%s%s%s", open->create ? "create, " : "",
             open->execute ? "execute"
             : open->read  ? "read"
                           : "write",
             open->read && open->write ? ", write" : "");
    const struct ramet_audit_line line = {.principal = &principal,
                                          .action = "openFile",
                                          .object = object,
                                          .allowed = true,
                                          .policy = ramet_policy_id(policy),
                                          .access = access};
    return ramet_audit_add(gate->audit, &line, false, NULL, err);
}

/* ---- life ---- */

/* When that cannot be told, it does. */
static bool exists(void *service, const char *id)
{
    struct ramet_object_names *names = malloc(sizeof *names);
    struct ramet_workspace_view workspace;
    bool there = !names || ramet_service_sandbox_names(service, id, names, NULL) == 0 ||
                 ramet_service_snapshot_names(service, id, names, NULL) == 0 ||
                 ramet_service_workspace_get(service, id, &workspace, NULL) == 0;
    free(names);
    return there;
}

int ramet_gate_open(const char *store_dir, struct ramet_policy_source *policies, struct ramet_service *service,
                    struct ramet_gate **ret, struct ramet_error *err)
{
    char path[PATH_MAX];
    struct ramet_gate *gate = calloc(1, sizeof *gate);
    if (!gate)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the gate");
    gate->door = (struct ramet_router_gate){.context = gate, .admit = admit, .enter = enter, .leave = leave};
    gate->policies = policies;
    gate->service = service;
    int rc = snprintf(path, sizeof path, "%s/audit", store_dir) < (int)sizeof path
                 ? ramet_audit_open(path, NULL, &gate->audit, err)
                 : ramet_error_set(err, RAMET_INVALID, "path \"%.100s...\" is too long", store_dir);
    if (rc == 0) {
        snprintf(path, sizeof path, "%s/owners", store_dir);
        rc = ramet_owners_open(path, &gate->owners, err);
    }
    if (rc < 0) {
        ramet_gate_close(gate);
        return rc;
    }
    ramet_owners_prune(gate->owners, exists, service);
    ramet_service_set_auditor(service, &(struct ramet_workspace_auditor){.context = gate, .opening = opening});
    *ret = gate;
    return 0;
}

void ramet_gate_close(struct ramet_gate *gate)
{
    if (!gate)
        return;
    if (gate->audit)
        ramet_audit_give_up(gate->audit); /* or whoever opens files waits for a full disk, and we for it */
    ramet_service_set_auditor(gate->service, NULL);
    ramet_owners_close(gate->owners);
    ramet_audit_close(gate->audit);
    free(gate);
}

const struct ramet_router_gate *ramet_gate_for_router(struct ramet_gate *gate) { return &gate->door; }
struct ramet_policy_source *ramet_gate_policies(struct ramet_gate *gate) { return gate->policies; }
struct ramet_audit *ramet_gate_audit(struct ramet_gate *gate) { return gate->audit; }
struct ramet_owners *ramet_gate_owners(struct ramet_gate *gate) { return gate->owners; }
