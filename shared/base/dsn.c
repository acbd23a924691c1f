#include "base/dsn.h"

#include <stdio.h>

#include "base/config_table.h"

/* Keys stand in a header between "=" and ",". */
static bool is_key(struct str text)
{
    return text.len < DSN_KEY_SIZE && is_made_of(text, "-._~");
}

/* Segments between single slashes; "" is no path at all. */
static bool is_path(struct str path)
{
    while (path.len > 0) {
        struct str segment = str_cut(&path, '/');
        if (!is_made_of(segment, "-._~%!$&'()*+,;=:@"))
            return false;
    }
    return true;
}

static bool cut_scheme(struct str *text, struct str *ret_scheme)
{
    static const struct str schemes[] = {{"https://", 8}, {"http://", 7}};
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        if (!str_starts_with(*text, schemes[i]))
            continue;
        *ret_scheme = schemes[i];
        *text = (struct str){text->data + schemes[i].len, text->len - schemes[i].len};
        return true;
    }
    return false;
}

static bool cut_keys(struct str *text, struct str *ret_public_key)
{
    if (str_find(*text, '@') == text->len)
        return false;
    struct str keys = str_cut(text, '@');
    bool has_secret = str_find(keys, ':') < keys.len;
    *ret_public_key = str_cut(&keys, ':');
    return is_key(*ret_public_key) && (!has_secret || is_key(keys));
}

/* Splits at the last slash. */
static void cut_project(struct str path, struct str *ret_before, struct str *ret_project)
{
    size_t at = path.len;
    while (at > 0 && path.data[at - 1] != '/')
        at--;
    *ret_project = (struct str){path.data + at, path.len - at};
    *ret_before = (struct str){path.data, at > 0 ? at - 1 : 0};
}

bool dsn_parse(struct str text, struct dsn *ret_dsn)
{
    struct dsn dsn;
    struct str scheme, key, before, project;
    if (text.len >= CONFIG_TEXT_SIZE || !cut_scheme(&text, &scheme) || !cut_keys(&text, &key))
        return false;
    struct str authority = str_cut(&text, '/');
    cut_project(text, &before, &project);
    bool has_empty_segment =
        str_starts_with(text, STR("/")) || (before.len > 0 && before.data[before.len - 1] == '/');
    if (!is_authority(authority) || !is_made_of(project, "-_") || !is_path(before) ||
        has_empty_segment || !str_copy(dsn.public_key, sizeof dsn.public_key, key))
        return false;
    int len = snprintf(dsn.envelope_url, sizeof dsn.envelope_url,
                       "%.*s%.*s%s%.*s/api/%.*s/envelope/", (int)scheme.len, scheme.data,
                       (int)authority.len, authority.data, before.len > 0 ? "/" : "",
                       (int)before.len, before.data, (int)project.len, project.data);
    if (len < 0 || (size_t)len >= sizeof dsn.envelope_url)
        return false;
    *ret_dsn = dsn;
    return true;
}
