/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: files of tools are deterministic, lossless where they say so, as golden/tools/tricky.txt has them for schemas
 * and names that are hard, and contained: whatever a server lists, names are safe and apart, texts bounded and plain.
 *
 * RAMET_GOLDEN_WRITE=1 writes the golden file anew; look at the difference. Whether compilers take the files is asked
 * in e2e/test_tools_files.py.
 */
#include "testing.h"

#include "base/cleanup.h"
#include "base/codec.h"
#include "json.h"
#include "tools/doc.h"
#include "tools/docs.h"
#include "tools/docs_text.h"

#include <string.h>

static struct ramet_error err;

static char *read_file(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", RAMET_GOLDEN, name);
    FILE *file = fopen(path, "re");
    if (!file)
        fail_msg("%s is missing", path);
    char *text = calloc(1, 1 << 20);
    assert_non_null(text);
    assert_true(fread(text, 1, (1 << 20) - 1, file) > 0);
    fclose(file);
    return text;
}

static struct ramet_docs *docs_of(const char *text)
{
    struct ramet_json *listed = NULL;
    struct ramet_tools_doc *doc = NULL;
    struct ramet_docs *docs = NULL;
    check_ok(ramet_json_parse_lenient(text, strlen(text), 1 << 20, &listed, &err));
    check_ok(ramet_tools_doc_make(listed, 1, 0, &doc, &err));
    check_ok(ramet_docs_new(doc, "/run/ramet/ramet.sock", &docs, &err));
    ramet_tools_doc_unref(doc);
    return docs;
}

/* A server with one tool of this definition. */
static struct ramet_docs *docs_of_tool(const char *definition)
{
    struct ramet_buf text = {0};
    docs_put(&text, "{\"server\": \"s\", \"tools\": [");
    docs_put(&text, definition);
    docs_put(&text, "]}");
    char *all = docs_text_take(&text);
    struct ramet_docs *docs = docs_of(all);
    free(all);
    return docs;
}

static char *text_of(const struct ramet_docs *docs, size_t item, enum ramet_docs_form form)
{
    struct ramet_buf out = {0};
    size_t count;
    const struct ramet_docs_item *items = ramet_docs_items(docs, &count);
    assert_true(item < count);
    check_ok(ramet_docs_text(docs, &items[item], form, &out, &err));
    char *text = docs_text_take(&out);
    assert_non_null(text);
    return text;
}

/* All files in one text; of stubs what is before the part that is the same in all. */
static char *everything(const struct ramet_docs *docs)
{
    static const char *const same[] = {
        [RAMET_DOCS_TS] = "\nconst SOCKET", [RAMET_DOCS_PY] = "\n\nclass ToolError", [RAMET_DOCS_SH] = "\ncase "};
    struct ramet_buf out = {0};
    size_t count;
    const struct ramet_docs_item *items = ramet_docs_items(docs, &count);
    for (size_t i = 0; i < count; i++)
        for (enum ramet_docs_form form = 0; form < RAMET_DOCS_FORMS; form++) {
            if (!ramet_docs_has(items[i].kind, form))
                continue;
            char *text = text_of(docs, i, form);
            char *end = form >= RAMET_DOCS_TS ? strstr(text, same[form]) : NULL;
            if (end)
                *end = 0;
            docs_putf(&out, "==> %s%s <==\n", items[i].file, ramet_docs_ending(form));
            docs_put(&out, text);
            docs_put(&out, end ? "\n" : "");
            free(text);
        }
    return docs_text_take(&out);
}

static void test_golden(void **state)
{
    _autofree_ char *document = read_file("tricky.json");
    _cleanup_(ramet_docs_cleanup) struct ramet_docs *docs = docs_of(document);
    _autofree_ char *text = everything(docs), *again = everything(docs);
    (void)state;
    assert_string_equal(text, again);
    if (getenv("RAMET_GOLDEN_WRITE")) {
        FILE *file = fopen(RAMET_GOLDEN "/tricky.txt", "we");
        assert_non_null(file);
        fputs(text, file);
        fclose(file);
    }
    _autofree_ char *want = read_file("tricky.txt");
    size_t line = 1;
    for (size_t i = 0; text[i] || want[i]; i++) {
        if (text[i] != want[i])
            fail_msg("tricky.txt differs in line %zu: \"%.60s\", not \"%.60s\"", line, text + i, want + i);
        line += text[i] == '\n';
    }
}

static void test_definitions_are_lossless(void **state)
{
    _autofree_ char *document = read_file("tricky.json");
    _cleanup_(ramet_docs_cleanup) struct ramet_docs *docs = docs_of(document);
    size_t count;
    const struct ramet_docs_item *items = ramet_docs_items(docs, &count);
    (void)state;
    for (size_t i = 0; i < count; i++) {
        _autofree_ char *text = text_of(docs, i, RAMET_DOCS_JSON);
        _cleanup_(ramet_json_cleanup) struct ramet_json *value = NULL;
        check_ok(ramet_json_parse_lenient(text, strlen(text), 1 << 20, &value, &err));
        assert_true(ramet_json_equal(value, items[i].definition));
    }
}

static void test_names_are_apart_and_safe(void **state)
{
    _autofree_ char *document = read_file("tricky.json");
    _cleanup_(ramet_docs_cleanup) struct ramet_docs *docs = docs_of(document);
    size_t count;
    const struct ramet_docs_item *items = ramet_docs_items(docs, &count);
    (void)state;
    assert_string_equal(ramet_docs_file(docs), "tri%2Fcky");
    for (size_t i = 0; i < count; i++) {
        const char *file = items[i].file;
        assert_true(*file && *file != '.' && *file != '-' && strlen(file) <= DOCS_NAME_MAX);
        for (const char *c = file; *c; c++)
            assert_true((*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                        strchr("_-.%~", *c));
        for (size_t j = 0; j < i; j++)
            assert_false(items[j].kind == items[i].kind && strcmp(items[j].file, file) == 0);
        if (!strstr(file, "%~")) { /* back to the name */
            char name[256], *to = name;
            for (const char *c = file; *c; c++) {
                unsigned byte;
                if (*c == '%' && sscanf(c + 1, "%2X", &byte) == 1)
                    *to++ = (char)byte, c += 2;
                else if (*c != '%')
                    *to++ = *c;
            }
            *to = 0;
            assert_string_equal(name, items[i].name);
        }
    }
}

/* Nothing a terminal or an editor would act on, and no line that begins as the server wanted it to. */
static void test_texts_are_plain(void **state)
{
    static const char *const marks[] = {"\xe2\x80\xae", "\xe2\x80\x8b",  "\xe2\x80\xac", "\xe2\x80\xa8",
                                        "\nSYSTEM:",    "\n# A heading", "\n```"};
    _autofree_ char *document = read_file("tricky.json");
    _cleanup_(ramet_docs_cleanup) struct ramet_docs *docs = docs_of(document);
    size_t count;
    (void)state;
    ramet_docs_items(docs, &count);
    for (size_t i = 0; i < count; i++)
        for (enum ramet_docs_form form = 0; form < RAMET_DOCS_FORMS; form++) {
            if (!ramet_docs_has(ramet_docs_items(docs, &count)[i].kind, form))
                continue;
            _autofree_ char *text = text_of(docs, i, form);
            for (const char *c = text; *c; c++)
                assert_true((unsigned char)*c >= ' ' ? *c != 0x7f : *c == '\n');
            for (size_t m = 0; m < sizeof marks / sizeof *marks; m++)
                if (strstr(text, marks[m]))
                    fail_msg("%s%s holds mark %zu", ramet_docs_items(docs, &count)[i].file, ramet_docs_ending(form), m);
        }
}

static void check_bounded(const char *definition, size_t limit)
{
    _cleanup_(ramet_docs_cleanup) struct ramet_docs *docs = docs_of_tool(definition);
    for (enum ramet_docs_form form = 0; form < RAMET_DOCS_FORMS; form++) {
        _autofree_ char *text = text_of(docs, 0, form);
        if (form != RAMET_DOCS_JSON && strlen(text) > limit)
            fail_msg("%s has %zu bytes", ramet_docs_ending(form), strlen(text));
    }
}

static void repeat(struct ramet_buf *out, const char *text, size_t count)
{
    for (size_t i = 0; i < count; i++)
        docs_put(out, text);
}

static void test_large_is_bounded(void **state)
{
    struct ramet_buf text = {0};
    (void)state;
    docs_put(&text, "{\"name\": \"t\", \"inputSchema\": {\"type\": \"object\"}, \"description\": \"");
    repeat(&text, "megabytes ", 400000);
    docs_put(&text, "\"}");
    char *definition = docs_text_take(&text);
    check_bounded(definition, 32768);
    free(definition);

    docs_put(&text, "{\"name\": \"t\", \"inputSchema\": ");
    repeat(&text, "{\"properties\": {\"p\": ", 500);
    docs_put(&text, "{}");
    repeat(&text, "}}", 500);
    docs_put(&text, "}");
    definition = docs_text_take(&text);
    check_bounded(definition, 32768);
    free(definition);

    docs_put(&text, "{\"name\": \"t\", \"inputSchema\": {\"properties\": {\"e\": {\"enum\": [\"0\"");
    for (unsigned i = 1; i < 50000; i++)
        docs_putf(&text, ",\"%u\"", i);
    docs_put(&text, "]}}}}");
    definition = docs_text_take(&text);
    check_bounded(definition, 32768);
    free(definition);
}

/* Definitions that name each other twice each: in full the type would be of 2^30 members. */
static void test_explosions_are_bounded(void **state)
{
    struct ramet_buf text = {0};
    (void)state;
    docs_put(&text, "{\"name\": \"t\", \"inputSchema\": {\"$ref\": \"#/$defs/d0\", \"$defs\": {");
    for (unsigned i = 0; i < 30; i++)
        docs_putf(&text,
                  "\"d%u\": {\"allOf\": [{\"$ref\": \"#/$defs/d%u\"}, {\"properties\": {\"p%u\": {\"$ref\": "
                  "\"#/$defs/d%u\"}}}], \"anyOf\": [{\"required\": [\"a\"]}, {\"required\": [\"b\"]}]},",
                  i, i + 1, i, i + 1);
    docs_put(&text, "\"d30\": {\"type\": \"object\"}}}}");
    char *definition = docs_text_take(&text);
    check_bounded(definition, 8 << 20);
    free(definition);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_definitions_are_lossless),
        cmocka_unit_test(test_names_are_apart_and_safe),
        cmocka_unit_test(test_texts_are_plain),
        cmocka_unit_test(test_large_is_bounded),
        cmocka_unit_test(test_explosions_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
