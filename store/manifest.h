/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Before RocksDB opens a directory: damage to its manifest that it would take for the end.
 * The manifest is a log of which tables there are. A record that reaches past the file's
 * end, or is of a kind a manifest has none of, counts as a torn last write, and what follows
 * as never written: tables are then missing, and with them snapshots, without a word.
 */
#ifndef RAMET_STORE_MANIFEST_H
#define RAMET_STORE_MANIFEST_H

#include "base/error.h"

/*
 * RAMET_CORRUPT when the manifest only looks torn. A torn one, a missing one, and damage that RocksDB tells of itself
 * are fine.
 */
int ramet_manifest_check(const char *dir, struct ramet_error *err);

#endif
