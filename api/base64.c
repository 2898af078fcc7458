/* SPDX-License-Identifier: Apache-2.0 */
#include "base64.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *ramet_base64_encode(const void *data, size_t size)
{
    const uint8_t *in = data;
    char *text = malloc((size + 2) / 3 * 4 + 1), *out = text;
    if (!text)
        return NULL;
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t bits = (uint32_t)in[i] << 16 | (left > 1 ? (uint32_t)in[i + 1] << 8 : 0) | (left > 2 ? in[i + 2] : 0);
        *out++ = alphabet[bits >> 18 & 63];
        *out++ = alphabet[bits >> 12 & 63];
        *out++ = left > 1 ? alphabet[bits >> 6 & 63] : '=';
        *out++ = left > 2 ? alphabet[bits & 63] : '=';
    }
    *out = '\0';
    return text;
}

/* 0..63, or -1 for a character outside the alphabet. */
static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decodes four characters into up to three bytes; returns how many, or -1. Padding is accepted in the last group only.
 */
static int decode_group(const char *in, bool last, char *out)
{
    int pad = !last || in[3] != '=' ? 0 : in[2] == '=' ? 2 : 1;
    uint32_t bits = 0;
    for (int i = 0; i < 4; i++) {
        int v = i >= 4 - pad ? 0 : value_of(in[i]);
        if (v < 0)
            return -1;
        bits = bits << 6 | (uint32_t)v;
    }
    for (int i = 0; i < 3 - pad; i++)
        out[i] = (char)(bits >> (16 - 8 * i));
    return 3 - pad;
}

int ramet_base64_decode(const char *text, char **ret, size_t *ret_size, struct ramet_error *err)
{
    size_t size = strlen(text);
    if (size % 4 != 0)
        return ramet_error_set(err, RAMET_INVALID, "base64 text of %zu characters", size);
    char *data = malloc(size / 4 * 3 + 1), *out = data;
    if (!data)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for %zu bytes of base64", size);
    for (size_t i = 0; i < size; i += 4) {
        int n = decode_group(text + i, i + 4 == size, out);
        if (n < 0) {
            free(data);
            return ramet_error_set(err, RAMET_INVALID, "no base64 at character %zu", i);
        }
        out += n;
    }
    *out = '\0';
    *ret = data;
    *ret_size = (size_t)(out - data);
    return 0;
}
