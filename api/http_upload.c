/* SPDX-License-Identifier: Apache-2.0 */
/* Two threads and a pipe between them. `whole` is written before the pipe's end is closed and read after it was seen.
 */
#include "http_upload.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

struct ramet_http_upload {
    ramet_http_handler *handler;
    void *context;
    struct ramet_http_request *request;
    struct ramet_http_response response;
    pthread_t thread;
    int in, out; /* of the pipe: the handler's end, ours; -1 when closed */
    bool deaf;   /* the handler reads no more */
    bool joined;
    atomic_bool whole;
};

bool ramet_http_body_whole(const struct ramet_http_request *request)
{
    return request->upload && atomic_load(&request->upload->whole);
}

static void *run(void *arg)
{
    struct ramet_http_upload *upload = arg;
    upload->handler(upload->context, upload->request, &upload->response);
    close(upload->in); /* whoever puts more is told that nobody reads */
    return NULL;
}

int ramet_http_upload_start(ramet_http_handler *handler, void *context, struct ramet_http_request *request,
                            struct ramet_http_upload **ret, struct ramet_error *err)
{
    int ends[2];
    struct ramet_http_upload *upload = calloc(1, sizeof *upload);
    if (!upload)
        return ramet_error_set(err, RAMET_NO_MEMORY, "no memory for a request");
    if (pipe2(ends, O_CLOEXEC) != 0) {
        free(upload);
        return ramet_error_os(err, errno, "cannot take a request's body");
    }
    fcntl(ends[1], F_SETPIPE_SZ, 1 << 20); /* fewer turns between the two; 64 KiB do as well */
    upload->handler = handler;
    upload->context = context;
    upload->request = request;
    upload->in = ends[0];
    upload->out = ends[1];
    request->body_fd = upload->in;
    request->upload = upload;
    int failed = pthread_create(&upload->thread, NULL, run, upload);
    if (failed) {
        close(ends[0]);
        close(ends[1]);
        free(upload);
        request->upload = NULL;
        return ramet_error_os(err, failed, "cannot take a request's body");
    }
    *ret = upload;
    return 0;
}

void ramet_http_upload_put(struct ramet_http_upload *upload, const char *data, size_t size)
{
    while (size > 0 && !upload->deaf) {
        ssize_t done = write(upload->out, data, size);
        if (done < 0 && errno == EINTR)
            continue;
        upload->deaf = done < 0; /* EPIPE: it has its answer ready */
        if (done > 0) {
            data += done;
            size -= (size_t)done;
        }
    }
}

static void join(struct ramet_http_upload *upload)
{
    close(upload->out);
    pthread_join(upload->thread, NULL);
    upload->joined = true;
}

void ramet_http_upload_end(struct ramet_http_upload *upload, struct ramet_http_response *ret)
{
    atomic_store(&upload->whole, true);
    join(upload);
    *ret = upload->response;
    upload->response = (struct ramet_http_response){0};
}

void ramet_http_upload_free(struct ramet_http_upload *upload)
{
    if (!upload)
        return;
    if (!upload->joined)
        join(upload);
    if (upload->response.stream.close)
        upload->response.stream.close(upload->response.stream.context);
    free(upload->response.body);
    free(upload);
}
