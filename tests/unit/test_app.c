/* The frame of a program, spoken to as the gateway does. Each test runs a program of its own. */
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "app/app.h"
#include "check.h"
#include "fcgi_client.h"

static enum err_code echo(struct app_ctx *ctx, struct err *err)
{
    struct str piece;
    for (;;) {
        enum err_code code = source_next(ctx->body, &piece, err);
        if (code != ERR_OK)
            return code;
        if (piece.len == 0)
            break;
        buf_append_str(&ctx->response.body, piece);
    }
    app_answer_json(ctx, 200);
    return ERR_OK;
}

static enum err_code fail(struct app_ctx *ctx, struct err *err)
{
    (void)ctx;
    return err_set_internal(err, ERR_INTERNAL, 0, "test", "secret words of the server");
}

static const struct endpoint endpoints[] = {
    {ROUTE_BATCH_DELETE, METHOD_BIT(METHOD_POST), ENDPOINT_OPEN, echo},
    {ROUTE_FILES, METHOD_BIT(METHOD_GET), ENDPOINT_OPEN, fail},
};

static const struct app test_app = {.name = "test_app",
                                    .endpoints = endpoints,
                                    .endpoint_count = sizeof endpoints / sizeof *endpoints};

/* Bodies come through libfcgi in one, straight from the connection in the other. */
static const struct app test_upload_app = {.name = "test_upload_app",
                                           .takes_uploads = true,
                                           .endpoints = endpoints,
                                           .endpoint_count = sizeof endpoints / sizeof *endpoints};

static const struct app *const apps[] = {&test_app, &test_upload_app};

struct program {
    pid_t pid;
    char socket_path[256];
};

static int listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || strlen(path) >= sizeof address.sun_path)
        return -1;
    memcpy(address.sun_path, path, strlen(path) + 1);
    bool bound = bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 64) == 0;
    return bound ? fd : -1;
}

static void set_environment(const char *folder)
{
    char path[256];
    snprintf(path, sizeof path, "%s/data", folder);
    setenv("DATA_DIR", path, 1);
    snprintf(path, sizeof path, "%s/run", folder);
    setenv("RUNTIME_DIR", path, 1);
    mkdir(path, 0700);
    setenv("WORKERS", "4", 1);
    setenv("UPLOAD_WORKERS", "4", 1);
    setenv("BODY_IDLE_SECONDS", "1", 1);
    setenv("STOP_GRACE_SECONDS", "5", 1);
    setenv("SANDBOX", "off", 1); /* it would keep coverage's files from being written */
}

static bool start(struct program *program, const struct app *app)
{
    struct config config;
    struct err err = {0};
    const char *folder = check_temp_dir();
    set_environment(folder);
    if (config_load(&config, &err) != ERR_OK ||
        storage_init(&config, &clock_system, &err) != ERR_OK ||
        metadata_init(&config, &clock_system, &err) != ERR_OK)
        return false;
    snprintf(program->socket_path, sizeof program->socket_path, "%s/s", folder);
    int fd = listen_at(program->socket_path);
    if (fd < 0)
        return false;
    program->pid = fork();
    if (program->pid == 0) {
        dup2(fd, 0);
        exit(app_run(app));
    }
    close(fd);
    return program->pid > 0;
}

/* The exit code after SIGTERM, or -1 when it did not exit by itself. */
static int stop(const struct program *program)
{
    int status = -1;
    kill(program->pid, SIGTERM);
    if (waitpid(program->pid, &status, 0) != program->pid || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

static int begin(const struct program *program, const char *method, const char *uri,
                 const char *content_length)
{
    char method_pair[64];
    char uri_pair[256];
    char path_pair[256];
    char length_pair[64];
    snprintf(method_pair, sizeof method_pair, "REQUEST_METHOD=%s", method);
    snprintf(uri_pair, sizeof uri_pair, "REQUEST_URI=%s", uri);
    snprintf(path_pair, sizeof path_pair, "PATH_INFO=%s", uri);
    snprintf(length_pair, sizeof length_pair, "CONTENT_LENGTH=%s", content_length);
    const char *const variables[] = {method_pair,
                                     uri_pair,
                                     path_pair,
                                     length_pair,
                                     "SCRIPT_NAME=",
                                     "HTTP_HOST=localhost",
                                     "REMOTE_ADDR=127.0.0.1",
                                     "HTTP_X_REQUEST_ID=rid-1",
                                     NULL};
    int fd = fcgi_client_connect(program->socket_path);
    if (fd >= 0 && !fcgi_client_begin(fd, variables)) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool call(const struct program *program, const char *method, const char *uri,
                 const char *body, char *answer, size_t size)
{
    char length[32];
    snprintf(length, sizeof length, "%zu", strlen(body));
    int fd = begin(program, method, uri, length);
    bool sent = fd >= 0 && (body[0] == '\0' || fcgi_client_body(fd, body, strlen(body))) &&
                fcgi_client_body(fd, "", 0);
    bool answered = sent && fcgi_client_answer(fd, answer, size);
    if (fd >= 0)
        close(fd);
    return answered;
}

static void answers_as_the_contract_says(const struct app *app)
{
    static const struct {
        const char *method;
        const char *uri;
        const char *body;
        const char *want[3];
    } rows[] = {
        {"POST", "/api/files/delete", "hello", {"Status: 200", "\r\n\r\nhello", "rid-1"}},
        {"GET", "/api/files", "", {"Status: 500", "\"code\":\"internal\"", "rid-1"}},
        {"PUT", "/api/files/delete", "", {"Status: 405", "Allow: POST, OPTIONS", "rid-1"}},
        {"OPTIONS", "/api/files/delete", "", {"Status: 204", "Allow: POST, OPTIONS", "rid-1"}},
        {"GET", "/nothing", "", {"Status: 404", "\"code\":\"not_found\"", "traceparent: 00-"}},
        {"GET", "/-/error", "", {"Status: 404", "not_found", "rid-1"}},
    };
    struct program program;
    char answer[8192];
    REQUIRE(start(&program, app));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK_ROW(rows[i].uri,
                  call(&program, rows[i].method, rows[i].uri, rows[i].body, answer, sizeof answer));
        for (size_t k = 0; k < 3; k++)
            CHECK_ROW(rows[i].want[k], strstr(answer, rows[i].want[k]) != NULL);
        CHECK(strstr(answer, "secret") == NULL);
    }
    CHECK_INT(stop(&program), 0);
}

static void survives_what_is_no_fastcgi(const struct app *app)
{
    static const unsigned char rows[][16] = {
        {0},
        {1, 1, 0, 1, 0, 8, 0, 0, 0, 9, 0},                      /* a role nobody has */
        {9, 1, 0, 1, 0, 8, 0, 0, 0, 1, 0},                      /* another version */
        {1, 4, 0, 1, 0xff, 0xff, 0, 0, 0x7f, 0xff, 0xff, 0xff}, /* lengths that overflow */
        {1, 4, 0, 1, 0xff, 0xff, 0, 0, 1, 1, 'a', 'b'},         /* breaks off */
        {'G', 'E', 'T', ' ', '/', ' ', 'H', 'T', 'T', 'P', '/', '1', '.', '1', '\r', '\n'},
    };
    struct program program;
    char answer[8192];
    REQUIRE(start(&program, app));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int repeat = 0; repeat < 8; repeat++) { /* more than there are workers */
            int fd = fcgi_client_connect(program.socket_path);
            REQUIRE(fd >= 0);
            CHECK(write(fd, rows[i], sizeof rows[i]) == (ssize_t)sizeof rows[i]);
            close(fd);
        }
    CHECK(call(&program, "POST", "/api/files/delete", "x", answer, sizeof answer));
    CHECK_INT(stop(&program), 0);
}

static void ends_bodies_that_stall_or_break_off(const struct app *app)
{
    struct program program;
    char answer[8192];
    REQUIRE(start(&program, app));
    int fd = begin(&program, "POST", "/api/files/delete", "100");
    REQUIRE(fd >= 0);
    CHECK(fcgi_client_body(fd, "abc", 3));
    CHECK(fcgi_client_answer(fd, answer, sizeof answer));
    CHECK(strstr(answer, "Status: 408") != NULL);
    CHECK(strstr(answer, "request_timeout") != NULL);
    close(fd);
    fd = begin(&program, "POST", "/api/files/delete", "100");
    REQUIRE(fd >= 0);
    CHECK(fcgi_client_body(fd, "abc", 3));
    close(fd);
    CHECK(call(&program, "POST", "/api/files/delete", "x", answer, sizeof answer));
    CHECK_INT(stop(&program), 0);
}

static void stops_at_once_and_finishes_what_runs(const struct app *app)
{
    char answer[8192];
    struct program program;
    for (int i = 0; i < 20; i++) { /* racing the workers' way back to accept, and idle */
        REQUIRE(start(&program, app));
        CHECK(call(&program, "POST", "/api/files/delete", "x", answer, sizeof answer));
        usleep((useconds_t)(i / 10 * i * 2000));
        CHECK_INT(stop(&program), 0);
    }
    REQUIRE(start(&program, app));
    int fd = begin(&program, "POST", "/api/files/delete", "5");
    REQUIRE(fd >= 0);
    CHECK(fcgi_client_body(fd, "he", 2));
    CHECK(call(&program, "POST", "/api/files/delete", "x", answer, sizeof answer));
    kill(program.pid, SIGTERM);
    usleep(300000);
    CHECK(fcgi_client_body(fd, "llo", 3) && fcgi_client_body(fd, "", 0));
    CHECK(fcgi_client_answer(fd, answer, sizeof answer));
    CHECK(strstr(answer, "\r\n\r\nhello") != NULL);
    close(fd);
    CHECK_INT(stop(&program), 0);
}

TEST(app, answers_and_refuses_as_the_contract_says)
{
    for (size_t i = 0; i < sizeof apps / sizeof *apps; i++)
        answers_as_the_contract_says(apps[i]);
}

TEST(app, survives_what_is_no_fastcgi)
{
    for (size_t i = 0; i < sizeof apps / sizeof *apps; i++)
        survives_what_is_no_fastcgi(apps[i]);
}

TEST(app, ends_a_body_that_stalls_with_408_and_one_that_breaks_off_without_a_word)
{
    for (size_t i = 0; i < sizeof apps / sizeof *apps; i++)
        ends_bodies_that_stall_or_break_off(apps[i]);
}

TEST(app, stop_is_never_lost_and_finishes_what_runs)
{
    for (size_t i = 0; i < sizeof apps / sizeof *apps; i++)
        stops_at_once_and_finishes_what_runs(apps[i]);
}

TEST(app, refuses_to_start_without_a_socket)
{
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(null, 2);
        exit(app_run(&test_app));
    }
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 2);
}
