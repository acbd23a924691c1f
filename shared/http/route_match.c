#include "http/route_match.h"

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

/* 0 when it does not match; else more for literal segments, the earlier the more. */
static unsigned score(const struct segments *template, const struct segments *path)
{
    unsigned sum = 1;
    if (template->count != path->count)
        return 0;
    for (size_t i = 0; i < path->count; i++) {
        struct str want = template->items[i];
        bool matches = is_parameter(want) ? path->items[i].len > 0 || is_name(want)
                                          : str_equal(want, path->items[i]);
        if (!matches)
            return 0;
        sum = sum << 1 | !is_parameter(want);
    }
    return sum;
}

static enum route match_alias(const struct segments *path)
{
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++) {
        struct segments alias = {.count = 0};
        if (split(&alias, str_of(aliases[i].path)) && score(&alias, path) > 0)
            return aliases[i].route;
    }
    return ROUTE_UNKNOWN;
}

static enum route match_template(const struct segments *path)
{
    enum route best = ROUTE_UNKNOWN;
    unsigned best_score = 0;
    for (enum route route = ROUTE_FILES; route < ROUTE_UNKNOWN; route++) {
        struct segments template = {.count = 0};
        struct str text = str_of(route_info(route)->template);
        unsigned found = split(&template, text) ? score(&template, path) : 0;
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
