/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the mount of tools/, a real one: each user sees its own tree whatever the kernel remembers of another's, by
 * every way there is to a file; a tree that takes another's place is there at once, and what is open stays as it was.
 *
 * This process serves the mount and so never touches it. A client, forked before any thread runs, does: it takes one
 * request at a time, "uid command argument", and answers with a line. It keeps what it opened.
 */
#include "testing.h"

#include "base/cleanup.h"
#include "tools_mount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { other_uid = 65534, line_size = 4096 };

/* --- the client --- */

static int kept = -1; /* by "keep" and "path" */

static void answer_errno(char *answer) { snprintf(answer, line_size, "E%d", errno); }

static void read_fd(int fd, char *answer)
{
    ssize_t n = fd < 0 ? -1 : pread(fd, answer, line_size - 1, 0);
    if (n < 0)
        answer_errno(answer);
    else
        answer[n] = 0;
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void list_names(const char *path, char *answer)
{
    char *names[64];
    size_t count = 0;
    DIR *dir = opendir(path);
    if (!dir) {
        answer_errno(answer);
        return;
    }
    for (struct dirent *e; (e = readdir(dir)) && count < 64;)
        names[count++] = strdup(e->d_name);
    closedir(dir);
    qsort(names, count, sizeof *names, by_text);
    *answer = 0;
    for (size_t i = 0; i < count; i++) {
        snprintf(answer + strlen(answer), line_size - strlen(answer), "%s ", names[i]);
        free(names[i]);
    }
}

static void map_file(const char *path, char *answer)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        answer_errno(answer);
        return;
    }
    char *at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (at == MAP_FAILED) {
        answer_errno(answer);
        return;
    }
    snprintf(answer, line_size, "%.*s", (int)st.st_size, at);
    munmap(at, (size_t)st.st_size);
}

static void act(const char *command, const char *path, char *answer)
{
    struct stat st;
    char link[64];
    strcpy(answer, "ok");
    if (strcmp(command, "read") == 0) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        read_fd(fd, answer);
        if (fd >= 0)
            close(fd);
    } else if (strcmp(command, "map") == 0) {
        map_file(path, answer);
    } else if (strcmp(command, "list") == 0) {
        list_names(path, answer);
    } else if (strcmp(command, "stat") == 0) {
        if (stat(path, &st) < 0)
            answer_errno(answer);
        else
            snprintf(answer, line_size, "%o %lld", st.st_mode, (long long)st.st_size);
    } else if (strcmp(command, "keep") == 0 || strcmp(command, "path") == 0) {
        if (kept >= 0)
            close(kept);
        if ((kept = open(path, (*command == 'k' ? O_RDONLY : O_PATH) | O_CLOEXEC)) < 0)
            answer_errno(answer);
    } else if (strcmp(command, "again") == 0) { /* what is kept, read */
        read_fd(kept, answer);
    } else if (strcmp(command, "reopen") == 0) { /* what is kept, opened anew by who asks */
        snprintf(link, sizeof link, "/proc/self/fd/%d", kept);
        int fd = open(link, O_RDONLY | O_CLOEXEC);
        read_fd(fd, answer);
        if (fd >= 0)
            close(fd);
    } else if (strcmp(command, "relist") == 0) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", kept);
        list_names(link, answer);
    } else if (strcmp(command, "cd") == 0) {
        if (chdir(path) < 0)
            answer_errno(answer);
    } else if (strcmp(command, "write") == 0) {
        if (open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644) >= 0)
            strcpy(answer, "written");
        else
            answer_errno(answer);
    }
}

static void serve_client(int link)
{
    char line[line_size], answer[line_size], command[16], path[1024];
    unsigned uid;
    for (ssize_t n; (n = recv(link, line, sizeof line - 1, 0)) > 0;) {
        line[n] = 0;
        if (sscanf(line, "%u %15s %1023[^\n]", &uid, command, path) != 3)
            _exit(1);
        if (setresuid((uid_t)-1, uid, 0) < 0)
            _exit(1);
        act(command, path, answer);
        if (setresuid((uid_t)-1, 0, 0) < 0)
            _exit(1);
        if (send(link, answer, strlen(answer) + 1, 0) < 0)
            _exit(1);
    }
    _exit(0);
}

/* --- the trees --- */

struct words {
    struct ramet_tools_text text;
    char what[64];
    atomic_uint made;
};

struct fixture {
    char dir[64], mount_dir[96];
    int link;
    pid_t client;
    struct ramet_tools_mount *mount;
    pthread_mutex_t lock;
    struct ramet_tools_node *trees[2]; /* of root and of all others */
    char missed[256], opened[256];
    bool refuse;
    uint64_t ino;
};

static struct ramet_error err;
static struct fixture *fixture;
static atomic_uint alive; /* words that were not freed */

static int make_words(struct ramet_tools_text *text, const struct ramet_tools_node *node, struct ramet_buf *out,
                      struct ramet_error *error)
{
    struct words *words = (struct words *)text;
    char line[512];
    (void)error;
    unsigned made = atomic_fetch_add(&words->made, 1);
    if (node->kind == RAMET_TOOLS_LIVE)
        snprintf(line, sizeof line, "live %u", made);
    else
        snprintf(line, sizeof line, "%s of %s", node->name, words->what);
    ramet_buf_put(out, line, strlen(line));
    return 0;
}

static void free_words(struct ramet_tools_text *text)
{
    atomic_fetch_sub(&alive, 1);
    free(text);
}

static struct ramet_tools_text *words_new(const char *what)
{
    struct words *words = calloc(1, sizeof *words);
    assert_non_null(words);
    words->text = (struct ramet_tools_text){.refs = 1, .make = make_words, .free = free_words};
    snprintf(words->what, sizeof words->what, "%s", what);
    atomic_fetch_add(&alive, 1);
    return &words->text;
}

static struct ramet_tools_node *node_new(const char *name, enum ramet_tools_node_kind kind, uint64_t ino,
                                         struct ramet_tools_text *text, uint64_t dir_ino, uint64_t owner)
{
    struct ramet_tools_node *node = ramet_tools_node_new(name, kind, ino, text);
    assert_non_null(node);
    node->dir_ino = dir_ino;
    node->owner = owner;
    return node;
}

/* INDEX (the owner's own), server/{open.md[, secret.md], STATUS}, [hidden/tool.md,] search/ */
static struct ramet_tools_node *tree_new(const char *what, uint64_t owner, bool all)
{
    struct ramet_tools_text *text = words_new(what);
    struct ramet_tools_node **top = calloc(4, sizeof(*top)), **in = calloc(3, sizeof(*in)),
                            **deep = calloc(1, sizeof(*deep));
    size_t top_count = 0, in_count = 0;
    assert_true(top && in && deep);
    in[in_count++] = node_new("open.md", RAMET_TOOLS_FILE, fixture->ino++, text, 10, 0);
    in[in_count++] = node_new("STATUS", RAMET_TOOLS_LIVE, fixture->ino++, text, 10, 0);
    if (all)
        in[in_count++] = node_new("secret.md", RAMET_TOOLS_FILE, fixture->ino++, text, 10, 0);
    top[top_count++] = node_new("INDEX", RAMET_TOOLS_FILE, fixture->ino++, text, 1, owner);
    top[top_count++] = node_new("search", RAMET_TOOLS_SEARCH, 2, text, 1, 0);
    struct ramet_tools_node *server = node_new("server", RAMET_TOOLS_DIR, 10, NULL, 1, 0);
    check_ok(ramet_tools_node_fill(server, in, in_count, &err));
    top[top_count++] = server;
    deep[0] = node_new("tool.md", RAMET_TOOLS_FILE, fixture->ino++, text, 20, 0);
    struct ramet_tools_node *hidden = node_new("hidden", RAMET_TOOLS_DIR, 20, NULL, 1, 0);
    check_ok(ramet_tools_node_fill(hidden, deep, 1, &err));
    if (all)
        top[top_count++] = hidden;
    else
        ramet_tools_node_unref(hidden);
    struct ramet_tools_node *root = node_new("", RAMET_TOOLS_DIR, 1, NULL, 0, owner);
    check_ok(ramet_tools_node_fill(root, top, top_count, &err));
    check_ok(ramet_tools_root_seal(root, &err));
    ramet_tools_text_unref(text);
    return root;
}

static void publish(struct ramet_tools_node *for_root, struct ramet_tools_node *for_others)
{
    pthread_mutex_lock(&fixture->lock);
    struct ramet_tools_node *gone[2] = {fixture->trees[0], fixture->trees[1]};
    fixture->trees[0] = for_root;
    fixture->trees[1] = for_others;
    pthread_mutex_unlock(&fixture->lock);
    ramet_tools_node_unref(gone[0]);
    ramet_tools_node_unref(gone[1]);
}

static struct ramet_tools_node *source_tree(void *context, const struct ramet_tools_caller *caller)
{
    struct fixture *f = context;
    pthread_mutex_lock(&f->lock);
    struct ramet_tools_node *tree = f->trees[caller->uid != 0];
    if (tree)
        ramet_tools_node_ref(tree);
    pthread_mutex_unlock(&f->lock);
    return tree;
}

static int source_opening(void *context, const struct ramet_tools_caller *caller, const struct ramet_tools_node *node,
                          struct ramet_error *error)
{
    struct fixture *f = context;
    pthread_mutex_lock(&f->lock);
    snprintf(f->opened, sizeof f->opened, "%u %s", caller->uid, node->name);
    bool refuse = f->refuse;
    pthread_mutex_unlock(&f->lock);
    return refuse ? ramet_error_set(error, RAMET_DENIED, "refused") : 0;
}

static void source_missed(void *context, const struct ramet_tools_caller *caller, const struct ramet_tools_node *dir,
                          const char *name)
{
    struct fixture *f = context;
    pthread_mutex_lock(&f->lock);
    snprintf(f->missed, sizeof f->missed, "%u %s %s", caller->uid, dir ? dir->name : "-", name);
    pthread_mutex_unlock(&f->lock);
}

static int setup(void **state)
{
    struct fixture *f = fixture = calloc(1, sizeof *f);
    int links[2];
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, links), 0);
    test_dir_make(f->dir);
    assert_int_equal(chmod(f->dir, 0755), 0);
    snprintf(f->mount_dir, sizeof f->mount_dir, "%s/tools", f->dir);
    f->client = fork();
    assert_true(f->client >= 0);
    if (f->client == 0) {
        close(links[0]);
        serve_client(links[1]);
    }
    close(links[1]);
    f->link = links[0];
    f->ino = 1000;
    pthread_mutex_init(&f->lock, NULL);
    f->trees[0] = tree_new("first", 1, true);
    f->trees[1] = tree_new("first", 2, false);
    const struct ramet_tools_source source = {f, source_tree, source_opening, source_missed};
    check_ok(ramet_tools_mount_start(f->mount_dir, &source, &f->mount, &err));
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = fixture;
    int status;
    (void)state;
    ramet_tools_mount_stop(f->mount); /* the client may have a file open, and stand in a directory */
    close(f->link);
    waitpid(f->client, &status, 0);
    publish(NULL, NULL);
    assert_int_equal(alive, 0);
    umount2(f->mount_dir, MNT_DETACH);
    test_dir_remove(f->dir);
    pthread_mutex_destroy(&f->lock);
    free(f);
    return 0;
}

/* --- asking --- */

static const char *ask_at(unsigned uid, const char *command, const char *path)
{
    static char line[line_size];
    snprintf(line, sizeof line, "%u %s %s", uid, command, path);
    assert_true(send(fixture->link, line, strlen(line), 0) > 0);
    assert_true(recv(fixture->link, line, sizeof line, 0) > 0);
    return line;
}

static const char *ask(unsigned uid, const char *command, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", fixture->mount_dir, name);
    return ask_at(uid, command, path);
}

/* What the source was told last: `missed` or `opened`. */
static const char *told(const char *which)
{
    static char text[256];
    pthread_mutex_lock(&fixture->lock);
    snprintf(text, sizeof text, "%s", which);
    pthread_mutex_unlock(&fixture->lock);
    return text;
}

static void refuse(bool yes)
{
    pthread_mutex_lock(&fixture->lock);
    fixture->refuse = yes;
    pthread_mutex_unlock(&fixture->lock);
}

static void check_fails_with(const char *answer, int error)
{
    char want[16];
    snprintf(want, sizeof want, "E%d", error);
    assert_string_equal(answer, want);
}

static void test_reads(void **state)
{
    (void)state;
    assert_string_equal(ask(0, "read", "server/secret.md"), "secret.md of first");
    assert_string_equal(ask(0, "map", "server/secret.md"), "secret.md of first");
    assert_string_equal(ask(0, "stat", "server/secret.md"), "100444 18");
    assert_string_equal(ask(0, "list", ""), "INDEX hidden search server ");
    assert_string_equal(ask(0, "list", "server"), "STATUS open.md secret.md ");
    assert_string_equal(ask(0, "list", "search"), "");
    check_fails_with(ask(0, "write", "server/secret.md"), EROFS);
    check_fails_with(ask(0, "write", "server/new"), EROFS);
    check_fails_with(ask(0, "read", "server/nothing"), ENOENT);
    assert_string_equal(told(fixture->missed), "0 server nothing");
}

static void test_each_user_sees_its_own(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) { /* in turns, so that the kernel has the other's in its cache */
        assert_string_equal(ask(0, "stat", "server/secret.md"), "100444 18");
        assert_string_equal(ask(0, "read", "hidden/tool.md"), "tool.md of first");
        check_fails_with(ask(other_uid, "stat", "server/secret.md"), ENOENT);
        assert_string_equal(told(fixture->missed), "65534 server secret.md");
        check_fails_with(ask(other_uid, "read", "server/secret.md"), ENOENT);
        check_fails_with(ask(other_uid, "stat", "hidden"), ENOENT);
        check_fails_with(ask(other_uid, "read", "hidden/tool.md"), ENOENT);
        check_fails_with(ask(other_uid, "list", "hidden"), ENOENT);
        assert_string_equal(ask(other_uid, "list", ""), "INDEX search server ");
        assert_string_equal(ask(other_uid, "list", "server"), "STATUS open.md ");
        assert_string_equal(ask(other_uid, "read", "server/open.md"), "open.md of first");
    }
}

/* A descriptor from who may see is none to open anew for who may not. */
static void test_descriptors_open_nothing_hidden(void **state)
{
    (void)state;
    assert_string_equal(ask(0, "path", "server/secret.md"), "ok");
    assert_string_equal(ask(0, "reopen", "-"), "secret.md of first");
    check_fails_with(ask(other_uid, "reopen", "-"), ENOENT);
    assert_string_equal(ask(0, "path", "INDEX"), "ok");
    check_fails_with(ask(other_uid, "reopen", "-"), ENOENT); /* the same name, another's text */
    assert_string_equal(ask(0, "path", "search/some words"), "ok");
    check_fails_with(ask(other_uid, "reopen", "-"), ENOENT);
    assert_string_equal(ask(0, "path", "server/open.md"), "ok");
    assert_string_equal(ask(other_uid, "reopen", "-"), "open.md of first");
    assert_string_equal(ask(0, "path", "hidden"), "ok");
    check_fails_with(ask(other_uid, "relist", "-"), ENOENT);
}

static void test_searches(void **state)
{
    (void)state;
    assert_string_equal(ask(0, "read", "search/take a screenshot"), "take a screenshot of first");
    assert_string_equal(ask(0, "map", "search/take a screenshot"), "take a screenshot of first");
    assert_string_equal(ask(other_uid, "read", "search/x"), "x of first");
    assert_string_equal(told(fixture->opened), "65534 x");
}

static void test_live_files_are_made_at_each_opening(void **state)
{
    char first[64];
    (void)state;
    snprintf(first, sizeof first, "%s", ask(0, "read", "server/STATUS"));
    assert_int_equal(strncmp(first, "live ", 5), 0);
    assert_string_not_equal(ask(0, "read", "server/STATUS"), first);
}

static void test_a_new_tree_is_there_at_once(void **state)
{
    (void)state;
    assert_string_equal(ask(0, "keep", "server/open.md"), "ok");
    assert_string_equal(ask(0, "cd", "server"), "ok");
    assert_string_equal(ask_at(0, "list", "."), "STATUS open.md secret.md ");
    for (int i = 0; i < 20; i++) {
        char what[32], want[64];
        snprintf(what, sizeof what, "version %d", i);
        publish(tree_new(what, 1, i % 2), tree_new(what, 2, false));
        snprintf(want, sizeof want, "open.md of %s", what);
        assert_string_equal(ask(0, "read", "server/open.md"), want);
        assert_string_equal(ask_at(0, "read", "open.md"), want);
        assert_string_equal(ask(0, "map", "server/open.md"), want);
        snprintf(want, sizeof want, "100444 %zu", strlen(want));
        assert_string_equal(ask(0, "stat", "server/open.md"), want);
        assert_string_equal(ask_at(0, "list", "."), i % 2 ? "STATUS open.md secret.md " : "STATUS open.md ");
        snprintf(want, sizeof want, "INDEX of %s", what);
        assert_string_equal(ask(0, "read", "INDEX"), want);
        assert_string_equal(ask(0, "again", "-"), "open.md of first");
    }
    publish(NULL, NULL);
    check_fails_with(ask(0, "read", "server/open.md"), ENOENT);
    check_fails_with(ask(0, "list", ""), EACCES);
    assert_string_equal(ask(0, "again", "-"), "open.md of first");
}

static void test_opening_may_be_refused(void **state)
{
    (void)state;
    assert_string_equal(ask(other_uid, "read", "server/open.md"), "open.md of first");
    assert_string_equal(told(fixture->opened), "65534 open.md");
    refuse(true);
    check_fails_with(ask(other_uid, "read", "server/open.md"), EACCES);
    check_fails_with(ask(0, "list", "server"), EACCES);
    refuse(false);
}

/* Readers of two users and a publisher at once: each reads texts of its own, whole. */
static void *publisher(void *arg)
{
    atomic_bool *stop = arg;
    for (int i = 0; !atomic_load(stop); i++) {
        pthread_mutex_lock(&fixture->lock);
        pthread_mutex_unlock(&fixture->lock);
        publish(tree_new(i % 2 ? "odd" : "even", 1, true), tree_new(i % 2 ? "odd" : "even", 2, false));
        usleep(200);
    }
    return NULL;
}

static void test_storms(void **state)
{
    atomic_bool stop = false;
    pthread_t thread;
    (void)state;
    publish(tree_new("odd", 1, true), tree_new("odd", 2, false));
    assert_int_equal(pthread_create(&thread, NULL, publisher, &stop), 0);
    for (int i = 0; i < 400; i++) {
        const char *text = ask(0, "read", "server/secret.md");
        if (strcmp(text, "secret.md of odd") != 0)
            assert_string_equal(text, "secret.md of even");
        check_fails_with(ask(other_uid, "read", "server/secret.md"), ENOENT);
    }
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_each_user_sees_its_own, setup, teardown),
        cmocka_unit_test_setup_teardown(test_descriptors_open_nothing_hidden, setup, teardown),
        cmocka_unit_test_setup_teardown(test_searches, setup, teardown),
        cmocka_unit_test_setup_teardown(test_live_files_are_made_at_each_opening, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_new_tree_is_there_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_opening_may_be_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_storms, setup, teardown),
    };
    if (access("/dev/fuse", R_OK | W_OK) < 0 || geteuid() != 0) {
        printf("SKIP: needs /dev/fuse and root\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
