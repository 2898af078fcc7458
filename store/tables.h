/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Before RocksDB opens a directory: the two kinds of damage to a table that would end the
 * process instead of giving an error. No checksum covers a table's footer, whose version says
 * how blocks are compressed; and RocksDB 7.8 looks into the properties block before it
 * verifies that. As built by Debian it asserts what it finds in both.
 */
#ifndef RAMET_STORE_TABLES_H
#define RAMET_STORE_TABLES_H

#include "base/error.h"

/* RAMET_CORRUPT names such a table. What else is wrong is left to RocksDB; a directory that is not there is fine. */
int ramet_tables_check(const char *dir, struct ramet_error *err);

#endif
