/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which servers there are and how they are reached: the "mcpServers" JSON that people have, kept as it is in
 * STORE/tools/config.json, mode 0600. It holds credentials and never leaves the daemon: what may be shown of an entry
 * is ramet_tools_launch_json.
 *
 * An entry is {"command", "args", "env", "cwd"}, or {"url", "headers"}; "serverUrl" and "httpUrl" are understood as
 * "url", "disabled": true keeps a server from being started, other members are kept and not looked at.
 *
 * Secrets, to be taken out of every text: values of headers and of what is named like one (KEY, TOKEN, PASSWORD, ...)
 * in the environment, the arguments and the URL's query, passwords in URLs, and values of the environment of eight
 * bytes or more that are no paths.
 *
 * Thread-safety: none; the registry's lock guards a configuration. A launch is never written after it was made.
 */
#ifndef RAMET_API_TOOLS_CONFIG_H
#define RAMET_API_TOOLS_CONFIG_H

#include "tools/redact.h"

struct ramet_json;
struct ramet_tools_config;

/* A missing file is an empty configuration. The file's mode is made right. */
int ramet_tools_config_open(const char *dir, struct ramet_tools_config **ret, struct ramet_error *err);
void ramet_tools_config_free(struct ramet_tools_config *config); /* NULL is a no-op */

/* {name: entry}, borrowed until the next change. */
const struct ramet_json *ramet_tools_config_entries(const struct ramet_tools_config *config);
/* Copies `entry`, NULL removes it; durable when it returns, and unchanged when it fails. */
int ramet_tools_config_set(struct ramet_tools_config *config, const char *name, const struct ramet_json *entry,
                           struct ramet_error *err);

/* The servers of a file that people have: the object at "mcpServers" or "servers"; borrowed. RAMET_INVALID. */
int ramet_tools_config_find(const struct ramet_json *file, const struct ramet_json **ret, struct ramet_error *err);

/* An entry made ready to be used. */
struct ramet_tools_launch {
    char **argv, **env; /* NULL-terminated; argv NULL: over HTTP */
    char *directory;
    char *url;
    char **headers; /* "Name: value" */
    bool disabled;
    struct ramet_secrets secrets;
};
/* RAMET_INVALID names the member that is wrong, never its value. */
int ramet_tools_launch_make(const struct ramet_json *entry, struct ramet_tools_launch *ret, struct ramet_error *err);
void ramet_tools_launch_free(struct ramet_tools_launch *launch); /* what it holds, not itself */

/* Members for people, added to `to`: transport, command or url, names of variables and headers. No secret is in it. */
void ramet_tools_launch_show(const struct ramet_tools_launch *launch, struct ramet_json *to);

#endif
