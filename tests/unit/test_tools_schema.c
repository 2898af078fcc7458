/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the validator accepts and refuses what JSON Schema says, names the value that is wrong, and neither hostile
 * schemas nor hostile values keep it busy or take it down.
 */
#include "testing.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "json.h"
#include "tools/schema.h"

#include <string.h>

static struct ramet_json *parse(const char *text)
{
    struct ramet_error err = {0};
    struct ramet_json *json = NULL;
    check_ok(ramet_json_parse_lenient(text, strlen(text), 1 << 22, &json, &err));
    return json;
}

/* NULL when it holds, else the message; static. */
static const char *problem(const char *schema_text, const char *value_text)
{
    static struct ramet_error err;
    _cleanup_(ramet_json_cleanup) struct ramet_json *schema = parse(schema_text);
    _cleanup_(ramet_json_cleanup) struct ramet_json *value = parse(value_text);
    err = (struct ramet_error){0};
    int rc = ramet_schema_check(schema, value, &err);
    assert_true(rc == 0 || rc == -RAMET_INVALID);
    /* The verdict does not depend on whether anybody wants to know why. */
    assert_int_equal(ramet_schema_check(schema, value, NULL), rc);
    return rc == 0 ? NULL : err.msg;
}

static const struct {
    const char *schema, *value, *wrong; /* part of the message; NULL: it holds */
} cases[] = {
    /* types */
    {"{\"type\":\"object\"}", "{}", NULL},
    {"{\"type\":\"object\"}", "[]", "arguments must be of type object, not an array"},
    {"{\"type\":[\"string\",\"null\"]}", "null", NULL},
    {"{\"type\":[\"string\",\"null\"]}", "1", "must be of type string or null, not an integer"},
    {"{\"type\":\"integer\"}", "1.0", NULL},
    {"{\"type\":\"integer\"}", "1.5", "must be of type integer, not a number"},
    {"{\"type\":\"number\"}", "1", NULL},
    {"{\"type\":\"string\",\"nullable\":true}", "null", NULL},
    {"{\"type\":\"any\"}", "1", NULL},
    {"{\"type\":7}", "1", NULL},
    {"true", "1", NULL},
    {"{\"properties\":{\"a\":false}}", "{\"a\":1}", "\"a\" may not be there"},
    /* enumerations */
    {"{\"enum\":[\"a\",1,{\"x\":[1]}]}", "{\"x\":[1.0]}", NULL},
    {"{\"enum\":[\"a\",\"b\"]}", "\"c\"", "must be one of [\"a\",\"b\"]"},
    {"{\"const\":0}", "0.0", NULL},
    {"{\"const\":false}", "0", "must be false"},
    /* objects */
    {"{\"required\":[\"a\",\"b\"]}", "{\"a\":1}", "\"b\" is missing"},
    {"{\"required\":true}", "{}", NULL},
    {"{\"properties\":{\"path\":{\"type\":\"string\"}},\"additionalProperties\":false}", "{\"pth\":\"\"}",
     "\"pth\" is not known; is \"path\" meant?"},
    {"{\"additionalProperties\":{\"type\":\"integer\"}}", "{\"x\":\"y\"}", "\"x\" must be of type integer"},
    {"{\"patternProperties\":{\"^x-\":{\"type\":\"string\"}},\"additionalProperties\":false}", "{\"x-a\":\"\"}", NULL},
    {"{\"patternProperties\":{\"^x-\":{\"type\":\"string\"}},\"additionalProperties\":false}", "{\"y\":\"\"}",
     "\"y\" is not known"},
    {"{\"propertyNames\":{\"pattern\":\"^[a-z]+$\"}}", "{\"A\":1}", "\"A\" has a name that is not allowed"},
    {"{\"minProperties\":1}", "{}", "at least 1 members"},
    {"{\"dependentRequired\":{\"a\":[\"b\"]}}", "{\"a\":1}", "\"b\" is missing: \"a\" needs it"},
    {"{\"dependencies\":{\"a\":{\"required\":[\"c\"]}}}", "{\"a\":1}", "\"c\" is missing"},
    {"{\"properties\":{\"a\":{\"properties\":{\"b\":{\"items\":{\"type\":\"string\"}}}}}}",
     "{\"a\":{\"b\":[\"x\",\"y\",3]}}", "\"a.b[2]\" must be of type string, not an integer"},
    /* arrays */
    {"{\"items\":{\"type\":\"integer\"}}", "[1,2,\"x\"]", "\"[2]\" must be of type integer"},
    {"{\"prefixItems\":[{\"type\":\"string\"}],\"items\":false}", "[\"a\",1]", "\"[1]\" may not be there"},
    {"{\"items\":[{\"type\":\"string\"}],\"additionalItems\":{\"type\":\"null\"}}", "[\"a\",null]", NULL},
    {"{\"minItems\":2}", "[1]", "at least 2 elements, not 1"},
    {"{\"maxItems\":1}", "[1,2]", "at most 1 elements, not 2"},
    {"{\"uniqueItems\":true}", "[1,{\"a\":1},1.0]", "elements 0 and 2"},
    {"{\"contains\":{\"const\":1},\"maxContains\":1}", "[1,1]", "holds 2 of the elements"},
    {"{\"contains\":{\"const\":1}}", "[2]", "holds 0 of the elements"},
    /* numbers */
    {"{\"minimum\":3}", "3", NULL},
    {"{\"minimum\":3}", "2", "must be at least 3"},
    {"{\"exclusiveMaximum\":3}", "3", "must be less than 3"},
    {"{\"minimum\":3,\"exclusiveMinimum\":true}", "3", "must be greater than 3"},
    {"{\"maximum\":9007199254740993}", "9007199254740994", "must be at most 9007199254740993"},
    {"{\"multipleOf\":0.1}", "0.3", NULL},
    {"{\"multipleOf\":2}", "3", "must be a multiple of 2"},
    {"{\"multipleOf\":0}", "3", NULL},
    /* strings */
    {"{\"minLength\":2}", "\"\xc3\xa9\"", "at least 2 characters, not 1"},
    {"{\"maxLength\":1}", "\"\xf0\x9f\x98\x80\"", NULL},
    {"{\"pattern\":\"^\\\\d+$\"}", "\"12\"", NULL},
    {"{\"pattern\":\"^\\\\d+$\"}", "\"12\\n\"", "must match ^\\d+$"},
    {"{\"pattern\":\"\\\\u00e9\"}", "\"caf\xc3\xa9\"", NULL},
    {"{\"pattern\":\"^(?!x)\"}", "\"xy\"", "must match"},
    {"{\"pattern\":\"(\"}", "\"x\"", NULL},
    {"{\"pattern\":\"^(a+)+$\"}", "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab\"", "too complex"},
    {"{\"format\":\"email\"}", "\"no\"", NULL},
    /* combinations */
    {"{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}", "null", NULL},
    {"{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}", "1", "fits none of 2 alternatives"},
    {"{\"anyOf\":[{\"type\":\"string\"},{\"properties\":{\"a\":{\"type\":\"null\"}}}]}", "{\"a\":1}",
     "\"a\" must be of type null"},
    {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", "1", "more than one of 2"},
    {"{\"allOf\":[{\"minimum\":1},{\"maximum\":2}]}", "3", "at most 2"},
    {"{\"not\":{\"type\":\"string\"}}", "\"\"", "is what the schema excludes"},
    {"{\"if\":{\"required\":[\"a\"]},\"then\":{\"required\":[\"b\"]},\"else\":{\"required\":[\"c\"]}}", "{\"a\":1}",
     "\"b\" is missing"},
    {"{\"if\":{\"required\":[\"a\"]},\"then\":{\"required\":[\"b\"]},\"else\":{\"required\":[\"c\"]}}", "{}",
     "\"c\" is missing"},
    /* references */
    {"{\"$defs\":{\"n\":{\"type\":\"integer\"}},\"properties\":{\"a\":{\"$ref\":\"#/$defs/n\"}}}", "{\"a\":\"x\"}",
     "\"a\" must be of type integer"},
    {"{\"definitions\":{\"a/b~c d\":{\"type\":\"null\"}},\"$ref\":\"#/definitions/a~1b~0c%20d\"}", "1", "of type null"},
    {"{\"$defs\":{\"x\":{\"$anchor\":\"here\",\"type\":\"null\"}},\"$ref\":\"#here\"}", "1", "of type null"},
    {"{\"$id\":\"https://x/s\",\"$defs\":{\"x\":{\"type\":\"null\"}},\"$ref\":\"https://x/s#/$defs/x\"}", "1", "null"},
    {"{\"$ref\":\"https://elsewhere/schema\"}", "1", NULL},
    {"{\"$ref\":\"#/nowhere\"}", "1", NULL},
    {"{\"properties\":{\"next\":{\"$ref\":\"#\"},\"v\":{\"type\":\"integer\"}}}", "{\"next\":{\"next\":{\"v\":\"x\"}}}",
     "\"next.next.v\" must be of type integer"},
    {"{\"$defs\":{\"n\":{}},\"$ref\":\"#/$defs/n\",\"type\":\"null\"}", "1", "of type null"},
    {"{\"$schema\":\"http://json-schema.org/draft-07/schema#\",\"$defs\":{\"n\":{}},\"$ref\":\"#/$defs/n\","
     "\"type\":\"null\"}",
     "1", NULL},
    {"{\"$ref\":\"#\"}", "1", "too complex"},
    {"{\"not\":{\"$ref\":\"#\"}}", "1", "too complex"},
};

static void keywords(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *message = problem(cases[i].schema, cases[i].value);
        if (!cases[i].wrong && message)
            fail_msg("%s refuses %s: %s", cases[i].schema, cases[i].value, message);
        if (cases[i].wrong && (!message || !strstr(message, cases[i].wrong)))
            fail_msg("%s with %s: \"%s\", not \"%s\"", cases[i].schema, cases[i].value, message ? message : "holds",
                     cases[i].wrong);
    }
}

/* `count` times `open`, then `middle`, then `count` times `close`. */
static char *nested(const char *open, const char *middle, const char *close, size_t count)
{
    char *text = malloc(count * (strlen(open) + strlen(close)) + strlen(middle) + 1), *at = text;
    assert_non_null(text);
    for (size_t i = 0; i < count; i++)
        at = stpcpy(at, open);
    at = stpcpy(at, middle);
    for (size_t i = 0; i < count; i++)
        at = stpcpy(at, close);
    return text;
}

static void hostile_schemas_are_bounded(void **state)
{
    (void)state;
    uint64_t began_us = ramet_now_us();
    _autofree_ char *deep = nested("{\"not\":", "{}", "}", 1000);
    assert_non_null(strstr(problem(deep, "1"), "too complex"));
    /* 2 to the 60th ways, each of them wrong. */
    _autofree_ char *wide = nested("{\"anyOf\":[{\"type\":\"null\"},", "{\"type\":\"null\"}", "]}", 60);
    assert_non_null(problem(wide, "1"));
    assert_non_null(strstr(problem("{\"$defs\":{\"a\":{\"allOf\":[{\"$ref\":\"#/$defs/b\"},{\"$ref\":\"#/$defs/b\"}]},"
                                   "\"b\":{\"allOf\":[{\"$ref\":\"#/$defs/a\"},{\"$ref\":\"#/$defs/a\"}]}},"
                                   "\"$ref\":\"#/$defs/a\"}",
                                   "1"),
                           "too complex"));
    /* Much of everything: names that must be there for many values, patterns for many names, pairs of many elements. */
    _autofree_ char *required = nested("\"a\",", "\"a\"", "", 50000);
    _autofree_ char *values = nested("{},", "{}", "", 20000);
    char *schema = NULL, *value = NULL;
    assert_true(asprintf(&schema, "{\"items\":{\"required\":[%s]}}", required) > 0);
    assert_true(asprintf(&value, "[%s]", values) > 0);
    assert_non_null(problem(schema, value));
    assert_non_null(
        strstr(problem("{\"uniqueItems\":true,\"items\":{\"maxProperties\":0}}", value), "elements 0 and 1"));
    free(value);
    free(schema);
    _autofree_ char *name = nested("a", "!", "", 3000);
    assert_true(asprintf(&value, "{\"%s\":1}", name) > 0);
    assert_non_null(strstr(problem("{\"patternProperties\":{\"^(a+)+$\":{}}}", value), "too complex"));
    free(value);
    _autofree_ char *numbers = nested("1.5,", "2", "", 20000);
    assert_true(asprintf(&value, "[%s]", numbers) > 0);
    assert_non_null(problem("{\"uniqueItems\":true}", value));
    free(value);
    assert_true(ramet_now_us() - began_us < 60 * UINT64_C(1000000));
}

static void no_value_is_in_a_message(void **state)
{
    (void)state;
    static const char *const schemas[] = {"{\"type\":\"integer\"}",
                                          "{\"enum\":[1]}",
                                          "{\"const\":1}",
                                          "{\"maxLength\":1}",
                                          "{\"pattern\":\"^x$\"}",
                                          "{\"not\":true}",
                                          "{\"anyOf\":[{\"type\":\"null\"},{\"maxLength\":1}]}"};
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) {
        const char *message = problem(schemas[i], "\"hunter2\"");
        assert_non_null(message);
        assert_null(strstr(message, "hunter2"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keywords),
        cmocka_unit_test(hostile_schemas_are_bounded),
        cmocka_unit_test(no_value_is_in_a_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
