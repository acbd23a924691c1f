#include "base/text.h"
#include "storage/s3/storage_s3.h"

/* The host as libcurl puts it into the Host header: without the scheme's default port. */
static struct str drop_default_port(struct str host, bool is_https)
{
    const struct str port = is_https ? STR(":443") : STR(":80");
    if (host.len > port.len && memcmp(host.data + host.len - port.len, port.data, port.len) == 0)
        host.len -= port.len;
    return host;
}

enum err_code s3_endpoint_parse(struct s3_endpoint *ret_endpoint, const char *text,
                                const char *bucket, enum s3_addressing addressing, struct err *err)
{
    struct s3_endpoint endpoint = {.scheme = "http",
                                   .bucket_in_path = addressing == S3_ADDRESSING_PATH};
    struct str rest = {text, strlen(text)};
    bool is_https = str_starts_with(rest, STR("https://"));
    if (!is_https && !str_starts_with(rest, STR("http://")))
        return err_set(err, ERR_CONFIG, "read endpoint",
                       "The store's endpoint must begin with http:// or https://.");
    size_t scheme_len = is_https ? strlen("https://") : strlen("http://");
    rest.data += scheme_len;
    rest.len -= scheme_len;
    if (rest.len > 0 && rest.data[rest.len - 1] == '/')
        rest.len--;
    rest = drop_default_port(rest, is_https);
    if (rest.len == 0 || str_find(rest, '/') < rest.len)
        return err_set(err, ERR_CONFIG, "read endpoint",
                       "The store's endpoint must be a host and an optional port.");
    if (is_https)
        endpoint.scheme = "https";
    snprintf(endpoint.host, sizeof endpoint.host, "%s%s%.*s", endpoint.bucket_in_path ? "" : bucket,
             endpoint.bucket_in_path ? "" : ".", (int)rest.len, rest.data);
    *ret_endpoint = endpoint;
    return ERR_OK;
}

void s3_path(const struct s3_endpoint *endpoint, const char *bucket, const char *key,
             struct buf *out)
{
    if (endpoint->bucket_in_path)
        buf_printf(out, "/%s", bucket);
    if (key)
        buf_printf(out, "/%s", key);
    else if (!endpoint->bucket_in_path)
        buf_append_char(out, '/');
}

static bool is_tag_byte(char byte)
{
    return byte > ' ' && byte <= '~' && byte != '<' && byte != '>' && byte != '&' && byte != '"';
}

enum err_code s3_copy_tag(char target[STORAGE_TAG_SIZE], struct str tag, struct err *err)
{
    if (tag.len >= 2 && tag.data[0] == '"' && tag.data[tag.len - 1] == '"') {
        tag.data++;
        tag.len -= 2;
    }
    bool valid = tag.len > 0 && tag.len + 2 < STORAGE_TAG_SIZE;
    for (size_t i = 0; valid && i < tag.len; i++)
        valid = is_tag_byte(tag.data[i]);
    if (!valid)
        return err_set_internal(err, ERR_STORAGE, 0, "read tag",
                                "The store answered without a usable ETag.");
    snprintf(target, STORAGE_TAG_SIZE, "\"%.*s\"", (int)tag.len, tag.data);
    return ERR_OK;
}
