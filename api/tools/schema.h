/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON Schema as MCP servers use it: draft-07 and 2020-12, the keywords of validation and applicators.
 *
 * Lenient towards the schema, strict towards the value: a keyword that is unknown or malformed, a reference that leads
 * out of the schema (nothing is fetched) and an expression that is none say nothing, what else there is holds. "format"
 * is an annotation. Not looked at: unevaluatedProperties, unevaluatedItems, contentEncoding and its kin. "nullable" of
 * OpenAPI is understood.
 *
 * Bounded: a schema that is nested, refers to itself or branches too much is refused, whatever the value.
 * Errors name the value by its path, what it should be, and never what it is. Pure function.
 */
#ifndef RAMET_API_TOOLS_SCHEMA_H
#define RAMET_API_TOOLS_SCHEMA_H

#include "base/error.h"

struct ramet_json;

/* Whether `value` is what `schema` describes; NULL describes everything. RAMET_INVALID when it is not. */
int ramet_schema_check(const struct ramet_json *schema, const struct ramet_json *value, struct ramet_error *err);

#endif
