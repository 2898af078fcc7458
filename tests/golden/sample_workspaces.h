/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sample of workspaces: every kind of record, of node and of item in the journal, half of it in the store, half of
 * it in the journal alone; and a description of what the workspaces of any store hold.
 */
#ifndef RAMET_TESTS_SAMPLE_WORKSPACES_H
#define RAMET_TESTS_SAMPLE_WORKSPACES_H

#include "sample.h"

#include "workspace/workspace.h"

/*
 * Makes them in an empty directory and describes them. The store stays open and its last changes in the journal, as a
 * killed process would leave them: call it in a process that ends with _exit. Prints what went wrong and exits when it
 * cannot.
 */
void sample_workspaces_make(const char *dir, struct sample_lines *ret);

/*
 * Of each workspace ("NAME"), each state of it ("NAME@STATE") and what it was forked with ("NAME^", one line for all of
 * it): what it is, and everything in it by path, with the data of files as ranges and a hash. A directory of many
 * entries is one line, too.
 */
void sample_workspaces_describe(struct ramet_workspaces *set, struct sample_lines *ret);

#endif
