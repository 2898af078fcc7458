/* SPDX-License-Identifier: Apache-2.0 */
#include "frame_cache.h"

#include "base/u64map.h"
#include "chunk.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { shard_count = 16 };

struct entry {
    struct entry *newer, *older; /* the shard's use order */
    uint64_t frame;
    unsigned slots;
    uint8_t pages[];
};

struct shard {
    pthread_mutex_t lock;    /* guards all below */
    struct ramet_u64map map; /* frame -> struct entry * */
    struct entry *newest, *oldest;
    size_t bytes, budget;
    uint64_t hits, misses;
};

struct ramet_frame_cache {
    struct shard shards[shard_count];
};

static struct shard *shard_of(struct ramet_frame_cache *cache, uint64_t frame)
{
    return &cache->shards[frame % shard_count];
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

static struct entry *find(struct shard *shard, uint64_t frame)
{
    uint64_t value;
    return ramet_u64map_get(&shard->map, frame, &value) ? (struct entry *)(uintptr_t)value : NULL;
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
    ramet_u64map_remove(&shard->map, entry->frame);
    shard->bytes -= (size_t)entry->slots * RAMET_PAGE_SIZE;
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

bool ramet_frame_cache_read(struct ramet_frame_cache *cache, uint64_t frame, unsigned slot, size_t offset, void *buf,
                            size_t size)
{
    struct shard *shard = shard_of(cache, frame);
    pthread_mutex_lock(&shard->lock);
    struct entry *entry = find(shard, frame);
    bool hit = entry && slot < entry->slots;
    if (hit) {
        unlink_entry(shard, entry);
        push_newest(shard, entry);
        memcpy(buf, entry->pages + (size_t)slot * RAMET_PAGE_SIZE + offset, size);
        shard->hits++;
    } else {
        shard->misses++;
    }
    pthread_mutex_unlock(&shard->lock);
    return hit;
}

void ramet_frame_cache_insert(struct ramet_frame_cache *cache, uint64_t frame, const void *pages, unsigned slots)
{
    size_t size = (size_t)slots * RAMET_PAGE_SIZE;
    struct shard *shard = shard_of(cache, frame);
    struct entry *entry = malloc(sizeof *entry + size);
    if (!entry)
        return;
    entry->frame = frame;
    entry->slots = slots;
    memcpy(entry->pages, pages, size);
    pthread_mutex_lock(&shard->lock);
    if (find(shard, frame) || !ramet_u64map_put(&shard->map, frame, (uintptr_t)entry)) {
        free(entry);
    } else {
        push_newest(shard, entry);
        shard->bytes += size;
        while (shard->bytes > shard->budget && shard->oldest != entry)
            remove_entry(shard, shard->oldest);
    }
    pthread_mutex_unlock(&shard->lock);
}

void ramet_frame_cache_drop(struct ramet_frame_cache *cache, uint64_t frame)
{
    struct shard *shard = shard_of(cache, frame);
    pthread_mutex_lock(&shard->lock);
    struct entry *entry = find(shard, frame);
    if (entry)
        remove_entry(shard, entry);
    pthread_mutex_unlock(&shard->lock);
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
