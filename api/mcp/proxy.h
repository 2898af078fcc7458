/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MCP over standard input and output, for clients that start their servers: each line
 * is posted to the daemon's /mcp with the rights of whoever runs this, and what is
 * answered is written as lines. Both eras; the session of the older one is kept here.
 */
#ifndef RAMET_API_MCP_PROXY_H
#define RAMET_API_MCP_PROXY_H

#include "ramet.h"

#include <stdio.h>

/* Returns when `in` has ended and what was asked is answered. The client is borrowed. */
int ramet_mcp_proxy(struct ramet_client *client, FILE *in, FILE *out, struct ramet_error *err);

#endif
