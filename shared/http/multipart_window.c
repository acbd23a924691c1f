#include "http/multipart_window.h"

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

enum err_code window_fill(struct window *window, size_t want, struct err *err)
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

size_t delimiter_find(struct str text, struct str delimiter, bool *ret_whole)
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
