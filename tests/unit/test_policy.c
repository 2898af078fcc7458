/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: an agent may do what its entry says and nothing else, whatever the question;
 * an act chain only narrows; a policy with a mistake is refused by name; the file in
 * force is the one on disk, and a broken one changes nothing.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "digest.h"
#include "glob.h"
#include "json.h"
#include "policy.h"
#include "policy_source.h"
#include "principal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define TOKEN "letmein-letmein-letmein"

static const char text[] =
    "{\"principals\": ["
    "{\"name\": \"ops\", \"uid\": 4000, \"role\": \"admin\"},"
    "{\"name\": \"claude\", \"user\": \"alice\", \"agent\": \"claude-code\", \"uid\": 4001, \"role\": \"agent\","
    " \"token_sha256\": [\"%s\"],"
    " \"allow\": [{\"operations\": [\"runSandbox\", \"getSnapshot\"], \"snapshots\": [\"debian\", \"base-*\"]},"
    "             {\"operations\": [\"*\"], \"sandboxes\": [\"@own\", \"claude-*\"], \"snapshots\": [\"@own\"]}],"
    " \"tools\": [\"github/search_*\", \"files/*\"]},"
    "{\"name\": \"planner\", \"role\": \"agent\","
    " \"allow\": [{\"operations\": [\"getSandbox\", \"execInSandbox\"], \"sandboxes\": [\"@own\", \"*\"]}],"
    " \"tools\": [\"files/read_file\"]},"
    "{\"name\": \"nothing\", \"uid\": 4003, \"role\": \"agent\"}]}";

static struct ramet_policy *parse(void)
{
    char token_hash[65], full[4096];
    struct ramet_policy *policy = NULL;
    struct ramet_error err = {0};
    ramet_digest_sure(TOKEN, strlen(TOKEN), token_hash);
    snprintf(full, sizeof full, text, token_hash);
    if (ramet_policy_parse(full, strlen(full), &policy, &err) < 0)
        fail_msg("%s", err.msg);
    return policy;
}

static struct ramet_principal who(const struct ramet_policy *policy, int64_t uid, const char *authorization,
                                  const char *act)
{
    struct ramet_principal principal;
    struct ramet_error err = {0};
    const struct ramet_caller caller = {.uid = uid, .pid = 1, .authorization = authorization, .act = act};
    if (ramet_principal_identify(policy, &caller, &principal, &err) < 0)
        fail_msg("%s", err.msg);
    return principal;
}

/* ---- patterns ---- */

static void test_patterns(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *text;
        bool fits;
    } cases[] = {
        {"", "", true},          {"", "a", false},           {"*", "", true},
        {"*", "abc", true},      {"*", "a/b", false},        {"a*c", "abc", true},
        {"a*c", "ac", true},     {"a*c", "abd", false},      {"a?c", "abc", true},
        {"a?c", "a/c", false},   {"a?", "a", false},         {"*/*", "a/b", true},
        {"*/*", "a/b/c", false}, {"a*b*c", "axxbxbc", true}, {"*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaac", false},
        {"[a]", "a", false},     {"[a]", "[a]", true},       {"\\*", "\\abc", true},
        {"a/*", "a/", true},     {"x*", "X", false},         {"*/read_*", "fs/read_file", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (ramet_glob(cases[i].pattern, cases[i].text) != cases[i].fits)
            fail_msg("\"%s\" on \"%s\"", cases[i].pattern, cases[i].text);
}

/* ---- who ---- */

static void test_who_calls(void **state)
{
    (void)state;
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy = parse();
    struct ramet_principal p = who(policy, 4001, NULL, NULL);
    char full[RAMET_PRINCIPAL_TEXT];
    assert_string_equal(p.name, "claude");
    assert_string_equal(p.user, "alice");
    assert_string_equal(p.agent, "claude-code");
    assert_int_equal(p.uid, 4001);
    p = who(policy, -1, "Bearer " TOKEN, NULL);
    assert_string_equal(p.name, "claude");
    assert_int_equal(p.uid, -1);
    p = who(policy, 4000, "bearer   " TOKEN, NULL); /* the token decides, not the uid */
    assert_string_equal(p.name, "claude");
    p = who(policy, 4001, NULL, "planner, nothing");
    assert_int_equal(p.act_count, 2);
    ramet_principal_text(&p, full);
    assert_string_equal(full, "claude>planner>nothing");
    p = who(policy, 0, NULL, NULL);
    assert_true(ramet_policy_is_admin(policy, &p));
    assert_string_equal(p.user, "root");
}

static void test_who_does_not(void **state)
{
    (void)state;
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy = parse();
    static const struct {
        int64_t uid;
        const char *authorization, *act;
    } cases[] = {
        {4999, NULL, NULL},
        {-1, NULL, NULL},
        {0, "Bearer wrong-token-of-mine", NULL},
        {0, "Bearer ", NULL},
        {0, "Basic cm9vdDo=", NULL},
        {0, "", NULL},
        {4001, NULL, "somebody"},
        {4001, NULL, "planner,planner,planner,planner,planner"},
        {4001, NULL, "a-name-that-is-far-too-long-for-any-principal-in-any-policy-of-the-world"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ramet_principal principal;
        struct ramet_error err = {0};
        const struct ramet_caller caller = {
            .uid = cases[i].uid, .authorization = cases[i].authorization, .act = cases[i].act};
        assert_int_equal(ramet_principal_identify(policy, &caller, &principal, &err), -RAMET_DENIED);
        assert_string_equal(principal.name, "");
        assert_null(strstr(err.msg, "wrong-token"));
        assert_null(strstr(err.hint, "wrong-token"));
        assert_false(ramet_policy_allows(policy, &principal, "getStatus", NULL, NULL));
        assert_false(ramet_policy_allows_tool(policy, &principal, RAMET_ACTION_CALL_TOOL, "files", "x", NULL));
        assert_false(ramet_policy_is_admin(policy, &principal));
    }
}

/* ---- what ---- */

static bool may(const struct ramet_policy *policy, const struct ramet_principal *p, const char *action,
                enum ramet_object_kind kind, const char *name, const char *owner)
{
    struct ramet_verdict verdict = {0};
    const struct ramet_object object = {.kind = kind, .id = "0123456789abcdef", .name = name, .owner = owner};
    bool allowed = ramet_policy_allows(policy, p, action, &object, &verdict);
    assert_int_equal(allowed, verdict.allowed);
    assert_true(strlen(verdict.reason) > 0);
    return allowed;
}

static void test_objects(void **state)
{
    (void)state;
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy = parse();
    struct ramet_principal p = who(policy, 4001, NULL, NULL);
    assert_true(may(policy, &p, "runSandbox", RAMET_OBJECT_SNAPSHOT, "debian", NULL));
    assert_true(may(policy, &p, "runSandbox", RAMET_OBJECT_SNAPSHOT, "base-1", "bob"));
    assert_false(may(policy, &p, "runSandbox", RAMET_OBJECT_SNAPSHOT, "secret", NULL));
    assert_true(may(policy, &p, "runSandbox", RAMET_OBJECT_SNAPSHOT, "secret", "claude"));
    assert_false(may(policy, &p, "removeSnapshot", RAMET_OBJECT_SNAPSHOT, "debian", NULL));
    assert_true(may(policy, &p, "removeSnapshot", RAMET_OBJECT_SNAPSHOT, "x", "claude"));
    assert_true(may(policy, &p, "execInSandbox", RAMET_OBJECT_SANDBOX, "claude-1", NULL));
    assert_false(may(policy, &p, "execInSandbox", RAMET_OBJECT_SANDBOX, "bob-1", "bob"));
    assert_false(may(policy, &p, "execInSandbox", RAMET_OBJECT_SANDBOX, "bob-1", "claudette"));
    assert_false(may(policy, &p, "execInSandbox", RAMET_OBJECT_SANDBOX, "debian", NULL)); /* a snapshot's pattern */
    assert_true(may(policy, &p, "execInSandbox", RAMET_OBJECT_SANDBOX, "x", "claude>planner")); /* acts for it */
    const char *const tags[] = {"other", "base-9", NULL};
    struct ramet_object tagged = {.kind = RAMET_OBJECT_SNAPSHOT, .id = "00", .tags = tags};
    assert_true(ramet_policy_allows(policy, &p, "getSnapshot", &tagged, NULL));
    tagged.tags = NULL;
    assert_false(ramet_policy_allows(policy, &p, "getSnapshot", &tagged, NULL));
    assert_true(ramet_policy_allows(policy, &p, "listSandboxes", NULL, NULL));
}

static void test_admins_only(void **state)
{
    (void)state;
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy = parse();
    struct ramet_principal agent = who(policy, 4001, NULL, NULL), admin = who(policy, 4000, NULL, NULL);
    static const char *const operations[] = {"importSnapshot", "exportImage", "collectGarbage", "getMetrics",
                                             "reloadPolicy",   "getAudit",    "addToolServer",  "anythingNew"};
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        assert_false(ramet_policy_allows(policy, &agent, operations[i], NULL, NULL));
        assert_true(ramet_policy_allows(policy, &admin, operations[i], NULL, NULL));
    }
    struct ramet_principal nothing = who(policy, 4003, NULL, NULL);
    assert_false(ramet_policy_allows(policy, &nothing, "getStatus", NULL, NULL));
    assert_false(ramet_policy_allows(policy, &nothing, RAMET_ACTION_LIST_TOOLS, NULL, NULL));
}

static void test_tools(void **state)
{
    (void)state;
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy = parse();
    struct ramet_principal p = who(policy, 4001, NULL, NULL);
    static const char *const actions[] = {RAMET_ACTION_LIST_TOOLS, RAMET_ACTION_READ_TOOL, RAMET_ACTION_SEARCH_TOOLS,
                                          RAMET_ACTION_CALL_TOOL};
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
        assert_true(ramet_policy_allows(policy, &p, actions[i], NULL, NULL));
        assert_true(ramet_policy_allows_tool(policy, &p, actions[i], "github", "search_issues", NULL));
        assert_true(ramet_policy_allows_tool(policy, &p, actions[i], "files", "x", NULL));
        assert_false(ramet_policy_allows_tool(policy, &p, actions[i], "github", "delete_repo", NULL));
        assert_false(ramet_policy_allows_tool(policy, &p, actions[i], "memory", "x", NULL));
        assert_false(ramet_policy_allows_tool(policy, &p, actions[i], "github", "search_/../delete_repo", NULL));
        assert_false(ramet_policy_allows_tool(policy, &p, actions[i], "files/x", "y", NULL));
        assert_true(may(policy, &p, actions[i], RAMET_OBJECT_TOOL, "github", NULL)); /* some tool of it */
        assert_false(may(policy, &p, actions[i], RAMET_OBJECT_TOOL, "memory", NULL));
        assert_false(may(policy, &p, actions[i], RAMET_OBJECT_TOOL, "git", NULL));
    }
}

static void test_chain_narrows(void **state)
{
    (void)state;
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy = parse();
    struct ramet_principal p = who(policy, 4001, NULL, "planner"), admin = who(policy, 4000, NULL, "planner");
    assert_true(may(policy, &p, "execInSandbox", RAMET_OBJECT_SANDBOX, "claude-1", NULL));
    assert_false(may(policy, &p, "execInSandbox", RAMET_OBJECT_SANDBOX, "bob-1", NULL)); /* planner may, claude not */
    assert_false(may(policy, &p, "removeSandbox", RAMET_OBJECT_SANDBOX, "claude-1", NULL)); /* claude may */
    assert_true(ramet_policy_allows_tool(policy, &p, RAMET_ACTION_CALL_TOOL, "files", "read_file", NULL));
    assert_false(ramet_policy_allows_tool(policy, &p, RAMET_ACTION_CALL_TOOL, "files", "write_file", NULL));
    assert_false(ramet_policy_is_admin(policy, &admin));
    assert_true(may(policy, &admin, "execInSandbox", RAMET_OBJECT_SANDBOX, "any", NULL));
    assert_false(may(policy, &admin, "removeSandbox", RAMET_OBJECT_SANDBOX, "any", NULL));
    assert_false(ramet_policy_allows(policy, &admin, "importSnapshot", NULL, NULL));
}

static void test_daemon_and_default(void **state)
{
    (void)state;
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy = NULL;
    struct ramet_principal self = ramet_principal_daemon(), p;
    assert_int_equal(ramet_policy_default(&policy, NULL), 0);
    assert_string_equal(ramet_policy_id(policy), "default");
    assert_true(ramet_policy_allows(policy, &self, "anything", NULL, NULL));
    p = who(policy, geteuid(), NULL, NULL);
    assert_true(ramet_policy_allows(policy, &p, "importSnapshot", NULL, NULL));
    assert_false(ramet_policy_admits_others(policy));
    assert_int_equal(ramet_principal_of_uid(policy, 4001, 7, &p, NULL), -RAMET_DENIED);
}

/* ---- mistakes ---- */

static void test_mistakes(void **state)
{
    (void)state;
    static const struct {
        const char *text, *names;
    } cases[] = {
        {"", "JSON"},
        {"[]", "principals"},
        {"{}", "principals"},
        {"{\"principals\": {}}", "principals"},
        {"{\"principals\": [], \"x\": 1}", "\"x\""},
        {"{\"principals\": [1]}", "[0]"},
        {"{\"principals\": [{\"role\": \"agent\"}]}", "\"name\""},
        {"{\"principals\": [{\"name\": \"a\"}]}", "\"role\""},
        {"{\"principals\": [{\"name\": \"a\", \"role\": \"root\"}]}", "\"role\""},
        {"{\"principals\": [{\"name\": \"@root\", \"role\": \"agent\"}]}", "@root"},
        {"{\"principals\": [{\"name\": \"a>b\", \"role\": \"agent\"}]}", "a>b"},
        {"{\"principals\": [{\"name\": \"a\", \"role\": \"agent\", \"uid\": -1}]}", "\"uid\""},
        {"{\"principals\": [{\"name\": \"a\", \"role\": \"agent\", \"alow\": []}]}", "\"alow\""},
        {"{\"principals\": [{\"name\": \"a\", \"role\": \"agent\", \"token_sha256\": \"hunter2\"}]}", "token_sha256"},
        {"{\"principals\": [{\"name\": \"a\", \"role\": \"agent\", \"tools\": [\"*\"]}]}", "server/tool"},
        {"{\"principals\": [{\"name\": \"a\", \"role\": \"agent\", \"tools\": \"x/y\"}]}", "array"},
        {"{\"principals\": [{\"name\": \"a\", \"role\": \"agent\", \"allow\": [{}]}]}", "operations"},
        {"{\"principals\": [{\"name\": \"a\", \"role\": \"agent\", \"allow\": [{\"operations\": [\"forkSandbx\"]}]}]}",
         "forkSandbx"},
        {"{\"principals\": [{\"name\": \"a\", \"role\": \"agent\", \"allow\": [{\"operations\": "
         "[\"importSnapshot\"]}]}]}",
         "importSnapshot"},
        {"{\"principals\": [{\"name\": \"a\", \"role\": \"agent\","
         " \"allow\": [{\"operations\": [\"*\"], \"sandboxes\": [\"@mine\"]}]}]}",
         "@mine"},
        {"{\"principals\": [{\"name\": \"a\", \"role\": \"admin\", \"tools\": [\"x/y\"]}]}", "admin"},
        {"{\"principals\": [{\"name\": \"a\", \"role\": \"admin\"}, {\"name\": \"a\", \"role\": \"agent\"}]}",
         "same name"},
        {"{\"principals\": [{\"name\": \"a\", \"role\": \"admin\", \"uid\": 5},"
         " {\"name\": \"b\", \"role\": \"agent\", \"uid\": 5}]}",
         "same uid"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ramet_policy *policy = NULL;
        struct ramet_error err = {0};
        assert_int_equal(ramet_policy_parse(cases[i].text, strlen(cases[i].text), &policy, &err), -RAMET_INVALID);
        assert_null(policy);
        if (!strstr(err.msg, cases[i].names) || strstr(err.msg, "hunter2"))
            fail_msg("%s: \"%s\"", cases[i].text, err.msg);
    }
}

static void test_shown_without_tokens(void **state)
{
    (void)state;
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy = parse();
    _cleanup_(ramet_json_cleanup) struct ramet_json *value = ramet_policy_json(policy);
    _autofree_ char *shown = ramet_json_text(value);
    char token_hash[65];
    ramet_digest_sure(TOKEN, strlen(TOKEN), token_hash);
    assert_null(strstr(shown, token_hash));
    assert_non_null(strstr(shown, "\"tokens\":1"));
    assert_non_null(strstr(shown, "github/search_*"));
}

/* ---- the file ---- */

static void write_file(const char *path, const char *content, mode_t mode)
{
    char beside[128];
    snprintf(beside, sizeof beside, "%s.new", path);
    FILE *out = fopen(beside, "w");
    assert_non_null(out);
    fputs(content, out);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(chmod(beside, mode), 0);
    assert_int_equal(rename(beside, path), 0);
}

static bool knows(struct ramet_policy_source *source, const char *name)
{
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy = ramet_policy_source_get(source);
    return ramet_policy_by_name(policy, name) != NULL;
}

static void test_file_in_force(void **state)
{
    (void)state;
    char dir[] = "/tmp/ramet-test-policy-XXXXXX", path[64];
    struct ramet_policy_source *source = NULL;
    struct ramet_error err = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/policy", dir);
    assert_true(ramet_policy_source_open(path, &source, &err) < 0); /* missing */
    assert_non_null(strstr(err.msg, path));
    write_file(path, "{\"principals\": [{\"name\": \"one\", \"role\": \"agent\"}]}", 0600);
    assert_int_equal(ramet_policy_source_open(path, &source, &err), 0);
    assert_true(knows(source, "one"));
    write_file(path, "{\"principals\": [{\"name\": \"two\", \"role\": \"agent\"}]}", 0600);
    assert_false(knows(source, "one")); /* without being told */
    assert_true(knows(source, "two"));
    assert_int_equal(ramet_policy_source_error(source, &err), 0);
    write_file(path, "{\"principals\": [{\"name\": \"three\"}]}", 0600);
    assert_true(knows(source, "two")); /* a broken one changes nothing */
    assert_int_equal(ramet_policy_source_error(source, &err), -RAMET_INVALID);
    assert_non_null(strstr(err.msg, "three"));
    assert_int_equal(ramet_policy_source_reload(source, &err), -RAMET_INVALID);
    write_file(path, "{\"principals\": [{\"name\": \"four\", \"role\": \"admin\", \"uid\": 4000}]}", 0666);
    assert_false(knows(source, "four")); /* everyone could write it */
    assert_int_equal(ramet_policy_source_error(source, &err), -RAMET_DENIED);
    unlink(path);
    assert_true(knows(source, "two"));
    write_file(path, "{\"principals\": [{\"name\": \"five\", \"role\": \"agent\"}]}", 0644);
    assert_int_equal(ramet_policy_source_reload(source, &err), 0);
    assert_true(knows(source, "five"));
    ramet_policy_source_free(source);
    unlink(path);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),      cmocka_unit_test(test_who_calls),
        cmocka_unit_test(test_who_does_not),  cmocka_unit_test(test_objects),
        cmocka_unit_test(test_admins_only),   cmocka_unit_test(test_tools),
        cmocka_unit_test(test_chain_narrows), cmocka_unit_test(test_daemon_and_default),
        cmocka_unit_test(test_mistakes),      cmocka_unit_test(test_shown_without_tokens),
        cmocka_unit_test(test_file_in_force),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
