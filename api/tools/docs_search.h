/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding tools by words: BM25 over names, titles, descriptions and names of arguments.
 *
 * An index is of what one caller sees and of nothing else: how rare a word is tells nothing about what is hidden.
 * Immutable; any number of threads. It borrows from what was seen, which must outlive it.
 */
#ifndef RAMET_API_TOOLS_DOCS_SEARCH_H
#define RAMET_API_TOOLS_DOCS_SEARCH_H

#include "tools/docs.h"

#define RAMET_DOCS_HITS_MAX 50

struct ramet_docs_search;

struct ramet_docs_hit {
    const struct ramet_docs *docs;
    const struct ramet_docs_item *item;
    double score;
};

/* NULL when memory ran out. */
struct ramet_docs_search *ramet_docs_search_new(const struct ramet_docs_seen *seen, size_t count);
void ramet_docs_search_free(struct ramet_docs_search *search); /* NULL is a no-op */

/* The best tools for the words, best first; at most `max`, and none that fits far worse than the best. */
size_t ramet_docs_search_run(const struct ramet_docs_search *search, const char *query, struct ramet_docs_hit *ret,
                             size_t max);

/* A line a hit, as tools/search/QUERY has them. */
void ramet_docs_put_hits(struct ramet_buf *out, const struct ramet_docs_hit *hits, size_t count);

#endif
