/*
 * A client of the store itself, with nothing between: the limit of what a service on that store can
 * reach. One connection, kept alive, the next request after the last answer.
 *
 *     s3_direct put KEY FILE COUNT      one PUT each; KEY gets "-NUMBER" appended
 *     s3_direct get KEY BYTES COUNT     one GET each
 *     s3_direct fetch URL BYTES COUNT   one GET each, unsigned: the same reader before any server
 *
 * A PUT does what a careful client does: it hashes the body (SHA-256), signs that hash with the
 * rest of the request, and sends it; all of that is in its time, reading the file into memory is
 * not. It sends no further checksum and looks at nothing but the status. A GET is signed, and the
 * number of bytes that came is checked, not what they are. S3_ENDPOINT and the other settings come
 * from the environment as for the service. Prints the seconds of every request as a JSON array.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/digest.h"
#include "base/text.h"
#include "net/http_client.h"
#include "net/sigv4.h"

#define EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define TEXT_BYTES 8192
#define READ_BYTES (256 * 1024)
#define DEADLINE_MS 60000
#define COUNT_MAX 10000

struct direct {
    struct config config;
    struct http_client *client;
    struct str file;  /* what is sent */
    int64_t expected; /* bytes of an answer */
    char path[TEXT_BYTES];
    char piece[READ_BYTES];
};

static double now_seconds(void)
{
    return (double)clock_steady_ns(&clock_system) / 1e9;
}

/* The address and the signed headers of a request for direct->path. */
static enum err_code sign(const struct direct *direct, const char *method, const char *sha256,
                          struct buf *url, struct buf *headers, struct err *err)
{
    const struct config *config = &direct->config;
    const struct sigv4_credentials credentials = {.access_key = config->s3_access_key,
                                                  .secret_key = config->s3_secret_key,
                                                  .region = config->s3_region};
    const struct sigv4_request request = {.method = method,
                                          .host = strstr(config->s3_endpoint, "://") + 3,
                                          .path = str_of(direct->path),
                                          .payload_sha256 = sha256,
                                          .now_ms = clock_wall_ms(&clock_system)};

    buf_append_text(url, config->s3_endpoint);
    sigv4_target(&request, url);
    return sigv4_sign(&credentials, &request, headers, err);
}

static enum err_code bad_status(int status, struct err *err)
{
    return err_set_internal(err, ERR_STORAGE, 0, "exchange", "status %d", status);
}

static enum err_code send_file(struct direct *direct, struct buf *url, struct buf *headers,
                               struct err *err)
{
    unsigned char sha256[DIGEST_MAX_BYTES];
    char hex[2 * DIGEST_MAX_BYTES + 1];
    struct digest *digest = NULL;
    struct http_reply reply;
    enum err_code code = digest_open(&digest, DIGEST_SHA256, err);

    if (code != ERR_OK)
        return code;
    http_reply_init(&reply);
    digest_update(digest, direct->file.data, direct->file.len);
    code = digest_finish(digest, sha256, err);
    digest_close(digest);
    if (code == ERR_OK) {
        text_hex(sha256, DIGEST_MAX_BYTES, hex);
        code = sign(direct, "PUT", hex, url, headers, err);
    }
    const struct http_request request = {.method = "PUT",
                                         .url = buf_text(url),
                                         .headers = buf_str(headers),
                                         .body = direct->file,
                                         .deadline_ms = DEADLINE_MS,
                                         .attempts = 1,
                                         .max_body = TEXT_BYTES};
    if (code == ERR_OK)
        code = http_exchange(direct->client, &request, &reply, err);
    if (code == ERR_OK && reply.status != 200)
        code = bad_status(reply.status, err);
    http_reply_release(&reply);
    return code;
}

static enum err_code drain(struct direct *direct, struct http_stream *stream, struct err *err)
{
    int64_t all = 0;
    size_t len = 1;
    enum err_code code = ERR_OK;

    while (code == ERR_OK && len > 0) {
        code = http_stream_read(stream, direct->piece, sizeof direct->piece, &len, err);
        all += code == ERR_OK ? (int64_t)len : 0;
    }
    if (code == ERR_OK && all != direct->expected)
        code = err_set_internal(err, ERR_STORAGE, 0, "get", "%lld bytes came", (long long)all);
    return code;
}

static enum err_code fetch(struct direct *direct, const char *url, struct str headers,
                           struct err *err)
{
    const struct http_request request = {
        .method = "GET", .url = url, .headers = headers, .deadline_ms = DEADLINE_MS, .attempts = 1};
    struct http_stream *stream = NULL;
    struct http_reply reply;

    http_reply_init(&reply);
    enum err_code code = http_stream_open(direct->client, &request, &reply, &stream, err);
    if (code == ERR_OK)
        code = reply.status == 200 ? drain(direct, stream, err) : bad_status(reply.status, err);
    http_stream_close(stream);
    http_reply_release(&reply);
    return code;
}

static enum err_code once(struct direct *direct, const char *mode, const char *name, long number,
                          struct err *err)
{
    struct buf url;
    struct buf headers;
    enum err_code code;

    if (strcmp(mode, "fetch") == 0)
        return fetch(direct, name, STR(""), err);
    buf_init(&url, TEXT_BYTES);
    buf_init(&headers, TEXT_BYTES);
    if (strcmp(mode, "put") == 0) {
        snprintf(direct->path, sizeof direct->path, "/%s/%s-%ld", direct->config.s3_bucket, name,
                 number);
        code = send_file(direct, &url, &headers, err);
    } else {
        snprintf(direct->path, sizeof direct->path, "/%s/%s", direct->config.s3_bucket, name);
        code = sign(direct, "GET", EMPTY_SHA256, &url, &headers, err);
        if (code == ERR_OK)
            code = fetch(direct, buf_text(&url), buf_str(&headers), err);
    }
    buf_release(&url);
    buf_release(&headers);
    return code;
}

static enum err_code run(struct direct *direct, char **arguments, long count, struct err *err)
{
    double *seconds = calloc((size_t)count, sizeof *seconds);
    enum err_code code = ERR_OK;

    if (!seconds)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "run", "out of memory");
    for (long i = 0; code == ERR_OK && i < count; i++) {
        double start = now_seconds();

        code = once(direct, arguments[1], arguments[2], i, err);
        seconds[i] = now_seconds() - start;
    }
    for (long i = 0; code == ERR_OK && i < count; i++)
        printf("%s%.6f%s", i == 0 ? "[" : ", ", seconds[i], i + 1 == count ? "]\n" : "");
    free(seconds);
    return code;
}

/* The whole file in memory, every page of it there. */
static enum err_code map_file(const char *path, struct str *ret_file, struct err *err)
{
    struct stat info;
    void *data = MAP_FAILED;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd >= 0 && fstat(fd, &info) == 0)
        data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (fd >= 0)
        close(fd);
    if (data == MAP_FAILED)
        return err_set_internal(err, ERR_STORAGE, 0, "open", "%s cannot be read", path);
    *ret_file = (struct str){data, (size_t)info.st_size};
    return ERR_OK;
}

static enum err_code prepare(struct direct *direct, char **arguments, struct err *err)
{
    const struct http_client_options options = {
        .clock = &clock_system, .connect_ms = 5000, .stall_ms = DEADLINE_MS, .idle_connections = 1};
    enum err_code code = config_load(&direct->config, err);

    if (code == ERR_OK && strcmp(arguments[1], "put") == 0)
        code = map_file(arguments[3], &direct->file, err);
    else
        direct->expected = strtoll(arguments[3], NULL, 10);
    if (code == ERR_OK)
        code = http_client_open(&direct->client, &options, err);
    return code;
}

static bool is_mode(const char *text)
{
    return strcmp(text, "put") == 0 || strcmp(text, "get") == 0 || strcmp(text, "fetch") == 0;
}

int main(int argc, char **argv)
{
    static struct direct direct;
    struct err err;
    long count = argc == 5 && is_mode(argv[1]) ? strtol(argv[4], NULL, 10) : 0;

    if (count < 1 || count > COUNT_MAX) {
        fputs("usage: s3_direct put KEY FILE COUNT\n"
              "       s3_direct get KEY BYTES COUNT\n"
              "       s3_direct fetch URL BYTES COUNT\n",
              stderr);
        return EXIT_FAILURE;
    }
    enum err_code code = prepare(&direct, argv, &err);
    if (code == ERR_OK)
        code = run(&direct, argv, count, &err);
    if (code != ERR_OK)
        fprintf(stderr, "s3_direct: %s: %s\n", err.operation, err.message);
    http_client_close(direct.client);
    if (direct.file.data)
        munmap((void *)(uintptr_t)direct.file.data, direct.file.len);
    return code == ERR_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
