/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Request bodies into the service's request structs. Strict: an unknown member, a
 * wrong type or a value out of range is RAMET_INVALID naming the member. Strings
 * stay in the body, which must outlive the request; arrays of them are owned.
 */
#ifndef RAMET_API_ROUTES_BODY_H
#define RAMET_API_ROUTES_BODY_H

#include "service.h"

struct ramet_json;

/* `snapshot` is the path's, or NULL where the body names it. */
int ramet_run_body(const struct ramet_json *body, const char *snapshot, struct ramet_run_request *ret,
                   unsigned *ret_count, struct ramet_error *err);

/* The caller frees ret->names with free(). */
int ramet_fork_body(const struct ramet_json *body, struct ramet_fork_request *ret, struct ramet_error *err);

int ramet_rollback_body(const struct ramet_json *body, struct ramet_rollback_request *ret, struct ramet_error *err);

/* What an exec request points into; zero it before, ramet_exec_body_free after. */
struct ramet_exec_body {
    struct ramet_exec_request request;
    char *input;
};
int ramet_exec_body(const struct ramet_json *body, struct ramet_exec_body *ret, struct ramet_error *err);
void ramet_exec_body_free(struct ramet_exec_body *body);

int ramet_import_body(const struct ramet_json *body, struct ramet_import_request *ret, struct ramet_error *err);

int ramet_scrub_body(const struct ramet_json *body, struct ramet_job_request *ret, struct ramet_error *err);
int ramet_recompress_body(const struct ramet_json *body, struct ramet_job_request *ret, struct ramet_error *err);
int ramet_fsck_body(const struct ramet_json *body, bool *ret_repair, struct ramet_error *err);

struct ramet_export_request {
    const char *image, *path, *format;
};
int ramet_export_body(const struct ramet_json *body, struct ramet_export_request *ret, struct ramet_error *err);

/* A body whose only member is a string; with `required`, RAMET_INVALID when it is absent. */
int ramet_string_body(const struct ramet_json *body, const char *key, bool required, const char **ret,
                      struct ramet_error *err);

/* A body without members. */
int ramet_empty_body(const struct ramet_json *body, struct ramet_error *err);

#endif
