/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/redact.h"

#include "base/cleanup.h"
#include "tools/rpc.h"

#include <string.h>

enum { secret_min = 4 };
static const char mark[] = "[redacted]";

static int add(struct ramet_secrets *secrets, const char *text, size_t size, struct ramet_error *err)
{
    size_t count = secrets->count, at = count;
    char **texts = reallocarray(secrets->texts, count + 1, sizeof *texts);
    if (texts)
        secrets->texts = texts;
    size_t *sizes = reallocarray(secrets->sizes, count + 1, sizeof *sizes);
    if (sizes)
        secrets->sizes = sizes;
    char *copy = texts && sizes ? strndup(text, size) : NULL;
    if (!copy)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a configuration");
    /* Longest first: one may be part of another. */
    for (; at > 0 && sizes[at - 1] < size; at--) {
        texts[at] = texts[at - 1];
        sizes[at] = sizes[at - 1];
    }
    texts[at] = copy;
    sizes[at] = size;
    secrets->count++;
    return 0;
}

int ramet_secrets_add(struct ramet_secrets *secrets, const char *text, struct ramet_error *err)
{
    size_t size = strlen(text);
    if (size < secret_min)
        return 0;
    _autofree_ char *quoted = ramet_rpc_quote(text);
    if (!quoted)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a configuration");
    size_t quoted_size = strlen(quoted) - 2;
    int rc = add(secrets, text, size, err);
    if (rc == 0 && (quoted_size != size || memcmp(quoted + 1, text, size) != 0))
        rc = add(secrets, quoted + 1, quoted_size, err);
    return rc;
}

void ramet_secrets_free(struct ramet_secrets *secrets)
{
    for (size_t i = 0; i < secrets->count; i++) {
        explicit_bzero(secrets->texts[i], secrets->sizes[i]);
        free(secrets->texts[i]);
    }
    free(secrets->texts);
    free(secrets->sizes);
    *secrets = (struct ramet_secrets){0};
}

bool ramet_secrets_in(const struct ramet_secrets *secrets, const char *text, size_t size)
{
    for (size_t i = 0; i < secrets->count; i++)
        if (memmem(text, size, secrets->texts[i], secrets->sizes[i]))
            return true;
    return false;
}

/* How much of `text` at its start is the end of a secret, at least secret_min bytes; 0: none. */
static size_t cut_head(const struct ramet_secrets *secrets, const char *text, size_t size)
{
    size_t longest = 0;
    for (size_t i = 0; i < secrets->count; i++)
        for (size_t n = secret_min; n < secrets->sizes[i] && n <= size; n++)
            if (n > longest && memcmp(text, secrets->texts[i] + secrets->sizes[i] - n, n) == 0)
                longest = n;
    return longest;
}

/* How much at its end is the start of one. */
static size_t cut_tail(const struct ramet_secrets *secrets, const char *text, size_t size)
{
    size_t longest = 0;
    for (size_t i = 0; i < secrets->count; i++)
        for (size_t n = secret_min; n < secrets->sizes[i] && n <= size; n++)
            if (n > longest && memcmp(text + size - n, secrets->texts[i], n) == 0)
                longest = n;
    return longest;
}

/* The secret that begins at `at`; 0: none. */
static size_t secret_at(const struct ramet_secrets *secrets, const char *at, size_t left)
{
    for (size_t i = 0; i < secrets->count; i++)
        if (secrets->sizes[i] <= left && *at == *secrets->texts[i] &&
            memcmp(at, secrets->texts[i], secrets->sizes[i]) == 0)
            return secrets->sizes[i];
    return 0;
}

char *ramet_redact(const struct ramet_secrets *secrets, const char *text, size_t size, bool excerpt)
{
    size_t head = excerpt ? cut_head(secrets, text, size) : 0;
    size_t tail = excerpt ? cut_tail(secrets, text + head, size - head) : 0;
    /* Each secret has four bytes and becomes ten. */
    size_t capacity =
        ramet_secrets_in(secrets, text, size) || head || tail ? size / secret_min * sizeof mark + 64 : size;
    char *clean = malloc(capacity + 1), *to = clean;
    if (!clean)
        return NULL;
    if (head)
        to = stpcpy(to, mark);
    const char *end = text + size - tail;
    for (const char *at = text + head; at < end;) {
        size_t secret = capacity == size ? 0 : secret_at(secrets, at, (size_t)(end - at));
        if (secret) {
            to = stpcpy(to, mark);
            at += secret;
        } else if (capacity == size) {
            to = mempcpy(to, at, (size_t)(end - at));
            at = end;
        } else {
            *to++ = *at++;
        }
    }
    if (tail)
        to = stpcpy(to, mark);
    *to = '\0';
    return clean;
}

static void redact_in_place(const struct ramet_secrets *secrets, char *text, size_t size)
{
    _autofree_ char *clean = ramet_redact(secrets, text, strlen(text), true);
    snprintf(text, size, "%s", clean ? clean : mark);
}

void ramet_redact_error(const struct ramet_secrets *secrets, struct ramet_error *err)
{
    if (!err || !err->code || !secrets->count)
        return;
    redact_in_place(secrets, err->msg, sizeof err->msg);
    redact_in_place(secrets, err->hint, sizeof err->hint);
}
