#include "base/config_shape.h"

#include "base/address.h"
#include "base/bounds.h"
#include "base/dsn.h"
#include "base/text.h"

static bool is_letter_or_digit(char byte)
{
    return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') ||
           (byte >= '0' && byte <= '9');
}

bool is_made_of(struct str text, const char *others)
{
    for (size_t i = 0; i < text.len; i++)
        if (!is_letter_or_digit(text.data[i]) && (!text.data[i] || !strchr(others, text.data[i])))
            return false;
    return text.len > 0;
}

bool is_word(struct str value)
{
    return value.len <= 64 && is_made_of(value, "._-");
}

bool is_host(struct str value)
{
    return address_is_valid(value) || (value.len <= 253 && is_made_of(value, ".-"));
}

static bool is_port(struct str value)
{
    int64_t port;
    return text_parse_int(value, 1, 65535, &port);
}

/* "::1]" and what follows, ":port" or nothing */
static bool is_rest_of_brackets(struct str value)
{
    bool is_closed = str_find(value, ']') < value.len;
    struct str host = str_cut(&value, ']');
    bool is_v6 = address_is_valid(host) && str_find(host, ':') < host.len;
    if (!is_closed || !is_v6 || value.len == 0)
        return is_closed && is_v6;
    return str_cut(&value, ':').len == 0 && is_port(value);
}

/* "name", "name:port", "[::1]", "[::1]:port" */
bool is_authority(struct str value)
{
    if (str_starts_with(value, STR("[")))
        return is_rest_of_brackets((struct str){value.data + 1, value.len - 1});
    bool has_port = str_find(value, ':') < value.len;
    struct str host = str_cut(&value, ':');
    return is_host(host) && (!has_port || is_port(value));
}

static bool is_origin(struct str value)
{
    struct str scheme = str_cut(&value, ':');
    if ((!str_equal(scheme, STR("https")) && !str_equal(scheme, STR("http"))) ||
        !str_starts_with(value, STR("//")))
        return false;
    return is_authority((struct str){value.data + 2, value.len - 2});
}

/* An origin without a path: where a store listens. */
bool is_endpoint(struct str value)
{
    return is_origin(value);
}

/* What a path may hold in an URL (RFC 3986 §3.3). */
bool is_url(struct str value)
{
    size_t scheme = str_find(value, ':') + 3; /* "http://" */
    if (scheme > value.len)
        return false;
    size_t host = str_find((struct str){value.data + scheme, value.len - scheme}, '/');
    struct str path = {value.data + scheme + host, value.len - scheme - host};
    return is_origin((struct str){value.data, scheme + host}) &&
           (path.len == 0 || is_made_of(path, "/-._~!$&'()*+,;=:@%"));
}

/* The naming rules that every store shares: 3 to 63 of [a-z0-9.-], letters or digits at both ends. */
bool is_bucket(struct str value)
{
    for (size_t i = 0; i < value.len; i++)
        if (value.data[i] >= 'A' && value.data[i] <= 'Z')
            return false;
    return value.len >= 3 && value.len <= 63 && is_made_of(value, ".-") &&
           is_letter_or_digit(value.data[0]) && is_letter_or_digit(value.data[value.len - 1]);
}

/* Goes into headers and signatures as it stands. */
bool is_visible_text(struct str value)
{
    for (size_t i = 0; i < value.len; i++)
        if (value.data[i] <= ' ' || value.data[i] > '~')
            return false;
    return true;
}

bool is_mongodb_uri(struct str value)
{
    return (str_starts_with(value, STR("mongodb://")) ||
            str_starts_with(value, STR("mongodb+srv://"))) &&
           is_visible_text(value);
}

static bool is_list_of(bool (*is_item)(struct str), struct str list)
{
    bool is_last;
    do {
        is_last = str_find(list, ',') == list.len;
        if (!is_item(str_trim(str_cut(&list, ','))))
            return false;
    } while (!is_last);
    return true;
}

bool is_authority_list(struct str value)
{
    return is_list_of(is_authority, value);
}

/* Names the gateway resolves; lighttpd takes addresses without brackets. */
static bool is_node(struct str value)
{
    return is_authority(value) && !str_starts_with(value, STR("["));
}

bool is_node_list(struct str value)
{
    return is_list_of(is_node, value);
}

bool is_origin_list(struct str value)
{
    return is_list_of(is_origin, value);
}

bool is_dsn(struct str value)
{
    struct dsn dsn;
    return dsn_parse(value, &dsn);
}

bool is_bounds(struct str value)
{
    struct bounds bounds;
    return bounds_parse(value, &bounds);
}
