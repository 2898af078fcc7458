/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of typed calls share: answers read member by member from a table, and a call in one line. */
#ifndef RAMET_API_CLIENT_FIELDS_H
#define RAMET_API_CLIENT_FIELDS_H

#include "ramet.h"

struct ramet_json;

enum ramet_client_kind { STRING, U64, I64, INT, BOOL, U32 };

struct ramet_client_field {
    const char *key;
    enum ramet_client_kind kind;
    size_t offset, size;
};

#define RAMET_FIELD(kind, type, member)                                                                                \
    {                                                                                                                  \
#member, kind, offsetof(struct type, member), sizeof(((struct type *)0)->member)                               \
    }

/* Members that the answer lacks read as 0 or "". */
void ramet_client_read(const struct ramet_json *object, const struct ramet_client_field *fields, size_t count,
                       void *to);
#define RAMET_READ(object, fields, to) ramet_client_read(object, fields, sizeof(fields) / sizeof *(fields), to)

/* Makes one call on prefix/ref/suffix; takes over `body`, which may be NULL. *ret_answer is owned by the caller. */
int ramet_client_ask(struct ramet_client *client, const char *method, const char *const path[static 3],
                     struct ramet_json *body, struct ramet_json **ret_answer, struct ramet_error *err);
#define RAMET_PATH(prefix, ref, suffix) ((const char *const[3]){prefix, ref, suffix})

/* Members that are set only when they differ from NULL or 0. */
void ramet_client_set_string(struct ramet_json *body, const char *key, const char *value);
void ramet_client_set_u64(struct ramet_json *body, const char *key, uint64_t value);

#endif
