/* SPDX-License-Identifier: Apache-2.0 */
/* Between http_socket.c and http.c; everyone else uses http.h. */
#ifndef RAMET_API_HTTP_SOCKET_H
#define RAMET_API_HTTP_SOCKET_H

#include <stdbool.h>

struct ramet_http_socket;

int ramet_http_socket_fd(const struct ramet_http_socket *sock); /* borrowed */
bool ramet_http_socket_is_tcp(const struct ramet_http_socket *sock);

#endif
