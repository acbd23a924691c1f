#include "form.h"

void pieces_release(struct pieces *pieces)
{
    free(pieces->piece);
    pieces->piece = NULL;
}

enum err_code pieces_next(struct source *source, struct str *ret_piece, struct err *err)
{
    struct pieces *pieces = (struct pieces *)source;
    pieces_release(pieces);
    if (pieces->data.len == 0 && pieces->end != ERR_OK)
        return err_set(err, pieces->end, "pieces", "The client is gone.");
    size_t len = pieces->first ? pieces->first : pieces->step;
    if (len > pieces->data.len)
        len = pieces->data.len;
    pieces->first = 0;
    if (len > 0) {
        pieces->piece = malloc(len);
        if (!pieces->piece)
            abort();
        memcpy(pieces->piece, pieces->data.data, len);
        pieces->data.data += len;
    }
    pieces->data.len -= len;
    *ret_piece = (struct str){pieces->piece, len};
    return ERR_OK;
}

enum err_code form_read_part(struct multipart_part *part, struct buf *out, struct err *err)
{
    struct str piece;
    enum err_code code;
    buf_printf(out, "[%s", part->disposition.name);
    if (part->disposition.has_filename)
        buf_printf(out, " %s", buf_text(&part->disposition.filename));
    if (part->content_type[0])
        buf_printf(out, " (%s)", part->content_type);
    buf_append_char(out, '|');
    while ((code = source_next(part->source, &piece, err)) == ERR_OK && piece.len > 0)
        buf_append_str(out, piece);
    buf_append_char(out, ']');
    return code;
}

enum err_code form_read(const char *content_type, struct pieces *pieces, struct buf *out,
                        struct err *err)
{
    struct multipart *multipart = NULL;
    struct multipart_part *part = NULL;
    pieces->source.next = pieces_next;
    enum err_code code = multipart_open(&multipart, str_of(content_type), &pieces->source, err);
    while (code == ERR_OK) {
        code = multipart_next(multipart, &part, err);
        if (code != ERR_OK || !part)
            break;
        code = form_read_part(part, out, err);
    }
    multipart_close(multipart);
    pieces_release(pieces);
    return code;
}

enum err_code form_read_whole(const char *content_type, struct str body, struct buf *out,
                              struct err *err)
{
    struct pieces pieces = {.data = body, .step = SIZE_MAX};
    return form_read(content_type, &pieces, out, err);
}
