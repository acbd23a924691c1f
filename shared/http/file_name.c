#include "base/text.h"
#include "http/disposition.h"

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
