/* SPDX-License-Identifier: Apache-2.0 */
/* From an entry of the configuration to what starts or reaches a server, and to what may be shown of it. */
#include "base/cleanup.h"
#include "json.h"
#include "tools/config.h"
#include "wire.h"

#include <string.h>
#include <strings.h>

enum { value_secret_min = 8 };

static int no_memory(struct ramet_error *err)
{
    return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a server's configuration");
}

static void free_list(char **list)
{
    for (char **one = list; one && *one; one++)
        free(*one);
    free(list);
}

void ramet_tools_launch_free(struct ramet_tools_launch *launch)
{
    free_list(launch->argv);
    free_list(launch->env);
    free_list(launch->headers);
    free(launch->directory);
    free(launch->url);
    ramet_secrets_free(&launch->secrets);
    *launch = (struct ramet_tools_launch){0};
}

/* ---- what is secret ---- */

/* Whether a thing of this name is a credential. */
static bool names_secret(const char *name, size_t size)
{
    static const char *const words[] = {"key",    "token",  "secret",  "pass",    "pwd",  "auth", "cred",
                                        "cookie", "bearer", "private", "session", "sign", "dsn"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        for (size_t at = 0, length = strlen(words[i]); at + length <= size; at++)
            if (strncasecmp(name + at, words[i], length) == 0)
                return true;
    return false;
}

static int add_part(struct ramet_secrets *secrets, const char *text, size_t size, struct ramet_error *err)
{
    _autofree_ char *copy = strndup(text, size);
    return copy ? ramet_secrets_add(secrets, copy, err) : no_memory(err);
}

/* The password, and what the query gives, of each URL within `text`. */
static int add_url_parts(struct ramet_secrets *secrets, const char *text, struct ramet_error *err)
{
    int rc = 0;
    for (const char *at = strstr(text, "://"); rc == 0 && at; at = strstr(at, "://")) {
        at += 3;
        size_t host = strcspn(at, "/?# \t\"'");
        const char *sign = memrchr(at, '@', host), *colon = sign ? memchr(at, ':', (size_t)(sign - at)) : NULL;
        if (sign)
            rc = add_part(secrets, colon ? colon + 1 : at, (size_t)(sign - (colon ? colon + 1 : at)), err);
        const char *query = at + host + strcspn(at + host, "? \t\"'");
        while (rc == 0 && (*query == '?' || *query == '&')) {
            size_t size = strcspn(++query, "&# \t\"'"), name = strcspn(query, "=& \t\"'");
            bool hidden = name < size && (names_secret(query, name) || size - name - 1 >= value_secret_min);
            if (hidden)
                rc = add_part(secrets, query + name + 1, size - name - 1, err);
            query += size;
        }
    }
    return rc;
}

static int add_env_secret(struct ramet_secrets *secrets, const char *name, const char *value, struct ramet_error *err)
{
    bool secret = names_secret(name, strlen(name)) || (strlen(value) >= value_secret_min && *value != '/');
    int rc = secret ? ramet_secrets_add(secrets, value, err) : 0;
    return rc < 0 ? rc : add_url_parts(secrets, value, err);
}

/* A header's value, and of "Bearer xyz" also what follows the scheme. */
static int add_header_secret(struct ramet_secrets *secrets, const char *value, struct ramet_error *err)
{
    const char *space = strrchr(value, ' ');
    int rc = ramet_secrets_add(secrets, value, err);
    return rc == 0 && space ? ramet_secrets_add(secrets, space + 1, err) : rc;
}

/* An argument after "--api-key", or the value of "--api-key=x", "API_KEY=x" and "Authorization: x". */
static int add_argument_secret(struct ramet_secrets *secrets, const char *previous, const char *argument,
                               struct ramet_error *err)
{
    size_t name = strcspn(argument, "=:");
    int rc = add_url_parts(secrets, argument, err);
    if (rc == 0 && previous && *previous == '-' && *argument != '-' && !strpbrk(previous, "=:") &&
        names_secret(previous, strlen(previous)))
        rc = ramet_secrets_add(secrets, argument, err);
    if (rc == 0 && argument[name] && strncmp(argument + name, "://", 3) != 0 && names_secret(argument, name))
        rc = add_header_secret(secrets, argument + name + 1 + (argument[name + 1] == ' '), err);
    return rc;
}

/* ---- reading an entry ---- */

static int wrong(const char *member, const char *what, struct ramet_error *err)
{
    return ramet_error_set(err, RAMET_INVALID, "\"%.100s\" must be %s", member, what);
}

/* No control characters: each becomes a line of a protocol or an argument. */
static bool one_line(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 && *text != '\t')
            return false;
    return true;
}

static int read_args(const struct ramet_json *entry, const char *command, struct ramet_tools_launch *launch,
                     struct ramet_error *err)
{
    const struct ramet_json *args = ramet_json_get(entry, "args");
    size_t count = ramet_json_count(args);
    if (args && ramet_json_kind(args) != RAMET_JSON_NULL && !ramet_json_is_array(args))
        return wrong("args", "an array of strings", err);
    launch->argv = calloc(count + 2, sizeof *launch->argv);
    if (!launch->argv || !(launch->argv[0] = strdup(command)))
        return no_memory(err);
    for (size_t i = 0; i < count; i++) {
        const char *text = ramet_json_string_value(ramet_json_at(args, i));
        if (!text)
            return wrong("args", "an array of strings", err);
        if (!(launch->argv[i + 1] = strdup(text)))
            return no_memory(err);
        int rc = add_argument_secret(&launch->secrets, i ? launch->argv[i] : NULL, text, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Appends "name SEPARATOR value" to the list with room for it. */
static int append(char **list, size_t *count, const char *name, const char *separator, const char *value,
                  struct ramet_error *err)
{
    if (asprintf(&list[*count], "%s%s%s", name, separator, value) < 0) {
        list[*count] = NULL;
        return no_memory(err);
    }
    ++*count;
    return 0;
}

/* What is named, and of ours what every program needs. */
static int read_env(const struct ramet_json *entry, struct ramet_tools_launch *launch, struct ramet_error *err)
{
    static const char *const passed[] = {"PATH", "HOME", "LANG"};
    const struct ramet_json *env = ramet_json_get(entry, "env"), *value;
    const char *name;
    void *iter = NULL;
    size_t count = 0;
    int rc = 0;
    if (env && ramet_json_kind(env) != RAMET_JSON_NULL && !ramet_json_is_object(env))
        return wrong("env", "an object of strings", err);
    launch->env = calloc(ramet_json_count(env) + 4, sizeof *launch->env);
    if (!launch->env)
        return no_memory(err);
    for (size_t i = 0; rc == 0 && i < 3; i++)
        if (getenv(passed[i]) && !ramet_json_get(env, passed[i]))
            rc = append(launch->env, &count, passed[i], "=", getenv(passed[i]), err);
    while (rc == 0 && ramet_json_next(env, &iter, &name, &value)) {
        const char *text = ramet_json_string_value(value);
        if (!text || !*name || strchr(name, '='))
            return wrong("env", "an object of strings with names of variables", err);
        rc = append(launch->env, &count, name, "=", text, err);
        if (rc == 0)
            rc = add_env_secret(&launch->secrets, name, text, err);
    }
    return rc;
}

static int read_stdio(const struct ramet_json *entry, const char *command, struct ramet_tools_launch *launch,
                      struct ramet_error *err)
{
    const char *directory = NULL;
    int rc = ramet_json_want_string(entry, "cwd", &directory, err);
    if (rc == 0 && directory && *directory != '/')
        rc = wrong("cwd", "an absolute path", err);
    if (rc == 0)
        rc = read_args(entry, command, launch, err);
    if (rc == 0)
        rc = read_env(entry, launch, err);
    if (rc < 0)
        return rc;
    if (!directory)
        directory = getenv("HOME") && *getenv("HOME") == '/' ? getenv("HOME") : "/";
    launch->directory = strdup(directory);
    return launch->directory ? 0 : no_memory(err);
}

static int read_headers(const struct ramet_json *entry, struct ramet_tools_launch *launch, struct ramet_error *err)
{
    const struct ramet_json *headers = ramet_json_get(entry, "headers"), *value;
    const char *name;
    void *iter = NULL;
    size_t count = 0;
    int rc = 0;
    if (headers && ramet_json_kind(headers) != RAMET_JSON_NULL && !ramet_json_is_object(headers))
        return wrong("headers", "an object of strings", err);
    launch->headers = calloc(ramet_json_count(headers) + 1, sizeof *launch->headers);
    if (!launch->headers)
        return no_memory(err);
    while (rc == 0 && ramet_json_next(headers, &iter, &name, &value)) {
        const char *text = ramet_json_string_value(value);
        if (!text || !*name || strpbrk(name, ": \t") || !one_line(name) || !one_line(text))
            return wrong("headers", "an object of names and one-line strings", err);
        rc = append(launch->headers, &count, name, ": ", text, err);
        if (rc == 0)
            rc = add_header_secret(&launch->secrets, text, err);
    }
    return rc;
}

static int read_http(const struct ramet_json *entry, const char *url, struct ramet_tools_launch *launch,
                     struct ramet_error *err)
{
    bool http = strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0;
    if (!http || !one_line(url))
        return wrong("url", "a http:// or https:// URL", err);
    int rc = add_url_parts(&launch->secrets, url, err);
    if (rc == 0)
        rc = read_headers(entry, launch, err);
    launch->url = strdup(url);
    return rc < 0 || launch->url ? rc : no_memory(err);
}

static int read_entry(const struct ramet_json *entry, struct ramet_tools_launch *launch, struct ramet_error *err)
{
    static const char *const urls[] = {"url", "serverUrl", "httpUrl"};
    const char *command = NULL, *url = NULL;
    if (!ramet_json_is_object(entry))
        return ramet_error_set(err, RAMET_INVALID, "a server's configuration must be an object");
    int rc = ramet_json_want_string(entry, "command", &command, err);
    for (size_t i = 0; rc == 0 && i < 3 && !url; i++)
        rc = ramet_json_want_string(entry, urls[i], &url, err);
    if (rc == 0)
        rc = ramet_json_want_bool(entry, "disabled", &launch->disabled, err);
    if (rc < 0)
        return rc;
    if (command && *command)
        return read_stdio(entry, command, launch, err);
    if (url)
        return read_http(entry, url, launch, err);
    return ramet_error_set(err, RAMET_INVALID, "a server needs a \"command\" or a \"url\"");
}

int ramet_tools_launch_make(const struct ramet_json *entry, struct ramet_tools_launch *ret, struct ramet_error *err)
{
    struct ramet_tools_launch launch = {0};
    int rc = read_entry(entry, &launch, err);
    if (rc < 0) {
        ramet_tools_launch_free(&launch);
        return rc;
    }
    *ret = launch;
    return 0;
}

/* ---- showing ---- */

static struct ramet_json *clean_string(const struct ramet_tools_launch *launch, const char *text)
{
    _autofree_ char *clean = ramet_redact(&launch->secrets, text, strlen(text), false);
    return clean ? ramet_json_string(clean) : NULL;
}

/* What stands before the separator in each. */
static struct ramet_json *names_of(char *const *list, const char *separator)
{
    struct ramet_json *names = ramet_json_array();
    for (; list && *list; list++) {
        _autofree_ char *name = strndup(*list, strcspn(*list, separator));
        if (name)
            ramet_json_append(names, ramet_json_string(name));
    }
    return names;
}

void ramet_tools_launch_show(const struct ramet_tools_launch *launch, struct ramet_json *to)
{
    ramet_json_set_string(to, "transport", launch->argv ? "stdio" : "http");
    if (launch->argv) {
        struct ramet_json *command = ramet_json_array();
        for (char *const *arg = launch->argv; *arg; arg++)
            ramet_json_append(command, clean_string(launch, *arg));
        ramet_json_set(to, "command", command);
        ramet_json_set(to, "cwd", clean_string(launch, launch->directory));
        ramet_json_set(to, "env", names_of(launch->env, "="));
    } else {
        ramet_json_set(to, "url", clean_string(launch, launch->url));
        ramet_json_set(to, "headers", names_of(launch->headers, ":"));
    }
}
