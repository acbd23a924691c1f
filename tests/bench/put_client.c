/*
 * Sends a file with PUT over connections that are kept alive, the next request after the last
 * answer; the kernel sends it from the page cache (sendfile), so that the client costs little.
 * Prints the seconds of every request as a JSON array; ends with failure on any answer but 2xx.
 *
 *     put_client PORT PATH FILE CONNECTIONS REQUESTS [TYPE]
 *
 * PATH gets "-CONNECTION-REQUEST" appended; REQUESTS is per connection. With TYPE it is a POST of
 * that content type instead, to PATH as it stands.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_CONNECTIONS 256
#define ANSWER_BYTES 16384

struct upload {
    int port;
    const char *path;
    const char *type; /* NULL: PUT */
    int file;
    off_t size;
    long requests;
};

struct connection {
    const struct upload *upload;
    pthread_t thread;
    int number;
    double *seconds; /* [requests], owned by main */
    bool ok;
};

static double now_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int dial(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0)
        return -1;
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0)
        return fd;
    close(fd);
    return -1;
}

static bool send_head(int fd, const struct connection *connection, long request)
{
    const struct upload *upload = connection->upload;
    char head[1024];
    char suffix[32] = "";
    int len;

    if (!upload->type)
        snprintf(suffix, sizeof(suffix), "-%d-%ld", connection->number, request);
    len =
        snprintf(head, sizeof(head),
                 "%s %s%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
                 "Content-Type: %s\r\nContent-Length: %lld\r\n\r\n",
                 upload->type ? "POST" : "PUT", upload->path, suffix, upload->port,
                 upload->type ? upload->type : "application/octet-stream", (long long)upload->size);

    return len > 0 && (size_t)len < sizeof(head) && send(fd, head, (size_t)len, MSG_MORE) == len;
}

static bool send_body(int fd, const struct upload *upload)
{
    off_t at = 0;

    while (at < upload->size) {
        ssize_t sent = sendfile(fd, upload->file, &at, (size_t)(upload->size - at));

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return false;
    }
    return true;
}

/* The length of the body that is still to come, or -1 while the head is incomplete. */
static long missing_bytes(const char *answer, size_t len)
{
    const char *end = strstr(answer, "\r\n\r\n");
    const char *field = end ? strcasestr(answer, "\r\nContent-Length:") : NULL;
    long length = 0;

    if (end == NULL)
        return -1;
    if (field != NULL && field < end)
        length = strtol(field + strlen("\r\nContent-Length:"), NULL, 10);
    return length - (long)(len - (size_t)(end + 4 - answer));
}

/* Reads one answer whole; false unless it is 2xx. */
static bool read_answer(int fd)
{
    char answer[ANSWER_BYTES + 1];
    size_t len = 0;

    while (len < ANSWER_BYTES) {
        ssize_t got = recv(fd, answer + len, ANSWER_BYTES - len, 0);

        if (got <= 0)
            break;
        len += (size_t)got;
        answer[len] = '\0';
        if (missing_bytes(answer, len) == 0)
            return strncmp(answer, "HTTP/1.1 2", 10) == 0;
    }
    answer[len] = '\0';
    fprintf(stderr, "put_client: unexpected answer: %.300s\n", answer);
    return false;
}

static bool put_once(int fd, struct connection *connection, long request)
{
    double start = now_seconds();
    bool sent = send_head(fd, connection, request) && send_body(fd, connection->upload);
    bool answered = read_answer(fd);

    connection->seconds[request] = now_seconds() - start;
    return sent && answered;
}

static void *work(void *argument)
{
    struct connection *connection = argument;
    int fd = dial(connection->upload->port);

    connection->ok = fd >= 0;
    for (long request = 0; connection->ok && request < connection->upload->requests; request++)
        connection->ok = put_once(fd, connection, request);
    if (fd >= 0)
        close(fd);
    return NULL;
}

static int run(const struct upload *upload, struct connection *connections, int count)
{
    double *seconds = calloc((size_t)count * (size_t)upload->requests, sizeof(*seconds));
    int status = seconds != NULL ? EXIT_SUCCESS : EXIT_FAILURE;
    int started = 0;

    for (; status == EXIT_SUCCESS && started < count; started++) {
        connections[started] = (struct connection){
            .upload = upload, .number = started, .seconds = seconds + started * upload->requests};
        if (pthread_create(&connections[started].thread, NULL, work, &connections[started]) != 0) {
            status = EXIT_FAILURE;
            break;
        }
    }
    for (int i = 0; i < started; i++) {
        pthread_join(connections[i].thread, NULL);
        if (!connections[i].ok)
            status = EXIT_FAILURE;
    }
    for (long i = 0; status == EXIT_SUCCESS && i < count * upload->requests; i++)
        printf("%s%.6f", i == 0 ? "[" : ", ", seconds[i]);
    if (status == EXIT_SUCCESS)
        puts("]");
    free(seconds);
    return status;
}

int main(int argc, char **argv)
{
    static struct connection connections[MAX_CONNECTIONS];
    struct upload upload = {.file = -1};
    struct stat info;
    long count = argc == 6 || argc == 7 ? strtol(argv[4], NULL, 10) : 0;
    int status = EXIT_FAILURE;

    if (count < 1 || count > MAX_CONNECTIONS || (upload.requests = strtol(argv[5], NULL, 10)) < 1) {
        fputs("usage: put_client PORT PATH FILE CONNECTIONS REQUESTS [TYPE]\n", stderr);
        return EXIT_FAILURE;
    }
    signal(SIGPIPE, SIG_IGN);
    upload.port = (int)strtol(argv[1], NULL, 10);
    upload.path = argv[2];
    upload.type = argc == 7 ? argv[6] : NULL;
    upload.file = open(argv[3], O_RDONLY | O_CLOEXEC);
    if (upload.file < 0 || fstat(upload.file, &info) != 0) {
        perror(argv[3]);
        goto out;
    }
    upload.size = info.st_size;
    status = run(&upload, connections, (int)count);
out:
    if (upload.file >= 0)
        close(upload.file);
    return status;
}
