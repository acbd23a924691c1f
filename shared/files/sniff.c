#include "files/sniff.h"

#include <magic.h>
#include <pthread.h>

#include "base/str.h"

/* What libmagic may say for a declared type; a trailing "/" names the whole family. */
struct inline_type {
    const char *declared;
    const char *accepted[7];
};

/* What libmagic says of bytes that it does not know: no contradiction, except for images, whose
 * first bytes are fixed. */
#define MAGIC_UNKNOWN "application/octet-stream"
#define TEXT_PLAIN "text/plain"

static const struct inline_type inline_types[] = {
    {"image/png", {"image/png"}},
    {"image/jpeg", {"image/jpeg"}},
    {"image/gif", {"image/gif"}},
    {"image/webp", {"image/webp"}},
    {"image/avif", {"image/avif", "image/heif"}},
    {"audio/",
     {"audio/", "application/ogg", "video/mp4", "video/webm", "video/3gpp", MAGIC_UNKNOWN}},
    {"video/", {"video/", "application/ogg", "audio/", MAGIC_UNKNOWN}},
    {TEXT_PLAIN,
     {"text/", "application/json", "application/x-ndjson", "application/javascript", "message/",
      MAGIC_UNKNOWN}},
};

/* What begins with text and is none. The rest of what libmagic finds in text (subtitles, keys,
 * shortcuts, diffs) is text of a known kind, or a guess. */
static const char *const not_text[] = {"application/pdf", "image/gif"};

static pthread_mutex_t magic_mutex = PTHREAD_MUTEX_INITIALIZER;
static magic_t magic_cookie; /* guarded by magic_mutex; lives as long as the process */

static bool type_matches(struct str type, const char *pattern)
{
    struct str wanted = str_of(pattern);
    bool family = wanted.len > 0 && wanted.data[wanted.len - 1] == '/';
    return family ? str_starts_with(type, wanted) && type.len > wanted.len
                  : str_equal(type, wanted);
}

static const struct inline_type *find_inline_type(const char *mime)
{
    for (size_t i = 0; i < sizeof inline_types / sizeof *inline_types; i++)
        if (type_matches(str_of(mime), inline_types[i].declared))
            return &inline_types[i];
    return NULL;
}

bool mime_is_text(const char *mime)
{
    return type_matches(str_of(mime), "text/");
}

bool mime_may_be_inline(const char *mime)
{
    return find_inline_type(mime) != NULL;
}

static bool is_accepted(const struct inline_type *type, const char *found)
{
    for (size_t i = 0; i < sizeof type->accepted / sizeof *type->accepted; i++)
        if (type->accepted[i] && type_matches(str_of(found), type->accepted[i]))
            return true;
    return false;
}

/* Bytes that printable text of any charset consists of: no control characters but those of lines,
 * pages and terminals. UTF-16 and UTF-32 have others, and begin with a byte order mark. */
static bool looks_like_text(const unsigned char *head, size_t len)
{
    if (len >= 2 && ((head[0] == 0xFF && head[1] == 0xFE) || (head[0] == 0xFE && head[1] == 0xFF)))
        return true;
    for (size_t i = 0; i < len; i++)
        if (head[i] == 0x7F || (head[i] < 0x20 && !memchr("\b\t\n\v\f\r\x1B", head[i], 7)))
            return false;
    return true;
}

static bool is_judged_text(const char *found)
{
    for (size_t i = 0; i < sizeof not_text / sizeof *not_text; i++)
        if (strcmp(found, not_text[i]) == 0)
            return false;
    return true;
}

static bool agrees(const struct inline_type *type, const char *found, const void *head, size_t len)
{
    if (strcmp(type->declared, TEXT_PLAIN) == 0 && looks_like_text(head, len))
        return is_judged_text(found);
    return is_accepted(type, found);
}

/* With magic_mutex held. */
static magic_t open_magic(void)
{
    if (!magic_cookie) {
        magic_cookie = magic_open(MAGIC_MIME_TYPE | MAGIC_NO_CHECK_COMPRESS | MAGIC_NO_CHECK_TAR |
                                  MAGIC_NO_CHECK_CDF | MAGIC_NO_CHECK_ELF);
        if (magic_cookie && magic_load(magic_cookie, NULL) != 0) {
            magic_close(magic_cookie);
            magic_cookie = NULL;
        }
    }
    return magic_cookie;
}

bool mime_is_contradicted(const char *mime, const void *head, size_t head_len)
{
    const struct inline_type *type = find_inline_type(mime);
    if (!type || head_len == 0)
        return false;
    pthread_mutex_lock(&magic_mutex);
    magic_t magic = open_magic();
    const char *found = magic ? magic_buffer(magic, head, head_len) : NULL;
    bool contradicted = !found || !agrees(type, found, head, head_len);
    pthread_mutex_unlock(&magic_mutex);
    return contradicted;
}
