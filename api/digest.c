/* SPDX-License-Identifier: Apache-2.0 */
#include "digest.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <unistd.h>

enum { step_bytes = 1 << 20 };

static void context_cleanup(EVP_MD_CTX **context) { EVP_MD_CTX_free(*context); }

static void print_hex(const unsigned char *digest, char ret[RAMET_DIGEST_SIZE])
{
    for (unsigned i = 0; i < (RAMET_DIGEST_SIZE - 1) / 2; i++)
        snprintf(ret + i * 2, 3, "%02x", digest[i]);
}

int ramet_digest_bytes(const void *data, size_t size, char ret[RAMET_DIGEST_SIZE], struct ramet_error *err)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_size = 0;
    if (!EVP_Digest(data, size, digest, &digest_size, EVP_sha256(), NULL) || digest_size != (RAMET_DIGEST_SIZE - 1) / 2)
        return ramet_error_set(err, RAMET_INTERNAL, "libcrypto failed on %zu bytes", size);
    print_hex(digest, ret);
    return 0;
}

int ramet_digest_file(const char *path, char ret[RAMET_DIGEST_SIZE], struct ramet_error *err)
{
    _autoclose_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    _autofree_ unsigned char *buf = malloc(step_bytes);
    _cleanup_(context_cleanup) EVP_MD_CTX *context = EVP_MD_CTX_new();
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    ssize_t n;
    if (fd < 0)
        return ramet_error_os(err, errno, "cannot open %s", path);
    if (!buf || !context)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for the digest of %s", path);
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    int good = EVP_DigestInit_ex(context, EVP_sha256(), NULL);
    while ((n = read(fd, buf, step_bytes)) > 0 || (n < 0 && errno == EINTR))
        good = good && (n < 0 || EVP_DigestUpdate(context, buf, (size_t)n));
    if (n < 0)
        return ramet_error_os(err, errno, "cannot read %s", path);
    if (!good || !EVP_DigestFinal_ex(context, digest, &size) || size != (RAMET_DIGEST_SIZE - 1) / 2)
        return ramet_error_set(err, RAMET_INTERNAL, "libcrypto failed on %s", path);
    print_hex(digest, ret);
    return 0;
}

void ramet_digest_sure(const void *bytes, size_t size, char ret[static RAMET_DIGEST_SIZE])
{
    if (ramet_digest_bytes(bytes, size, ret, NULL) < 0)
        abort();
}

void ramet_digest_keyed(const void *key, size_t key_size, const void *bytes, size_t size,
                        char ret[static RAMET_DIGEST_SIZE])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    if (!HMAC(EVP_sha256(), key, (int)key_size, bytes, size, digest, NULL))
        abort();
    print_hex(digest, ret);
}

bool ramet_digest_equal(const char a[static RAMET_DIGEST_SIZE], const char b[static RAMET_DIGEST_SIZE])
{
    return CRYPTO_memcmp(a, b, RAMET_DIGEST_SIZE) == 0;
}
