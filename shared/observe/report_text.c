#include "observe/report_parts.h"

static const struct str mask = {"***", 3};

static bool is_name_byte(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte == '_' || byte == '-';
}

static bool ends_value(char byte)
{
    return byte <= ' ' || strchr("&;,\"'<>)]}", byte);
}

static bool is_secret_name(struct str name)
{
    static const char *const ends[] = {"password",  "passwd", "secret",        "token",
                                       "signature", "key",    "authorization", "credential"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        struct str end = str_of(ends[i]);
        if (name.len >= end.len &&
            str_equal_nocase((struct str){name.data + name.len - end.len, end.len}, end))
            return true;
    }
    return false;
}

/* How long the user and password are that stand at the start of an authority; 0: there are none. */
static size_t userinfo_length(struct str text)
{
    size_t last = 0;
    for (size_t i = 0; i < text.len && !ends_value(text.data[i]) && text.data[i] != '/'; i++)
        if (text.data[i] == '@')
            last = i;
    return last;
}

/* What a value is long that begins here; that of "Authorization: Bearer x" is two words. */
static size_t value_length(struct str text)
{
    size_t len = 0;
    while (len < text.len && (text.data[len] == ' ' || text.data[len] == '"'))
        len++;
    static const struct str schemes[] = {{"Bearer ", 7}, {"Basic ", 6}, {"Sentry ", 7}};
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
        if (text.len - len >= schemes[i].len &&
            str_equal_nocase((struct str){text.data + len, schemes[i].len}, schemes[i]))
            len += schemes[i].len;
    while (len < text.len && !ends_value(text.data[len]))
        len++;
    return len;
}

/* At a byte of punctuation: what of `rest` (behind it) is to be masked. */
static size_t secret_length(struct str before, char byte, struct str rest)
{
    size_t name = before.len;
    if (byte == '/' && before.len >= 2 && memcmp(before.data + before.len - 2, ":/", 2) == 0)
        return userinfo_length(rest);
    if (byte != '=' && byte != ':')
        return 0;
    while (name > 0 && is_name_byte(before.data[name - 1]))
        name--;
    if (!is_secret_name((struct str){before.data + name, before.len - name}))
        return 0;
    return value_length(rest);
}

void report_scrub(struct str text, struct buf *out)
{
    for (size_t at = 0; at < text.len; at++) {
        struct str before = {text.data, at};
        struct str rest = {text.data + at + 1, text.len - at - 1};
        size_t len = secret_length(before, text.data[at], rest);
        buf_append_char(out, text.data[at]);
        if (len > 0)
            buf_append_str(out, mask);
        at += len;
    }
}

/* Where the template has a name, the path has a file's; an unknown path may hold anything. */
struct str report_path(const char *route, struct str path)
{
    if (!route || route[0] != '/' || strstr(route, ":name"))
        return str_of(route);
    return path;
}
