/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static enum ramet_log_level max_level = RAMET_LOG_INFO;
static const char *const names[] = {"error", "warn", "info", "debug"};

void ramet_log_set_level(enum ramet_log_level level) { max_level = level; }

int ramet_log_level_parse(const char *name, enum ramet_log_level *ret_level)
{
    for (int i = 0; i <= RAMET_LOG_DEBUG; i++)
        if (strcmp(name, names[i]) == 0) {
            *ret_level = (enum ramet_log_level)i;
            return 0;
        }
    return -RAMET_INVALID;
}

void ramet_log(enum ramet_log_level level, const char *fmt, ...)
{
    if (level > max_level)
        return;
    char line[1024];
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t used = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &tm);
    used += (size_t)snprintf(line + used, sizeof line - used, ".%03ldZ %s ", now.tv_nsec / 1000000, names[level]);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line + used, sizeof line - used - 1, fmt, ap);
    va_end(ap);
    if (n > 0)
        used += (size_t)n;
    if (used > sizeof line - 2)
        used = sizeof line - 2;
    line[used++] = '\n';
    (void)!write(STDERR_FILENO, line, used);
}
