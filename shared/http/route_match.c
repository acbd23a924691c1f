#include "http/route_match.h"

#include <string.h>

#include "base/text.h"

#define SEGMENTS_MAX 5

struct segments {
    struct str items[SEGMENTS_MAX];
    size_t count; /* SEGMENTS_MAX stands for that many or more */
};

struct alias {
    const char *path;
    enum route route;
};

static const struct alias aliases[] = {
    {"/api/health", ROUTE_HEALTH},
    {"/api/health/live", ROUTE_LIVE},
    {"/api/health/ready", ROUTE_READY},
};

/* Adds the segments of "/a/b"; false when it does not begin with a slash. */
static bool split(struct segments *segments, struct str path)
{
    if (path.len == 0)
        return true;
    if (path.data[0] != '/')
        return false;
    struct str rest = {path.data + 1, path.len - 1};
    for (;;) {
        bool is_last = str_find(rest, '/') == rest.len;
        struct str segment = str_cut(&rest, '/');
        if (segments->count < SEGMENTS_MAX)
            segments->items[segments->count++] = segment;
        if (is_last || segments->count == SEGMENTS_MAX)
            return true;
    }
}

static bool split_path(struct segments *segments, const struct route_path *path)
{
    struct str script = path->script;
    /* A script name of "/" alone is the root the path begins at. */
    if (str_equal(script, STR("/")) && path->info.len > 0)
        script.len = 0;
    segments->count = 0;
    return split(segments, script) && split(segments, path->info) && segments->count > 0;
}

static bool is_parameter(struct str segment)
{
    return segment.len > 0 && segment.data[0] == ':';
}

static bool is_name(struct str segment)
{
    return str_equal(segment, STR(":name"));
}

/* Where the template goes on behind its literal, when the segment is that; else NULL. */
static const char *match_literal(const char *pattern, struct str segment)
{
    size_t at = 0;
    while (at < segment.len && pattern[at] && pattern[at] == segment.data[at])
        at++;
    bool ends = pattern[at] == '\0' || pattern[at] == '/';
    return ends && at == segment.len ? pattern + at : NULL;
}

/* The same of a parameter. */
static const char *match_parameter(const char *pattern, struct str segment)
{
    const char *next = pattern + strcspn(pattern, "/");
    bool may_be_empty = is_name((struct str){pattern, (size_t)(next - pattern)});
    return segment.len > 0 || may_be_empty ? next : NULL;
}

/* 0 when it does not match; else more for literal segments, the earlier the more. Every request is
 * held against every template, so none of them is taken apart for it. */
static unsigned score(const char *pattern, const struct segments *path)
{
    unsigned sum = 1;
    for (size_t i = 0; i < path->count; i++) {
        if (*pattern++ != '/')
            return 0;
        bool is_literal = *pattern != ':';
        pattern = is_literal ? match_literal(pattern, path->items[i])
                             : match_parameter(pattern, path->items[i]);
        if (!pattern)
            return 0;
        sum = sum << 1 | is_literal;
    }
    return *pattern ? 0 : sum;
}

static enum route match_alias(const struct segments *path)
{
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (score(aliases[i].path, path) > 0)
            return aliases[i].route;
    return ROUTE_UNKNOWN;
}

static enum route match_template(const struct segments *path)
{
    enum route best = ROUTE_UNKNOWN;
    unsigned best_score = 0;
    for (enum route route = ROUTE_FILES; route < ROUTE_UNKNOWN; route++) {
        unsigned found = score(route_info(route)->template, path);
        if (found > best_score) {
            best = route;
            best_score = found;
        }
    }
    return best;
}

static size_t count_slashes(struct str path)
{
    size_t count = 0;
    for (size_t i = 0; i < path.len; i++)
        count += path.data[i] == '/';
    return count;
}

/* The index of the template's parameter, or the count when it has none. */
static size_t parameter_index(const struct segments *template)
{
    size_t i = 0;
    while (i < template->count && !is_parameter(template->items[i]))
        i++;
    return i;
}

static struct str last_segment(struct str path)
{
    struct str segment = path;
    while (str_find(path, '/') < path.len) {
        str_cut(&path, '/');
        segment = path;
    }
    return segment;
}

static void fill_parameter(struct route_found *found, const struct segments *segments,
                           const struct route_path *path)
{
    struct segments template = {.count = 0};
    if (!split(&template, str_of(route_info(found->route)->template)))
        return;
    size_t i = parameter_index(&template);
    if (i == template.count)
        return;
    if (is_name(template.items[i]))
        found->raw_name = last_segment(path->raw_path);
    else
        found->id = segments->items[i];
}

struct route_found route_match(const struct route_path *path)
{
    struct route_found found = {.route = ROUTE_UNKNOWN};
    struct segments segments;
    if (!split_path(&segments, path))
        return found;
    /* An encoded slash in {name} arrives as more segments than were sent. */
    if (segments.count == SEGMENTS_MAX && count_slashes(path->raw_path) == SEGMENTS_MAX - 1) {
        segments.count = SEGMENTS_MAX - 1;
        found.route = match_template(&segments);
        if (found.route != ROUTE_UPLOAD_NAME && found.route != ROUTE_PIPE_NAME)
            found.route = ROUTE_UNKNOWN;
    } else {
        found.route = match_alias(&segments);
        if (found.route == ROUTE_UNKNOWN)
            found.route = match_template(&segments);
    }
    if (found.route != ROUTE_UNKNOWN)
        fill_parameter(&found, &segments, path);
    return found;
}

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
