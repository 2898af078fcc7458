/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines on stderr: "2026-11-23T23:38:29.123Z info message". Libraries log at
 * debug only; the daemon and the CLI speak to people. Thread-safe: one write(2) a line.
 */
#ifndef RAMET_BASE_LOG_H
#define RAMET_BASE_LOG_H

enum ramet_log_level { RAMET_LOG_ERROR, RAMET_LOG_WARN, RAMET_LOG_INFO, RAMET_LOG_DEBUG };

/* Lines above this level are dropped. Default RAMET_LOG_INFO. Set before threads start. */
void ramet_log_set_level(enum ramet_log_level level);
int ramet_log_level_parse(const char *name, enum ramet_log_level *ret_level); /* 0, or -RAMET_INVALID */

void ramet_log(enum ramet_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define ramet_debug(...) ramet_log(RAMET_LOG_DEBUG, __VA_ARGS__)
#define ramet_info(...) ramet_log(RAMET_LOG_INFO, __VA_ARGS__)
#define ramet_warn(...) ramet_log(RAMET_LOG_WARN, __VA_ARGS__)

#endif
