/*
 * Input: the head of an answer as another server sent it, which is searched for headers; then, as
 * what we would send, a URL and header lines, which must be refused or free of what breaks a head.
 */
#include "base/str.h"
#include "fuzz.h"
#include "net/http_client_connection.h"

static void check_value(const struct http_reply *reply, const char *name)
{
    struct str value;
    const struct str headers = buf_str(&reply->headers);
    if (!http_reply_header(reply, name, &value))
        return;
    MUST(value.data >= headers.data && value.data + value.len <= headers.data + headers.len);
    MUST(str_find(value, '\n') == value.len);
    MUST(str_equal(str_trim(value), value));
    /* The name stands before it, on the same line. */
    const char *line = value.data;
    while (line > headers.data && line[-1] != '\n')
        line--;
    MUST(str_equal_nocase((struct str){line, strlen(name)}, str_of(name)));
    MUST(line[strlen(name)] == ':');
}

static void check_reply(struct str bytes)
{
    struct http_reply reply;
    http_reply_init(&reply);
    buf_append_str(&reply.headers, bytes);
    check_value(&reply, "ETag");
    check_value(&reply, "Content-Length");
    check_value(&reply, "x");
    check_value(&reply, "");
    int64_t wait_ms = http_reply_retry_after_ms(&reply, 784111777000);
    MUST(wait_ms >= -1);
    http_reply_release(&reply);
}

static void check_url(const char *text)
{
    struct err err;
    const struct str authority = http_authority(text);
    MUST(authority.len <= strlen(text));
    if (http_check_url(text, &err) != ERR_OK)
        return;
    MUST(authority.len > 0);
    for (const char *at = text; *at != '\0'; at++)
        MUST(*at > 0x20 && *at < 0x7F && *at != '#');
}

static void check_headers(struct str bytes)
{
    struct curl_slist *list = NULL;
    struct err err;
    if (http_list_headers(bytes, &list, &err) == ERR_OK)
        for (const struct curl_slist *one = list; one; one = one->next)
            for (const char *at = one->data; *at != '\0'; at++)
                MUST((unsigned char)*at >= 0x20 && *at != 0x7F);
    curl_slist_free_all(list);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const struct str input = {(const char *)bytes, size};
    struct buf text;
    buf_init(&text, 1024 * 1024);
    buf_append_str(&text, input);
    check_reply(input);
    check_headers(input);
    check_url(buf_text(&text));
    buf_release(&text);
    return 0;
}
