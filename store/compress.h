/* SPDX-License-Identifier: Apache-2.0 */
/* Compressing blocks of a few pages: the one wrapper around zstd and LZ4. Thread-safe. */
#ifndef RAMET_STORE_COMPRESS_H
#define RAMET_STORE_COMPRESS_H

#include <stddef.h>

/* As written on disk. */
enum ramet_codec { RAMET_CODEC_PLAIN = 0, RAMET_CODEC_ZSTD = 1, RAMET_CODEC_LZ4 = 2, RAMET_CODEC_COUNT };

/*
 * Level 0 is LZ4, 1 to 19 zstd's. Returns the size in `to`, which has room for `size` bytes, and the codec used: PLAIN,
 * the bytes themselves, when compression saves less than 1/32 or memory is short.
 */
size_t ramet_compress(int level, const void *from, size_t size, void *to, enum ramet_codec *ret_codec);
/* 0 when exactly `size` bytes came out; 1 when these bytes are no such block; 2 when memory ran out. */
int ramet_decompress(enum ramet_codec codec, const void *from, size_t from_size, void *to, size_t size);

#endif
