/* SPDX-License-Identifier: Apache-2.0 */
#include "compress.h"

#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>
#include <zstd.h>

/* zstd contexts are costly to make: one pair a thread, freed when it ends. */
struct contexts {
    ZSTD_CCtx *c;
    ZSTD_DCtx *d;
};
static tss_t contexts_key;
static once_flag contexts_once = ONCE_FLAG_INIT;

static void contexts_free(void *p)
{
    struct contexts *contexts = p;
    ZSTD_freeCCtx(contexts->c);
    ZSTD_freeDCtx(contexts->d);
    free(contexts);
}

static void contexts_init(void) { tss_create(&contexts_key, contexts_free); }

static struct contexts *contexts_get(void)
{
    call_once(&contexts_once, contexts_init);
    struct contexts *contexts = tss_get(contexts_key);
    if (contexts)
        return contexts;
    contexts = calloc(1, sizeof *contexts);
    if (!contexts)
        return NULL;
    contexts->c = ZSTD_createCCtx();
    contexts->d = ZSTD_createDCtx();
    if (!contexts->c || !contexts->d || tss_set(contexts_key, contexts) != thrd_success) {
        contexts_free(contexts);
        return NULL;
    }
    return contexts;
}

size_t ramet_compress(int level, const void *from, size_t size, void *to, enum ramet_codec *ret_codec)
{
    size_t room = size - size / 32, got = 0;
    struct contexts *contexts = level > 0 ? contexts_get() : NULL;
    if (contexts) {
        got = ZSTD_compressCCtx(contexts->c, to, room, from, size, level);
        got = ZSTD_isError(got) ? 0 : got;
    } else if (level == 0) {
        int n = LZ4_compress_default(from, to, (int)size, (int)room);
        got = n > 0 ? (size_t)n : 0;
    }
    if (got) {
        *ret_codec = contexts ? RAMET_CODEC_ZSTD : RAMET_CODEC_LZ4;
        return got;
    }
    memcpy(to, from, size);
    *ret_codec = RAMET_CODEC_PLAIN;
    return size;
}

int ramet_decompress(enum ramet_codec codec, const void *from, size_t from_size, void *to, size_t size)
{
    if (codec == RAMET_CODEC_LZ4)
        return LZ4_decompress_safe(from, to, (int)from_size, (int)size) == (int)size ? 0 : 1;
    if (codec == RAMET_CODEC_ZSTD) {
        struct contexts *contexts = contexts_get();
        if (!contexts)
            return 2;
        size_t got = ZSTD_decompressDCtx(contexts->d, to, size, from, from_size);
        return !ZSTD_isError(got) && got == size ? 0 : 1;
    }
    if (from_size != size)
        return 1;
    memcpy(to, from, size);
    return 0;
}
