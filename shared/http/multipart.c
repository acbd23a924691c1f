#include "http/multipart.h"

#include "base/source.h"
#include "http/request.h"
#include "http/token.h"

/*
 * The bytes of a multipart body that are looked at: a fixed window that a source refills, and the
 * search for a delimiter in it.
 */

#define WINDOW_BYTES (64 * 1024)

struct window {
    struct source *source; /* borrowed */
    struct str piece;      /* what the source gave and did not fit yet */
    bool ended;            /* the source said so */
    size_t start;          /* bytes[start…end) wait to be used */
    size_t end;
    char bytes[WINDOW_BYTES];
};

static inline struct str window_rest(const struct window *window)
{
    return (struct str){window->bytes + window->start, window->end - window->start};
}

/*
 * Header values of multipart/form-data: the boundary of a body, the headers of a part. Pure
 * functions.
 */

/* Which headers of a part were seen: each at most once. */
struct part_headers {
    bool has_disposition;
    bool has_content_type;
    bool has_transfer_encoding;
    bool has_range;
    bool has_encoding;
};

static enum err_code malformed(struct err *err, const char *message)
{
    return err_set(err, ERR_BAD_MULTIPART, "multipart", "%s", message);
}

/* bchars of RFC 2046 §5.1.1 */
static bool is_boundary_byte(char byte)
{
    if ((byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
        (byte >= '0' && byte <= '9'))
        return true;
    return byte != '\0' && strchr("'()+_,-./:=? ", byte) != NULL;
}

static enum err_code check_boundary(struct str boundary, struct err *err)
{
    if (boundary.len == 0)
        return malformed(err, "The boundary is empty.");
    if (boundary.len > LIMIT_BOUNDARY_BYTES)
        return malformed(err, "The boundary is longer than 70 characters.");
    for (size_t i = 0; i < boundary.len; i++)
        if (!is_boundary_byte(boundary.data[i]))
            return malformed(err, "The boundary holds a character that RFC 2046 does not allow.");
    if (boundary.data[boundary.len - 1] == ' ')
        return malformed(err, "The boundary ends in a space.");
    return ERR_OK;
}

static enum err_code read_parameters(struct str rest, struct str *ret_boundary, struct err *err)
{
    struct parameter parameter;
    enum parameter_result result;
    bool found = false;
    while ((result = parameter_next(&rest, &parameter)) == PARAMETER_FOUND) {
        /* An escape here is read differently by different readers. */
        if (str_find(parameter.value, '\\') < parameter.value.len)
            return malformed(err, "Content-Type holds a backslash.");
        if (!str_equal_nocase(parameter.name, STR("boundary")))
            continue;
        if (found)
            return malformed(err, "Content-Type gives the boundary twice.");
        found = true;
        *ret_boundary = parameter.value;
    }
    if (result == PARAMETER_MALFORMED)
        return malformed(err, "The parameters of Content-Type are malformed.");
    return found ? ERR_OK : malformed(err, "Content-Type lacks the boundary.");
}

/* Copies the boundary of a Content-Type value into `target`. */
static enum err_code multipart_boundary(struct str content_type,
                                        char target[LIMIT_BOUNDARY_BYTES + 1], struct err *err)
{
    struct str boundary = {0};
    size_t type_len = str_find(content_type, ';');
    const struct str type = {content_type.data, type_len};
    if (!str_equal_nocase(str_trim(type), STR("multipart/form-data")))
        return err_set(err, ERR_UNSUPPORTED_MEDIA_TYPE, "multipart",
                       "Content-Type must be multipart/form-data.");
    const struct str rest = {content_type.data + type_len, content_type.len - type_len};
    enum err_code code = read_parameters(rest, &boundary, err);
    if (code == ERR_OK)
        code = check_boundary(boundary, err);
    if (code == ERR_OK && !str_copy(target, LIMIT_BOUNDARY_BYTES + 1, boundary))
        code = malformed(err, "The boundary is longer than 70 characters.");
    return code;
}

static enum err_code read_content_type(struct multipart_part *part, struct str value,
                                       struct err *err)
{
    if (!media_type_parse(value, part->content_type, sizeof part->content_type))
        part->content_type[0] = '\0';
    media_charset_parse(value, part->charset);
    if (strcmp(part->content_type, "multipart/mixed") == 0)
        return malformed(err, "A part is multipart/mixed.");
    return ERR_OK;
}

static enum err_code read_disposition(struct multipart_part *part, struct str value,
                                      struct err *err)
{
    disposition_release(&part->disposition);
    enum err_code code = disposition_parse(&part->disposition, value, err);
    if (code == ERR_OK && part->disposition.name[0] == '\0')
        code = malformed(err, "A part has no name.");
    return code;
}

/* RFC 7578 §4.7: senders should not. Only what changes no byte passes. */
static enum err_code read_transfer_encoding(struct multipart_part *part, struct str value,
                                            struct err *err)
{
    (void)part;
    if (str_equal_nocase(value, STR("binary")) || str_equal_nocase(value, STR("8bit")) ||
        str_equal_nocase(value, STR("7bit")))
        return ERR_OK;
    return malformed(err, "A part has a Content-Transfer-Encoding.");
}

/* RFC 7578 §4.8 has receivers ignore these two; but then a part of a file, or an encoded form of it,
 * would be taken for the file. */
static enum err_code read_range(struct multipart_part *part, struct str value, struct err *err)
{
    (void)part;
    (void)value;
    return malformed(err, "A part has a Content-Range: a file must be sent whole.");
}

static enum err_code read_encoding(struct multipart_part *part, struct str value, struct err *err)
{
    (void)part;
    if (content_coding_is_identity(value))
        return ERR_OK;
    return err_set(err, ERR_UNSUPPORTED_MEDIA_TYPE, "multipart",
                   "A part has a Content-Encoding; send it without one.");
}

/* Reads one header line, without its line end, into *part. */
static enum err_code multipart_header(struct multipart_part *part, struct part_headers *seen,
                                      struct str line, struct err *err)
{
    const struct {
        struct str name;
        bool *seen;
        enum err_code (*read)(struct multipart_part *part, struct str value, struct err *err);
    } readers[] = {
        {STR("Content-Disposition"), &seen->has_disposition, read_disposition},
        {STR("Content-Type"), &seen->has_content_type, read_content_type},
        {STR("Content-Transfer-Encoding"), &seen->has_transfer_encoding, read_transfer_encoding},
        {STR("Content-Range"), &seen->has_range, read_range},
        {STR("Content-Encoding"), &seen->has_encoding, read_encoding},
    };
    bool has_colon = str_find(line, ':') < line.len;
    struct str value = line;
    const struct str name = str_cut(&value, ':');
    if (!has_colon || !token_is(name))
        return malformed(err, "A header of a part is malformed.");
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) {
        if (!str_equal_nocase(name, readers[i].name))
            continue;
        if (*readers[i].seen)
            return malformed(err, "A header of a part is repeated.");
        *readers[i].seen = true;
        return readers[i].read(part, str_trim(value), err);
    }
    return ERR_OK;
}

static void move_to_front(struct window *window)
{
    size_t len = window->end - window->start;
    memmove(window->bytes, window->bytes + window->start, len);
    window->start = 0;
    window->end = len;
}

static void take_piece(struct window *window)
{
    size_t room = WINDOW_BYTES - window->end;
    size_t len = window->piece.len < room ? window->piece.len : room;
    memcpy(window->bytes + window->end, window->piece.data, len);
    window->end += len;
    window->piece.data += len;
    window->piece.len -= len;
}

/* Reads until `want` bytes (at most WINDOW_BYTES) wait or the source ended. What was handed out
 * before may move. */
static enum err_code window_fill(struct window *window, size_t want, struct err *err)
{
    enum err_code code = ERR_OK;
    if (want > WINDOW_BYTES - window->start)
        move_to_front(window);
    while (code == ERR_OK && window->end - window->start < want && !window->ended) {
        if (window->piece.len > 0) {
            take_piece(window);
            continue;
        }
        code = source_next(window->source, &window->piece, err);
        window->ended = code == ERR_OK && window->piece.len == 0;
    }
    return code;
}

/* Where `delimiter` ("\r\n--boundary") begins in `text`; else where an unfinished one begins at its
 * end; else text.len. *ret_whole says if it is all there. Linear: a delimiter holds one CR. */
static size_t delimiter_find(struct str text, struct str delimiter, bool *ret_whole)
{
    *ret_whole = false;
    for (size_t at = 0; at < text.len; at++) {
        const char *found = memchr(text.data + at, '\r', text.len - at);
        if (!found)
            return text.len;
        at = (size_t)(found - text.data);
        size_t left = text.len - at;
        size_t len = left < delimiter.len ? left : delimiter.len;
        /* Most CRs begin a line end or nothing: one look at the next byte spares the comparison. */
        if ((len < 2 || found[1] == '\n') && memcmp(found, delimiter.data, len) == 0) {
            *ret_whole = len == delimiter.len;
            return at;
        }
    }
    return text.len;
}

#define DELIMITER_PREFIX "\r\n--"
#define DELIMITER_BYTES_MAX (sizeof DELIMITER_PREFIX - 1 + LIMIT_BOUNDARY_BYTES)
#define PADDING_BYTES_MAX 64  /* blanks behind a boundary */
#define DATA_WANT (32 * 1024) /* a piece of a part is as long, but for the last */

enum multipart_state {
    STATE_PREAMBLE,
    STATE_DATA,      /* within a part */
    STATE_DELIMITER, /* behind a boundary */
    STATE_END,
    STATE_FAILED
};

struct multipart {
    struct source part_source; /* the first member: a part's source is its multipart */
    enum multipart_state state;
    struct err failure; /* STATE_FAILED: what every later call gives */
    size_t parts;
    /* A part's first bytes in the window that are not its data: the CRLF of the empty line, kept
     * because it may begin a delimiter. */
    size_t lead;
    struct multipart_part part;
    struct str delimiter; /* of delimiter_bytes */
    char delimiter_bytes[DELIMITER_BYTES_MAX + 1];
    struct window window;
};

static enum err_code failed(struct multipart *multipart, enum err_code code, const struct err *err)
{
    multipart->state = STATE_FAILED;
    multipart->failure = *err;
    return code;
}

/* Gives the part's next bytes; an empty piece is its end, and the delimiter is used up. */
static enum err_code read_data(struct multipart *multipart, struct str *ret_piece, struct err *err)
{
    struct window *window = &multipart->window;
    bool is_whole;
    enum err_code code = window_fill(window, DATA_WANT, err);
    if (code != ERR_OK)
        return code;
    const struct str rest = window_rest(window);
    size_t at = delimiter_find(rest, multipart->delimiter, &is_whole);
    if (at < multipart->lead && is_whole)
        return malformed(err, "A part has no body, not even an empty one.");
    if (at > multipart->lead) {
        *ret_piece = (struct str){rest.data + multipart->lead, at - multipart->lead};
        window->start += at;
        multipart->lead = 0;
        return ERR_OK;
    }
    if (!is_whole)
        return malformed(err, "The body ends before its closing boundary.");
    *ret_piece = (struct str){"", 0};
    window->start += at + multipart->delimiter.len;
    multipart->lead = 0;
    multipart->state = STATE_DELIMITER;
    return ERR_OK;
}

static enum err_code part_next(struct source *source, struct str *ret_piece, struct err *err)
{
    struct multipart *multipart = (struct multipart *)source;
    if (multipart->state == STATE_FAILED) {
        *err = multipart->failure;
        return err->code;
    }
    if (multipart->state != STATE_DATA) {
        *ret_piece = (struct str){"", 0};
        return ERR_OK;
    }
    enum err_code code = read_data(multipart, ret_piece, err);
    return code == ERR_OK ? ERR_OK : failed(multipart, code, err);
}

enum err_code multipart_open(struct multipart **ret_multipart, struct str content_type,
                             struct source *body, struct err *err)
{
    char boundary[LIMIT_BOUNDARY_BYTES + 1];
    enum err_code code = multipart_boundary(content_type, boundary, err);
    if (code != ERR_OK)
        return code;
    struct multipart *multipart = malloc(sizeof *multipart);
    if (!multipart)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "multipart", "cannot hold the window");
    /* All but the window's bytes: memory that no short body touches costs nothing. */
    memset(multipart, 0, offsetof(struct multipart, window.bytes));
    multipart->part_source.next = part_next;
    multipart->part.source = &multipart->part_source;
    buf_init(&multipart->part.disposition.filename, 0);
    int len = snprintf(multipart->delimiter_bytes, sizeof multipart->delimiter_bytes, "%s%s",
                       DELIMITER_PREFIX, boundary);
    multipart->delimiter = (struct str){multipart->delimiter_bytes, (size_t)len};
    multipart->window.source = body;
    /* The first boundary needs no line before it: one is put there, so that it looks like all. */
    memcpy(multipart->window.bytes, "\r\n", 2);
    multipart->window.end = 2;
    *ret_multipart = multipart;
    return ERR_OK;
}

void multipart_close(struct multipart *multipart)
{
    if (!multipart)
        return;
    disposition_release(&multipart->part.disposition);
    free(multipart);
}

static enum err_code skip_preamble(struct multipart *multipart, struct err *err)
{
    struct window *window = &multipart->window;
    bool is_whole;
    enum err_code code = window_fill(window, LIMIT_PREAMBLE_BYTES + multipart->delimiter.len, err);
    if (code != ERR_OK)
        return code;
    size_t at = delimiter_find(window_rest(window), multipart->delimiter, &is_whole);
    if (!is_whole || at > LIMIT_PREAMBLE_BYTES)
        return malformed(err, "The body does not begin with its boundary.");
    window->start += at + multipart->delimiter.len;
    return ERR_OK;
}

static enum err_code skip_data(struct multipart *multipart, struct err *err)
{
    enum err_code code = ERR_OK;
    while (code == ERR_OK && multipart->state == STATE_DATA) {
        struct str piece;
        code = read_data(multipart, &piece, err);
    }
    return code;
}

static enum err_code skip_padding(struct window *window, struct err *err)
{
    enum err_code code = window_fill(window, PADDING_BYTES_MAX + 2, err);
    if (code != ERR_OK)
        return code;
    size_t count = 0;
    while (count < PADDING_BYTES_MAX && window->start < window->end &&
           (window->bytes[window->start] == ' ' || window->bytes[window->start] == '\t')) {
        window->start++;
        count++;
    }
    return ERR_OK;
}

/* Reads the rest of a boundary's line. */
static enum err_code read_delimiter_line(struct window *window, bool *ret_closing, struct err *err)
{
    enum err_code code = window_fill(window, 2, err);
    if (code != ERR_OK)
        return code;
    bool is_closing = str_starts_with(window_rest(window), STR("--"));
    window->start += is_closing ? 2 : 0;
    code = skip_padding(window, err);
    if (code != ERR_OK)
        return code;
    bool is_end = is_closing && window->start == window->end;
    if (!is_end && !str_starts_with(window_rest(window), STR("\r\n")))
        return malformed(err, "Something follows a boundary on its line.");
    window->start += is_end ? 0 : 2;
    *ret_closing = is_closing;
    return ERR_OK;
}

/* What follows the closing boundary: short, and read to its end, for the promised length. */
static enum err_code skip_epilogue(struct window *window, struct err *err)
{
    enum err_code code = window_fill(window, LIMIT_PREAMBLE_BYTES + 1, err);
    if (code == ERR_OK && window->end - window->start > LIMIT_PREAMBLE_BYTES)
        code = malformed(err, "Too much follows the closing boundary.");
    window->start = window->end;
    return code;
}

/* Finds the line that begins at the window's start; it must end within `max` bytes. */
static enum err_code find_line(struct window *window, size_t max, struct str *ret_line,
                               struct err *err)
{
    size_t seen = 0;
    for (;;) {
        enum err_code code = window_fill(window, seen + 1, err);
        if (code != ERR_OK)
            return code;
        const struct str rest = window_rest(window);
        if (rest.len == seen)
            return malformed(err, "The body ends within the headers of a part.");
        const char *end = memchr(rest.data + seen, '\n', rest.len - seen);
        size_t len = end ? (size_t)(end - rest.data) + 1 : rest.len;
        if (len > max)
            return malformed(err, "The headers of a part are too long.");
        if (end) {
            *ret_line = (struct str){rest.data, len};
            return ERR_OK;
        }
        seen = rest.len;
    }
}

/* Takes one line, without its CRLF. Bare CR, bare LF and NUL are refused: readers differ there. */
static enum err_code take_line(struct window *window, size_t max, struct str *ret_line,
                               struct err *err)
{
    struct str line;
    enum err_code code = find_line(window, max, &line, err);
    if (code != ERR_OK)
        return code;
    size_t return_at = str_find(line, '\r');
    if (return_at + 2 != line.len || str_find(line, '\0') < line.len)
        return malformed(err, "A header of a part holds a bare CR, a bare LF or a NUL.");
    window->start += line.len;
    *ret_line = (struct str){line.data, return_at};
    return ERR_OK;
}

/* Up to and with the empty line. */
static enum err_code read_headers(struct multipart *multipart, struct err *err)
{
    const struct str dash_boundary = {multipart->delimiter.data + 2, multipart->delimiter.len - 2};
    struct part_headers seen = {.has_disposition = false};
    size_t left = LIMIT_PART_HEADER_BYTES;
    multipart->part.content_type[0] = '\0';
    multipart->part.charset[0] = '\0';
    disposition_release(&multipart->part.disposition);
    for (size_t count = 0;; count++) {
        struct str line;
        enum err_code code = take_line(&multipart->window, left, &line, err);
        if (code != ERR_OK)
            return code;
        if (line.len == 0)
            break;
        left -= line.len + 2;
        if (count == LIMIT_PART_HEADERS)
            return malformed(err, "A part has too many headers.");
        if (str_starts_with(line, dash_boundary))
            return malformed(err, "A part ends within its headers.");
        code = multipart_header(&multipart->part, &seen, line, err);
        if (code != ERR_OK)
            return code;
    }
    return seen.has_disposition ? ERR_OK : malformed(err, "A part has no Content-Disposition.");
}

static enum err_code begin_part(struct multipart *multipart, struct err *err)
{
    if (multipart->parts++ == LIMIT_PARTS)
        return malformed(err, "The body has too many parts.");
    enum err_code code = read_headers(multipart, err);
    if (code != ERR_OK)
        return code;
    multipart->lead = 2;
    multipart->window.start -= 2; /* take_line has just moved over the CRLF */
    multipart->state = STATE_DATA;
    return ERR_OK;
}

/* On success the state is STATE_DATA in the next part, or STATE_END. */
static enum err_code advance(struct multipart *multipart, struct err *err)
{
    bool is_closing = false;
    enum err_code code = ERR_OK;
    if (multipart->state == STATE_END)
        return ERR_OK;
    if (multipart->state == STATE_PREAMBLE)
        code = skip_preamble(multipart, err);
    else
        code = skip_data(multipart, err);
    if (code == ERR_OK)
        code = read_delimiter_line(&multipart->window, &is_closing, err);
    if (code != ERR_OK)
        return code;
    if (!is_closing)
        return begin_part(multipart, err);
    if (multipart->parts == 0)
        return malformed(err, "The body has no part.");
    multipart->state = STATE_END;
    return skip_epilogue(&multipart->window, err);
}

enum err_code multipart_next(struct multipart *multipart, struct multipart_part **ret_part,
                             struct err *err)
{
    if (multipart->state == STATE_FAILED) {
        *err = multipart->failure;
        return err->code;
    }
    enum err_code code = advance(multipart, err);
    if (code != ERR_OK)
        return failed(multipart, code, err);
    *ret_part = multipart->state == STATE_DATA ? &multipart->part : NULL;
    return ERR_OK;
}
