/* Exchanges with lighttpd, which serves a folder: no server of ours agrees with the client's author. */
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "http_tools.h"

#define FILE_BYTES (3 * 1024 * 1024 + 17)

struct lighttpd {
    pid_t pid;
    char dir[128];
    int port;
    struct http_client *client;
    struct http_reply reply;
    struct err err;
    char url[HTTP_URL_SIZE];
};

/* A port that was free a moment ago. */
static void nobody(struct http_peer *peer)
{
    (void)peer;
}

static int free_port(void)
{
    struct http_server *server = http_server_open(nobody, NULL);
    int port = http_server_port(server);
    http_server_close(server);
    return port;
}

static bool write_files(const struct lighttpd *lighttpd)
{
    char path[256];
    snprintf(path, sizeof path, "%s/file", lighttpd->dir);
    FILE *file = fopen(path, "we");
    if (!file)
        return false;
    for (int64_t i = 0; i < FILE_BYTES; i++)
        fputc(http_pattern(i), file);
    if (fclose(file) != 0)
        return false;
    snprintf(path, sizeof path, "%s/conf", lighttpd->dir);
    file = fopen(path, "we");
    if (!file)
        return false;
    fprintf(file,
            "server.document-root = \"%s\"\nserver.bind = \"127.0.0.1\"\nserver.port = %d\n"
            "server.errorlog = \"/dev/null\"\n"
            "mimetype.assign = (\"\" => \"application/octet-stream\")\n",
            lighttpd->dir, lighttpd->port);
    return fclose(file) == 0;
}

static pid_t start(const char *dir)
{
    char conf[256];
    snprintf(conf, sizeof conf, "%s/conf", dir);
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execlp("/usr/sbin/lighttpd", "lighttpd", "-D", "-f", conf, (char *)NULL);
    _exit(127);
}

static enum err_code ask(struct lighttpd *lighttpd, const char *method, const char *target,
                         const char *headers)
{
    snprintf(lighttpd->url, sizeof lighttpd->url, "http://127.0.0.1:%d%s", lighttpd->port, target);
    struct http_request request = http_test_get(lighttpd->url);
    request.method = method;
    request.headers = str_of(headers);
    return http_exchange(lighttpd->client, &request, &lighttpd->reply, &lighttpd->err);
}

static bool setup(struct lighttpd *lighttpd)
{
    const struct http_client_options options = http_test_options();
    *lighttpd = (struct lighttpd){.port = free_port()};
    snprintf(lighttpd->dir, sizeof lighttpd->dir, "%s", check_temp_dir());
    if (!write_files(lighttpd))
        return false;
    http_reply_init(&lighttpd->reply);
    lighttpd->client = http_test_client(&options);
    lighttpd->pid = start(lighttpd->dir);
    for (int i = 0; lighttpd->pid > 0 && i < 500; i++) {
        if (ask(lighttpd, "GET", "/none", "") == ERR_OK)
            return true;
        usleep(20000);
    }
    return false;
}

static void teardown(struct lighttpd *lighttpd)
{
    http_client_close(lighttpd->client);
    http_reply_release(&lighttpd->reply);
    if (lighttpd->pid > 0) {
        kill(lighttpd->pid, SIGKILL);
        waitpid(lighttpd->pid, NULL, 0);
    }
}

TEST(http_lighttpd, serves_files_ranges_and_conditions)
{
    struct lighttpd lighttpd;
    struct str value = {NULL, 0};
    char condition[256];
    REQUIRE(setup(&lighttpd));
    CHECK_ERR(ask(&lighttpd, "GET", "/file", ""), ERR_OK, &lighttpd.err);
    CHECK_INT(lighttpd.reply.status, 200);
    CHECK_INT((int64_t)lighttpd.reply.body.len, FILE_BYTES);
    CHECK(http_is_pattern(buf_str(&lighttpd.reply.body), 0));
    CHECK(http_reply_header(&lighttpd.reply, "ETag", &value));
    snprintf(condition, sizeof condition, "If-None-Match: %.*s\r\n", (int)value.len, value.data);
    CHECK_ERR(ask(&lighttpd, "GET", "/file", condition), ERR_OK, &lighttpd.err);
    CHECK_INT(lighttpd.reply.status, 304);
    CHECK_INT((int64_t)lighttpd.reply.body.len, 0);
    CHECK_ERR(ask(&lighttpd, "GET", "/file", "Range: bytes=1000-1999\r\n"), ERR_OK, &lighttpd.err);
    CHECK_INT(lighttpd.reply.status, 206);
    CHECK_INT((int64_t)lighttpd.reply.body.len, 1000);
    CHECK(http_is_pattern(buf_str(&lighttpd.reply.body), 1000));
    CHECK(http_reply_header(&lighttpd.reply, "Content-Range", &value));
    CHECK_ERR(ask(&lighttpd, "HEAD", "/file", ""), ERR_OK, &lighttpd.err);
    CHECK_INT(lighttpd.reply.status, 200);
    CHECK(http_reply_header(&lighttpd.reply, "Content-Length", &value));
    CHECK_INT((int64_t)lighttpd.reply.body.len, 0);
    CHECK_ERR(ask(&lighttpd, "GET", "/none", ""), ERR_OK, &lighttpd.err);
    CHECK_INT(lighttpd.reply.status, 404);
    CHECK_ERR(ask(&lighttpd, "DELETE", "/file", ""), ERR_OK, &lighttpd.err);
    CHECK(lighttpd.reply.status >= 400);
    teardown(&lighttpd);
}

TEST(http_lighttpd, takes_a_body_of_many_sizes)
{
    static const size_t sizes[] = {0, 1, 100000, 8 * 1024 * 1024};
    struct lighttpd lighttpd;
    char *bytes = calloc(1, sizes[3]);
    REQUIRE(bytes != NULL && setup(&lighttpd));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        snprintf(lighttpd.url, sizeof lighttpd.url, "http://127.0.0.1:%d/file", lighttpd.port);
        struct http_request request = http_test_get(lighttpd.url);
        request.method = "POST";
        request.body = (struct str){bytes, sizes[i]};
        CHECK_ERR(http_exchange(lighttpd.client, &request, &lighttpd.reply, &lighttpd.err), ERR_OK,
                  &lighttpd.err);
        CHECK(lighttpd.reply.status >= 200);
    }
    teardown(&lighttpd);
    free(bytes);
}

TEST(http_lighttpd, comes_back_when_the_server_does)
{
    struct lighttpd lighttpd;
    REQUIRE(setup(&lighttpd));
    kill(lighttpd.pid, SIGKILL);
    waitpid(lighttpd.pid, NULL, 0);
    CHECK_ERR(ask(&lighttpd, "GET", "/file", ""), ERR_UPSTREAM_UNAVAILABLE, &lighttpd.err);
    lighttpd.pid = start(lighttpd.dir);
    enum err_code code = ERR_UPSTREAM_UNAVAILABLE;
    for (int i = 0; code != ERR_OK && i < 500; i++) {
        code = ask(&lighttpd, "GET", "/file", "");
        usleep(20000);
    }
    CHECK_ERR(code, ERR_OK, &lighttpd.err);
    CHECK_INT((int64_t)lighttpd.reply.body.len, FILE_BYTES);
    teardown(&lighttpd);
}
