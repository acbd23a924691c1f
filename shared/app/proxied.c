#include "app/proxied.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/text.h"

#define BUFFER_BYTES (128UL * 1024)
#define HEAD_MAX (24UL * 1024)
#define TEXT_MAX (64UL * 1024) /* variables: the head, its target twice, and names */
#define CHUNK_LINE_MAX 32      /* hexadecimal digits and a line end: lighttpd sends no extensions */
#define REST_BYTES (256L * 1024) /* of a body that is refused and nearly there */
#define REST_MS 100
#define FINISH_MS 2000               /* lighttpd closes when it has read the answer */
#define NAME_PATH "/api/files/pipe/" /* a slash in {name} arrives decoded */

bool proxied_begins(const unsigned char *bytes, size_t len)
{
    return len > 0 && bytes[0] >= 'A' && bytes[0] <= 'Z';
}

/* -- the head ----------------------------------------------------------------------------------- */

static bool fill(struct proxied *proxied)
{
    if (proxied->start > 0) {
        memmove(proxied->buffer, proxied->buffer + proxied->start, proxied->end - proxied->start);
        proxied->end -= proxied->start;
        proxied->start = 0;
    }
    if (proxied->end == BUFFER_BYTES)
        return false;
    ssize_t len = recv(proxied->fd, proxied->buffer + proxied->end, BUFFER_BYTES - proxied->end,
                       proxied->is_refused ? MSG_DONTWAIT : 0);
    if (len <= 0)
        return false;
    proxied->end += (size_t)len;
    return true;
}

/* The bytes up to `mark`, which is taken too; false when it does not come within `max` bytes. */
static bool take_until(struct proxied *proxied, struct str mark, size_t max, struct str *ret_text)
{
    for (;;) {
        const char *begin = proxied->buffer + proxied->start;
        size_t here = proxied->end - proxied->start;
        const char *found = memmem(begin, here, mark.data, mark.len);
        if (found) {
            *ret_text = (struct str){begin, (size_t)(found - begin)};
            proxied->start += ret_text->len + mark.len;
            return ret_text->len <= max;
        }
        if (here > max + mark.len || !fill(proxied))
            return false;
    }
}

/* Begins a variable; its value is appended to the text, then end_variable ends it. */
static void begin_variable(struct proxied *proxied)
{
    if (proxied->variable_count == PROXIED_VARIABLES)
        proxied->text.failed = true;
    else
        proxied->offsets[proxied->variable_count++] = proxied->text.len;
}

static void end_variable(struct proxied *proxied)
{
    buf_append_char(&proxied->text, '\0');
}

static void add_variable(struct proxied *proxied, const char *name, struct str value)
{
    begin_variable(proxied);
    buf_printf(&proxied->text, "%s=", name);
    buf_append_str(&proxied->text, value);
    end_variable(proxied);
}

/* RFC 3875 §4.1.18, as lighttpd does it. */
static void add_header(struct proxied *proxied, struct str name, struct str value)
{
    begin_variable(proxied);
    buf_append_text(&proxied->text, "HTTP_");
    for (size_t i = 0; i < name.len; i++) {
        char byte = name.data[i];
        bool is_lower = byte >= 'a' && byte <= 'z';
        bool is_kept = (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9');
        buf_append_char(&proxied->text, is_lower ? (char)(byte - 'a' + 'A') : is_kept ? byte : '_');
    }
    buf_append_char(&proxied->text, '=');
    buf_append_str(&proxied->text, value);
    end_variable(proxied);
}

static void add_addresses(struct proxied *proxied, struct str addresses)
{
    size_t start = addresses.len;
    while (start > 0 && addresses.data[start - 1] != ',')
        start--;
    add_variable(proxied, "REMOTE_ADDR",
                 str_trim((struct str){addresses.data + start, addresses.len - start}));
    if (start > 0)
        add_header(proxied, STR("X-Forwarded-For"), (struct str){addresses.data, start - 1});
}

static bool is_lighttpds_own(struct str name)
{
    static const char *const names[] = {"Connection", "X-Forwarded-Host", "X-Forwarded-Proto",
                                        "X-Host"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_equal_nocase(name, str_of(names[i])))
            return true;
    return false;
}

static bool take_header(struct proxied *proxied, struct str line)
{
    struct str value = line;
    const struct str name = str_cut(&value, ':');
    value = str_trim(value);
    if (str_equal_nocase(name, STR("Transfer-Encoding"))) {
        proxied->is_chunked = str_equal_nocase(value, STR("chunked"));
        return proxied->is_chunked;
    }
    if (str_equal_nocase(name, STR("Content-Length"))) {
        add_variable(proxied, "CONTENT_LENGTH", value);
        return text_parse_int(value, 0, INT64_MAX, &proxied->left);
    }
    if (str_equal_nocase(name, STR("Content-Type")))
        add_variable(proxied, "CONTENT_TYPE", value);
    else if (str_equal_nocase(name, STR("X-Forwarded-For")))
        add_addresses(proxied, value);
    else if (!is_lighttpds_own(name))
        add_header(proxied, name, value);
    return true;
}

/* lighttpd sends the target with "%2F" decoded: what stands behind the route is one segment. */
static void add_target(struct proxied *proxied, struct str target)
{
    struct str query = target;
    struct str path = str_cut(&query, '?');
    const struct str known = STR(NAME_PATH);
    begin_variable(proxied);
    buf_append_text(&proxied->text, "REQUEST_URI=");
    for (size_t i = 0; i < target.len; i++) {
        bool is_in_name = i >= known.len && i < path.len && str_starts_with(path, known);
        if (is_in_name && target.data[i] == '/')
            buf_append_text(&proxied->text, "%2F");
        else
            buf_append_char(&proxied->text, target.data[i]);
    }
    end_variable(proxied);
    struct buf plain;
    buf_init(&plain, HEAD_MAX);
    bool is_decoded = text_percent_decode(path, false, &plain);
    add_variable(proxied, "PATH_INFO", is_decoded ? buf_str(&plain) : path);
    buf_release(&plain);
    add_variable(proxied, "SCRIPT_NAME", STR(""));
}

static bool take_request_line(struct proxied *proxied, struct str line)
{
    const struct str method = str_cut(&line, ' ');
    const struct str target = str_cut(&line, ' ');
    if (target.len == 0 || target.data[0] != '/' || !str_starts_with(line, STR("HTTP/1.")))
        return false;
    add_variable(proxied, "REQUEST_METHOD", method);
    add_target(proxied, target);
    return true;
}

static bool take_lines(struct proxied *proxied, struct str head)
{
    bool is_sound = true;
    struct str line = str_cut(&head, '\n');
    is_sound = take_request_line(proxied, (struct str){line.data, line.len - (line.len > 0)});
    while (is_sound && head.len > 0) {
        line = str_cut(&head, '\n');
        if (line.len > 0 && line.data[line.len - 1] == '\r')
            line.len--;
        is_sound = take_header(proxied, line);
    }
    return is_sound && !proxied->text.failed;
}

static void point_at_variables(struct proxied *proxied)
{
    for (size_t i = 0; i < proxied->variable_count; i++)
        proxied->variables[i] = proxied->text.data + proxied->offsets[i];
    proxied->variables[proxied->variable_count] = NULL;
}

bool proxied_read_head(struct proxied *proxied, int fd, const atomic_bool *timed_out)
{
    struct str head;
    *proxied = (struct proxied){.fd = fd, .buffer = malloc(BUFFER_BYTES)};
    buf_init(&proxied->text, TEXT_MAX);
    if (!proxied->buffer || !take_until(proxied, STR("\r\n\r\n"), HEAD_MAX, &head) ||
        atomic_load(timed_out) || !take_lines(proxied, head))
        return false;
    point_at_variables(proxied);
    return true;
}

void proxied_release(struct proxied *proxied)
{
    free(proxied->buffer);
    buf_release(&proxied->text);
    *proxied = (struct proxied){.fd = -1};
}

/* -- the body ----------------------------------------------------------------------------------- */

static bool read_chunk_line(struct proxied *proxied)
{
    struct str line;
    if (proxied->in_chunk && (!take_until(proxied, STR("\r\n"), 0, &line)))
        return false;
    if (!take_until(proxied, STR("\r\n"), CHUNK_LINE_MAX, &line) || line.len == 0 || line.len > 15)
        return false;
    int64_t size = 0;
    for (size_t i = 0; i < line.len; i++) {
        char byte = line.data[i];
        int digit = byte >= '0' && byte <= '9'   ? byte - '0'
                    : byte >= 'a' && byte <= 'f' ? byte - 'a' + 10
                    : byte >= 'A' && byte <= 'F' ? byte - 'A' + 10
                                                 : -1;
        if (digit < 0)
            return false;
        size = size << 4 | digit;
    }
    proxied->in_chunk = true;
    proxied->left = size;
    if (size == 0) /* no trailers: lighttpd sends none */
        proxied->is_complete = take_until(proxied, STR("\r\n"), 0, &line);
    return size > 0;
}

struct str proxied_body_next(struct proxied *proxied)
{
    const struct str nothing = {0};
    if (proxied->is_complete)
        return nothing;
    if (proxied->left == 0 && !proxied->is_chunked) {
        proxied->is_complete = true;
        return nothing;
    }
    if (proxied->left == 0 && !read_chunk_line(proxied))
        return nothing;
    if (proxied->start == proxied->end && !fill(proxied))
        return nothing;
    struct str piece = {proxied->buffer + proxied->start, proxied->end - proxied->start};
    if ((int64_t)piece.len > proxied->left)
        piece.len = (size_t)proxied->left;
    proxied->start += piece.len;
    proxied->left -= (int64_t)piece.len;
    return piece;
}

/* -- the answer --------------------------------------------------------------------------------- */

static bool write_all(int fd, struct str piece, struct watch *watch)
{
    while (piece.len > 0) {
        if (atomic_load(&watch->timed_out) && piece.len > BUFFER_BYTES)
            return false;
        ssize_t written = send(fd, piece.data, piece.len, MSG_NOSIGNAL);
        if (written < 0 && errno != EINTR)
            return false;
        if (written > 0) {
            piece.data += written;
            piece.len -= (size_t)written;
        }
    }
    return true;
}

/* lighttpd closes the client's connection behind an answer that comes before the end of the body, and
 * mod_proxy does not say so in the answer: a short body is read first, so that the next request on the
 * connection is answered. */
static void take_short_rest(struct proxied *proxied)
{
    struct pollfd poll_fd = {.fd = proxied->fd, .events = POLLIN};
    long taken = 0;
    proxied->is_refused = !proxied->is_complete;
    for (int tries = 0; tries < REST_MS && taken < REST_BYTES && !proxied->is_complete; tries++) {
        bool has_bytes = proxied->start < proxied->end || poll(&poll_fd, 1, 1) > 0;
        struct str piece = has_bytes ? proxied_body_next(proxied) : (struct str){0};
        if (has_bytes && piece.len == 0)
            return;
        taken += (long)piece.len;
    }
}

bool proxied_send(struct proxied *proxied, struct str piece, struct watch *watch)
{
    const struct str cgi = STR("Status: ");
    bool is_sent = true;
    atomic_store(&watch->writing, true);
    if (!proxied->head_sent && str_starts_with(piece, cgi)) {
        if (!atomic_load(&watch->timed_out))
            take_short_rest(proxied);
        proxied->head_sent = true;
        is_sent = write_all(proxied->fd, STR("HTTP/1.1 "), watch);
        piece.data += cgi.len;
        piece.len -= cgi.len;
    }
    is_sent = is_sent && write_all(proxied->fd, piece, watch);
    atomic_store(&watch->writing, false);
    return is_sent;
}

void proxied_finish(struct proxied *proxied)
{
    struct pollfd poll_fd = {.fd = proxied->fd, .events = POLLIN};
    shutdown(proxied->fd, SHUT_WR);
    while (poll(&poll_fd, 1, FINISH_MS) > 0)
        if (read(proxied->fd, proxied->buffer, BUFFER_BYTES) <= 0)
            return;
}
