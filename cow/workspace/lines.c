/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The difference is found by E. W. Myers' greedy algorithm (1986) in its linear-space form:
 * two searches from both ends meet on a middle snake, and what lies before and behind it is
 * solved likewise. A search that has gone on for long settles for where it got to, so that
 * texts with nothing in common cost O(n) steps of bounded width.
 */
#include "lines.h"

#include "base/cleanup.h"

#include <string.h>

enum { most_steps = 1024 }; /* of one search */

bool ramet_text_is(const char *text, size_t size) { return size <= (16u << 20) && !memchr(text, '\0', size); }

static uint32_t hash_of(const char *text, size_t size)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (uint8_t)text[i]) * 16777619u;
    return hash;
}

int ramet_lines_split(const char *text, size_t size, struct ramet_lines *ret, struct ramet_error *err)
{
    size_t count = 0, at = 0;
    for (size_t i = 0; i < size; i++)
        count += text[i] == '\n' || i + 1 == size;
    struct ramet_line *lines = calloc(count + 1, sizeof *lines);
    if (!lines)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the lines of a text");
    for (size_t i = 0; i < count; i++) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t length = end ? (size_t)(end - (text + at)) + 1 : size - at;
        lines[i] = (struct ramet_line){text + at, (uint32_t)length, hash_of(text + at, length)};
        at += length;
    }
    *ret = (struct ramet_lines){lines, count};
    return 0;
}

void ramet_lines_free(struct ramet_lines *lines) { free(lines->items); }

bool ramet_line_equal(const struct ramet_line *a, const struct ramet_line *b)
{
    return a->hash == b->hash && a->size == b->size && memcmp(a->text, b->text, a->size) == 0;
}

/* --- difference --- */

struct search {
    const struct ramet_line *a, *b;
    ptrdiff_t *forward, *backward; /* how far each diagonal got, by diagonal + offset */
    ptrdiff_t offset;
    bool *a_changed, *b_changed;
};

/* Where a part splits: x and y of a point on a shortest path. */
struct split {
    ptrdiff_t x, y;
};

/* A diagonal that has left the texts; stays below 0 whatever is added. */
static const ptrdiff_t nowhere = PTRDIFF_MIN / 2;

static bool same(const struct search *s, ptrdiff_t x, ptrdiff_t y) { return ramet_line_equal(&s->a[x], &s->b[y]); }

/* One more step of the search from the start; true when it met the other one. */
static bool go_forward(const struct search *s, const ptrdiff_t part[4], ptrdiff_t d, bool odd, struct split *ret)
{
    const ptrdiff_t a0 = part[0], a1 = part[1], b0 = part[2], b1 = part[3];
    const ptrdiff_t delta = (a1 - a0) - (b1 - b0);
    ptrdiff_t *v = s->forward + s->offset, *back = s->backward + s->offset;
    for (ptrdiff_t k = -d; k <= d; k += 2) {
        ptrdiff_t x = k == -d || (k != d && v[k - 1] < v[k + 1]) ? v[k + 1] : v[k - 1] + 1, y = x - k;
        if (x < 0 || y < 0 || x > a1 - a0 || y > b1 - b0) {
            v[k] = nowhere;
            continue;
        }
        while (x < a1 - a0 && y < b1 - b0 && same(s, a0 + x, b0 + y))
            x++, y++;
        v[k] = x;
        if (odd && k - delta >= -(d - 1) && k - delta <= d - 1 && x + back[k - delta] >= a1 - a0) {
            *ret = (struct split){x, y};
            return true;
        }
    }
    return false;
}

static bool go_backward(const struct search *s, const ptrdiff_t part[4], ptrdiff_t d, bool odd, struct split *ret)
{
    const ptrdiff_t a0 = part[0], a1 = part[1], b0 = part[2], b1 = part[3];
    const ptrdiff_t n = a1 - a0, m = b1 - b0, delta = n - m;
    ptrdiff_t *v = s->backward + s->offset, *ahead = s->forward + s->offset;
    for (ptrdiff_t k = -d; k <= d; k += 2) {
        /* Mirrored: x counts lines from the end, diagonal k is -k - delta of the forward search. */
        ptrdiff_t x = k == -d || (k != d && v[-(k - 1)] < v[-(k + 1)]) ? v[-(k + 1)] : v[-(k - 1)] + 1, y = x - k;
        if (x < 0 || y < 0 || x > n || y > m) {
            v[-k] = nowhere;
            continue;
        }
        while (x < n && y < m && same(s, a1 - 1 - x, b1 - 1 - y))
            x++, y++;
        v[-k] = x;
        ptrdiff_t forward_k = delta - k;
        if (!odd && forward_k >= -d && forward_k <= d && x + ahead[forward_k] >= n) {
            *ret = (struct split){n - x, m - y};
            return true;
        }
    }
    return false;
}

/* The farthest point that the forward search reached. */
static struct split farthest(const struct search *s, const ptrdiff_t part[4], ptrdiff_t d)
{
    const ptrdiff_t n = part[1] - part[0], m = part[3] - part[2];
    const ptrdiff_t *v = s->forward + s->offset;
    struct split best = {0, 0};
    for (ptrdiff_t k = -d; k <= d; k += 2) {
        ptrdiff_t x = v[k] < n ? v[k] : n, y = x - k;
        if (y > m)
            y = m, x = y + k;
        if (x >= 0 && y >= 0 && x + y > best.x + best.y)
            best = (struct split){x, y};
    }
    return best;
}

static struct split find_split(const struct search *s, const ptrdiff_t part[4])
{
    const ptrdiff_t delta = (part[1] - part[0]) - (part[3] - part[2]);
    const ptrdiff_t most = (part[1] - part[0]) + (part[3] - part[2]);
    struct split split;
    s->forward[s->offset + 1] = 0;
    s->backward[s->offset - 1] = 0;
    for (ptrdiff_t d = 0; d <= most && d <= most_steps; d++)
        if (go_forward(s, part, d, delta & 1, &split) || go_backward(s, part, d, delta & 1, &split))
            return split;
    return farthest(s, part, most_steps);
}

static void mark(bool *changed, ptrdiff_t from, ptrdiff_t to)
{
    for (; from < to; from++)
        changed[from] = true;
}

/* Lines [part[0], part[1]) of a and [part[2], part[3]) of b. */
static void solve(const struct search *s, ptrdiff_t a0, ptrdiff_t a1, ptrdiff_t b0, ptrdiff_t b1)
{
    for (;;) {
        while (a0 < a1 && b0 < b1 && same(s, a0, b0))
            a0++, b0++;
        while (a0 < a1 && b0 < b1 && same(s, a1 - 1, b1 - 1))
            a1--, b1--;
        if (a0 == a1 || b0 == b1)
            break;
        const ptrdiff_t part[4] = {a0, a1, b0, b1};
        struct split split = find_split(s, part);
        if ((split.x == 0 && split.y == 0) || (split.x == a1 - a0 && split.y == b1 - b0))
            break;
        solve(s, a0, a0 + split.x, b0, b0 + split.y);
        a0 += split.x, b0 += split.y;
    }
    mark(s->a_changed, a0, a1);
    mark(s->b_changed, b0, b1);
}

static int collect(const struct search *s, size_t a_count, size_t b_count, struct ramet_hunks *ret,
                   struct ramet_error *err)
{
    struct ramet_hunks hunks = {0};
    size_t capacity = 0, a = 0, b = 0;
    while (a < a_count || b < b_count) {
        struct ramet_hunk hunk = {a, 0, b, 0};
        while (a < a_count && s->a_changed[a])
            a++;
        while (b < b_count && s->b_changed[b])
            b++;
        hunk.a_count = a - hunk.a;
        hunk.b_count = b - hunk.b;
        if (hunk.a_count + hunk.b_count == 0) {
            a++, b++;
            continue;
        }
        if (hunks.count == capacity) {
            capacity = capacity ? capacity * 2 : 16;
            struct ramet_hunk *grown = reallocarray(hunks.items, capacity, sizeof *grown);
            if (!grown) {
                free(hunks.items);
                return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to compare texts");
            }
            hunks.items = grown;
        }
        hunks.items[hunks.count++] = hunk;
    }
    *ret = hunks;
    return 0;
}

int ramet_lines_diff(const struct ramet_lines *a, const struct ramet_lines *b, struct ramet_hunks *ret,
                     struct ramet_error *err)
{
    size_t width = 2 * (a->count + b->count < most_steps ? a->count + b->count : most_steps) + 8;
    _autofree_ ptrdiff_t *forward = calloc(width, sizeof *forward), *backward = calloc(width, sizeof *backward);
    _autofree_ bool *a_changed = calloc(a->count + 1, 1), *b_changed = calloc(b->count + 1, 1);
    if (!forward || !backward || !a_changed || !b_changed)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory to compare texts");
    struct search s = {a->items, b->items, forward, backward, (ptrdiff_t)width / 2, a_changed, b_changed};
    solve(&s, 0, (ptrdiff_t)a->count, 0, (ptrdiff_t)b->count);
    return collect(&s, a->count, b->count, ret, err);
}

/* --- merging --- */

struct side {
    const struct ramet_lines *lines;
    struct ramet_hunks hunks;
    size_t next;     /* hunk */
    ptrdiff_t shift; /* of lines behind the hunks that were passed, against the base */
};

static void put_lines(struct ramet_buf *out, const struct ramet_lines *lines, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        ramet_buf_put(out, lines->items[i].text, lines->items[i].size);
}

/* Takes into a region of the base that ends at *to all hunks of this side that touch it. True when it grew. */
static bool widen(const struct side *side, size_t *next, size_t *to)
{
    bool grew = false;
    while (*next < side->hunks.count && side->hunks.items[*next].a <= *to) {
        const struct ramet_hunk *hunk = &side->hunks.items[(*next)++];
        size_t end = hunk->a + hunk->a_count;
        if (end > *to)
            *to = end;
        grew = true;
    }
    return grew;
}

/* How a side has lines [from, to) of the base; passes the hunks up to `next`. */
static void region(struct side *side, size_t next, size_t from, size_t to, size_t *ret_from, size_t *ret_to)
{
    *ret_from = (size_t)((ptrdiff_t)from + side->shift);
    for (; side->next < next; side->next++)
        side->shift +=
            (ptrdiff_t)side->hunks.items[side->next].b_count - (ptrdiff_t)side->hunks.items[side->next].a_count;
    *ret_to = (size_t)((ptrdiff_t)to + side->shift);
}

static bool equal_lines(const struct ramet_lines *a, size_t a_from, size_t a_to, const struct ramet_lines *b,
                        size_t b_from, size_t b_to)
{
    if (a_to - a_from != b_to - b_from)
        return false;
    for (size_t i = 0; i < a_to - a_from; i++)
        if (!ramet_line_equal(&a->items[a_from + i], &b->items[b_from + i]))
            return false;
    return true;
}

/* One region of the base that a side changed, and what both made of it. False: a conflict. */
static bool merge_region(struct side *ours, struct side *theirs, size_t *at, struct ramet_buf *out,
                         const struct ramet_lines *base)
{
    size_t a = ours->next < ours->hunks.count ? ours->hunks.items[ours->next].a : SIZE_MAX;
    size_t b = theirs->next < theirs->hunks.count ? theirs->hunks.items[theirs->next].a : SIZE_MAX;
    size_t from = a < b ? a : b, to = from, ours_next = ours->next, theirs_next = theirs->next;
    for (bool wider = true; wider;) {
        wider = widen(ours, &ours_next, &to);
        wider = widen(theirs, &theirs_next, &to) || wider;
    }
    bool in_ours = ours_next > ours->next, in_theirs = theirs_next > theirs->next;
    size_t o[2], t[2];
    put_lines(out, base, *at, from);
    region(ours, ours_next, from, to, &o[0], &o[1]);
    region(theirs, theirs_next, from, to, &t[0], &t[1]);
    *at = to;
    if (in_ours && in_theirs && !equal_lines(ours->lines, o[0], o[1], theirs->lines, t[0], t[1]))
        return false;
    put_lines(out, in_ours ? ours->lines : theirs->lines, in_ours ? o[0] : t[0], in_ours ? o[1] : t[1]);
    return true;
}

int ramet_lines_merge(const struct ramet_lines *base, const struct ramet_lines *ours, const struct ramet_lines *theirs,
                      struct ramet_buf *merged, bool *ret_clean, struct ramet_error *err)
{
    struct side a = {.lines = ours}, b = {.lines = theirs};
    size_t at = 0;
    bool clean = true;
    int r = ramet_lines_diff(base, ours, &a.hunks, err);
    if (r == 0)
        r = ramet_lines_diff(base, theirs, &b.hunks, err);
    while (r == 0 && clean && (a.next < a.hunks.count || b.next < b.hunks.count))
        clean = merge_region(&a, &b, &at, merged, base);
    if (r == 0 && clean)
        put_lines(merged, base, at, base->count);
    free(a.hunks.items);
    free(b.hunks.items);
    if (r == 0 && merged->failed)
        r = ramet_error_set(err, RAMET_NO_MEMORY, "no memory to merge texts");
    if (r == 0)
        *ret_clean = clean;
    return r;
}
