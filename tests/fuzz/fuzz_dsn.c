/*
 * Input: the DSN of an error tracker. What is taken goes into a URL and a header as it stands, so
 * nothing in it may break one; and its key must not be seen where a message shows the DSN.
 */
#include "base/dsn.h"
#include "fuzz.h"
#include "observe/log_redact.h"
#include "observe/report_parts.h"

static void check_visible(const char *text)
{
    for (const char *at = text; *at; at++)
        MUST(*at > ' ' && *at <= '~' && !strchr("\"<>\\^`{|}#?", *at));
}

static void check_masked(struct str text)
{
    struct buf out;
    size_t scheme = str_starts_with(text, STR("https://")) ? 8 : 7;
    buf_init(&out, 4 * text.len);
    log_redact(text, &out);
    MUST(out.len >= scheme + 4 && memcmp(out.data, text.data, scheme) == 0);
    MUST(memcmp(out.data + scheme, "***@", 4) == 0);
    buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct dsn dsn;
    const struct str text = {(const char *)bytes, size};
    if (!dsn_parse(text, &dsn))
        return 0;
    check_visible(dsn.envelope_url);
    check_visible(dsn.public_key);
    MUST(*dsn.public_key && !strpbrk(dsn.public_key, ",=;: "));
    MUST(strncmp(dsn.envelope_url, "http", 4) == 0);
    MUST(strstr(dsn.envelope_url, "/api/") && !strchr(dsn.envelope_url, '\n'));
    size_t len = strlen(dsn.envelope_url);
    MUST(len > 10 && strcmp(dsn.envelope_url + len - 10, "/envelope/") == 0);
    check_masked(text);
    return 0;
}
