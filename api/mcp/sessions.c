/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locking: the table's lock guards the list and `used`; a session's own guards its
 * level and questions. The table's may be held when a session's is taken.
 */
#include "mcp/sessions.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "json.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { QUESTIONS_MAX = 8, LEVEL_INFO = 1 };

struct ramet_mcp_session {
    atomic_uint refs;
    char id[RAMET_MCP_SESSION_SIZE];
    char version[16], client[128];
    struct ramet_principal principal;
    struct ramet_json *initialize;
    struct ramet_mcp_session *next; /* the table's */
    uint64_t used;                  /* the table's: when it was last found */
    pthread_mutex_t lock;
    pthread_cond_t answered;
    int level;
    bool ended;
    uint64_t asked;
    struct question {
        uint64_t number; /* 0: free */
        bool done;
        struct ramet_json *result; /* NULL with done: an error */
    } questions[QUESTIONS_MAX];
};

struct ramet_mcp_sessions {
    pthread_mutex_t lock;
    struct ramet_mcp_session *first;
    size_t count;
    uint64_t clock;
};

struct ramet_mcp_sessions *ramet_mcp_sessions_new(void)
{
    struct ramet_mcp_sessions *sessions = calloc(1, sizeof *sessions);
    if (sessions)
        pthread_mutex_init(&sessions->lock, NULL);
    return sessions;
}

void ramet_mcp_session_unref(struct ramet_mcp_session *session)
{
    if (!session || atomic_fetch_sub(&session->refs, 1) != 1)
        return;
    for (size_t i = 0; i < QUESTIONS_MAX; i++)
        ramet_json_free(session->questions[i].result);
    ramet_json_free(session->initialize);
    pthread_cond_destroy(&session->answered);
    pthread_mutex_destroy(&session->lock);
    free(session);
}

static void end_session(struct ramet_mcp_session *session)
{
    pthread_mutex_lock(&session->lock);
    session->ended = true;
    pthread_cond_broadcast(&session->answered);
    pthread_mutex_unlock(&session->lock);
}

void ramet_mcp_sessions_free(struct ramet_mcp_sessions *sessions)
{
    if (!sessions)
        return;
    while (sessions->first) {
        struct ramet_mcp_session *session = sessions->first;
        sessions->first = session->next;
        end_session(session);
        ramet_mcp_session_unref(session);
    }
    pthread_mutex_destroy(&sessions->lock);
    free(sessions);
}

/* Under the table's lock: takes it out, with the table's reference. */
static struct ramet_mcp_session *unlink_session(struct ramet_mcp_sessions *sessions, struct ramet_mcp_session *session)
{
    struct ramet_mcp_session **at = &sessions->first;
    while (*at && *at != session)
        at = &(*at)->next;
    if (!*at)
        return NULL;
    *at = session->next;
    sessions->count--;
    return session;
}

static struct ramet_mcp_session *quietest(struct ramet_mcp_sessions *sessions)
{
    struct ramet_mcp_session *found = sessions->first;
    for (struct ramet_mcp_session *s = sessions->first; s; s = s->next)
        if (s->used < found->used)
            found = s;
    return found;
}

static void make_id(char ret[static RAMET_MCP_SESSION_SIZE])
{
    unsigned char bytes[16];
    ramet_random(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(ret + 2 * i, 3, "%02x", bytes[i]);
}

struct ramet_mcp_session *ramet_mcp_session_new(struct ramet_mcp_sessions *sessions,
                                                const struct ramet_principal *principal, const char *version,
                                                const struct ramet_json *initialize)
{
    struct ramet_mcp_session *session = calloc(1, sizeof *session), *removed = NULL;
    pthread_condattr_t attr;
    if (!session)
        return NULL;
    const struct ramet_json *info = ramet_json_get(initialize, "clientInfo");
    atomic_init(&session->refs, 2); /* the table's and the caller's */
    make_id(session->id);
    snprintf(session->version, sizeof session->version, "%s", version);
    snprintf(session->client, sizeof session->client, "%s/%s", ramet_json_str(info, "name", "unknown"),
             ramet_json_str(info, "version", ""));
    session->principal = *principal;
    session->initialize = initialize ? ramet_json_copy(initialize) : NULL;
    session->level = LEVEL_INFO;
    pthread_mutex_init(&session->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&session->answered, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_lock(&sessions->lock);
    if (sessions->count == RAMET_MCP_SESSIONS_MAX)
        removed = unlink_session(sessions, quietest(sessions));
    session->used = ++sessions->clock;
    session->next = sessions->first;
    sessions->first = session;
    sessions->count++;
    pthread_mutex_unlock(&sessions->lock);
    if (removed)
        end_session(removed);
    ramet_mcp_session_unref(removed);
    return session;
}

struct ramet_mcp_session *ramet_mcp_session_find(struct ramet_mcp_sessions *sessions, const char *id,
                                                 const struct ramet_principal *principal)
{
    struct ramet_mcp_session *found = NULL;
    pthread_mutex_lock(&sessions->lock);
    for (struct ramet_mcp_session *s = sessions->first; s && !found; s = s->next)
        if (strcmp(s->id, id) == 0 && ramet_principal_equal(&s->principal, principal)) {
            found = s;
            atomic_fetch_add(&s->refs, 1);
            s->used = ++sessions->clock;
        }
    pthread_mutex_unlock(&sessions->lock);
    return found;
}

void ramet_mcp_session_remove(struct ramet_mcp_sessions *sessions, struct ramet_mcp_session *session)
{
    pthread_mutex_lock(&sessions->lock);
    struct ramet_mcp_session *removed = unlink_session(sessions, session);
    pthread_mutex_unlock(&sessions->lock);
    if (removed)
        end_session(removed);
    ramet_mcp_session_unref(removed);
}

const char *ramet_mcp_session_id(const struct ramet_mcp_session *session) { return session->id; }
const char *ramet_mcp_session_version(const struct ramet_mcp_session *session) { return session->version; }
const char *ramet_mcp_session_client(const struct ramet_mcp_session *session) { return session->client; }

const struct ramet_json *ramet_mcp_session_capabilities(const struct ramet_mcp_session *session)
{
    return ramet_json_get(session->initialize, "capabilities");
}

void ramet_mcp_session_set_level(struct ramet_mcp_session *session, int level)
{
    pthread_mutex_lock(&session->lock);
    session->level = level;
    pthread_mutex_unlock(&session->lock);
}

int ramet_mcp_session_level(struct ramet_mcp_session *session)
{
    pthread_mutex_lock(&session->lock);
    int level = session->level;
    pthread_mutex_unlock(&session->lock);
    return level;
}

/* ---- questions ---- */

static struct question *find_question(struct ramet_mcp_session *session, uint64_t number)
{
    for (size_t i = 0; i < QUESTIONS_MAX; i++)
        if (session->questions[i].number == number)
            return &session->questions[i];
    return NULL;
}

uint64_t ramet_mcp_session_question(struct ramet_mcp_session *session)
{
    pthread_mutex_lock(&session->lock);
    struct question *free_one = find_question(session, 0);
    if (free_one)
        free_one->number = ++session->asked;
    uint64_t number = free_one ? free_one->number : 0;
    pthread_mutex_unlock(&session->lock);
    return number;
}

int ramet_mcp_session_await(struct ramet_mcp_session *session, uint64_t number, unsigned timeout_ms,
                            struct ramet_json **ret, struct ramet_error *err)
{
    struct timespec until;
    int rc = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    pthread_mutex_lock(&session->lock);
    struct question *question = number ? find_question(session, number) : NULL;
    while (question && !question->done && !session->ended && rc == 0)
        rc = pthread_cond_timedwait(&session->answered, &session->lock, &until);
    if (!question)
        rc = ramet_error_set(err, RAMET_BUSY, "the client has %d questions to answer already", QUESTIONS_MAX);
    else if (question->done && question->result)
        *ret = STEAL(question->result), rc = 0;
    else if (question->done)
        rc = ramet_error_set(err, RAMET_CONFLICT, "the client answered with an error");
    else
        rc = ramet_error_set(err, session->ended ? RAMET_UNAVAILABLE : RAMET_TIMEOUT, "the client did not answer");
    if (question)
        *question = (struct question){0};
    pthread_mutex_unlock(&session->lock);
    return rc;
}

void ramet_mcp_session_response(struct ramet_mcp_session *session, const struct ramet_json *id,
                                const struct ramet_json *result)
{
    uint64_t number = 0;
    const char *text = ramet_json_string_value(id);
    if (!text || sscanf(text, "ramet-%" SCNu64, &number) != 1 || number == 0)
        return;
    pthread_mutex_lock(&session->lock);
    struct question *question = find_question(session, number);
    if (question && !question->done) {
        question->done = true;
        question->result = result ? ramet_json_copy(result) : NULL;
        pthread_cond_broadcast(&session->answered);
    }
    pthread_mutex_unlock(&session->lock);
}
