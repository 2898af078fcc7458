/* SPDX-License-Identifier: Apache-2.0 */
/* The file. It is replaced whole; the object in memory changes when that has succeeded. */
#include "tools/config.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "json.h"
#include "tools/names.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

enum { file_max = 4 << 20, values_max = 100000 };
static const char key[] = "mcpServers";

struct ramet_tools_config {
    char path[PATH_MAX];
    struct ramet_json *file; /* {"mcpServers": {...}} */
};

static int load(struct ramet_tools_config *config, struct ramet_error *err)
{
    _autofree_ char *text = NULL;
    size_t size = 0;
    int rc = ramet_file_read_all(config->path, file_max, &text, &size, err);
    if (rc == -RAMET_NOT_FOUND) {
        config->file = ramet_json_object();
        ramet_json_set(config->file, key, ramet_json_object());
        return config->file ? 0 : ramet_error_set(err, RAMET_NO_MEMORY, "no memory for %.300s", config->path);
    }
    if (rc == 0 && chmod(config->path, 0600) < 0)
        rc = ramet_error_os(err, errno, "cannot make %.300s private", config->path);
    /* Not what the parser says: it quotes. */
    if (rc == 0 && ramet_json_parse_lenient(text, size, values_max, &config->file, NULL) < 0)
        rc = ramet_error_set(err, RAMET_INVALID, "%.300s is no JSON", config->path);
    if (rc == 0 && !ramet_json_is_object(ramet_json_get(config->file, key))) {
        ramet_error_set(err, RAMET_INVALID, "%.300s has no object \"%s\"", config->path, key);
        rc = ramet_error_hint(err, "mend it, or move it away: the daemon then starts without MCP servers");
    }
    return rc;
}

int ramet_tools_config_open(const char *dir, struct ramet_tools_config **ret, struct ramet_error *err)
{
    struct ramet_tools_config *config = calloc(1, sizeof *config);
    if (!config)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the configuration of tools");
    snprintf(config->path, sizeof config->path, "%s/config.json", dir);
    int rc = load(config, err);
    if (rc < 0) {
        ramet_tools_config_free(config);
        return rc;
    }
    *ret = config;
    return 0;
}

void ramet_tools_config_free(struct ramet_tools_config *config)
{
    if (!config)
        return;
    ramet_json_free(config->file);
    free(config);
}

const struct ramet_json *ramet_tools_config_entries(const struct ramet_tools_config *config)
{
    return ramet_json_get(config->file, key);
}

int ramet_tools_config_set(struct ramet_tools_config *config, const char *name, const struct ramet_json *entry,
                           struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *file = ramet_json_copy(config->file);
    struct ramet_json *servers = ramet_json_copy(ramet_json_get(config->file, key));
    struct ramet_json *copy = entry ? ramet_json_copy(entry) : NULL;
    if (!file || !servers || (entry && !copy)) {
        ramet_json_free(servers);
        ramet_json_free(copy);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the configuration of tools");
    }
    ramet_json_remove(servers, name);
    if (copy)
        ramet_json_set(servers, name, copy);
    ramet_json_set(file, key, servers);
    _autofree_ char *text = ramet_json_pretty(file);
    if (!text)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the configuration of tools");
    int rc = ramet_file_replace(config->path, text, strlen(text), 0600, err);
    explicit_bzero(text, strlen(text));
    if (rc < 0)
        return rc;
    ramet_json_free(config->file);
    config->file = STEAL(file);
    return 0;
}

int ramet_tools_config_find(const struct ramet_json *file, const struct ramet_json **ret, struct ramet_error *err)
{
    static const char *const keys[] = {"mcpServers", "servers"};
    for (size_t i = 0; i < 2; i++) {
        const struct ramet_json *servers = ramet_json_get(file, keys[i]);
        if (ramet_json_is_object(servers)) {
            *ret = servers;
            return 0;
        }
    }
    ramet_error_set(err, RAMET_INVALID, "there is no object \"mcpServers\"");
    return ramet_error_hint(err,
                            "a file looks like {\"mcpServers\": {\"files\": {\"command\": ..., \"args\": [...]}}}");
}
