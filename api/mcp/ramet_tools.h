/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ramet's operations as MCP tools, so that an agent can fork its own sandbox. Each
 * tool is an operation of the API with another shape around it, called through the
 * same router and gate: a tool the caller may not use is not listed and does not
 * exist for it. tools.json has the definitions.
 *
 * Thread-safety: the provider may be called from any thread.
 */
#ifndef RAMET_API_MCP_RAMET_TOOLS_H
#define RAMET_API_MCP_RAMET_TOOLS_H

#include "mcp/mcp.h"
#include "routes.h"

struct ramet_mcp_tools;

/* Both are borrowed and outlive it. */
int ramet_mcp_tools_new(const struct ramet_router *router, struct ramet_gate *gate, struct ramet_mcp_tools **ret,
                        struct ramet_error *err);
void ramet_mcp_tools_free(struct ramet_mcp_tools *tools); /* NULL is a no-op */
struct ramet_mcp_provider ramet_mcp_tools_provider(struct ramet_mcp_tools *tools);

#endif
