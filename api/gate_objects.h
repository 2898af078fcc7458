/* SPDX-License-Identifier: Apache-2.0 */
/* Between gate.c and gate_objects.c: the objects a call names, and those its answer shows or makes. */
#ifndef RAMET_API_GATE_OBJECTS_H
#define RAMET_API_GATE_OBJECTS_H

#include "base/error.h"
#include "policy.h"
#include "routes.h"

struct ramet_owners;
struct ramet_service;

struct ramet_judging {
    struct ramet_service *service;
    struct ramet_owners *owners;
    const struct ramet_policy *policy;
};

/* Sets ticket->object and ticket->param. DENIED, whether what it names is forbidden or not there. */
int ramet_judge_call(const struct ramet_judging *judging, const char *operation, const struct ramet_call *call,
                     struct ramet_verdict *verdict, struct ramet_ticket *ticket, struct ramet_error *err);

/* Takes out of the answer what the caller may not see, and records what it made as its own. */
int ramet_judge_answer(const struct ramet_judging *judging, const char *operation, const struct ramet_call *call,
                       struct ramet_json *answer, struct ramet_error *err);

#endif
