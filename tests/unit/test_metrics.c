/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: metrics count what they are told, in the buckets it belongs to, and every line is Prometheus's text format. */
#include "testing.h"

#include "base/cleanup.h"
#include "metrics.h"

#include <pthread.h>
#include <regex.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static struct ramet_error err;

static const struct ramet_gauge gauges[] = {
    {"ramet_sandboxes", "Sandboxes.", "state", "running", 3},
    {"ramet_sandboxes", "Sandboxes.", "state", "paused", 0},
    {"ramet_spares", "Spares.", NULL, NULL, 8},
};

static char *text_of(struct ramet_metrics *metrics)
{
    char *text;
    check_ok(ramet_metrics_text(metrics, gauges, 3, &text, &err));
    return text;
}

/* The line that begins with `name` and a space must end with `value`. */
static void check_value(const char *text, const char *name, const char *value)
{
    char line[256];
    snprintf(line, sizeof line, "\n%s %s\n", name, value);
    if (!strstr(text, line))
        fail_msg("no line \"%s %s\" in:\n%s", name, value, text);
}

static void test_buckets(void **state)
{
    static struct ramet_metrics metrics;
    (void)state;
    ramet_metrics_observe(&metrics, RAMET_DURATION_PAUSE, 0); /* did not happen */
    ramet_metrics_observe(&metrics, RAMET_DURATION_PAUSE, 1);
    ramet_metrics_observe(&metrics, RAMET_DURATION_PAUSE, 500); /* bounds are inclusive */
    ramet_metrics_observe(&metrics, RAMET_DURATION_PAUSE, 501);
    ramet_metrics_observe(&metrics, RAMET_DURATION_PAUSE, 10000000);
    ramet_metrics_observe(&metrics, RAMET_DURATION_PAUSE, 10000001);
    ramet_metrics_observe(&metrics, RAMET_DURATION_COMMIT, 20000);
    _autofree_ char *text = text_of(&metrics);
    check_value(text, "ramet_capture_seconds_bucket{step=\"pause\",le=\"0.0005\"}", "2");
    check_value(text, "ramet_capture_seconds_bucket{step=\"pause\",le=\"0.001\"}", "3");
    check_value(text, "ramet_capture_seconds_bucket{step=\"pause\",le=\"5\"}", "3");
    check_value(text, "ramet_capture_seconds_bucket{step=\"pause\",le=\"10\"}", "4");
    check_value(text, "ramet_capture_seconds_bucket{step=\"pause\",le=\"+Inf\"}", "5");
    check_value(text, "ramet_capture_seconds_count{step=\"pause\"}", "5");
    check_value(text, "ramet_capture_seconds_sum{step=\"pause\"}", "20.001003");
    check_value(text, "ramet_capture_seconds_count{step=\"stop\"}", "0");
    check_value(text, "ramet_commit_seconds_bucket{le=\"0.025\"}", "1");
    check_value(text, "ramet_commit_seconds_sum", "0.020000");
}

static void test_counts_and_gauges(void **state)
{
    static struct ramet_metrics metrics;
    (void)state;
    ramet_metrics_count(&metrics, RAMET_COUNT_FORK);
    ramet_metrics_count(&metrics, RAMET_COUNT_FORK);
    ramet_metrics_count(&metrics, RAMET_COUNT_COMMIT_FAILED);
    _autofree_ char *text = text_of(&metrics);
    check_value(text, "ramet_operations_total{operation=\"fork\"}", "2");
    check_value(text, "ramet_operations_total{operation=\"boot\"}", "0");
    check_value(text, "ramet_failures_total{operation=\"commit\"}", "1");
    check_value(text, "ramet_sandboxes{state=\"running\"}", "3");
    check_value(text, "ramet_sandboxes{state=\"paused\"}", "0");
    check_value(text, "ramet_spares", "8");
}

/* Every line is a comment or a sample, and each family is announced once, before its samples. */
static void test_format(void **state)
{
    static struct ramet_metrics metrics;
    regex_t help, type, sample;
    char announced[1024] = "", family[64], *rest;
    (void)state;
    assert_int_equal(regcomp(&help, "^# HELP [a-z_]+ [^\\]+$", REG_EXTENDED | REG_NOSUB), 0);
    assert_int_equal(regcomp(&type, "^# TYPE [a-z_]+ (histogram|counter|gauge)$", REG_EXTENDED | REG_NOSUB), 0);
    assert_int_equal(regcomp(&sample, "^[a-z_]+(\\{[a-z]+=\"[^\"]+\"(,le=\"[^\"]+\")?\\})? [0-9]+(\\.[0-9]+)?$",
                             REG_EXTENDED | REG_NOSUB),
                     0);
    _autofree_ char *text = text_of(&metrics);
    assert_int_equal(text[strlen(text) - 1], '\n');
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        bool comment = line[0] == '#';
        if (regexec(comment ? line[2] == 'H' ? &help : &type : &sample, line, 0, NULL, 0) != 0)
            fail_msg("not in the format: %s", line);
        if (comment && line[2] == 'T') {
            snprintf(family, sizeof family, " %.*s ", (int)strcspn(line + 7, " "), line + 7);
            assert_null(strstr(announced, family));
            strcat(announced, family);
        } else if (!comment) {
            family[strlen(family) - 1] = '\0';
            assert_int_equal(strncmp(line, family + 1, strlen(family + 1)), 0);
            strcat(family, " ");
        }
    }
    regfree(&help);
    regfree(&type);
    regfree(&sample);
}

static void *observe_many(void *arg)
{
    for (int i = 0; i < 10000; i++)
        ramet_metrics_observe(arg, RAMET_DURATION_FORK, 1500);
    return NULL;
}

static void test_threads(void **state)
{
    static struct ramet_metrics metrics;
    pthread_t threads[4];
    (void)state;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, observe_many, &metrics), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    _autofree_ char *text = text_of(&metrics);
    check_value(text, "ramet_call_seconds_count{call=\"fork\"}", "40000");
    check_value(text, "ramet_call_seconds_sum{call=\"fork\"}", "60.000000");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_counts_and_gauges),
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
