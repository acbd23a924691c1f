/*
 * Input: a Content-Type value, a line feed, the body. What the reader says must not depend on how
 * the body arrives: whole, byte by byte, or in uneven pieces.
 */
#include "fuzz.h"
#include "http/multipart.h"

enum cutting { CUT_NOWHERE, CUT_EVERYWHERE, CUT_UNEVENLY };

struct pieces {
    struct source source;
    struct str rest;
    enum cutting cutting;
    size_t count;
    char *piece; /* a copy that the next call frees */
};

struct outcome {
    enum err_code code;
    uint64_t hash; /* of all that was seen, in its order */
    size_t parts;
    size_t bytes;
};

static size_t piece_length(const struct pieces *pieces)
{
    static const size_t lengths[] = {1, 40, 2, 7, 1000, 3, 70000, 5};
    size_t len = SIZE_MAX;
    if (pieces->cutting == CUT_EVERYWHERE)
        len = 1;
    else if (pieces->cutting == CUT_UNEVENLY)
        len = lengths[pieces->count % (sizeof lengths / sizeof *lengths)];
    return len < pieces->rest.len ? len : pieces->rest.len;
}

static enum err_code pieces_next(struct source *source, struct str *ret_piece, struct err *err)
{
    struct pieces *pieces = (struct pieces *)source;
    size_t len = piece_length(pieces);
    (void)err;
    free(pieces->piece);
    pieces->piece = NULL;
    pieces->count++;
    if (len > 0) {
        pieces->piece = malloc(len);
        MUST(pieces->piece);
        memcpy(pieces->piece, pieces->rest.data, len);
        pieces->rest.data += len;
        pieces->rest.len -= len;
    }
    *ret_piece = (struct str){pieces->piece, len};
    return ERR_OK;
}

/* FNV-1a */
static void add(struct outcome *outcome, struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        outcome->hash = (outcome->hash ^ (unsigned char)text.data[i]) * UINT64_C(0x100000001B3);
}

static enum err_code read_part(struct multipart_part *part, struct outcome *outcome,
                               struct err *err)
{
    struct str piece;
    enum err_code code;
    MUST(part->disposition.name[0] != '\0');
    outcome->parts++;
    add(outcome, str_of(part->disposition.name));
    add(outcome, part->disposition.has_filename ? STR("|file|") : STR("|text|"));
    add(outcome, buf_str(&part->disposition.filename));
    add(outcome, str_of(part->content_type));
    while ((code = source_next(part->source, &piece, err)) == ERR_OK && piece.len > 0) {
        outcome->bytes += piece.len;
        add(outcome, piece);
    }
    add(outcome, STR("|end|"));
    return code;
}

static struct outcome read_form(struct str content_type, struct str body, enum cutting cutting,
                                bool reads_parts)
{
    struct pieces pieces = {.source = {pieces_next}, .rest = body, .cutting = cutting};
    struct outcome outcome = {.hash = UINT64_C(0xCBF29CE484222325)};
    struct multipart *multipart = NULL;
    struct multipart_part *part = NULL;
    struct err err = {.message = ""};
    outcome.code = multipart_open(&multipart, content_type, &pieces.source, &err);
    while (outcome.code == ERR_OK) {
        outcome.code = multipart_next(multipart, &part, &err);
        if (outcome.code != ERR_OK || !part)
            break;
        if (reads_parts)
            outcome.code = read_part(part, &outcome, &err);
    }
    if (outcome.code == ERR_OK)
        MUST(pieces.rest.len == 0);
    add(&outcome, str_of(err.message));
    multipart_close(multipart);
    free(pieces.piece);
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct str body = {(const char *)bytes, size};
    const struct str content_type = str_cut(&body, '\n');
    const struct outcome whole = read_form(content_type, body, CUT_NOWHERE, true);
    MUST(whole.bytes <= body.len);
    MUST(whole.parts <= LIMIT_PARTS);
    MUST(whole.code == ERR_OK || whole.code == ERR_BAD_MULTIPART || whole.code == ERR_BAD_NAME ||
         whole.code == ERR_UNSUPPORTED_MEDIA_TYPE);
    for (enum cutting cutting = CUT_EVERYWHERE; cutting <= CUT_UNEVENLY; cutting++) {
        const struct outcome cut = read_form(content_type, body, cutting, true);
        MUST(cut.code == whole.code);
        MUST(cut.hash == whole.hash);
        MUST(cut.parts == whole.parts);
    }
    MUST(read_form(content_type, body, CUT_UNEVENLY, false).code == whole.code);
    return 0;
}
