/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Before RocksDB opens a directory: the one kind of damage to a table that would end the
 * process instead of giving an error. RocksDB 7.8 looks into a table's properties block
 * before it verifies its checksum, and as Debian builds it asserts that the block has no
 * hash index, which one bit of its last word says.
 */
#ifndef RAMET_STORE_TABLES_H
#define RAMET_STORE_TABLES_H

#include "base/error.h"

/* RAMET_CORRUPT names such a table. What else is wrong is left to RocksDB; a directory that is not there is fine. */
int ramet_tables_check(const char *dir, struct ramet_error *err);

#endif
