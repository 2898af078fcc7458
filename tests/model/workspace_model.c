/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random operations on workspaces against a model of them:
 *
 *     workspace_model [--seeds N] [--ops N] [--seed FIRST]
 *
 * 10,000 operations for each of 100 seeds is the whole run. What fails names its seed.
 */
#include "world.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void run(uint64_t seed, uint64_t ops, const char *dir)
{
    struct mworld world;
    fail_seed = seed;
    fail_drawn = 0;
    mworld_init(&world, seed, dir);
    mworld_open(&world, true);
    for (uint64_t op = 0; op < ops; op++) {
        fail_op = op;
        uint64_t what = mbelow(&world, 1000);
        if (what < 970)
            mworld_step(&world, &world.heads[mbelow(&world, (uint64_t)world.head_count)]);
        else if (what < 982)
            mworld_step_heads(&world);
        else if (what < 986)
            mworld_check_diff(&world);
        else if (what < 990)
            mworld_merge(&world);
        else if (what < 993)
            must(ramet_workspaces_sync(world.set, &err));
        else if (what < 995)
            must(ramet_workspaces_checkpoint(world.set, &err));
        else if (what < 997)
            mworld_check(&world);
        else if (what < 998 && mbelow(&world, 4) == 0) {
            mworld_close(&world);
            mworld_open(&world, false);
        }
    }
    mworld_check(&world);
    mworld_close(&world);
    mworld_open(&world, false);
    mworld_check(&world);
    mworld_close(&world);
    mworld_free(&world);
}

int main(int argc, char **argv)
{
    uint64_t seeds = 4, ops = 3000, first = 1;
    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t value = strtoull(argv[i + 1], NULL, 0);
        if (strcmp(argv[i], "--seeds") == 0)
            seeds = value;
        else if (strcmp(argv[i], "--ops") == 0)
            ops = value;
        else if (strcmp(argv[i], "--seed") == 0)
            first = value;
    }
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        char dir[] = "/tmp/ramet-model-XXXXXX";
        if (!mkdtemp(dir))
            return 1;
        run(seed, ops, dir);
        must(ramet_dir_remove(dir, &err));
    }
    printf("%llu seeds of %llu operations: every workspace equals its model\n", (unsigned long long)seeds,
           (unsigned long long)ops);
    return 0;
}
