/* SPDX-License-Identifier: Apache-2.0 */
/* Diffs as text: words, sums, and patches in git's form. */
#include "base/cleanup.h"
#include "compare.h"
#include "diff.h"
#include "lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { context = 3, text_most = 16 << 20 };

void ramet_wdiff_words(unsigned what, char *buf, size_t size)
{
    static const char *const words[] = {"added", "removed", "renamed", "type", "content", "mode", "owner", "xattr"};
    size_t used = 0;
    buf[0] = '\0';
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
        if (what >> i & 1 && used < size)
            used += (size_t)snprintf(buf + used, size - used, "%s%s", used ? "," : "", words[i]);
}

/* The content of one side: text in lines, or not. */
struct side {
    char *text;
    size_t size;
    bool is_text;
    struct ramet_lines lines;
};

static void side_free(struct side *side)
{
    free(side->text);
    ramet_lines_free(&side->lines);
}

/* Nothing where there is no file or link. */
static int side_load(struct ramet_workspace *view, const struct ramet_wstat *stat, struct side *ret,
                     struct ramet_error *err)
{
    *ret = (struct side){.is_text = true};
    if (stat->ino == 0 || (!S_ISREG(stat->mode) && !S_ISLNK(stat->mode)))
        return 0;
    ret->size = stat->size;
    ret->is_text = stat->size <= text_most;
    if (!ret->is_text)
        return 0;
    int r = ramet_wview_content(view, stat->ino, text_most, &ret->text, &ret->size, err);
    if (r < 0)
        return r;
    ret->is_text = ramet_text_is(ret->text, ret->size);
    return ret->is_text ? ramet_lines_split(ret->text, ret->size, &ret->lines, err) : 0;
}

/* Both sides of an item's content, and what differs; binary: no hunks. */
struct both {
    struct side before, after;
    struct ramet_hunks hunks;
    bool binary;
};

static void both_free(struct both *both)
{
    side_free(&both->before);
    side_free(&both->after);
    free(both->hunks.items);
}

static bool has_content(const struct ramet_wdiff_item *item)
{
    return item->what & (RAMET_WDIFF_ADDED | RAMET_WDIFF_REMOVED | RAMET_WDIFF_TYPE | RAMET_WDIFF_CONTENT);
}

static int both_load(struct ramet_wdiff *diff, const struct ramet_wdiff_item *item, struct both *ret,
                     struct ramet_error *err)
{
    *ret = (struct both){0};
    if (!has_content(item))
        return 0;
    int r = side_load(diff->before, &item->before, &ret->before, err);
    if (r == 0)
        r = side_load(diff->after, &item->after, &ret->after, err);
    ret->binary = !ret->before.is_text || !ret->after.is_text;
    if (r == 0 && !ret->binary)
        r = ramet_lines_diff(&ret->before.lines, &ret->after.lines, &ret->hunks, err);
    return r;
}

/* --- sums --- */

static void count_item(const struct ramet_wdiff_item *item, const struct both *both, struct ramet_wdiff_stat *stat,
                       uint64_t *ret_added, uint64_t *ret_removed)
{
    *ret_added = *ret_removed = 0;
    for (size_t i = 0; i < both->hunks.count; i++) {
        *ret_added += both->hunks.items[i].b_count;
        *ret_removed += both->hunks.items[i].a_count;
    }
    stat->lines_added += *ret_added;
    stat->lines_removed += *ret_removed;
    stat->bytes_added += both->after.size;
    stat->bytes_removed += both->before.size;
    if (item->what & RAMET_WDIFF_ADDED)
        stat->added++;
    else if (item->what & RAMET_WDIFF_REMOVED)
        stat->removed++;
    else if (item->what & RAMET_WDIFF_RENAMED)
        stat->renamed++;
    else
        stat->changed++;
}

static void print_item(FILE *out, const struct ramet_wdiff_item *item, const struct both *both, uint64_t added,
                       uint64_t removed)
{
    char words[128];
    ramet_wdiff_words(item->what, words, sizeof words);
    const char *path = item->path[0] ? item->path : ".";
    if (item->old_path && item->what & RAMET_WDIFF_RENAMED)
        fprintf(out, " %s => %s | %s", item->old_path, path, words);
    else
        fprintf(out, " %s | %s", path, words);
    if (both->binary)
        fprintf(out, ", binary %zu -> %zu bytes", both->before.size, both->after.size);
    else if (added + removed > 0)
        fprintf(out, ", +%llu -%llu", (unsigned long long)added, (unsigned long long)removed);
    fputc('\n', out);
}

static int out_failed(FILE *out, struct ramet_error *err)
{
    return out && ferror(out) ? ramet_error_os(err, errno ? errno : EIO, "cannot write the differences") : 0;
}

int ramet_wdiff_print_stat(struct ramet_wdiff *diff, FILE *out, struct ramet_wdiff_stat *ret, struct ramet_error *err)
{
    struct ramet_wdiff_stat stat = {0};
    int r = 0;
    for (size_t i = 0; i < diff->count && r == 0; i++) {
        _cleanup_(both_free) struct both both;
        uint64_t added, removed;
        r = both_load(diff, &diff->items[i], &both, err);
        count_item(&diff->items[i], &both, &stat, &added, &removed);
        if (r == 0 && out)
            print_item(out, &diff->items[i], &both, added, removed);
    }
    if (r == 0 && out)
        fprintf(out, " %llu added, %llu removed, %llu renamed, %llu changed; %llu lines added, %llu removed\n",
                (unsigned long long)stat.added, (unsigned long long)stat.removed, (unsigned long long)stat.renamed,
                (unsigned long long)stat.changed, (unsigned long long)stat.lines_added,
                (unsigned long long)stat.lines_removed);
    if (r == 0 && ret)
        *ret = stat;
    return r < 0 ? r : out_failed(out, err);
}

/* --- patches --- */

static void print_line(FILE *out, char mark, const struct ramet_line *line)
{
    fputc(mark, out);
    fwrite(line->text, 1, line->size, out);
    if (line->size == 0 || line->text[line->size - 1] != '\n')
        fputs("\n\\ No newline at end of file\n", out);
}

static void print_range(FILE *out, char mark, size_t from, size_t count)
{
    /* An empty range names the line before it. */
    fprintf(out, "%c%zu", mark, count > 0 ? from + 1 : from);
    if (count != 1)
        fprintf(out, ",%zu", count);
}

/* Hunks [first, last] whose contexts meet, as one. */
static void print_hunks(FILE *out, const struct both *both, size_t first, size_t last)
{
    const struct ramet_lines *a = &both->before.lines, *b = &both->after.lines;
    const struct ramet_hunk *hunks = both->hunks.items;
    size_t lead = hunks[first].a < context ? hunks[first].a : context;
    size_t a_from = hunks[first].a - lead, b_from = hunks[first].b - lead;
    size_t a_end = hunks[last].a + hunks[last].a_count, b_end = hunks[last].b + hunks[last].b_count;
    size_t tail = a->count - a_end < context ? a->count - a_end : context;
    fputs("@@ ", out);
    print_range(out, '-', a_from, a_end + tail - a_from);
    fputc(' ', out);
    print_range(out, '+', b_from, b_end + tail - b_from);
    fputs(" @@\n", out);
    size_t at = a_from;
    for (size_t i = first; i <= last; i++) {
        for (; at < hunks[i].a; at++)
            print_line(out, ' ', &a->items[at]);
        for (size_t k = 0; k < hunks[i].a_count; k++)
            print_line(out, '-', &a->items[at++]);
        for (size_t k = 0; k < hunks[i].b_count; k++)
            print_line(out, '+', &b->items[hunks[i].b + k]);
    }
    for (; at < a_end + tail; at++)
        print_line(out, ' ', &a->items[at]);
}

static void print_content(FILE *out, const struct ramet_wdiff_item *item, const struct both *both)
{
    const char *old_path = item->old_path ? item->old_path : item->path;
    if (both->binary) {
        fprintf(out, "Binary files differ: %zu and %zu bytes\n", both->before.size, both->after.size);
        return;
    }
    if (both->hunks.count == 0)
        return;
    bool from = item->before.ino != 0, to = item->after.ino != 0;
    fprintf(out, "--- %s%s\n+++ %s%s\n", from ? "a/" : "/dev/null", from ? old_path : "", to ? "b/" : "/dev/null",
            to ? item->path : "");
    for (size_t first = 0, last; first < both->hunks.count; first = last + 1) {
        for (last = first; last + 1 < both->hunks.count; last++)
            if (both->hunks.items[last + 1].a - (both->hunks.items[last].a + both->hunks.items[last].a_count) >
                2 * context)
                break;
        print_hunks(out, both, first, last);
    }
}

/* git knows 100644, 100755, 120000; other modes are given as they are. */
static unsigned git_mode(uint32_t mode)
{
    if (S_ISREG(mode) && (mode & 07000) == 0)
        return S_IFREG | (mode & S_IXUSR ? 0755 : 0644);
    return S_ISLNK(mode) ? S_IFLNK : mode;
}

static void print_head(FILE *out, const struct ramet_wdiff_item *item)
{
    const char *old_path = item->old_path ? item->old_path : item->path;
    unsigned before = git_mode(item->before.mode), after = git_mode(item->after.mode);
    fprintf(out, "diff --git a/%s b/%s\n", old_path, item->path);
    if (item->what & RAMET_WDIFF_ADDED)
        fprintf(out, "new file mode %06o\n", after);
    if (item->what & RAMET_WDIFF_REMOVED)
        fprintf(out, "deleted file mode %06o\n", before);
    if (item->before.ino && item->after.ino && before != after)
        fprintf(out, "old mode %06o\nnew mode %06o\n", before, after);
    if (item->what & RAMET_WDIFF_RENAMED)
        fprintf(out, "rename from %s\nrename to %s\n", old_path, item->path);
}

/* Directories, owners and attributes are nothing that a patch says. */
static bool is_for_patch(const struct ramet_wdiff_item *item)
{
    const struct ramet_wstat *stat = item->after.ino ? &item->after : &item->before;
    bool dir = S_ISDIR(stat->mode) && !(item->what & RAMET_WDIFF_TYPE);
    return !dir && item->what & ~(unsigned)(RAMET_WDIFF_OWNER | RAMET_WDIFF_XATTR);
}

/* A change of type is a removal and an addition. */
static int print_one(struct ramet_wdiff *diff, const struct ramet_wdiff_item *item, FILE *out, struct ramet_error *err)
{
    _cleanup_(both_free) struct both both = {0};
    if (!is_for_patch(item))
        return 0;
    int r = both_load(diff, item, &both, err);
    if (r == 0) {
        print_head(out, item);
        print_content(out, item, &both);
    }
    return r;
}

int ramet_wdiff_print_patch(struct ramet_wdiff *diff, FILE *out, struct ramet_error *err)
{
    int r = 0;
    for (size_t i = 0; i < diff->count && r == 0; i++) {
        struct ramet_wdiff_item item = diff->items[i], added = item;
        if (!(item.what & RAMET_WDIFF_TYPE)) {
            r = print_one(diff, &item, out, err);
            continue;
        }
        item.what = RAMET_WDIFF_REMOVED;
        item.after = (struct ramet_wstat){0};
        added.what = RAMET_WDIFF_ADDED;
        added.before = (struct ramet_wstat){0};
        if (item.old_path)
            item.path = item.old_path;
        r = print_one(diff, &item, out, err);
        if (r == 0)
            r = print_one(diff, &added, out, err);
    }
    return r < 0 ? r : out_failed(out, err);
}
