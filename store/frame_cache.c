/* SPDX-License-Identifier: Apache-2.0 */
#include "frame_cache.h"

#include "base/u64map.h"

#include <pthread.h>
#include <stdlib.h>

enum { shard_count = 16 };

struct entry {
    struct entry *newer, *older; /* the shard's use order */
    struct ramet_frame *frame;
};

struct shard {
    pthread_mutex_t lock;    /* guards all below */
    struct ramet_u64map map; /* frame -> struct entry * */
    struct entry *newest, *oldest;
    size_t bytes, budget;
    uint64_t hits, misses;
    uint64_t drops; /* the epoch */
};

struct ramet_frame_cache {
    struct shard shards[shard_count];
};

static struct shard *shard_of(struct ramet_frame_cache *cache, uint64_t number)
{
    return &cache->shards[number % shard_count];
}

struct ramet_frame_cache *ramet_frame_cache_new(size_t budget_bytes)
{
    struct ramet_frame_cache *cache = calloc(1, sizeof *cache);
    for (int i = 0; cache && i < shard_count; i++) {
        pthread_mutex_init(&cache->shards[i].lock, NULL);
        cache->shards[i].budget = budget_bytes / shard_count;
    }
    return cache;
}

static struct entry *find(struct shard *shard, uint64_t number)
{
    uint64_t value;
    return ramet_u64map_get(&shard->map, number, &value) ? (struct entry *)(uintptr_t)value : NULL;
}

static void unlink_entry(struct shard *shard, struct entry *entry)
{
    *(entry->newer ? &entry->newer->older : &shard->newest) = entry->older;
    *(entry->older ? &entry->older->newer : &shard->oldest) = entry->newer;
}

static void push_newest(struct shard *shard, struct entry *entry)
{
    entry->newer = NULL;
    entry->older = shard->newest;
    *(entry->older ? &entry->older->newer : &shard->oldest) = entry;
    shard->newest = entry;
}

static void remove_entry(struct shard *shard, struct entry *entry)
{
    unlink_entry(shard, entry);
    ramet_u64map_remove(&shard->map, entry->frame->number);
    shard->bytes -= ramet_frame_bytes(entry->frame);
    ramet_frame_unref(entry->frame);
    free(entry);
}

void ramet_frame_cache_clear(struct ramet_frame_cache *cache)
{
    for (int i = 0; i < shard_count; i++) {
        struct shard *shard = &cache->shards[i];
        pthread_mutex_lock(&shard->lock);
        while (shard->oldest)
            remove_entry(shard, shard->oldest);
        pthread_mutex_unlock(&shard->lock);
    }
}

void ramet_frame_cache_free(struct ramet_frame_cache *cache)
{
    if (!cache)
        return;
    ramet_frame_cache_clear(cache);
    for (int i = 0; i < shard_count; i++) {
        ramet_u64map_free(&cache->shards[i].map);
        pthread_mutex_destroy(&cache->shards[i].lock);
    }
    free(cache);
}

struct ramet_frame *ramet_frame_cache_get(struct ramet_frame_cache *cache, uint64_t number)
{
    struct shard *shard = shard_of(cache, number);
    pthread_mutex_lock(&shard->lock);
    struct entry *entry = find(shard, number);
    struct ramet_frame *frame = entry ? ramet_frame_ref(entry->frame) : NULL;
    if (entry) {
        unlink_entry(shard, entry);
        push_newest(shard, entry);
        shard->hits++;
    } else {
        shard->misses++;
    }
    pthread_mutex_unlock(&shard->lock);
    return frame;
}

uint64_t ramet_frame_cache_epoch(struct ramet_frame_cache *cache, uint64_t number)
{
    struct shard *shard = shard_of(cache, number);
    pthread_mutex_lock(&shard->lock);
    uint64_t epoch = shard->drops;
    pthread_mutex_unlock(&shard->lock);
    return epoch;
}

bool ramet_frame_cache_has(struct ramet_frame_cache *cache, uint64_t number)
{
    struct shard *shard = shard_of(cache, number);
    pthread_mutex_lock(&shard->lock);
    bool has = find(shard, number);
    pthread_mutex_unlock(&shard->lock);
    return has;
}

void ramet_frame_cache_put(struct ramet_frame_cache *cache, struct ramet_frame *frame, uint64_t epoch)
{
    struct shard *shard = shard_of(cache, frame->number);
    struct entry *entry = malloc(sizeof *entry);
    if (!entry)
        return;
    pthread_mutex_lock(&shard->lock);
    if (shard->drops != epoch || find(shard, frame->number) ||
        !ramet_u64map_put(&shard->map, frame->number, (uintptr_t)entry)) {
        free(entry);
    } else {
        entry->frame = ramet_frame_ref(frame);
        push_newest(shard, entry);
        shard->bytes += ramet_frame_bytes(frame);
        while (shard->bytes > shard->budget && shard->oldest != entry)
            remove_entry(shard, shard->oldest);
    }
    pthread_mutex_unlock(&shard->lock);
}

void ramet_frame_cache_drop(struct ramet_frame_cache *cache, uint64_t number)
{
    struct shard *shard = shard_of(cache, number);
    pthread_mutex_lock(&shard->lock);
    struct entry *entry = find(shard, number);
    shard->drops++;
    if (entry)
        remove_entry(shard, entry);
    pthread_mutex_unlock(&shard->lock);
}

uint64_t ramet_frame_cache_bytes(struct ramet_frame_cache *cache)
{
    uint64_t total = 0;
    for (int i = 0; i < shard_count; i++) {
        struct shard *shard = &cache->shards[i];
        pthread_mutex_lock(&shard->lock);
        total += shard->bytes;
        pthread_mutex_unlock(&shard->lock);
    }
    return total;
}

void ramet_frame_cache_counters(struct ramet_frame_cache *cache, uint64_t *ret_hits, uint64_t *ret_misses)
{
    *ret_hits = *ret_misses = 0;
    for (int i = 0; i < shard_count; i++) {
        struct shard *shard = &cache->shards[i];
        pthread_mutex_lock(&shard->lock);
        *ret_hits += shard->hits;
        *ret_misses += shard->misses;
        pthread_mutex_unlock(&shard->lock);
    }
}
