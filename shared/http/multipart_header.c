#include "http/multipart_header.h"

#include "http/request.h"
#include "http/token.h"

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

enum err_code multipart_boundary(struct str content_type, char target[LIMIT_BOUNDARY_BYTES + 1],
                                 struct err *err)
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

enum err_code multipart_header(struct multipart_part *part, struct part_headers *seen,
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
