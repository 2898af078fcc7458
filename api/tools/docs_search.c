/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words are runs of letters and digits, split where case changes, in lower case and without the endings that English
 * adds; what is longer than a word's room is cut. Every pair of word and tool is one posting, sorted by word: a word of
 * a query is a binary search, and so are the words that begin with it, which count half.
 */
#include "tools/docs_search.h"

#include "base/codec.h"
#include "json.h"
#include "tools/docs_text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { word_size = 24, tool_words_max = 160, query_words_max = 16, prefixes_max = 32 };

/* How much a word counts by where it stands; lengths are counted in the same unit. */
static const float name_weight = 3, title_weight = 2, server_weight = 1.5F, text_weight = 1, argument_weight = 0.7F;
/* The usual constants of BM25 (Robertson, Zaragoza 2009); lengths count half, since descriptions are short. */
static const double saturation = 1.2, length_share = 0.5;
/* A hit that scores less than this part of the best is noise. */
static const double tail_share = 0.4;

struct posting {
    char word[word_size];
    uint32_t tool;
    float weight;
};

struct ramet_docs_search {
    struct posting *postings; /* sorted by word, then tool; each pair once */
    size_t count, capacity;
    struct tool {
        const struct ramet_docs *docs;
        const struct ramet_docs_item *item;
        float length;
    } * tools;
    size_t tool_count;
    double mean_length;
};

/* --- words --- */

static int lower(unsigned char c) { return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c; }

static bool is_letter(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c >= 0x80;
}

/* What English adds to a word: both sides of a comparison lose it, so it need not be a real stem. */
static void strip_ending(char *word)
{
    size_t length = strlen(word);
    if (length > 5 && strcmp(word + length - 3, "ing") == 0)
        word[length -= 3] = 0;
    else if (length > 4 && strcmp(word + length - 2, "ed") == 0)
        word[length -= 2] = 0;
    else if (length > 3 && word[length - 1] == 's' && word[length - 2] != 's')
        word[--length] = 0;
    if (length > 3 && word[length - 1] == 'e')
        word[length - 1] = 0;
}

/* The next word of the text, or false at its end. "%20" separates as a space does. */
static bool next_word(const char **at, char word[word_size])
{
    size_t length = 0;
    while (**at && !is_letter((unsigned char)**at)) {
        if (strncmp(*at, "%20", 3) == 0)
            *at += 2;
        (*at)++;
    }
    for (; is_letter((unsigned char)**at); (*at)++) {
        unsigned char c = (unsigned char)**at;
        unsigned char before = length ? (unsigned char)(*at)[-1] : 0;
        if (length && c >= 'A' && c <= 'Z' && !(before >= 'A' && before <= 'Z'))
            break;
        if (length < word_size - 1)
            word[length++] = (char)lower(c);
    }
    word[length] = 0;
    strip_ending(word);
    return length > 0;
}

static bool is_common(const char *word)
{
    static const char *const common[] = {"a",  "an",   "and", "by", "for", "from", "in",  "is",
                                         "it", "of",   "on",  "or", "th",  "the",  "thi", "this",
                                         "to", "with", "all", "be", "can", "that", "use", "us"};
    for (size_t i = 0; i < sizeof common / sizeof *common; i++)
        if (strcmp(word, common[i]) == 0)
            return true;
    return false;
}

/* --- the index --- */

static bool add(struct ramet_docs_search *search, size_t tool, const char *word, float weight)
{
    if (search->count == search->capacity) {
        size_t capacity = search->capacity ? 2 * search->capacity : 1024;
        struct posting *postings = reallocarray(search->postings, capacity, sizeof *postings);
        if (!postings)
            return false;
        search->postings = postings;
        search->capacity = capacity;
    }
    struct posting *posting = &search->postings[search->count++];
    memcpy(posting->word, word, word_size);
    posting->tool = (uint32_t)tool;
    posting->weight = weight;
    search->tools[tool].length += weight;
    return true;
}

static bool add_text(struct ramet_docs_search *search, size_t tool, const char *text, float weight, size_t *left)
{
    char word[word_size] = "";
    while (text && *left > 0 && next_word(&text, word)) {
        if (is_common(word))
            continue;
        (*left)--;
        if (!add(search, tool, word, weight))
            return false;
        memset(word, 0, sizeof word);
    }
    return true;
}

static bool add_tool(struct ramet_docs_search *search, const struct ramet_docs *docs,
                     const struct ramet_docs_item *item)
{
    const struct ramet_json *arguments = ramet_json_get(ramet_json_get(item->definition, "inputSchema"), "properties");
    const struct ramet_json *one;
    size_t tool = search->tool_count++, left = tool_words_max;
    search->tools[tool] = (struct tool){.docs = docs, .item = item};
    bool good = add_text(search, tool, item->name, name_weight, &left) &&
                add_text(search, tool, ramet_docs_server(docs), server_weight, &left) &&
                add_text(search, tool, ramet_json_str(item->definition, "title", NULL), title_weight, &left);
    void *iter = NULL;
    const char *name;
    while (good && ramet_json_is_object(arguments) && ramet_json_next(arguments, &iter, &name, &one))
        good = add_text(search, tool, name, argument_weight, &left);
    return good && add_text(search, tool, ramet_json_str(item->definition, "description", NULL), text_weight, &left);
}

static int by_word(const void *a, const void *b)
{
    const struct posting *x = a, *y = b;
    int order = strcmp(x->word, y->word);
    return order ? order : x->tool < y->tool ? -1 : x->tool > y->tool;
}

/* One posting for each word and tool, with all its weight. */
static void join(struct ramet_docs_search *search)
{
    size_t kept = 0;
    if (search->count)
        qsort(search->postings, search->count, sizeof *search->postings, by_word);
    for (size_t i = 0; i < search->count; i++) {
        if (kept && by_word(&search->postings[kept - 1], &search->postings[i]) == 0)
            search->postings[kept - 1].weight += search->postings[i].weight;
        else
            search->postings[kept++] = search->postings[i];
    }
    search->count = kept;
}

struct ramet_docs_search *ramet_docs_search_new(const struct ramet_docs_seen *seen, size_t count)
{
    struct ramet_docs_search *search = calloc(1, sizeof *search);
    size_t tools = 0;
    bool good = search;
    for (size_t i = 0; i < count; i++)
        tools += ramet_docs_seen_count(&seen[i], RAMET_DOCS_TOOL);
    if (good && !(search->tools = calloc(tools + 1, sizeof *search->tools)))
        good = false;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; good && j < seen[i].count; j++)
            if (seen[i].items[j]->kind == RAMET_DOCS_TOOL)
                good = add_tool(search, seen[i].docs, seen[i].items[j]);
    if (!good) {
        ramet_docs_search_free(search);
        return NULL;
    }
    join(search);
    for (size_t i = 0; i < search->tool_count; i++)
        search->mean_length += search->tools[i].length / (double)search->tool_count;
    return search;
}

void ramet_docs_search_free(struct ramet_docs_search *search)
{
    if (!search)
        return;
    free(search->postings);
    free(search->tools);
    free(search);
}

/* --- searching --- */

static size_t first_not_before(const struct ramet_docs_search *search, const char *word)
{
    size_t low = 0, high = search->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(search->postings[middle].word, word) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Adds to the tools' scores what the postings of one word give; where it ends. */
static size_t score_word(const struct ramet_docs_search *search, size_t from, double share, double *scores,
                         uint32_t *matched, uint32_t bit)
{
    size_t end = from;
    while (end < search->count && strcmp(search->postings[end].word, search->postings[from].word) == 0)
        end++;
    double with = (double)(end - from), all = (double)search->tool_count;
    double rare = log(1 + (all - with + 0.5) / (with + 0.5));
    for (size_t i = from; i < end; i++) {
        const struct posting *posting = &search->postings[i];
        double length = search->tools[posting->tool].length / search->mean_length;
        double norm = saturation * (1 - length_share + length_share * length);
        scores[posting->tool] += share * rare * posting->weight * (saturation + 1) / (posting->weight + norm);
        matched[posting->tool] |= bit;
    }
    return end;
}

static void score_query(const struct ramet_docs_search *search, const char *query, double *scores, uint32_t *matched,
                        unsigned *ret_words)
{
    char word[word_size];
    for (*ret_words = 0; *ret_words < query_words_max && next_word(&query, word);) {
        if (is_common(word))
            continue;
        uint32_t bit = UINT32_C(1) << (*ret_words)++;
        size_t length = strlen(word), at = first_not_before(search, word);
        for (unsigned n = 0; n < prefixes_max && at < search->count; n++) {
            bool same = strcmp(search->postings[at].word, word) == 0;
            if (!same && (length < 3 || strncmp(search->postings[at].word, word, length) != 0))
                break;
            at = score_word(search, at, same ? 1 : 0.5, scores, matched, bit);
        }
    }
}

static int by_score(const void *a, const void *b)
{
    const struct ramet_docs_hit *x = a, *y = b;
    return x->score > y->score ? -1 : x->score < y->score ? 1 : strcmp(x->item->file, y->item->file);
}

size_t ramet_docs_search_run(const struct ramet_docs_search *search, const char *query, struct ramet_docs_hit *ret,
                             size_t max)
{
    double *scores = calloc(search->tool_count + 1, sizeof *scores);
    uint32_t *matched = calloc(search->tool_count + 1, sizeof *matched);
    struct ramet_docs_hit *all = calloc(search->tool_count + 1, sizeof *all);
    size_t count = 0, kept = 0;
    unsigned words = 0;
    if (scores && matched && all)
        score_query(search, query, scores, matched, &words);
    for (size_t i = 0; words && i < search->tool_count; i++)
        if (matched[i]) /* one that has all words goes before one that has one of them often */
            all[count++] = (struct ramet_docs_hit){search->tools[i].docs, search->tools[i].item,
                                                   scores[i] * __builtin_popcount(matched[i]) / words};
    if (count)
        qsort(all, count, sizeof *all, by_score);
    while (kept < count && kept < max && all[kept].score >= tail_share * all[0].score) {
        ret[kept] = all[kept];
        kept++;
    }
    free(scores);
    free(matched);
    free(all);
    return kept;
}

void ramet_docs_put_hits(struct ramet_buf *out, const struct ramet_docs_hit *hits, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *title = ramet_json_str(hits[i].item->definition, "title", "");
        docs_put(out, ramet_docs_file(hits[i].docs));
        docs_put(out, "/");
        docs_put(out, hits[i].item->file);
        docs_put(out, ": ");
        docs_put_summary(out, ramet_json_str(hits[i].item->definition, "description", title), 72);
        docs_put(out, "\n");
    }
    if (count == 0)
        docs_put(out, "No tool fits. Try other words, or read INDEX.\n");
}
