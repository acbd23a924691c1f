#include <string.h>

#include "base/text.h"
#include "http/route_match.h"

/* Takes the last segment off; at the root there is none. */
static size_t climb(const char *target, size_t len)
{
    while (len > 0 && target[len - 1] != '/')
        len--;
    return len > 0 ? len - 1 : 0;
}

/* As lighttpd's buffer_path_simplify; a trailing slash stays. `target` has room for `path`. */
static size_t simplify(struct str path, char *target)
{
    size_t len = 0;
    struct str rest = path;
    while (rest.len > 0) {
        bool is_last = str_find(rest, '/') == rest.len;
        struct str segment = str_cut(&rest, '/');
        bool is_up = str_equal(segment, STR(".."));
        if (is_up)
            len = climb(target, len);
        bool is_name = segment.len > 0 && !is_up && !str_equal(segment, STR("."));
        if (is_name) {
            target[len++] = '/';
            memcpy(target + len, segment.data, segment.len);
            len += segment.len;
        }
        if ((is_last && !is_name) || (!is_last && rest.len == 0))
            target[len++] = '/';
    }
    return len;
}

struct route_found route_match_raw(struct str path, char room[ROUTE_RAW_MAX])
{
    struct buf decoded;
    struct route_found found = {.route = ROUTE_UNKNOWN};
    buf_init(&decoded, ROUTE_RAW_MAX - 2);
    if (path.len > 0 && path.len < decoded.max && path.data[0] == '/') {
        struct str plain = path;
        if (str_find(path, '%') < path.len && text_percent_decode(path, false, &decoded))
            plain = buf_str(&decoded);
        const struct route_path whole = {.script = {room, simplify(plain, room)}, .raw_path = path};
        found = route_match(&whole);
    }
    buf_release(&decoded);
    return found;
}
