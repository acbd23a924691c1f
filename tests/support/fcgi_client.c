#include "fcgi_client.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { TYPE_BEGIN = 1, TYPE_END = 3, TYPE_PARAMS = 4, TYPE_STDIN = 5, TYPE_STDOUT = 6 };
enum { HEADER_BYTES = 8, CONTENT_MAX = 65535, ROLE_RESPONDER = 1 };

int fcgi_client_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t len = strlen(path);
    if (fd < 0 || len >= sizeof address.sun_path)
        return -1;
    memcpy(address.sun_path, path, len + 1);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

static bool send_all(int fd, const void *data, size_t len)
{
    const char *at = data;
    while (len > 0) {
        ssize_t sent = send(fd, at, len, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        at += sent;
        len -= (size_t)sent;
    }
    return true;
}

static bool send_record(int fd, int type, const void *content, size_t len)
{
    const unsigned char header[HEADER_BYTES] = {
        1, (unsigned char)type, 0, 1, (unsigned char)(len >> 8), (unsigned char)len, 0, 0};
    return send_all(fd, header, sizeof header) && send_all(fd, content, len);
}

static size_t append_pair(char *target, const char *pair)
{
    const char *equals = strchr(pair, '=');
    size_t name_len = (size_t)(equals - pair);
    size_t value_len = strlen(equals + 1);
    size_t len = 0;
    target[len++] = (char)name_len; /* test names are short */
    if (value_len > 127)
        for (int shift = 24; shift >= 0; shift -= 8)
            target[len++] = (char)((value_len >> shift) | (shift == 24 ? 0x80 : 0));
    else
        target[len++] = (char)value_len;
    memcpy(target + len, pair, name_len);
    memcpy(target + len + name_len, equals + 1, value_len);
    return len + name_len + value_len;
}

bool fcgi_client_begin(int fd, const char *const *variables)
{
    static const unsigned char begin[8] = {0, ROLE_RESPONDER};
    char params[CONTENT_MAX];
    size_t len = 0;
    for (; *variables; variables++)
        len += append_pair(params + len, *variables);
    return send_record(fd, TYPE_BEGIN, begin, sizeof begin) &&
           send_record(fd, TYPE_PARAMS, params, len) && send_record(fd, TYPE_PARAMS, "", 0);
}

bool fcgi_client_body(int fd, const void *data, size_t len)
{
    return send_record(fd, TYPE_STDIN, data, len);
}

static bool read_all(int fd, void *target, size_t len)
{
    char *at = target;
    while (len > 0) {
        ssize_t got = read(fd, at, len);
        if (got <= 0)
            return false;
        at += got;
        len -= (size_t)got;
    }
    return true;
}

bool fcgi_client_answer(int fd, char *text, size_t size)
{
    unsigned char header[HEADER_BYTES];
    static char content[CONTENT_MAX + 256];
    size_t at = 0;
    text[0] = '\0';
    while (read_all(fd, header, sizeof header)) {
        size_t len = (size_t)header[4] << 8 | header[5];
        if (!read_all(fd, content, len + header[6]))
            return false;
        if (header[1] == TYPE_END)
            return true;
        if (header[1] != TYPE_STDOUT || at + len >= size)
            continue;
        memcpy(text + at, content, len);
        at += len;
        text[at] = '\0';
    }
    return false;
}
