/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who calls: a principal is one entry of the policy, the user it works for, the agent
 * that acts, and those who act for that agent in turn (the "act" chain). Every door
 * makes one before it does anything: the API from SO_PEERCRED or a bearer token, the
 * mount from the uid of the request.
 *
 * A principal holds names, no rights: what it may do is asked of the policy in force
 * each time (policy.h). It is a plain value; copy it freely.
 */
#ifndef RAMET_API_PRINCIPAL_H
#define RAMET_API_PRINCIPAL_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define RAMET_PRINCIPAL_SIZE 64 /* of a name, with its NUL: [A-Za-z0-9][A-Za-z0-9._@:-]* */
#define RAMET_ACT_MAX 4

struct ramet_policy;

enum ramet_door { RAMET_DOOR_SOCKET, RAMET_DOOR_TCP, RAMET_DOOR_MOUNT, RAMET_DOOR_DAEMON };
const char *ramet_door_name(enum ramet_door door); /* "socket", "tcp", "mount", "daemon" */

struct ramet_principal {
    char name[RAMET_PRINCIPAL_SIZE];               /* of its entry in the policy; "": nobody, who may nothing */
    char user[RAMET_PRINCIPAL_SIZE];               /* the person or account it works for */
    char agent[RAMET_PRINCIPAL_SIZE];              /* the program that acts, or "" */
    char act[RAMET_ACT_MAX][RAMET_PRINCIPAL_SIZE]; /* entries too, each acting for the one before */
    unsigned act_count;
    enum ramet_door door;
    int64_t uid; /* of the calling process; -1 where there is none (TCP) */
    pid_t pid;   /* likewise; 0 */
};

/* What a door knows of its caller. Strings are borrowed, NULL where nothing came. */
struct ramet_caller {
    enum ramet_door door;
    int64_t uid; /* -1: unknown */
    pid_t pid;
    const char *authorization; /* value of the header: "Bearer TOKEN" */
    const char *act;           /* of Ramet-Act: names of entries, separated by commas */
};

/*
 * A token decides when there is one, else the uid. DENIED, with *ret a nobody that
 * tells what is known, when the policy has no such entry or a name in `act` is none.
 * A token never appears in the error.
 */
int ramet_principal_identify(const struct ramet_policy *policy, const struct ramet_caller *caller,
                             struct ramet_principal *ret, struct ramet_error *err);

/* The same for a request on the mount. */
int ramet_principal_of_uid(const struct ramet_policy *policy, uid_t uid, pid_t pid, struct ramet_principal *ret,
                           struct ramet_error *err);

/* The daemon itself, as for what it does of its own accord: refreshes, collections. May do all. */
struct ramet_principal ramet_principal_daemon(void);

/* Whether both stand for the same: entry and act chain are equal. What one made, the other may use. */
bool ramet_principal_equal(const struct ramet_principal *a, const struct ramet_principal *b);

/* "claude" or "claude>planner": the entry and who acts for it, as owner of what is made and in messages. */
#define RAMET_PRINCIPAL_TEXT (RAMET_PRINCIPAL_SIZE * (RAMET_ACT_MAX + 1))
void ramet_principal_text(const struct ramet_principal *principal, char ret[static RAMET_PRINCIPAL_TEXT]);

#endif
