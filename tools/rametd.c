/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon: options, start, wait for a signal, stop. All else is the service's and
 * the routes'.
 *
 * Start: the socket is claimed first, so that a second daemon fails before it touches
 * the store; clients that connect early wait in its backlog until the service is open.
 * Readiness goes to --ready-fd: the line "ready", or the error as JSON.
 * Stop (SIGTERM, SIGINT, SIGHUP): no new requests, DRAIN_MS for those that run, then
 * their sandboxes are ended under them, then the service closes. A crash at any point
 * leaves files that the next start takes over.
 */
#include "audit.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/log.h"
#include "gate.h"
#include "heap.h"
#include "http.h"
#include "json.h"
#include "mcp/mcp.h"
#include "mcp/ramet_tools.h"
#include "paths.h"
#include "policy.h"
#include "policy_source.h"
#include "routes.h"
#include "service.h"
#include "tools/shelf.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#define DRAIN_MS 3000

static const char help[] =
    "Usage: rametd [OPTION]...\n"
    "Ramet's daemon: keeps the store and runs, forks and restores sandboxes.\n"
    "\n"
    "  --store DIR       snapshots and their data [$RAMET_STORE, /var/lib/ramet]\n"
    "  --socket PATH     Unix socket of the API [$RAMET_SOCKET, /run/ramet/ramet.sock]\n"
    "  --mount DIR       mount point of images [$RAMET_MOUNT, mnt beside the socket]\n"
    "  --run-dir DIR     sockets and logs of VMs [$RAMET_RUN, vm beside the socket]\n"
    "  --policy FILE     who may do what, as JSON; read again when it changes [root and its own user, everything]\n"
    "  --listen PLACE    serve on TCP too: PORT, which is on 127.0.0.1, or HOST:PORT; needs bearer tokens\n"
    "  --log-level L     error, warn, info or debug [info]\n"
    "  --rebuild         make the store's index anew from its packs and exit; no daemon may run\n"
    "  --ready-fd N      write \"ready\" or the error to descriptor N once known\n"
    "  --routes          print every route of the API and exit\n"
    "  --version         print the version and exit\n"
    "  --help            print this and exit\n"
    "\n"
    "RAMET_POOL: how many VMMs wait at most for the next fork or restore, 0 for none [8].\n"
    "RAMET_RECOMPRESS: zstd level of recompression in quiet times, or off [15].\n"
    "RAMET_WORKING_SET: on or off, reading ahead what a restored guest needs first [on].\n"
    "For a user other than root the places are below XDG_DATA_HOME and XDG_RUNTIME_DIR.\n"
    "Serves root, its own user and whom the policy names. SIGTERM stops it and every sandbox; SIGHUP reads the\n"
    "policy anew where there is one, and stops it where there is none.\n";

struct options {
    struct ramet_paths_given given;
    enum ramet_log_level log_level;
    int ready_fd;
    const char *policy, *listen; /* or NULL */
    const char *print;           /* text to print instead of serving */
    bool routes, rebuild;
};

struct daemon {
    struct ramet_paths paths;
    struct ramet_http_socket *socket, *tcp_socket;
    struct ramet_policy_source *policies;
    struct ramet_service *service;
    struct ramet_gate *gate;
    struct ramet_mcp_tools *mcp_tools;
    struct ramet_mcp *mcp;
    struct ramet_tools_shelf *shelf;
    struct ramet_http *http, *tcp_http;
    struct ramet_routes_context context;
    struct ramet_router router;
};

/* ---- options ---- */

static int parse_ready_fd(const char *text, int *ret, struct ramet_error *err)
{
    char *end;
    long fd = strtol(text, &end, 10);
    if (*end || end == text || fd < 0 || fd > 1 << 20 || fcntl((int)fd, F_SETFD, FD_CLOEXEC) != 0)
        return ramet_error_set(err, RAMET_INVALID, "--ready-fd: \"%.50s\" is no open descriptor", text);
    *ret = (int)fd;
    return 0;
}

static int parse_one(int option, const char *value, struct options *o, struct ramet_error *err)
{
    switch (option) {
    case 's': o->given.store = value; return 0;
    case 'S': o->given.socket = value; return 0;
    case 'm': o->given.mount = value; return 0;
    case 'r': o->given.run = value; return 0;
    case 'p': o->policy = value; return 0;
    case 't': o->listen = value; return 0;
    case 'f': return parse_ready_fd(value, &o->ready_fd, err);
    case 'R': o->routes = true; return 0;
    case 'b': o->rebuild = true; return 0;
    case 'V': o->print = "rametd " RAMET_VERSION "\n"; return 0;
    case 'h': o->print = help; return 0;
    case 'l':
        return ramet_log_level_parse(value, &o->log_level) == 0
                   ? 0
                   : ramet_error_set(err, RAMET_INVALID, "--log-level: \"%.50s\" is not error, warn, info or debug",
                                     value);
    default: return ramet_error_set(err, RAMET_INVALID, "unknown option, or an option without its value");
    }
}

static int parse(int argc, char **argv, struct options *o, struct ramet_error *err)
{
    static const struct option table[] = {
        {"store", required_argument, NULL, 's'},
        {"socket", required_argument, NULL, 'S'},
        {"mount", required_argument, NULL, 'm'},
        {"run-dir", required_argument, NULL, 'r'},
        {"policy", required_argument, NULL, 'p'},
        {"listen", required_argument, NULL, 't'},
        {"ready-fd", required_argument, NULL, 'f'},
        {"log-level", required_argument, NULL, 'l'},
        {"routes", no_argument, NULL, 'R'},
        {"version", no_argument, NULL, 'V'},
        {"rebuild", no_argument, NULL, 'b'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    int option, rc = 0;
    /* To the end even after a mistake: --ready-fd may follow, and is told of it. */
    while ((option = getopt_long(argc, argv, "", table, NULL)) >= 0) {
        int one = parse_one(option, optarg, o, rc == 0 ? err : NULL);
        if (rc == 0 && one < 0 && option == '?')
            ramet_error_prefix(err, "%.100s", argv[optind - 1]);
        rc = rc == 0 ? one : rc;
    }
    if (rc == 0 && optind < argc)
        rc = ramet_error_set(err, RAMET_INVALID, "unexpected argument \"%.100s\"", argv[optind]);
    return rc < 0 ? ramet_error_hint(err, "'rametd --help' lists the options") : 0;
}

/* ---- readiness ---- */

static void tell(int fd, const char *text)
{
    if (fd >= 0) {
        (void)!write(fd, text, strlen(text));
        close(fd);
    }
}

static int fail(const struct options *o, const struct ramet_error *err)
{
    _cleanup_(ramet_json_cleanup) struct ramet_json *value = ramet_wire_error(err);
    _autofree_ char *text = ramet_json_text(value);
    fprintf(stderr, "rametd: %s\n", err->msg);
    if (*err->hint)
        fprintf(stderr, "  hint: %s\n", err->hint);
    tell(o->ready_fd, text ? text : "");
    return ramet_code_exit(err->code);
}

/* ---- start and stop ---- */

/* Each sandbox costs the daemon a few descriptors. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* RAMET_RECOMPRESS: "off" or a level; unset or empty: the store's choice. */
static int recompress_level(int *ret, struct ramet_error *err)
{
    const char *text = getenv("RAMET_RECOMPRESS");
    char *end;
    *ret = 0;
    if (!text || !*text)
        return 0;
    long level = strtol(text, &end, 10);
    bool off = strcmp(text, "off") == 0;
    if (!off && (*end || level < 1 || level > RAMET_LEVEL_MAX))
        return ramet_error_set(err, RAMET_INVALID,
                               "RAMET_RECOMPRESS: \"%.50s\" is neither off nor a level from 1 to %d", text,
                               RAMET_LEVEL_MAX);
    *ret = off ? RAMET_RECOMPRESS_OFF : (int)level;
    return 0;
}

/* RAMET_POOL: a number; unset or empty: the default. */
static int pool_limit(unsigned *ret, struct ramet_error *err)
{
    const char *text = getenv("RAMET_POOL");
    char *end;
    *ret = RAMET_SERVICE_POOL_DEFAULT;
    if (!text || !*text)
        return 0;
    long limit = strtol(text, &end, 10);
    if (*end || limit < 0 || limit > RAMET_SERVICE_POOL_MAX)
        return ramet_error_set(err, RAMET_INVALID, "RAMET_POOL: \"%.50s\" is no number from 0 to %d", text,
                               RAMET_SERVICE_POOL_MAX);
    *ret = (unsigned)limit;
    return 0;
}

/* RAMET_WORKING_SET: "off" or "on"; unset or empty: on. */
static int working_sets(bool *ret_off, struct ramet_error *err)
{
    const char *text = getenv("RAMET_WORKING_SET");
    *ret_off = text && strcmp(text, "off") == 0;
    if (!text || !*text || *ret_off || strcmp(text, "on") == 0)
        return 0;
    return ramet_error_set(err, RAMET_INVALID, "RAMET_WORKING_SET: \"%.50s\" is neither on nor off", text);
}

/* What --listen needs: who could call there at all? */
static int listen_tcp(struct daemon *d, const char *where, struct ramet_error *err)
{
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy = ramet_policy_source_get(d->policies);
    if (!ramet_policy_has_tokens(policy)) {
        ramet_error_set(err, RAMET_INVALID, "--listen: no principal of the policy has a bearer token");
        return ramet_error_hint(err, "give one \"token_sha256\" in the file of --policy");
    }
    return ramet_http_listen_tcp(where, &d->tcp_socket, err);
}

static int start_http(struct daemon *d, struct ramet_error *err)
{
    _cleanup_(ramet_policy_cleanup) struct ramet_policy *policy = ramet_policy_source_get(d->policies);
    int rc = ramet_http_start_for(d->socket, ramet_router_admit, ramet_router_handle, &d->router, &d->http, err);
    if (rc == 0 && ramet_policy_admits_others(policy))
        rc = ramet_http_socket_open_to_all(d->socket, err);
    if (rc == 0 && d->tcp_socket)
        rc =
            ramet_http_start_for(d->tcp_socket, ramet_router_admit, ramet_router_handle, &d->router, &d->tcp_http, err);
    if (rc == 0 && d->tcp_socket)
        ramet_info("listening on TCP port %u", ramet_http_socket_port(d->tcp_socket));
    return rc;
}

/* tools/ on the mount. */
static int open_shelf(struct daemon *d, struct ramet_error *err)
{
    const struct ramet_tools_shelf_config config = {.catalogue = ramet_service_tools_catalogue(d->service),
                                                    .gate = d->gate,
                                                    .socket = d->paths.socket,
                                                    .mount_dir = d->paths.mount};
    return ramet_tools_shelf_open(&config, &d->shelf, err);
}

static int start_mcp(struct daemon *d, struct ramet_error *err)
{
    int rc = ramet_mcp_tools_new(&d->router, d->gate, &d->mcp_tools, err);
    if (rc < 0)
        return rc;
    const struct ramet_mcp_provider provider = ramet_mcp_tools_provider(d->mcp_tools);
    rc = ramet_mcp_new(&provider, &d->mcp, err);
    d->context.mcp = d->mcp;
    return rc;
}

static int start(struct daemon *d, const struct options *o, struct ramet_error *err)
{
    struct ramet_service_config config = {
        .store_dir = d->paths.store, .mount_dir = d->paths.mount, .run_dir = d->paths.run};
    int rc = recompress_level(&config.recompress_level, err);
    if (rc == 0)
        rc = pool_limit(&config.pool_limit, err);
    if (rc == 0)
        rc = working_sets(&config.no_working_sets, err);
    if (rc == 0)
        rc = ramet_http_listen(d->paths.socket, &d->socket, err);
    if (rc == 0)
        rc = ramet_policy_source_open(o->policy, &d->policies, err);
    if (rc == 0 && o->listen)
        rc = listen_tcp(d, o->listen, err);
    if (rc == 0)
        rc = ramet_service_open(&config, &d->service, err);
    if (rc == 0)
        rc = ramet_gate_open(d->paths.store, d->policies, d->service, &d->gate, err);
    if (rc == 0)
        rc = open_shelf(d, err);
    if (rc < 0)
        return rc;
    d->context = (struct ramet_routes_context){.service = d->service,
                                               .shelf = d->shelf,
                                               .gate = d->gate,
                                               .store_dir = d->paths.store,
                                               .mount_dir = d->paths.mount,
                                               .run_dir = d->paths.run,
                                               .socket_path = d->paths.socket};
    d->router = ramet_routes(&d->context);
    rc = start_mcp(d, err);
    return rc < 0 ? rc : start_http(d, err);
}

static void stop(struct daemon *d)
{
    if (d->mcp)
        ramet_mcp_stop(d->mcp);
    bool idle = !d->http || ramet_http_drain(d->http, DRAIN_MS);
    idle = (!d->tcp_http || ramet_http_drain(d->tcp_http, idle ? DRAIN_MS : 0)) && idle;
    if (!idle) {
        ramet_info("requests still run; ending the sandboxes under them");
        ramet_audit_give_up(ramet_gate_audit(d->gate)); /* some may wait for a full disk */
        ramet_service_end_sandboxes(d->service);
    }
    ramet_http_free(d->tcp_http);
    ramet_http_free(d->http);
    ramet_mcp_free(d->mcp);
    ramet_mcp_tools_free(d->mcp_tools);
    ramet_tools_shelf_close(d->shelf);
    ramet_gate_close(d->gate);
    ramet_service_close(d->service);
    ramet_policy_source_free(d->policies);
    ramet_http_socket_free(d->tcp_socket);
    ramet_http_socket_free(d->socket);
}

/* Until a signal says stop. */
static int wait_for_stop(struct daemon *d, const sigset_t *signals)
{
    int signal_number;
    for (;;) {
        struct ramet_error err = {0};
        sigwait(signals, &signal_number);
        if (signal_number != SIGHUP || !ramet_policy_source_path(d->policies))
            return signal_number;
        if (ramet_policy_source_reload(d->policies, &err) < 0)
            ramet_warn("the policy before it stays in force: %s", err.msg);
        else
            ramet_info("the policy was read anew");
    }
}

static int serve(const struct options *o, const sigset_t *signals, struct ramet_error *err)
{
    struct daemon d = {0};
    char policy[PATH_MAX];
    struct options absolute = *o;
    int rc = ramet_paths_resolve(&o->given, &d.paths, err);
    if (rc == 0 && o->policy)
        rc = ramet_paths_absolute(o->policy, policy, err);
    if (o->policy)
        absolute.policy = policy;
    if (rc == 0 && chdir("/") != 0)
        rc = ramet_error_os(err, errno, "cannot change to /");
    if (rc == 0)
        rc = start(&d, &absolute, err);
    if (rc == 0) {
        ramet_info("rametd %s ready on %s, store %s", RAMET_VERSION, d.paths.socket, d.paths.store);
        tell(o->ready_fd, "ready\n");
        ramet_info("stopping on signal %d", wait_for_stop(&d, signals));
    }
    stop(&d);
    return rc;
}

/* ---- rebuilding ---- */

/* The exit code: 0, or as fsck's when damage is left. */
static int rebuild(const struct options *o)
{
    struct ramet_paths paths;
    struct ramet_rebuild_info info;
    struct ramet_error err = {0};
    int rc = ramet_paths_resolve(&o->given, &paths, &err);
    if (rc == 0)
        rc = ramet_service_rebuild(paths.store, &info, &err);
    if (rc < 0)
        return fail(o, &err);
    printf("%srebuilt the index of %s from %" PRIu64 " packs: %" PRIu64 " frames, %" PRIu64 " journal records\n",
           info.report, paths.store, info.packs, info.frames, info.journal_records);
    if (info.damaged_bytes)
        printf("%" PRIu64 " bytes of the packs are no record: torn at the end of a crash, or damaged\n",
               info.damaged_bytes);
    if (info.branches_set_aside)
        printf("%" PRIu64 " branches were not in the journal; their files are in %s/lost+branches\n",
               info.branches_set_aside, paths.store);
    printf("%" PRIu64 " snapshots found, %" PRIu64 " problems\n", info.snapshots, info.problems);
    free(info.report);
    if (fflush(stdout) != 0)
        return ramet_code_exit(RAMET_IO);
    return info.problems ? ramet_code_exit(RAMET_CORRUPT) : 0;
}

int main(int argc, char **argv)
{
    struct options o = {.ready_fd = -1, .log_level = RAMET_LOG_INFO};
    struct ramet_error err = {0};
    sigset_t signals;
    opterr = 0;
    if (parse(argc, argv, &o, &err) < 0)
        return fail(&o, &err);
    if (o.print || o.routes) {
        const struct ramet_router router = ramet_routes(NULL);
        if (o.routes)
            ramet_router_print(&router, stdout);
        else
            fputs(o.print, stdout);
        return fflush(stdout) == 0 ? 0 : ramet_code_exit(RAMET_IO);
    }
    ramet_log_set_level(o.log_level);
    if (o.rebuild)
        return rebuild(&o);
    /* Blocked in every thread, taken by sigwait alone. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    ramet_heap_limit_arenas();
    return serve(&o, &signals, &err) < 0 ? fail(&o, &err) : 0;
}
