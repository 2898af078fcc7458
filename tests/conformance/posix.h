/* SPDX-License-Identifier: Apache-2.0 */
/* What the checks of posix.c share. A check runs in an empty directory of its own, posix_home, as root. */
#ifndef RAMET_TESTS_POSIX_H
#define RAMET_TESTS_POSIX_H

/* Counts and names what is not so; goes on. */
void posix_check(int good, const char *what, int line);
#define CHECK(condition) posix_check((condition), #condition, __LINE__)

int posix_put(const char *path, const char *text); /* 1, or 0 with errno */
int posix_is(const char *path, const char *text);
const char *posix_home(void);

/* posix_content.c */
void posix_sparse(void), posix_allocation(void), posix_copy_range(void), posix_shared_mapping(void);
void posix_appending(void), posix_direct(void), posix_sizes(void);
/* posix_attributes.c */
void posix_locks(void), posix_times(void), posix_xattrs(void), posix_acls(void), posix_set_id_bits(void);
void posix_permissions(void), posix_special_files(void), posix_handles(void), posix_space(void);

#endif
