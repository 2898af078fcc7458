/* SPDX-License-Identifier: Apache-2.0 */
/* Formatting for people; scripts use --json. */
#include "cli_print.h"

#include "json.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COLUMNS_MAX 12

struct cli_text cli_size(uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    struct cli_text text;
    double value = (double)bytes;
    size_t unit = 0;
    for (; value >= 1024; unit++)
        value /= 1024;
    snprintf(text.s, sizeof text.s, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return text;
}

struct cli_text cli_duration(uint64_t us)
{
    struct cli_text text;
    double value = (double)us;
    if (us < 1000)
        snprintf(text.s, sizeof text.s, "%.0f us", value);
    else if (us < 1000000)
        snprintf(text.s, sizeof text.s, "%.1f ms", value / 1e3);
    else
        snprintf(text.s, sizeof text.s, "%.2f s", value / 1e6);
    return text;
}

struct cli_text cli_age(int64_t created_ms)
{
    struct cli_text text;
    int64_t s = (int64_t)time(NULL) - created_ms / 1000;
    if (s < 120)
        snprintf(text.s, sizeof text.s, "%jd s", (intmax_t)(s < 0 ? 0 : s));
    else if (s < 7200)
        snprintf(text.s, sizeof text.s, "%jd min", (intmax_t)s / 60);
    else if (s < 172800)
        snprintf(text.s, sizeof text.s, "%jd h", (intmax_t)s / 3600);
    else
        snprintf(text.s, sizeof text.s, "%jd d", (intmax_t)s / 86400);
    return text;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* A Unix time's label, shown as how long ago that was; NULL for other members. */
static const char *age_label(const char *key)
{
    if (strcmp(key, "created_ms") == 0 || strcmp(key, "started_ms") == 0)
        return "age";
    return strcmp(key, "working_set_ms") == 0 ? "working_set_age" : NULL;
}

/* A member as people call it: its unit is with its value. */
static struct cli_text label(const char *key)
{
    static const char *const suffixes[] = {"_bytes", "_us"};
    struct cli_text text;
    const char *age = age_label(key);
    int length = (int)strlen(age ? age : key);
    for (size_t i = 0; !age && i < sizeof suffixes / sizeof *suffixes; i++)
        if (ends_with(key, suffixes[i]))
            length -= (int)strlen(suffixes[i]);
    snprintf(text.s, sizeof text.s, "%.*s", length, age ? age : key);
    return text;
}

/* Elements of a list of strings, comma-separated and cut where the text ends. */
static struct cli_text join(const struct ramet_json *list)
{
    struct cli_text text = {""};
    for (size_t i = 0; i < ramet_json_count(list); i++) {
        size_t used = strlen(text.s);
        const char *s = ramet_json_string_value(ramet_json_at(list, i));
        snprintf(text.s + used, sizeof text.s - used, "%s%s", i ? "," : "", s ? s : "?");
    }
    return text;
}

static struct cli_text number(const struct ramet_json *object, const char *key)
{
    struct cli_text text;
    int64_t value = ramet_json_int(object, key, 0);
    if (ends_with(key, "_bytes"))
        return cli_size((uint64_t)value);
    if (ends_with(key, "_us"))
        return cli_duration((uint64_t)value);
    if (age_label(key) && value)
        return cli_age(value);
    snprintf(text.s, sizeof text.s, "%jd", (intmax_t)value);
    return text;
}

static bool is_bool(const struct ramet_json *object, const char *key)
{
    return ramet_json_bool(object, key, false) == ramet_json_bool(object, key, true);
}

struct cli_text cli_value(const struct ramet_json *object, const char *key)
{
    const struct ramet_json *value = ramet_json_get(object, key);
    const char *s = ramet_json_string_value(value);
    struct cli_text text;
    if (ramet_json_is_array(value))
        text = join(value);
    else if (!s && !is_bool(object, key))
        text = number(object, key);
    else
        snprintf(text.s, sizeof text.s, "%s", s ? s : ramet_json_bool(object, key, false) ? "yes" : "no");
    if (!*text.s)
        strcpy(text.s, "-");
    return text;
}

/* ---- tables ---- */

static struct cli_text cell(const struct ramet_json *row, const char *path)
{
    char head[32];
    for (const char *dot; (dot = strchr(path, '.')); path = dot + 1) {
        snprintf(head, sizeof head, "%.*s", (int)(dot - path), path);
        row = ramet_json_get(row, head);
    }
    return cli_value(row, path);
}

/* Numbers stand right. */
static bool right(const char *key)
{
    return ends_with(key, "_bytes") || ends_with(key, "_us") || ends_with(key, "_ms") || ends_with(key, "pages");
}

static void print_cell(const char *text, const struct cli_column *column, int width)
{
    bool last = !column[1].head;
    if (right(column->key))
        printf("%*s%s", width, text, last ? "\n" : "  ");
    else
        printf("%-*s%s", last ? 0 : width, text, last ? "\n" : "  ");
}

void cli_table(const struct ramet_json *list, const struct cli_column *columns)
{
    int width[COLUMNS_MAX];
    size_t count = 0, rows = ramet_json_count(list);
    for (; columns[count].head && count < COLUMNS_MAX; count++) {
        width[count] = (int)strlen(columns[count].head);
        for (size_t i = 0; i < rows; i++) {
            int length = (int)strlen(cell(ramet_json_at(list, i), columns[count].key).s);
            width[count] = length > width[count] ? length : width[count];
        }
    }
    for (size_t k = 0; k < count; k++)
        print_cell(columns[k].head, &columns[k], width[k]);
    for (size_t i = 0; i < rows; i++)
        for (size_t k = 0; k < count; k++)
            print_cell(cell(ramet_json_at(list, i), columns[k].key).s, &columns[k], width[k]);
}

void cli_object(const struct ramet_json *object)
{
    const struct ramet_json *value;
    const char *key;
    void *iter = NULL;
    while (ramet_json_next(object, &iter, &key, &value)) {
        const char *text = ramet_json_string_value(value);
        printf("%-16s %s\n", label(key).s, text && *text ? text : cli_value(object, key).s);
    }
}
