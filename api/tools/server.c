/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper of one server.
 *
 * `lock` guards everything below it, and is never held across a request. The connection is used by calls through a
 * count: whoever finds it bad breaks it, which ends all calls on it, and the keeper closes it when the last has let
 * go. `changed` (any thread) wakes the keeper when something is to be done or has been.
 *
 * A flag is taken before the work it asks for is begun, so that what is asked meanwhile is done afterwards: a refresh
 * is over when a listing that began after it was asked for is.
 */
#include "tools/server.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "json.h"
#include "tools/catalogue.h"
#include "tools/peer.h"
#include "vmm/clock.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum {
    open_ms = 60000, /* npx downloads what it runs the first time */
    list_ms = 30000,
    ping_ms = 5000,
    backoff_min_ms = 1000,
    backoff_max_ms = 60000,
    steady_ms = 30000,  /* lived so long: the next failure is the first again */
    list_gap_ms = 1000, /* between the listings that changes cause */
    settle_ms = 100,    /* a change rarely comes alone */
    relist_ms = 60000,  /* after a listing that failed */
    ttl_min_ms = 60000, /* however short it says that its lists hold */
    call_tries = 2,     /* a session that is lost is begun again once */
};
static const size_t message_max = 16 << 20;

struct ramet_tools_server {
    atomic_uint refs;
    char *name;
    struct ramet_tools_launch launch;
    struct ramet_tools_catalogue *catalogue;
    pthread_t keeper;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct ramet_peer *peer;                /* NULL: not connected */
    struct ramet_peer *opening;             /* what may become that */
    unsigned users;                         /* calls on it */
    bool stopping, suspect, bad, forgotten; /* forgotten: it lost our session, and there is no harm in that */
    bool list_wanted;                       /* it said so */
    uint64_t asked, answered;               /* refreshes: asked for, and done */
    bool call_waits;                        /* somebody wants it now */
    uint64_t attempts;                      /* to connect that have ended */
    unsigned failures;                      /* in a row */
    uint64_t failed_us, next_attempt_us, connected_us, next_list_us, expires_us;
    struct ramet_error problem; /* of the last attempt or listing; code 0: none */
    enum ramet_peer_era era;
    uint64_t starts;
};

/* ---- references ---- */

struct ramet_tools_server *ramet_tools_server_ref(struct ramet_tools_server *server)
{
    atomic_fetch_add(&server->refs, 1);
    return server;
}

void ramet_tools_server_unref(struct ramet_tools_server *server)
{
    if (!server || atomic_fetch_sub(&server->refs, 1) != 1)
        return;
    ramet_tools_launch_free(&server->launch);
    pthread_cond_destroy(&server->wake);
    pthread_mutex_destroy(&server->lock);
    free(server->name);
    free(server);
}

void ramet_tools_server_cleanup(struct ramet_tools_server **server) { ramet_tools_server_unref(*server); }
const char *ramet_tools_server_name(const struct ramet_tools_server *server) { return server->name; }

/* Under the lock: waits for a change, but not beyond. */
static bool await_change(struct ramet_tools_server *server, uint64_t deadline_us)
{
    const struct timespec deadline = ramet_timespec_us(deadline_us);
    return pthread_cond_timedwait(&server->wake, &server->lock, &deadline) == 0;
}

static void on_change(void *context)
{
    struct ramet_tools_server *server = context;
    pthread_mutex_lock(&server->lock);
    if (!server->list_wanted) {
        server->list_wanted = true;
        pthread_cond_broadcast(&server->wake);
    }
    pthread_mutex_unlock(&server->lock);
}

/* ---- the keeper: connecting ---- */

/* Under the lock. */
static void note_failure(struct ramet_tools_server *server, const struct ramet_error *problem)
{
    bool steady = server->connected_us && ramet_now_us() - server->connected_us > steady_ms * UINT64_C(1000);
    server->failures = steady ? 1 : server->failures + 1;
    unsigned shift = server->failures - 1 < 6 ? server->failures - 1 : 6;
    uint64_t wait_ms = (uint64_t)backoff_min_ms << shift;
    server->failed_us = ramet_now_us();
    server->next_attempt_us = ramet_deadline_us(wait_ms < backoff_max_ms ? (unsigned)wait_ms : backoff_max_ms);
    server->connected_us = 0;
    server->problem = *problem;
}

static void tell_health(struct ramet_tools_server *server, const struct ramet_error *problem)
{
    ramet_tools_catalogue_set_health(server->catalogue, server->name, problem ? problem->msg : NULL);
    if (problem)
        ramet_warn("tools: server \"%s\": %s", server->name, problem->msg);
}

/* Under the lock, which is dropped meanwhile. */
static void try_to_connect(struct ramet_tools_server *server)
{
    const struct ramet_peer_options options = {.server = server->name,
                                               .argv = (const char *const *)server->launch.argv,
                                               .env = (const char *const *)server->launch.env,
                                               .directory = server->launch.directory,
                                               .url = server->launch.url,
                                               .headers = (const char *const *)server->launch.headers,
                                               .secrets = &server->launch.secrets,
                                               .message_max = message_max,
                                               .list_ms = list_ms,
                                               .hint = server->era,
                                               .changed = on_change,
                                               .context = server};
    struct ramet_peer *peer = NULL;
    struct ramet_error problem = {0};
    int rc = ramet_peer_new(&options, &peer, &problem);
    server->call_waits = false;
    server->starts++;
    server->opening = peer;
    pthread_mutex_unlock(&server->lock);
    if (rc == 0)
        rc = ramet_peer_connect(peer, ramet_deadline_us(open_ms), &problem);
    if (rc < 0)
        tell_health(server, &problem);
    pthread_mutex_lock(&server->lock);
    server->opening = NULL;
    server->attempts++;
    if (rc < 0) {
        note_failure(server, &problem);
        server->answered = server->asked; /* with this problem */
    } else {
        server->peer = peer;
        server->era = ramet_peer_era(peer);
        server->bad = server->suspect = server->forgotten = false;
        server->connected_us = ramet_now_us();
        server->list_wanted = true;
        server->next_list_us = 0;
    }
    pthread_cond_broadcast(&server->wake);
    if (rc == 0)
        return;
    pthread_mutex_unlock(&server->lock);
    ramet_peer_close(peer);
    pthread_mutex_lock(&server->lock);
}

/* Under the lock, which is dropped meanwhile: ends the connection, and everything on it. */
static void disconnect(struct ramet_tools_server *server, const char *why)
{
    struct ramet_peer *peer = server->peer;
    char said[400];
    server->peer = NULL;
    ramet_peer_break(peer, why);
    while (server->users)
        pthread_cond_wait(&server->wake, &server->lock);
    pthread_mutex_unlock(&server->lock);
    ramet_peer_describe(peer, said, sizeof said);
    ramet_peer_close(peer);
    pthread_mutex_lock(&server->lock);
    if (server->stopping || server->forgotten)
        return;
    struct ramet_error problem = {0};
    ramet_error_set(&problem, RAMET_UNAVAILABLE, "%s", *said ? said : why);
    note_failure(server, &problem);
    pthread_mutex_unlock(&server->lock);
    tell_health(server, &problem);
    pthread_mutex_lock(&server->lock);
}

/* ---- the keeper: listing ---- */

/* Listing is never what a server keeps us busy with: a tenth of the time at most. */
static uint64_t next_listing(uint64_t began_us)
{
    uint64_t now_us = ramet_now_us(), gap_us = (now_us - began_us) * 9;
    return now_us + (gap_us > list_gap_ms * UINT64_C(1000) ? gap_us : list_gap_ms * UINT64_C(1000));
}

/* When to list again unasked; 0: never. */
static uint64_t expiry(int rc, uint64_t ttl_ms)
{
    if (rc < 0)
        return ramet_deadline_us(relist_ms);
    if (!ttl_ms)
        return 0;
    return ramet_deadline_us(ttl_ms > ttl_min_ms && ttl_ms < UINT32_MAX ? (unsigned)ttl_ms : ttl_min_ms);
}

/* Under the lock. A server that forgot our session is connected to anew at once. */
static void note_forgotten(struct ramet_tools_server *server, int rc)
{
    server->bad |= rc == -RAMET_CONFLICT;
    server->forgotten |= rc == -RAMET_CONFLICT;
}

/* Under the lock, which is dropped meanwhile. */
static void list(struct ramet_tools_server *server)
{
    struct ramet_peer *peer = server->peer;
    struct ramet_json *doc = NULL;
    struct ramet_error problem = {0};
    uint64_t ttl_ms = 0, asked = server->asked, began_us = ramet_now_us();
    bool changed = false;
    server->list_wanted = false;
    pthread_mutex_unlock(&server->lock);
    int rc = ramet_peer_list(peer, &doc, &ttl_ms, &problem);
    if (rc == 0)
        rc = ramet_tools_catalogue_put(server->catalogue, doc, &changed, &problem);
    if (rc == 0 && changed)
        ramet_info("tools: server \"%s\" lists something new", server->name);
    tell_health(server, rc < 0 ? &problem : NULL);
    pthread_mutex_lock(&server->lock);
    server->problem = problem;
    if (rc == 0)
        server->problem.code = 0;
    server->answered = asked;
    server->next_list_us = next_listing(began_us);
    server->expires_us = expiry(rc, ttl_ms);
    server->suspect |= rc == -RAMET_TIMEOUT;
    note_forgotten(server, rc);
    pthread_cond_broadcast(&server->wake);
}

/* Under the lock, which is dropped meanwhile: a call timed out. Does it live? */
static void examine(struct ramet_tools_server *server)
{
    struct ramet_peer *peer = server->peer;
    server->suspect = false;
    pthread_mutex_unlock(&server->lock);
    int rc = ramet_peer_ping(peer, ramet_deadline_us(ping_ms), NULL);
    pthread_mutex_lock(&server->lock);
    server->bad |= rc < 0;
}

/* Under the lock, connected. */
static void attend(struct ramet_tools_server *server)
{
    bool listing = server->list_wanted || server->asked > server->answered ||
                   (server->expires_us && !ramet_left_us(server->expires_us));
    if (server->bad || !ramet_peer_alive(server->peer)) {
        disconnect(server, server->bad ? "it did not answer and was ended" : "it ended");
    } else if (server->suspect) {
        examine(server);
    } else if (listing && (server->asked > server->answered || !ramet_left_us(server->next_list_us))) {
        bool storm = server->next_list_us != 0;
        if (storm && server->list_wanted)
            await_change(server, ramet_deadline_us(settle_ms));
        if (server->peer && !server->stopping)
            list(server);
    } else {
        uint64_t until_us = ramet_deadline_us(backoff_max_ms);
        if (listing)
            until_us = server->next_list_us;
        else if (server->expires_us && server->expires_us < until_us)
            until_us = server->expires_us;
        await_change(server, until_us);
    }
}

static void *keep(void *arg)
{
    struct ramet_tools_server *server = arg;
    pthread_mutex_lock(&server->lock);
    while (!server->stopping) {
        /* Who waits for it need not wait for a long pause to end, but starting it all the time helps nobody. */
        uint64_t hurried_us = server->failed_us ? server->failed_us + backoff_min_ms * UINT64_C(1000) : 0;
        bool wanted = server->call_waits || server->asked > server->answered;
        if (server->peer)
            attend(server);
        else if (!ramet_left_us(server->next_attempt_us) || (wanted && !ramet_left_us(hurried_us)))
            try_to_connect(server);
        else
            await_change(server, wanted ? hurried_us : server->next_attempt_us);
    }
    if (server->peer)
        disconnect(server, "it is being let go");
    pthread_cond_broadcast(&server->wake);
    pthread_mutex_unlock(&server->lock);
    ramet_tools_server_unref(server);
    return NULL;
}

/* ---- life ---- */

static void init_locks(struct ramet_tools_server *server)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&server->lock, NULL);
    pthread_cond_init(&server->wake, &attr);
    pthread_condattr_destroy(&attr);
}

/* What the protocol was last time, from its newest document. */
static enum ramet_peer_era era_before(struct ramet_tools_catalogue *catalogue, const char *name)
{
    _cleanup_(ramet_tools_doc_cleanup) struct ramet_tools_doc *doc = ramet_tools_catalogue_current(catalogue, name);
    const char *version = doc ? ramet_json_str(ramet_tools_doc_json(doc), "protocolVersion", "") : "";
    if (!*version)
        return RAMET_PEER_ERA_UNKNOWN;
    return strcmp(version, RAMET_MCP_MODERN) == 0 ? RAMET_PEER_ERA_MODERN : RAMET_PEER_ERA_LEGACY;
}

int ramet_tools_server_new(const char *name, struct ramet_tools_launch *launch, struct ramet_tools_catalogue *catalogue,
                           struct ramet_tools_server **ret, struct ramet_error *err)
{
    struct ramet_tools_server *server = calloc(1, sizeof *server);
    if (!server || !(server->name = strdup(name))) {
        free(server);
        ramet_tools_launch_free(launch);
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for server \"%s\"", name);
    }
    server->launch = *launch;
    *launch = (struct ramet_tools_launch){0};
    server->catalogue = catalogue;
    server->era = era_before(catalogue, name);
    atomic_init(&server->refs, 2); /* the caller's and the keeper's */
    init_locks(server);
    int failure = server->launch.disabled ? 0 : pthread_create(&server->keeper, NULL, keep, server);
    if (failure || server->launch.disabled)
        ramet_tools_server_unref(server);
    if (server->launch.disabled)
        ramet_tools_catalogue_set_health(catalogue, name, "it is disabled in its configuration");
    if (failure) {
        ramet_tools_server_unref(server);
        return ramet_error_os(err, failure, "cannot start a thread for server \"%s\"", name);
    }
    *ret = server;
    return 0;
}

void ramet_tools_server_stop(struct ramet_tools_server *server)
{
    pthread_mutex_lock(&server->lock);
    server->stopping = true;
    if (server->peer)
        ramet_peer_break(server->peer, "it is being let go");
    if (server->opening)
        ramet_peer_break(server->opening, "it is being let go");
    pthread_cond_broadcast(&server->wake);
    pthread_mutex_unlock(&server->lock);
}

void ramet_tools_server_join(struct ramet_tools_server *server)
{
    if (!server->launch.disabled)
        pthread_join(server->keeper, NULL);
}

/* ---- what others ask ---- */

void ramet_tools_server_show(struct ramet_tools_server *server, struct ramet_json *to)
{
    ramet_tools_launch_show(&server->launch, to);
    pthread_mutex_lock(&server->lock);
    bool known = server->attempts > 0;
    ramet_json_set_string(to, "state",
                          server->launch.disabled ? "disabled"
                          : server->peer          ? "up"
                          : known                 ? "down"
                                                  : "starting");
    ramet_json_set_string(to, "problem", server->problem.code ? server->problem.msg : "");
    ramet_json_set_u64(to, "starts", server->starts);
    ramet_json_set_i64(to, "pid", server->peer ? ramet_peer_pid(server->peer) : 0);
    pthread_mutex_unlock(&server->lock);
}

static int disabled(const struct ramet_tools_server *server, struct ramet_error *err)
{
    ramet_error_set(err, RAMET_UNAVAILABLE, "server \"%s\" is disabled in its configuration", server->name);
    return ramet_error_hint(err, "add it again with 'ramet tools add --replace'");
}

/* Prefixes with the server's name and takes secrets out. */
static int explain(struct ramet_tools_server *server, struct ramet_error *err)
{
    ramet_redact_error(&server->launch.secrets, err);
    return ramet_error_prefix(err, "server \"%s\"", server->name);
}

int ramet_tools_server_refresh(struct ramet_tools_server *server, uint64_t deadline_us, struct ramet_error *err)
{
    if (server->launch.disabled)
        return disabled(server, err);
    int rc = 0;
    pthread_mutex_lock(&server->lock);
    uint64_t mine = ++server->asked;
    pthread_cond_broadcast(&server->wake);
    while (server->answered < mine && !server->stopping && ramet_left_us(deadline_us))
        await_change(server, deadline_us);
    if (server->answered < mine)
        rc = ramet_error_set(err, server->stopping ? RAMET_UNAVAILABLE : RAMET_TIMEOUT, "it was not listed in time");
    else if (server->problem.code) {
        rc = -server->problem.code;
        if (err)
            *err = server->problem;
    }
    pthread_mutex_unlock(&server->lock);
    return rc < 0 ? explain(server, err) : 0;
}

/* Under the lock: waits until there is a connection, or an attempt at one has failed. */
static int await_connection(struct ramet_tools_server *server, uint64_t deadline_us, struct ramet_error *err)
{
    uint64_t attempts = server->attempts;
    while ((!server->peer || server->bad) && !server->stopping && server->attempts == attempts &&
           ramet_left_us(deadline_us)) {
        server->call_waits = true;
        pthread_cond_broadcast(&server->wake);
        await_change(server, deadline_us);
    }
    if (server->stopping)
        return ramet_error_set(err, RAMET_UNAVAILABLE, "it is being let go");
    if (server->peer)
        return 0;
    if (server->attempts == attempts)
        return ramet_error_set(err, RAMET_TIMEOUT, "it did not start in time");
    if (err)
        *err = server->problem;
    return -server->problem.code;
}

static int call_once(struct ramet_tools_server *server, const char *tool, const struct ramet_json *definition,
                     const struct ramet_json *arguments, uint64_t deadline_us, struct ramet_rpc_answer *ret,
                     struct ramet_error *err)
{
    pthread_mutex_lock(&server->lock);
    int rc = await_connection(server, deadline_us, err);
    struct ramet_peer *peer = server->peer;
    server->users += rc == 0;
    pthread_mutex_unlock(&server->lock);
    if (rc < 0)
        return rc;
    rc = ramet_peer_call(peer, tool, definition, arguments, deadline_us, ret, err);
    if (rc == -RAMET_UNAVAILABLE) {
        char said[300];
        ramet_peer_describe(peer, said, sizeof said);
        if (err && *said)
            ramet_error_set(err, RAMET_UNAVAILABLE, "%s", said);
    }
    pthread_mutex_lock(&server->lock);
    if (server->peer == peer) {
        server->suspect |= rc == -RAMET_TIMEOUT;
        note_forgotten(server, rc);
    }
    server->users--;
    pthread_cond_broadcast(&server->wake);
    pthread_mutex_unlock(&server->lock);
    return rc;
}

/* The answer without secrets. */
static int clean(struct ramet_tools_server *server, struct ramet_rpc_answer *answer, struct ramet_error *err)
{
    struct ramet_span *part = answer->result.at ? &answer->result : &answer->error;
    if (!ramet_secrets_in(&server->launch.secrets, part->at, part->size))
        return 0;
    char *text = ramet_redact(&server->launch.secrets, part->at, part->size, false);
    if (!text)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for its answer");
    *part = (struct ramet_span){text, strlen(text)};
    free(answer->text);
    answer->text = text;
    return 0;
}

int ramet_tools_server_call(struct ramet_tools_server *server, const char *tool, const struct ramet_json *definition,
                            const struct ramet_json *arguments, uint64_t deadline_us, struct ramet_rpc_answer *ret,
                            struct ramet_error *err)
{
    struct ramet_rpc_answer answer = {0};
    if (server->launch.disabled)
        return disabled(server, err);
    int rc = -RAMET_CONFLICT;
    for (int i = 0; i < call_tries && rc == -RAMET_CONFLICT; i++)
        rc = call_once(server, tool, definition, arguments, deadline_us, &answer, err);
    if (rc == 0)
        rc = clean(server, &answer, err);
    if (rc < 0) {
        ramet_rpc_answer_free(&answer);
        return explain(server, err);
    }
    *ret = answer;
    return 0;
}
