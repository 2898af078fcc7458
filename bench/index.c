/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index DIR CHUNKS: the index alone, for choosing its settings. Fills a kv as commits of
 * 64 Ki new pages in frames of four would, waits until it is settled, and takes the time
 * of lookups. Times are of the processor, so that a busy machine does not matter much.
 */
#include "tool.h"

#include "base/codec.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { batch_pages = 1 << 16, frame_pages = 4, keys_at_once = 256, place_size = 20, rounds = 1000 };

static double cpu_us(int who)
{
    struct rusage usage;
    getrusage(who, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void put_page(struct ramet_kv_batch *batch, uint64_t n)
{
    uint8_t key[8], value[place_size] = {1, frame_pages};
    uint64_t frame = 1 + n / frame_pages, at = frame * 8000 + mix64(frame) % 2000;
    ramet_put_be64(key, mix64(n));
    ramet_put_le64(value, frame * RAMET_FRAME_SLOTS + n % frame_pages);
    ramet_kv_put(batch, RAMET_KV_INDEX, key, sizeof key, value, 8);
    if (n % frame_pages)
        return;
    ramet_put_be64(key, frame);
    ramet_put_le32(value, frame_pages << 8 | 1);
    ramet_put_le32(value + 4, (uint32_t)(at >> 28));
    ramet_put_le32(value + 8, (uint32_t)(8000 + mix64(at) % 2000));
    ramet_put_le64(value + 12, at & 0xfffffff);
    ramet_kv_put(batch, RAMET_KV_FRAMES, key, sizeof key, value, sizeof value);
}

static void fill(const char *dir, uint64_t chunks)
{
    struct ramet_kv *kv;
    runs(ramet_kv_open(dir, &kv, &err));
    for (uint64_t n = 0; n < chunks;) {
        struct ramet_kv_batch *batch = ramet_kv_batch_new(kv);
        for (uint64_t end = n + batch_pages; n < end && n < chunks; n++)
            put_page(batch, n);
        runs(ramet_kv_write(kv, batch, true, &err));
        ramet_kv_batch_free(batch);
    }
    ramet_kv_close(kv);
}

static double look_up(struct ramet_kv *kv, uint64_t chunks, uint64_t seed, bool known)
{
    uint8_t keys[keys_at_once][8], values[keys_at_once][8];
    bool found[keys_at_once];
    double spent = 0;
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < keys_at_once; i++)
            ramet_put_be64(keys[i], mix64(mix64(seed++) % chunks + (known ? 0 : UINT64_C(1) << 40)));
        double began = cpu_us(RUSAGE_THREAD);
        runs(ramet_kv_get_many_u64(kv, RAMET_KV_INDEX, keys, keys_at_once, values, found, &err));
        spent += cpu_us(RUSAGE_THREAD) - began;
    }
    return spent / (rounds * keys_at_once);
}

static double find_frames(struct ramet_kv *kv, uint64_t chunks, uint64_t seed)
{
    const int count = rounds * keys_at_once / 4;
    double began = cpu_us(RUSAGE_THREAD);
    for (int i = 0; i < count; i++) {
        uint8_t key[8];
        void *value;
        size_t size;
        ramet_put_be64(key, 1 + mix64(seed++) % (chunks / frame_pages));
        runs(ramet_kv_get(kv, RAMET_KV_FRAMES, key, sizeof key, &value, &size, &err));
        free(value);
    }
    return (cpu_us(RUSAGE_THREAD) - began) / count;
}

int index_alone(const char *dir, uint64_t chunks)
{
    struct ramet_kv *kv;
    double began = cpu_us(RUSAGE_SELF);
    fill(dir, chunks);
    runs(ramet_kv_open(dir, &kv, &err));
    emit_one("index", "bytes/chunk", (double)settled_bytes(kv) / (double)chunks);
    emit_one("index.fill", "cpu us", (cpu_us(RUSAGE_SELF) - began) / (double)chunks);
    look_up(kv, chunks, 0, true); /* fills the cache */
    emit_one("index.hit", "cpu us", look_up(kv, chunks, 1 << 20, true));
    emit_one("index.miss", "cpu us", look_up(kv, chunks, 1 << 21, false));
    emit_one("index.frame", "cpu us", find_frames(kv, chunks, 1 << 22));
    ramet_kv_close(kv);
    return 0;
}
