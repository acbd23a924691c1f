/*
 * Signs what tests/e2e/test_sigv4.py asks for. Standard input holds requests, each a run of fields
 * that end in NUL: "sign" or "presign", credentials (access key, secret, session token, region),
 * method, scheme, host, path, payload hash, now in ms, seconds, number of parameters, their names
 * and values, number of headers, their names and values. Each answer ends in NUL.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "net/sigv4.h"

#define INPUT_MAX (64 * 1024 * 1024)
#define OUTPUT_MAX (64 * 1024)

struct pairs {
    struct sigv4_pair list[SIGV4_PAIRS_MAX];
    size_t count;
};

static void fail(const char *what)
{
    fprintf(stderr, "sigv4_sign: %s\n", what);
    exit(1);
}

/* Fields stay NUL-terminated in the input. */
static struct str next(struct str *rest)
{
    if (rest->len == 0)
        fail("a field is missing");
    return str_cut(rest, '\0');
}

static int64_t next_int(struct str *rest)
{
    int64_t value = 0;
    if (!text_parse_int(next(rest), 0, INT64_MAX, &value))
        fail("not a number");
    return value;
}

static void next_pairs(struct str *rest, struct pairs *pairs)
{
    int64_t count = next_int(rest);
    if (count > SIGV4_PAIRS_MAX)
        fail("too many pairs");
    for (pairs->count = 0; pairs->count < (size_t)count; pairs->count++) {
        pairs->list[pairs->count].name = next(rest);
        pairs->list[pairs->count].value = next(rest);
    }
}

static struct sigv4_credentials next_credentials(struct str *rest)
{
    struct sigv4_credentials credentials = {0};
    credentials.access_key = next(rest).data;
    credentials.secret_key = next(rest).data;
    credentials.session_token = next(rest).data;
    credentials.region = next(rest).data;
    return credentials;
}

static void answer_request(struct str *rest, bool presign, struct buf *out)
{
    struct pairs query;
    struct pairs headers;
    struct err err;
    const struct sigv4_credentials credentials = next_credentials(rest);
    struct sigv4_request request = {0};
    request.method = next(rest).data;
    request.scheme = next(rest).data;
    request.host = next(rest).data;
    request.path = next(rest);
    request.payload_sha256 = next(rest).data;
    request.now_ms = next_int(rest);
    const int64_t seconds = next_int(rest);
    next_pairs(rest, &query);
    next_pairs(rest, &headers);
    request.query = query.list;
    request.query_count = query.count;
    request.headers = headers.list;
    request.header_count = headers.count;
    enum err_code code = ERR_OK;
    if (presign) {
        code = sigv4_presign(&credentials, &request, seconds, out, &err);
    } else {
        sigv4_target(&request, out);
        buf_append_char(out, '\n');
        code = sigv4_sign(&credentials, &request, out, &err);
    }
    if (code != ERR_OK)
        fail(err.message);
}

static void answer(struct str *rest, struct buf *out)
{
    const struct str kind = next(rest);
    buf_reset(out);
    if (str_equal(kind, STR("sign")))
        answer_request(rest, false, out);
    else if (str_equal(kind, STR("presign")))
        answer_request(rest, true, out);
    else
        fail("no such kind");
    if (out->failed)
        fail("no room for the answer");
    buf_append_char(out, '\0');
    fwrite(out->data, 1, out->len, stdout);
}

int main(void)
{
    char bytes[65536];
    size_t len = 0;
    struct buf input;
    struct buf out;
    buf_init(&input, INPUT_MAX);
    buf_init(&out, OUTPUT_MAX);
    while ((len = fread(bytes, 1, sizeof bytes, stdin)) > 0)
        buf_append(&input, bytes, len);
    if (input.failed || (input.len > 0 && input.data[input.len - 1] != '\0'))
        fail("the input is too long, or cut");
    struct str rest = buf_str(&input);
    while (rest.len > 0)
        answer(&rest, &out);
    buf_release(&input);
    buf_release(&out);
    return fflush(stdout) == 0 ? 0 : 1;
}
