/* SPDX-License-Identifier: Apache-2.0 */
/* One HTTP exchange with the daemon, piece by piece: for what is no call of the API, as /mcp with its streams. */
#ifndef RAMET_API_CLIENT_EXCHANGE_H
#define RAMET_API_CLIENT_EXCHANGE_H

#include "ramet.h"

struct ramet_client_exchange {
    const char *method, *path, *body; /* body NULL: none */
    const char *const *headers;       /* "Name: value", NULL-terminated; or NULL. The token's are added. */
    long (*read)(void *context, char *buf, size_t max); /* instead of a body, unless NULL: as of ramet_client_send */
    void *context;
    void (*header)(void *context, const char *line);             /* of the answer; NULL: none wanted */
    bool (*data)(void *context, const char *bytes, size_t size); /* of its body; false ends the exchange */
};

/* 0 whatever the status is; UNAVAILABLE as for a call. */
int ramet_client_exchange(struct ramet_client *client, const struct ramet_client_exchange *exchange, int *ret_status,
                          struct ramet_error *err);

#endif
