#include "files/upload_form.h"

#include <stddef.h>

#include "base/text.h"
#include "http/jsonio.h"
#include "http/request.h"

enum err_code visibility_parse(struct str text, enum visibility *ret_visibility, struct err *err)
{
    if (str_equal(text, STR("private")))
        *ret_visibility = VISIBILITY_PRIVATE;
    else if (str_equal(text, STR("public")))
        *ret_visibility = VISIBILITY_PUBLIC;
    else
        return err_set(err, ERR_BAD_PARAMETER, "visibility",
                       "visibility must be \"private\" or \"public\".");
    return ERR_OK;
}

static enum err_code set_visibility(struct create_request *request, struct str text,
                                    struct err *err)
{
    return visibility_parse(text, &request->visibility, err);
}

static enum err_code set_expires_in(struct create_request *request, struct str text,
                                    struct err *err)
{
    if (!text_parse_int(text, 1, LIMIT_EXPIRES_IN_SECONDS, &request->expires_in))
        return err_set(err, ERR_BAD_PARAMETER, "expiresIn",
                       "expiresIn must be a number of seconds from 1 to %d.",
                       LIMIT_EXPIRES_IN_SECONDS);
    return ERR_OK;
}

static enum err_code set_metadata(struct create_request *request, struct str text, struct err *err)
{
    cJSON *object = NULL;
    enum err_code code = jsonio_parse(text, &object, err);
    if (code == ERR_OK)
        code = jsonio_metadata(object, &request->metadata, err);
    cJSON_Delete(object);
    return code;
}

struct text_field {
    const char *name;
    enum err_code (*set)(struct create_request *request, struct str text, struct err *err);
};

static const struct text_field text_fields[] = {
    {"metadata", set_metadata},
    {"visibility", set_visibility},
    {"expiresIn", set_expires_in},
};
#define TEXT_FIELD_COUNT (sizeof text_fields / sizeof *text_fields)

static enum err_code read_text(struct source *source, struct buf *text, struct err *err)
{
    struct str piece;
    for (;;) {
        enum err_code code = source_next(source, &piece, err);
        if (code != ERR_OK || piece.len == 0)
            return code;
        buf_append_str(text, piece);
        if (text->failed)
            return err_set(err, ERR_BAD_MULTIPART, "multipart",
                           "A text part is larger than %d bytes.", LIMIT_TEXT_PART_BYTES);
    }
}

/* An empty text counts as absent: forms send every field they have. */
static enum err_code set_field(struct create_request *request, const struct text_field *field,
                               struct str text, struct err *err)
{
    return text.len == 0 ? ERR_OK : field->set(request, text, err);
}

static enum err_code refuse_part(struct err *err, const char *name, const char *message)
{
    err_set(err, ERR_BAD_MULTIPART, "multipart", "%s", message);
    err_subject(err, "part", str_of(name));
    return ERR_BAD_MULTIPART;
}

static enum err_code read_text_part(const struct multipart_part *part,
                                    struct create_request *request, unsigned *seen, struct err *err)
{
    size_t i = 0;
    const char *name = part->disposition.name;
    while (i < TEXT_FIELD_COUNT && strcmp(text_fields[i].name, name) != 0)
        i++;
    if (i == TEXT_FIELD_COUNT)
        return refuse_part(err, name,
                           "The form has only the parts metadata, visibility, expiresIn and file.");
    if (*seen & (1u << i))
        return refuse_part(err, name, "The part comes twice.");
    *seen |= 1u << i;

    struct buf text;
    buf_init(&text, LIMIT_TEXT_PART_BYTES);
    enum err_code code = read_text(part->source, &text, err);
    if (code == ERR_OK)
        code = set_field(request, &text_fields[i], buf_str(&text), err);
    if (code != ERR_OK && err_info(code)->status == 400)
        err_subject(err, "part", str_of(name));
    buf_release(&text);
    return code;
}

enum err_code upload_query_read(struct create_request *request, struct str raw, struct err *err)
{
    const char *names[TEXT_FIELD_COUNT + 1] = {NULL};
    struct query query;
    struct str value;
    for (size_t i = 0; i < TEXT_FIELD_COUNT; i++)
        names[i] = text_fields[i].name;
    enum err_code code = query_parse(&query, raw, names, err);
    for (size_t i = 0; i < TEXT_FIELD_COUNT && code == ERR_OK; i++) {
        if (query_get(&query, names[i], &value))
            code = set_field(request, &text_fields[i], value, err);
        if (code != ERR_OK)
            err_subject(err, "parameter", str_of(names[i]));
    }
    query_release(&query);
    return code;
}

static enum err_code begin_file(const struct multipart_part *part, struct create_request *request,
                                struct err *err)
{
    enum err_code code = ERR_OK;
    memcpy(request->mime, part->content_type, sizeof request->mime);
    memcpy(request->charset, part->charset, sizeof request->charset);
    if (!part->disposition.has_filename)
        code = err_set(err, ERR_BAD_NAME, "multipart", "The file part has no filename.");
    else
        code = file_name_from_path(buf_str(&part->disposition.filename), request->name, err);
    if (code != ERR_OK)
        err_subject(err, "part", STR("file"));
    return code;
}

/* The file part's end counts only when the closing boundary follows it. */
static enum err_code next_file_piece(struct source *source, struct str *ret_piece, struct err *err)
{
    struct upload_form *form =
        (struct upload_form *)(void *)((char *)source - offsetof(struct upload_form, file));
    if (!form->part) { /* the end was verified already */
        *ret_piece = (struct str){0};
        return ERR_OK;
    }
    enum err_code code = source_next(form->part->source, ret_piece, err);
    if (code != ERR_OK || ret_piece->len > 0)
        return code;
    code = multipart_next(form->multipart, &form->part, err);
    if (code == ERR_OK && form->part)
        return refuse_part(err, form->part->disposition.name,
                           "The part follows the file; text parts come before it.");
    return code;
}

enum err_code upload_form_open(struct upload_form *form, struct str content_type,
                               struct source *body, struct create_request *request, struct err *err)
{
    unsigned seen = 0;
    *form = (struct upload_form){.file = {next_file_piece}};
    enum err_code code = multipart_open(&form->multipart, content_type, body, err);
    while (code == ERR_OK) {
        code = multipart_next(form->multipart, &form->part, err);
        if (code != ERR_OK)
            break;
        if (!form->part)
            return refuse_part(err, "file", "The form has no part named \"file\".");
        if (strcmp(form->part->disposition.name, "file") == 0)
            return begin_file(form->part, request, err);
        code = read_text_part(form->part, request, &seen, err);
    }
    return code;
}

void upload_form_close(struct upload_form *form)
{
    multipart_close(form->multipart);
    form->multipart = NULL;
}
