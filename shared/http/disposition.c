#include "http/disposition.h"

#include "base/text.h"
#include "http/token.h"

#define PARAMETERS_MAX 8

static enum err_code malformed(struct err *err, const char *message)
{
    return err_set(err, ERR_BAD_MULTIPART, "disposition", "%s", message);
}

static enum err_code out_of_memory(struct err *err)
{
    return err_set_internal(err, ERR_NO_MEMORY, 0, "disposition", "cannot hold the name");
}

/* What a browser meant: \" is a quote, every other backslash is itself. */
static void append_unescaped(struct buf *out, const struct parameter *parameter)
{
    const struct str value = parameter->value;
    for (size_t i = 0; i < value.len; i++) {
        bool is_escape = parameter->quoted && value.data[i] == '\\' && i + 1 < value.len &&
                         value.data[i + 1] == '"';
        buf_append_char(out, value.data[i += is_escape]);
    }
}

static enum err_code read_name(struct disposition *disposition, const struct parameter *parameter,
                               struct err *err)
{
    struct buf text;
    buf_init(&text, sizeof disposition->name - 1);
    append_unescaped(&text, parameter);
    bool fits =
        !text.failed && str_copy(disposition->name, sizeof disposition->name, buf_str(&text));
    buf_release(&text);
    return fits ? ERR_OK : malformed(err, "The name of a part is too long or not text.");
}

/* "%00" is a NUL to programs that decode it, which cuts the name. */
static bool has_encoded_nul(struct str text)
{
    return text.len > 0 && memmem(text.data, text.len, "%00", 3) != NULL;
}

static enum err_code read_filename(struct disposition *disposition,
                                   const struct parameter *parameter, struct err *err)
{
    if (disposition->has_filename) /* filename* came first and wins */
        return ERR_OK;
    if (has_encoded_nul(parameter->value))
        return err_set(err, ERR_BAD_NAME, "disposition", "The file name holds an encoded NUL.");
    append_unescaped(&disposition->filename, parameter);
    disposition->has_filename = true;
    return disposition->filename.failed ? out_of_memory(err) : ERR_OK;
}

/* attr-char of RFC 8187 §3.2.1 */
static bool is_attribute(char byte)
{
    return token_has(byte) && byte != '*' && byte != '\'' && byte != '%';
}

static bool is_extended_value(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!is_attribute(text.data[i]) && text.data[i] != '%')
            return false;
    return true;
}

/* RFC 8187 §3.2: charset'language'value. It wins over a plain filename. */
static enum err_code read_extended(struct disposition *disposition,
                                   const struct parameter *parameter, struct err *err)
{
    struct str rest = parameter->value;
    const struct str charset = str_cut(&rest, '\'');
    bool has_language = str_find(rest, '\'') < rest.len;
    str_cut(&rest, '\'');
    if (parameter->quoted || !has_language || !str_equal_nocase(charset, STR("UTF-8")) ||
        !is_extended_value(rest))
        return malformed(err, "filename* is not of the form UTF-8''name.");
    buf_reset(&disposition->filename);
    disposition->has_filename = true;
    if (text_percent_decode(rest, false, &disposition->filename))
        return ERR_OK;
    return disposition->filename.failed ? out_of_memory(err)
                                        : malformed(err, "filename* has a malformed % escape.");
}

static const struct {
    struct str name;
    enum err_code (*read)(struct disposition *disposition, const struct parameter *parameter,
                          struct err *err);
} readers[] = {
    {{"name", 4}, read_name},
    {{"filename", 8}, read_filename},
    {{"filename*", 9}, read_extended},
};

/* Parameters of other names mean nothing here. */
static enum err_code read_parameter(struct disposition *disposition,
                                    const struct parameter *parameter, struct err *err)
{
    if (!parameter->quoted && !token_is(parameter->value))
        return malformed(err, "Content-Disposition of a part is malformed.");
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++)
        if (str_equal_nocase(parameter->name, readers[i].name))
            return readers[i].read(disposition, parameter, err);
    return ERR_OK;
}

static enum err_code read_parameters(struct disposition *disposition, struct str rest,
                                     struct err *err)
{
    struct str seen[PARAMETERS_MAX];
    struct parameter parameter;
    enum parameter_result result = PARAMETER_END;
    enum err_code code = ERR_OK;
    for (size_t count = 0; code == ERR_OK; count++) {
        result = parameter_next(&rest, &parameter);
        if (result != PARAMETER_FOUND)
            break;
        bool is_refused = count == PARAMETERS_MAX;
        for (size_t i = 0; i < count && !is_refused; i++)
            is_refused = str_equal_nocase(seen[i], parameter.name);
        if (is_refused)
            return malformed(err, "Content-Disposition of a part repeats a parameter.");
        seen[count] = parameter.name;
        code = read_parameter(disposition, &parameter, err);
    }
    if (result == PARAMETER_MALFORMED)
        return malformed(err, "Content-Disposition of a part is malformed.");
    return code;
}

enum err_code disposition_parse(struct disposition *disposition, struct str value, struct err *err)
{
    struct str rest = str_trim(value);
    size_t len = 0;
    *disposition = (struct disposition){.has_filename = false};
    buf_init(&disposition->filename, LIMIT_PART_HEADER_BYTES);
    while (len < rest.len && token_has(rest.data[len]))
        len++;
    if (!str_equal_nocase((struct str){rest.data, len}, STR("form-data")))
        return malformed(err, "Content-Disposition of a part is not form-data.");
    rest.data += len;
    rest.len -= len;
    return read_parameters(disposition, rest, err);
}

void disposition_release(struct disposition *disposition)
{
    buf_release(&disposition->filename);
    disposition->has_filename = false;
}

/* What a name falls back to where only ASCII is understood: "_" for all that could be misread,
 * "%" among it because some clients decode it (RFC 6266 appendix D). */
static bool append_fallback(struct buf *out, struct str name)
{
    bool is_exact = true;
    for (size_t at = 0; at < name.len;) {
        uint32_t code_point = 0;
        if (!text_utf8_next(name, &at, &code_point))
            at++;
        bool is_safe = code_point >= 0x20 && code_point < 0x7F && code_point != '"' &&
                       code_point != '\\' && code_point != '%';
        buf_append_char(out, is_safe ? (char)code_point : '_');
        is_exact = is_exact && is_safe;
    }
    return is_exact;
}

void disposition_write(struct buf *out, bool is_inline, struct str name)
{
    buf_append_text(out, is_inline ? "inline; filename=\"" : "attachment; filename=\"");
    bool is_exact = append_fallback(out, name);
    buf_append_char(out, '"');
    if (is_exact)
        return;
    buf_append_text(out, "; filename*=UTF-8''");
    text_percent_encode(name, "", out);
}

/* Unicode's explicit directional formatting characters (UAX #9 §2): with them a name looks like
 * another. The implicit marks (U+061C, U+200E, U+200F) order no other character; names of right-to-left
 * languages need them. */
static const struct {
    uint32_t code_point;
    const char *name;
} explicit_directions[] = {
    {0x202A, "left-to-right embedding"},    {0x202B, "right-to-left embedding"},
    {0x202C, "pop directional formatting"}, {0x202D, "left-to-right override"},
    {0x202E, "right-to-left override"},     {0x2066, "left-to-right isolate"},
    {0x2067, "right-to-left isolate"},      {0x2068, "first strong isolate"},
    {0x2069, "pop directional isolate"},
};

/* NULL: it may stand in a name. */
static const char *refused_kind(uint32_t code_point)
{
    if (code_point < 0x20 || (code_point >= 0x7F && code_point < 0xA0))
        return "control character";
    if (code_point == '/')
        return "slash";
    for (size_t i = 0; i < sizeof explicit_directions / sizeof *explicit_directions; i++)
        if (explicit_directions[i].code_point == code_point)
            return explicit_directions[i].name;
    return NULL;
}

enum err_code file_name_check(struct str name, struct err *err)
{
    if (name.len == 0 || str_equal(name, STR(".")) || str_equal(name, STR("..")))
        return err_set(err, ERR_BAD_NAME, "name", "The file has no name.");
    if (name.len > LIMIT_NAME_BYTES)
        return err_set(err, ERR_BAD_NAME, "name", "The file name is longer than %d bytes.",
                       LIMIT_NAME_BYTES);
    for (size_t at = 0; at < name.len;) {
        uint32_t code_point;
        if (!text_utf8_next(name, &at, &code_point))
            return err_set(err, ERR_BAD_NAME, "name", "The file name is not valid UTF-8.");
        const char *kind = refused_kind(code_point);
        if (kind)
            return err_set(err, ERR_BAD_NAME, "name", "The file name holds U+%04X (%s).",
                           (unsigned)code_point, kind);
    }
    return ERR_OK;
}

static struct str behind_last(struct str text, char byte)
{
    size_t start = text.len;
    while (start > 0 && text.data[start - 1] != byte)
        start--;
    return (struct str){start < text.len ? text.data + start : "", text.len - start};
}

static bool has_drive(struct str text)
{
    if (text.len < 3 || text.data[1] != ':' || text.data[2] != '\\')
        return false;
    char letter = (char)(text.data[0] | 0x20);
    return letter >= 'a' && letter <= 'z';
}

/* "..\" at the start or behind a backslash */
static bool climbs(struct str text)
{
    while (text.len > 0) {
        bool has_more = str_find(text, '\\') < text.len;
        if (str_equal(str_cut(&text, '\\'), STR("..")) && has_more)
            return true;
    }
    return false;
}

enum err_code file_name_from_path(struct str sent, char target[LIMIT_NAME_BYTES + 1],
                                  struct err *err)
{
    struct str name = behind_last(sent, '/');
    if (has_drive(name) || climbs(name))
        name = behind_last(name, '\\');
    enum err_code code = file_name_check(name, err);
    if (code == ERR_OK && !str_copy(target, LIMIT_NAME_BYTES + 1, name))
        code = err_set(err, ERR_BAD_NAME, "name", "The file name holds a NUL.");
    return code;
}

enum err_code file_name_decode(struct str raw_name, char *target, size_t size, struct err *err)
{
    struct buf name;
    buf_init(&name, LIMIT_QUERY_BYTES);
    enum err_code code = ERR_OK;
    if (!text_percent_decode(raw_name, false, &name))
        code = err_set(err, ERR_BAD_NAME, "name", "The name in the path is malformed.");
    else
        code = file_name_check(buf_str(&name), err);
    if (code == ERR_OK && target && !str_copy(target, size, buf_str(&name)))
        code = err_set(err, ERR_BAD_NAME, "name", "The name in the path is too long.");
    if (code != ERR_OK)
        err_subject(err, "parameter", STR("name"));
    buf_release(&name);
    return code;
}
