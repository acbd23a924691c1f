/* TLS against openssl s_server, with certificates made here; and look-ups of names that hang. */
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "http_tools.h"

#define FILE_BYTES 3000000

/* Starts a command in the folder. */
static pid_t start(const char *dir, int out_fd, const char *command)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int null_fd = open("/dev/null", O_RDWR);
    if (chdir(dir) != 0 || dup2(null_fd, 0) < 0 || dup2(out_fd >= 0 ? out_fd : null_fd, 1) < 0 ||
        dup2(null_fd, 2) < 0)
        _exit(126);
    execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    _exit(127);
}

/* key.pem and a certificate of its own signature for that name. */
static bool make_certificate(const char *dir, const char *subject_alternative)
{
    char command[512];
    int status = 0;
    snprintf(command, sizeof command,
             "exec openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
             "-keyout key.pem -out cert.pem -days 2 -subj /CN=test -addext subjectAltName=%s",
             subject_alternative);
    pid_t pid = start(dir, -1, command);
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

struct tls_server {
    pid_t pid;
    int port;
    char dir[128];
    char ca_file[160];
};

/* s_server says "ACCEPT 127.0.0.1:PORT" when it listens. */
static int read_port(int fd)
{
    char text[512];
    size_t len = 0;
    while (len + 1 < sizeof text) {
        ssize_t got = read(fd, text + len, sizeof text - 1 - len);
        if (got <= 0)
            return 0;
        len += (size_t)got;
        text[len] = '\0';
        const char *at = strstr(text, "ACCEPT ");
        if (at && strchr(at, '\n'))
            return (int)strtol(strrchr(at, ':') + 1, NULL, 10);
    }
    return 0;
}

static bool write_file(const char *dir)
{
    char path[256];
    snprintf(path, sizeof path, "%s/file", dir);
    FILE *file = fopen(path, "we");
    if (!file)
        return false;
    for (int64_t i = 0; i < FILE_BYTES; i++)
        fputc(http_pattern(i), file);
    return fclose(file) == 0;
}

static bool tls_server_open(struct tls_server *server, const char *subject_alternative)
{
    int ends[2];
    snprintf(server->dir, sizeof server->dir, "%s", check_temp_dir());
    snprintf(server->ca_file, sizeof server->ca_file, "%s/cert.pem", server->dir);
    if (!make_certificate(server->dir, subject_alternative) || !write_file(server->dir) ||
        pipe2(ends, O_CLOEXEC) != 0)
        return false;
    server->pid =
        start(server->dir, ends[1],
              "exec openssl s_server -accept 127.0.0.1:0 -key key.pem -cert cert.pem -WWW");
    close(ends[1]);
    server->port = server->pid > 0 ? read_port(ends[0]) : 0;
    close(ends[0]);
    return server->port > 0;
}

static void tls_server_close(const struct tls_server *server)
{
    if (server->pid <= 0)
        return;
    kill(server->pid, SIGKILL);
    waitpid(server->pid, NULL, 0);
}

static enum err_code fetch(const struct tls_server *server, const char *host, const char *ca_file,
                           struct http_reply *reply, struct err *err)
{
    struct http_client_options options = http_test_options();
    char url[HTTP_URL_SIZE];
    options.ca_file = ca_file;
    snprintf(url, sizeof url, "https://%s:%d/file", host, server->port);
    struct http_client *client = http_test_client(&options);
    const struct http_request request = http_test_get(url);
    enum err_code code = http_exchange(client, &request, reply, err);
    http_client_close(client);
    return code;
}

TEST(http_tls, trusts_what_its_authority_has_signed_for_that_host_alone)
{
    static const struct {
        const char *name;
        const char *subject_alternative;
        bool with_ca;
        enum err_code want;
        const char *says;
    } rows[] = {
        {"known", "IP:127.0.0.1", true, ERR_OK, ""},
        {"unknown", "IP:127.0.0.1", false, ERR_UPSTREAM_UNAVAILABLE, "certificate"},
        {"another host", "IP:127.0.0.2,DNS:example.test", true, ERR_UPSTREAM_UNAVAILABLE,
         "127.0.0.1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tls_server server = {0};
        struct http_reply reply;
        struct err err = {0};
        http_reply_init(&reply);
        REQUIRE(tls_server_open(&server, rows[i].subject_alternative));
        CHECK_ERR_ROW(
            rows[i].name,
            fetch(&server, "127.0.0.1", rows[i].with_ca ? server.ca_file : "", &reply, &err),
            rows[i].want, &err);
        if (rows[i].want == ERR_OK) {
            CHECK_INT_ROW(rows[i].name, (int64_t)reply.body.len, FILE_BYTES);
            CHECK_ROW(rows[i].name, http_is_pattern(buf_str(&reply.body), 0));
        } else {
            CHECK_ROW(rows[i].name, strstr(err.message, rows[i].says) != NULL);
        }
        tls_server_close(&server);
        http_reply_release(&reply);
    }
}

TEST(http_tls, a_file_that_can_not_be_read_is_said)
{
    struct tls_server server = {0};
    struct http_reply reply;
    struct err err = {0};
    http_reply_init(&reply);
    REQUIRE(tls_server_open(&server, "IP:127.0.0.1"));
    CHECK_ERR(fetch(&server, "127.0.0.1", "/nowhere/ca.pem", &reply, &err), ERR_INTERNAL, &err);
    tls_server_close(&server);
    http_reply_release(&reply);
}

TEST(http_tls, streams_in_pieces)
{
    static const size_t steps[] = {100, 16384, 262144};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct tls_server server = {0};
        struct http_client_options options = http_test_options();
        struct http_reply reply;
        struct http_stream *stream = NULL;
        struct err err = {0};
        char url[HTTP_URL_SIZE];
        char *bytes = malloc(steps[i]);
        size_t len = 0;
        int64_t total = 0;
        bool right = true;
        http_reply_init(&reply);
        REQUIRE(bytes != NULL && tls_server_open(&server, "IP:127.0.0.1"));
        options.ca_file = server.ca_file;
        snprintf(url, sizeof url, "https://127.0.0.1:%d/file", server.port);
        struct http_client *client = http_test_client(&options);
        const struct http_request request = http_test_get(url);
        REQUIRE(http_stream_open(client, &request, &reply, &stream, &err) == ERR_OK);
        do {
            CHECK_ERR(http_stream_read(stream, bytes, steps[i], &len, &err), ERR_OK, &err);
            right = right && http_is_pattern((struct str){bytes, len}, total);
            total += (int64_t)len;
        } while (len > 0);
        CHECK(right);
        CHECK_INT(total, FILE_BYTES);
        http_stream_close(stream);
        http_client_close(client);
        tls_server_close(&server);
        http_reply_release(&reply);
        free(bytes);
    }
}

TEST(http_tls, plain_text_behind_https_is_unavailable)
{
    struct tls_server server = {0};
    struct http_client_options options = http_test_options();
    struct http_reply reply;
    struct err err = {0};
    char url[HTTP_URL_SIZE];
    http_reply_init(&reply);
    REQUIRE(tls_server_open(&server, "IP:127.0.0.1"));
    snprintf(url, sizeof url, "http://127.0.0.1:%d/file", server.port);
    struct http_client *client = http_test_client(&options);
    const struct http_request request = http_test_get(url);
    enum err_code code = http_exchange(client, &request, &reply, &err);
    CHECK(code == ERR_UPSTREAM || code == ERR_UPSTREAM_UNAVAILABLE);
    http_client_close(client);
    tls_server_close(&server);
    http_reply_release(&reply);
}

#define HANGING_HOST "hangs.test"
#define HANGS_MS 3000

/* Stands before the C library's: a look-up of one name hangs as behind a name server that is away. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **result)
{
    typedef int look_up(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (node && strcmp(node, HANGING_HOST) == 0) {
        usleep(HANGS_MS * 1000);
        return EAI_AGAIN;
    }
    void *symbol = dlsym(RTLD_NEXT, "getaddrinfo");
    look_up *real = NULL;
    memcpy(&real, &symbol, sizeof real);
    return real(node, service, hints, result);
}

TEST(http_names, a_look_up_that_hangs_ends_at_the_limits)
{
    static const struct {
        const char *name;
        int64_t connect_ms;
        int64_t deadline_ms;
    } rows[] = {{"connect", 200, 20000}, {"deadline", 20000, 200}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_client_options options = http_test_options();
        struct http_reply reply;
        struct err err = {0};
        options.connect_ms = rows[i].connect_ms;
        struct http_client *client = http_test_client(&options);
        struct http_request request = http_test_get("http://" HANGING_HOST "/");
        request.deadline_ms = rows[i].deadline_ms;
        http_reply_init(&reply);
        const int64_t start_ms = http_test_now_ms();
        CHECK_ERR_ROW(rows[i].name, http_exchange(client, &request, &reply, &err),
                      ERR_UPSTREAM_TIMEOUT, &err);
        CHECK_ROW(rows[i].name, http_test_now_ms() - start_ms < HANGS_MS - 500);
        http_client_close(client);
        CHECK_ROW(rows[i].name, http_test_now_ms() - start_ms < HANGS_MS - 500);
        http_reply_release(&reply);
    }
    /* The threads that still wait end by themselves. */
    usleep((HANGS_MS + 200) * 1000);
}

TEST(http_names, an_unknown_host_is_unavailable)
{
    const struct http_client_options options = http_test_options();
    struct http_client *client = http_test_client(&options);
    struct http_reply reply;
    struct err err = {0};
    const struct http_request request = http_test_get("http://unknown.invalid/secret?secret");
    http_reply_init(&reply);
    CHECK_ERR(http_exchange(client, &request, &reply, &err), ERR_UPSTREAM_UNAVAILABLE, &err);
    CHECK(strstr(err.message, "unknown.invalid") == err.message);
    CHECK(!strstr(err.message, "secret"));
    http_reply_release(&reply);
    http_client_close(client);
}
