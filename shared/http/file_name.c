#include "base/text.h"
#include "http/disposition.h"

/* Unicode's Bidi_Control: they make a name look like another. */
static bool is_bidi(uint32_t code_point)
{
    return code_point == 0x061C || code_point == 0x200E || code_point == 0x200F ||
           (code_point >= 0x202A && code_point <= 0x202E) ||
           (code_point >= 0x2066 && code_point <= 0x2069);
}

static bool is_control(uint32_t code_point)
{
    return code_point < 0x20 || (code_point >= 0x7F && code_point < 0xA0);
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
        if (is_control(code_point) || is_bidi(code_point) || code_point == '/')
            return err_set(err, ERR_BAD_NAME, "name",
                           "The file name holds a control character or a slash.");
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
