/* SPDX-License-Identifier: Apache-2.0 */
/* The journal record: peeked at, then its entries put into a batch. */
#include "fuzz.h"

#include "base/record.h"
#include "journal.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ramet_error err = {0};
    if (size < 1)
        return 0;
    uint8_t mode = data[0], *record = malloc(size);
    size--;
    memcpy(record, data + 1, size);
    if (mode & 1)
        fuzz_seal_journal(record, size);
    size_t whole = ramet_journal_peek(record, size, FUZZ_KEY);
    FUZZ_CHECK(whole == 0 || (whole >= RAMET_RECORD_HEADER + 12 && whole <= size));
    struct ramet_kv_batch *batch = ramet_kv_batch_new(ramet_store_kv(fuzz_store()));
    int r = ramet_journal_apply(record, whole ? whole : size, batch, &err);
    FUZZ_CHECK(r == 0 || (err.code == -r && err.msg[0]));
    if (whole)
        ramet_journal_flags(record);
    ramet_kv_batch_free(batch);
    free(record);
    return 0;
}
