/* SPDX-License-Identifier: Apache-2.0 */
/* /v1/principal, /v1/policy and /v1/audit: who is calling, what is allowed, what was done. */
#include "audit.h"
#include "audit_read.h"
#include "audit_verify.h"
#include "base/cleanup.h"
#include "confine.h"
#include "gate.h"
#include "json.h"
#include "mcp/mcp.h"
#include "policy.h"
#include "policy_source.h"
#include "routes_body.h"
#include "routes_table.h"

#include <string.h>

#define LINES_DEFAULT 100
#define LINES_MAX 1000

static struct ramet_gate *gate_of(const struct ramet_call *call)
{
    return ((struct ramet_routes_context *)call->context)->gate;
}

/* ---- who ---- */

int ramet_route_principal(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy =
        ramet_policy_source_get(ramet_gate_policies(gate_of(call)));
    const struct ramet_principal *who = call->principal;
    struct ramet_json *act = ramet_json_array();
    (void)err;
    for (unsigned i = 0; i < who->act_count; i++)
        ramet_json_append(act, ramet_json_string(who->act[i]));
    *ret = ramet_json_object();
    ramet_json_set_string(*ret, "name", who->name);
    ramet_json_set_string(*ret, "user", who->user);
    ramet_json_set_string(*ret, "agent", who->agent);
    ramet_json_set(*ret, "act", act);
    ramet_json_set_string(*ret, "door", ramet_door_name(who->door));
    ramet_json_set_string(*ret, "role", ramet_policy_is_admin(policy, who) ? "admin" : "agent");
    return 0;
}

int ramet_call_confinement(const struct ramet_call *call, struct ramet_confinement *ret, struct ramet_error *err)
{
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy =
        ramet_policy_source_get(ramet_gate_policies(gate_of(call)));
    return ramet_confine(policy, call->principal, ret, err);
}

/* ---- /mcp ---- */

int ramet_route_mcp(const struct ramet_call *call, struct ramet_http_response *response, struct ramet_error *err)
{
    (void)err;
    ramet_mcp_http(((struct ramet_routes_context *)call->context)->mcp, call->request, response);
    return 0;
}

/* ---- policy ---- */

int ramet_route_policy(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_policy_source *source = ramet_gate_policies(gate_of(call));
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy = ramet_policy_source_get(source);
    struct ramet_error broken = {0};
    const char *path = ramet_policy_source_path(source);
    (void)err;
    ramet_policy_source_error(source, &broken);
    *ret = ramet_json_object();
    ramet_json_set_string(*ret, "id", ramet_policy_id(policy));
    ramet_json_set_string(*ret, "file", path ? path : "");
    ramet_json_set_string(*ret, "error", broken.msg);
    ramet_json_set(*ret, "principals", ramet_policy_json(policy));
    return 0;
}

int ramet_route_policy_reload(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    int rc = ramet_empty_body(call->body, err);
    if (rc == 0)
        rc = ramet_policy_source_reload(ramet_gate_policies(gate_of(call)), err);
    return rc < 0 ? rc : ramet_route_policy(call, ret, err);
}

/* ---- audit ---- */

static struct ramet_json *head_json(uint64_t seq, const char *hash)
{
    struct ramet_json *head = ramet_json_object();
    ramet_json_set_u64(head, "seq", seq);
    ramet_json_set_string(head, "hash", hash);
    return head;
}

int ramet_route_audit(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_audit *audit = ramet_gate_audit(gate_of(call));
    struct ramet_json *lines = NULL;
    uint64_t after = UINT64_MAX, limit = LINES_DEFAULT, seq;
    char hash[RAMET_AUDIT_HASH_SIZE];
    int rc = ramet_call_query_u64(call, "limit", 0, LINES_MAX, &limit, err);
    if (rc == 0)
        rc = ramet_call_query_u64(call, "after", 0, INT64_MAX, &after, err);
    if (rc == 0)
        rc = ramet_audit_flush(audit, err);
    ramet_audit_head(audit, &seq, hash);
    if (after == UINT64_MAX)
        after = seq > limit ? seq - limit : 0;
    if (rc == 0)
        rc = ramet_audit_read(ramet_audit_dir(audit), after, (unsigned)limit, &lines, err);
    if (rc < 0)
        return rc;
    *ret = ramet_json_object();
    ramet_json_set(*ret, "lines", lines);
    ramet_json_set(*ret, "head", head_json(seq, hash));
    return 0;
}

static struct ramet_json *split_lines(char *text)
{
    struct ramet_json *lines = ramet_json_array();
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        ramet_json_append(lines, ramet_json_string(line));
    return lines;
}

int ramet_route_audit_verify(const struct ramet_call *call, struct ramet_json **ret, struct ramet_error *err)
{
    struct ramet_audit *audit = ramet_gate_audit(gate_of(call));
    struct ramet_audit_report report;
    struct ramet_audit_expect expect = {0};
    char hash[RAMET_AUDIT_HASH_SIZE];
    int rc = ramet_call_query_u64(call, "from", 0, INT64_MAX, &expect.from, err);
    if (rc == 0)
        rc = ramet_audit_flush(audit, err);
    ramet_audit_head(audit, &expect.seq, hash); /* the daemon's own: nobody could write that anew */
    expect.hash = hash;
    if (rc == 0)
        rc = ramet_audit_verify(ramet_audit_dir(audit), &expect, &report, err);
    if (rc < 0)
        return rc;
    *ret = ramet_json_object();
    ramet_json_set_u64(*ret, "files", report.files);
    ramet_json_set_u64(*ret, "lines", report.lines);
    ramet_json_set_u64(*ret, "problems", report.problems);
    ramet_json_set(*ret, "report", split_lines(report.problem_lines));
    ramet_json_set(*ret, "notes", split_lines(report.notes));
    ramet_json_set(*ret, "head", head_json(report.seq, report.hash));
    ramet_audit_report_clear(&report);
    return 0;
}
