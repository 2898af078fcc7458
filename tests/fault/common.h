/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs of this folder share: their seed, a directory in memory, checks of an open store. */
#ifndef RAMET_TESTS_FAULT_COMMON_H
#define RAMET_TESTS_FAULT_COMMON_H

#include "scenario.h"

enum { problem_size = 700 };

/* The number in an environment variable. */
uint64_t number_from(const char *variable, uint64_t otherwise);

/*
 * Prints the seed (RAMET_TEST_SEED or a random one), has getrandom follow it, and makes the directory `dir`, in memory
 * where there is /dev/shm. io_uring is turned off: it goes round the faults. Exits when the directory cannot be made.
 */
uint64_t test_begin(char dir[64]);

/* The number by which a directory is told from another of its name. */
uint64_t dir_number(const char *dir);
/*
 * Exits when `dir` is not the one that had this number: somebody removed it under the test, the store made a fresh one,
 * and all that was acknowledged is gone indeed.
 */
void stop_if_replaced(const char *dir, uint64_t number);

/* Puts "what: detail", of which the first line is enough, into problem[problem_size]; false. */
bool complain(char *problem, const char *what, const char *detail);
/* fsck of an open store finds nothing. */
bool check_fsck(const struct scenario *s, char *problem);
/* model_check with a word on when. */
bool check_model(const struct scenario *s, const struct model *before, const struct model *after, bool crashed,
                 const char *when, char *problem);

#endif
