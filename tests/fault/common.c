/* SPDX-License-Identifier: Apache-2.0 */
#include "common.h"

#include "base/file.h"
#include "base/log.h"
#include "faults.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

uint64_t number_from(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    return text ? strtoull(text, NULL, 0) : otherwise;
}

uint64_t test_begin(char dir[64])
{
    uint64_t drawn;
    setenv("RAMET_NO_URING", "1", 1);
    setvbuf(stdout, NULL, _IOLBF, 0);
    ramet_log_set_level(RAMET_LOG_ERROR);
    ramet_random(&drawn, sizeof drawn);
    uint64_t seed = number_from("RAMET_TEST_SEED", drawn);
    printf("RAMET_TEST_SEED=%#" PRIx64 "\n", seed);
    snprintf(dir, 64, "%s/ramet-fault-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(dir)) {
        perror(dir);
        exit(1);
    }
    faults_seed(seed);
    return seed;
}

uint64_t dir_number(const char *dir)
{
    struct stat st;
    return stat(dir, &st) == 0 ? st.st_ino : 0;
}

void stop_if_replaced(const char *dir, uint64_t number)
{
    if (dir_number(dir) == number)
        return;
    printf("%s was removed while the test ran: what it found says nothing\n", dir);
    exit(2);
}

bool complain(char *problem, const char *what, const char *detail)
{
    snprintf(problem, problem_size, "%s: %.*s", what, (int)strcspn(detail, "\n"), detail);
    return false;
}

bool check_fsck(const struct scenario *s, char *problem)
{
    struct ramet_fsck_result fsck;
    struct ramet_error err = {0};
    if (ramet_catalog_fsck(s->catalog, &fsck, &err) < 0)
        return complain(problem, "fsck", err.msg);
    if (fsck.problems)
        complain(problem, "fsck", fsck.report);
    free(fsck.report);
    return fsck.problems == 0;
}

bool check_model(const struct scenario *s, const struct model *before, const struct model *after, bool crashed,
                 const char *when, char *problem)
{
    char found[problem_size];
    return model_check(s->catalog, before, after, crashed, found, sizeof found) || complain(problem, when, found);
}
