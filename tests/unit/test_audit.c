/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what was acknowledged is on disk and in order, across restarts, files and
 * threads; no line can be changed, removed, inserted, moved or cut off unnoticed, and
 * the one it was is named; a full disk holds callers up and loses nothing; values of
 * arguments are not in the files.
 */
#include "audit.h"
#include "audit_verify.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

struct fixture {
    char dir[80];
    struct ramet_audit *audit;
};

static void start(struct fixture *f, uint64_t rotate_bytes)
{
    const struct ramet_audit_options options = {.rotate_bytes = rotate_bytes, .queue_max = 64};
    struct ramet_error err = {0};
    if (ramet_audit_open(f->dir, &options, &f->audit, &err) < 0)
        fail_msg("%s", err.msg);
}

static void stop(struct fixture *f)
{
    ramet_audit_close(f->audit);
    f->audit = NULL;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/ramet-test-audit-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    stop(f);
    ramet_dir_remove(f->dir, NULL);
    free(f);
    return 0;
}

static void add(struct fixture *f, const char *action, bool durable)
{
    struct ramet_principal who = {.name = "claude", .user = "alice", .agent = "claude", .uid = 1001, .pid = 4};
    struct ramet_error err = {0};
    const struct ramet_audit_line line = {.principal = &who,
                                          .action = action,
                                          .object = "sandbox:web",
                                          .allowed = true,
                                          .reason = "allow[0] of \"claude\"",
                                          .policy = "0123456789abcdef"};
    if (ramet_audit_add(f->audit, &line, durable, NULL, &err) < 0)
        fail_msg("%s", err.msg);
}

static void add_some(struct fixture *f, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char action[32];
        snprintf(action, sizeof action, "action%u", i);
        add(f, action, i + 1 == count);
    }
}

/* Verifies; `words` must be in the first problem, NULL: there is none. */
static void expect(const struct fixture *f, uint64_t lines, uint64_t problems, const char *words)
{
    struct ramet_audit_report report;
    struct ramet_error err = {0};
    if (ramet_audit_verify(f->dir, NULL, &report, &err) < 0)
        fail_msg("%s", err.msg);
    if (report.lines != lines || report.problems != problems || (words && !strstr(report.problem_lines, words)))
        fail_msg("%lu lines, %lu problems:\n%s%s", (unsigned long)report.lines, (unsigned long)report.problems,
                 report.problem_lines, report.notes);
    ramet_audit_report_clear(&report);
}

/* ---- files as text ---- */

static char *file_path(const struct fixture *f, unsigned number)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/audit-%06u.jsonl", f->dir, number);
    return path;
}

static char *slurp(const char *path)
{
    struct stat st;
    _autoclose_ int fd = open(path, O_RDONLY);
    assert_int_equal(fstat(fd, &st), 0);
    char *text = calloc(1, (size_t)st.st_size + 1);
    assert_int_equal(read(fd, text, (size_t)st.st_size), st.st_size);
    return text;
}

static void spit(const char *path, const char *text, size_t size)
{
    _autoclose_ int fd = open(path, O_WRONLY | O_TRUNC);
    assert_int_equal(write(fd, text, size), (ssize_t)size);
}

static char *nth(char *text, unsigned line)
{
    while (--line)
        text = strchr(text, '\n') + 1;
    return text;
}

/* ---- tests ---- */

static void test_lines(void **state)
{
    struct fixture *f = *state;
    start(f, 0);
    add_some(f, 3);
    _autofree_ char *text = slurp(file_path(f, 1));
    char *line = nth(text, 3);
    _cleanup_(ramet_json_cleanup) struct ramet_json *value = NULL;
    assert_int_equal(ramet_json_parse(line, strcspn(line, "\n"), &value, NULL), 0);
    assert_int_equal(ramet_json_int(value, "seq", 0), 3);
    assert_string_equal(ramet_json_str(value, "event", ""), "call");
    assert_string_equal(ramet_json_str(value, "action", ""), "action2");
    assert_string_equal(ramet_json_str(value, "decision", ""), "allowed");
    assert_string_equal(ramet_json_str(value, "object", ""), "sandbox:web");
    const struct ramet_json *actor = ramet_json_get(value, "actor");
    assert_string_equal(ramet_json_str(actor, "user", ""), "alice");
    assert_int_equal(ramet_json_int(actor, "uid", 0), 1001);
    uint64_t seq;
    char hash[RAMET_AUDIT_HASH_SIZE];
    ramet_audit_head(f->audit, &seq, hash);
    assert_int_equal(seq, 3);
    assert_string_equal(ramet_json_str(value, "hash", ""), hash);
    expect(f, 3, 0, NULL);
}

static void test_arguments_are_hashed(void **state)
{
    struct fixture *f = *state;
    start(f, 0);
    char a[RAMET_AUDIT_HASH_SIZE], b[RAMET_AUDIT_HASH_SIZE], c[RAMET_AUDIT_HASH_SIZE];
    _cleanup_(ramet_json_cleanup) struct ramet_json *one = NULL;
    _cleanup_(ramet_json_cleanup) struct ramet_json *two = NULL;
    assert_int_equal(ramet_json_parse("{\"a\":1,\"b\":{\"x\":2,\"y\":3}}", 25, &one, NULL), 0);
    assert_int_equal(ramet_json_parse("{\"b\":{\"y\":3,\"x\":2},\"a\":1}", 25, &two, NULL), 0);
    ramet_audit_hash_json(f->audit, one, a);
    ramet_audit_hash_json(f->audit, two, b);
    ramet_audit_hash_json(f->audit, NULL, c);
    assert_string_equal(a, b);
    assert_string_not_equal(a, c);
    stop(f);
    start(f, 0);
    ramet_audit_hash_json(f->audit, one, b);
    assert_string_equal(a, b); /* the key is kept */
}

static void test_restarts_and_files(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 5; i++) {
        start(f, 2000);
        add_some(f, 7);
        stop(f);
    }
    expect(f, 35, 0, NULL);
    assert_int_equal(access(file_path(f, 5), F_OK), 0);
}

static void *adder(void *arg)
{
    for (int i = 0; i < 200; i++)
        add(arg, "parallel", i % 10 == 0);
    return NULL;
}

static void test_threads(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[8];
    start(f, 100000);
    for (int i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, adder, f);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(ramet_audit_flush(f->audit, NULL), 0);
    expect(f, 1600, 0, NULL);
}

static void test_changed(void **state)
{
    struct fixture *f = *state;
    start(f, 0);
    add_some(f, 10);
    stop(f);
    for (unsigned line = 1; line <= 10; line++) {
        _autofree_ char *text = slurp(file_path(f, 1));
        size_t size = strlen(text);
        char words[64], *at = strstr(nth(text, line), "alice");
        memcpy(at, "mallo", 5);
        spit(file_path(f, 1), text, size);
        snprintf(words, sizeof words, "audit-000001.jsonl:%u: line %u: it was changed", line, line);
        expect(f, 10, 1, words);
        memcpy(at, "alice", 5);
        spit(file_path(f, 1), text, size);
    }
    expect(f, 10, 0, NULL);
}

static void test_removed(void **state)
{
    struct fixture *f = *state;
    start(f, 0);
    add_some(f, 10);
    stop(f);
    _autofree_ char *text = slurp(file_path(f, 1));
    size_t size = strlen(text);
    for (unsigned line = 1; line <= 10; line++) {
        char words[96];
        _autofree_ char *less = strdup(text);
        char *from = nth(less, line), *to = strchr(from, '\n') + 1;
        memmove(from, to, strlen(to) + 1);
        spit(file_path(f, 1), less, strlen(less));
        if (line < 10)
            snprintf(words, sizeof words, "line %u: lines %u to %u before it are missing", line + 1, line, line);
        else
            snprintf(words, sizeof words, "lines 10 to 10 are missing at the end");
        expect(f, 9, 1, words);
    }
    spit(file_path(f, 1), text, size);
    expect(f, 10, 0, NULL);
}

static void test_moved_and_inserted(void **state)
{
    struct fixture *f = *state;
    start(f, 0);
    add_some(f, 6);
    stop(f);
    _autofree_ char *text = slurp(file_path(f, 1)), *other = calloc(1, strlen(text) * 2);
    char *three = nth(text, 3), *four = nth(text, 4), *five = nth(text, 5);
    sprintf(other, "%.*s%.*s%.*s%s", (int)(three - text), text, (int)(five - four), four, (int)(four - three), three,
            five);
    spit(file_path(f, 1), other, strlen(other));
    expect(f, 6, 2, "line 3: it is line 3 where line 5 belongs");
    sprintf(other, "%.*s%.*s%s", (int)(four - text), text, (int)(four - three), three, four);
    spit(file_path(f, 1), other, strlen(other)); /* line 3 twice */
    expect(f, 7, 1, "audit-000001.jsonl:4: line 3: it is line 3 where line 4 belongs");
    spit(file_path(f, 1), text, strlen(text));
    sprintf(other, "%.*snonsense\n%s", (int)(four - text), text, four);
    spit(file_path(f, 1), other, strlen(other));
    expect(f, 7, 1, "audit-000001.jsonl:4: line 4: it is no line of an audit");
    sprintf(other, "%.*snonsense\n%s", (int)(four - text), text, five);
    spit(file_path(f, 1), other, strlen(other));
    expect(f, 6, 1, "audit-000001.jsonl:4: line 4: it is no line of an audit");
}

static void test_cut_off(void **state)
{
    struct fixture *f = *state;
    start(f, 0);
    add_some(f, 5);
    stop(f);
    _autofree_ char *text = slurp(file_path(f, 1));
    size_t size = strlen(text);
    assert_int_equal(truncate(file_path(f, 1), (off_t)size - 40), 0);
    expect(f, 4, 1, "lines 5 to 5 are missing at the end");
    start(f, 0); /* the daemon does not smooth it over */
    add_some(f, 2);
    stop(f);
    expect(f, 7, 1, "line 5: the daemon found lines missing");
    assert_int_equal(truncate(file_path(f, 1), 0), 0);
    expect(f, 0, 1, "lines 1 to 7 are missing at the end");
}

static void test_files_removed(void **state)
{
    struct fixture *f = *state;
    struct ramet_audit_report report;
    start(f, 1500);
    for (int i = 0; i < 4; i++)
        add_some(f, 4);
    stop(f);
    expect(f, 16, 0, NULL);
    assert_int_equal(unlink(file_path(f, 1)), 0);
    expect(f, 12, 1, "lines 1 to 4 before it are missing");
    const struct ramet_audit_expect archived = {.from = 5};
    assert_int_equal(ramet_audit_verify(f->dir, &archived, &report, NULL), 0);
    assert_int_equal(report.problems, 0);
    ramet_audit_report_clear(&report);
    assert_int_equal(unlink(file_path(f, 3)), 0);
    assert_int_equal(ramet_audit_verify(f->dir, &archived, &report, NULL), 0);
    assert_int_equal(report.problems, 1);
    assert_non_null(strstr(report.problem_lines, "lines 9 to 12 before it are missing"));
    ramet_audit_report_clear(&report);
}

/* All of it written anew, hashes and head included, is a sound chain: only a head kept elsewhere tells. */
static void test_written_anew(void **state)
{
    struct fixture *f = *state;
    struct ramet_audit_report report;
    uint64_t seq;
    char hash[RAMET_AUDIT_HASH_SIZE];
    start(f, 0);
    add_some(f, 5);
    ramet_audit_head(f->audit, &seq, hash);
    stop(f);
    ramet_dir_remove(f->dir, NULL);
    start(f, 0);
    add_some(f, 8);
    stop(f);
    expect(f, 8, 0, NULL);
    const struct ramet_audit_expect kept = {.seq = seq, .hash = hash};
    assert_int_equal(ramet_audit_verify(f->dir, &kept, &report, NULL), 0);
    assert_int_equal(report.problems, 1);
    assert_non_null(strstr(report.problem_lines, "line 5: it is not the line that the head tells of"));
    ramet_audit_report_clear(&report);
}

/* A crash: whole lines behind the head, then a torn one. */
static void test_torn(void **state)
{
    struct fixture *f = *state;
    char head[128];
    start(f, 0);
    add_some(f, 3);
    stop(f);
    snprintf(head, sizeof head, "%s/head", f->dir);
    _autofree_ char *old_head = slurp(head);
    start(f, 0);
    add_some(f, 2);
    stop(f);
    spit(head, old_head, strlen(old_head));
    _autoclose_ int fd = open(file_path(f, 1), O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, "{\"seq\":6,\"ti", 12), 12);
    expect(f, 5, 0, NULL);
    start(f, 0);
    stop(f);
    expect(f, 6, 0, NULL); /* a line tells of the torn one */
    _autofree_ char *text = slurp(file_path(f, 1));
    assert_non_null(strstr(nth(text, 6), "12 bytes after line 5 were torn in a crash"));
}

struct blocked {
    struct fixture *f;
    atomic_uint done;
};

static void *blocked_adder(void *arg)
{
    struct blocked *b = arg;
    for (int i = 0; i < 40; i++) {
        add(b->f, "on a full disk", true);
        atomic_fetch_add(&b->done, 1);
    }
    return NULL;
}

static void test_full_disk(void **state)
{
    struct fixture *f = *state, on_tmpfs = {0};
    struct blocked b = {.f = &on_tmpfs};
    char filler[96];
    static char zeros[4096];
    pthread_t thread;
    if (geteuid() != 0 || mount("tmpfs", f->dir, "tmpfs", 0, "size=256k") != 0) {
        print_message("skipped: no small file system can be mounted\n");
        skip();
    }
    snprintf(on_tmpfs.dir, sizeof on_tmpfs.dir, "%.64s/audit", f->dir);
    snprintf(filler, sizeof filler, "%s/filler", f->dir);
    start(&on_tmpfs, 0);
    add_some(&on_tmpfs, 1);
    int fd = open(filler, O_WRONLY | O_CREAT, 0600);
    while (write(fd, zeros, sizeof zeros) > 0)
        ;
    close(fd);
    pthread_create(&thread, NULL, blocked_adder, &b);
    unsigned before = 0;
    for (int same = 0; same < 10;) { /* until nothing moves any more: the last page of the file is full */
        usleep(50000);
        unsigned now = atomic_load(&b.done);
        same = now == before ? same + 1 : 0;
        before = now;
    }
    assert_true(before < 40);
    unlink(filler);
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&b.done), 40);
    expect(&on_tmpfs, 41, 0, NULL);
    stop(&on_tmpfs);
    umount(f->dir);
}

/* Who waits for a full disk when the daemon stops is told so, and does not do what it wanted to. */
static void *failed_adder(void *arg)
{
    struct ramet_error err = {0};
    const struct ramet_audit_line line = {.action = "never"};
    struct fixture *f = arg;
    int rc;
    while ((rc = ramet_audit_add(f->audit, &line, true, NULL, &err)) == 0)
        ;
    return (void *)(intptr_t)rc;
}

static void test_stop_on_a_full_disk(void **state)
{
    struct fixture *f = *state, on_tmpfs = {0};
    char filler[96];
    static char zeros[4096];
    pthread_t thread;
    void *rc;
    if (geteuid() != 0 || mount("tmpfs", f->dir, "tmpfs", 0, "size=256k") != 0) {
        print_message("skipped: no small file system can be mounted\n");
        skip();
    }
    snprintf(on_tmpfs.dir, sizeof on_tmpfs.dir, "%.64s/audit", f->dir);
    snprintf(filler, sizeof filler, "%s/filler", f->dir);
    start(&on_tmpfs, 0);
    int fd = open(filler, O_WRONLY | O_CREAT, 0600);
    while (write(fd, zeros, sizeof zeros) > 0)
        ;
    close(fd);
    pthread_create(&thread, NULL, failed_adder, &on_tmpfs);
    usleep(300000);
    ramet_audit_give_up(on_tmpfs.audit);
    pthread_join(thread, &rc);
    assert_int_equal((intptr_t)rc, -RAMET_UNAVAILABLE);
    stop(&on_tmpfs);
    umount(f->dir);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_lines),
        TEST(test_arguments_are_hashed),
        TEST(test_restarts_and_files),
        TEST(test_threads),
        TEST(test_changed),
        TEST(test_removed),
        TEST(test_moved_and_inserted),
        TEST(test_cut_off),
        TEST(test_files_removed),
        TEST(test_written_anew),
        TEST(test_torn),
        TEST(test_full_disk),
        TEST(test_stop_on_a_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
