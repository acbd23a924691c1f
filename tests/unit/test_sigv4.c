/*
 * Known answers: the examples of Amazon S3's API reference ("Signature Calculations for the
 * Authorization Header", "Authenticating Requests: Using Query Parameters", "Example: Browser-Based
 * Upload using HTTP POST") and of AWS's signing test suite. tests/e2e/test_sigv4.py compares with
 * botocore.
 */
#include "net/sigv4.h"

#include <stdlib.h>

#include "base/text.h"
#include "check.h"

#define EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define S3_NOW_MS 1369353600000    /* 2013-05-24T00:00:00Z */
#define SUITE_NOW_MS 1440938160000 /* 2015-08-30T12:36:00Z */
#define PAIRS 6

static const struct sigv4_credentials s3_credentials = {
    .access_key = "AKIAIOSFODNN7EXAMPLE",
    .secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    .region = "us-east-1",
};

/* clang-format off */
#define TEXT(text) {(text), sizeof(text) - 1}
#define PAIR(name, value) {TEXT(name), TEXT(value)}
/* clang-format on */

struct example {
    const char *name;
    const char *method;
    struct str path;
    struct sigv4_pair query[PAIRS];
    struct sigv4_pair headers[PAIRS];
    const char *payload;
    const char *token;
    const char *signed_headers;
    const char *signature;
    const char *url_signature; /* presigned for an hour */
};

static size_t count_pairs(const struct sigv4_pair *pairs)
{
    size_t count = 0;
    while (count < PAIRS && pairs[count].name.data)
        count++;
    return count;
}

static struct sigv4_request request_of(const struct example *example, const char *host,
                                       int64_t now_ms)
{
    return (struct sigv4_request){
        .method = example->method ? example->method : "GET",
        .scheme = "https",
        .host = host,
        .path = example->path,
        .query = example->query,
        .query_count = count_pairs(example->query),
        .headers = example->headers,
        .header_count = count_pairs(example->headers),
        .payload_sha256 = example->payload ? example->payload : EMPTY_SHA256,
        .now_ms = now_ms,
    };
}

/* What stands behind `label` in the text, up to one of `ends`. */
static struct str find_after(const struct buf *text, const char *label, const char *ends)
{
    const char *at = strstr(buf_text(text), label);
    if (!at)
        return (struct str){NULL, 0};
    at += strlen(label);
    return (struct str){at, strcspn(at, ends)};
}

TEST(sigv4, signs_as_amazon_s3_shows)
{
    static const struct example rows[] = {
        {.name = "GET object",
         .path = TEXT("/test.txt"),
         .headers = {PAIR("Range", "bytes=0-9")},
         .signed_headers = "host;range;x-amz-content-sha256;x-amz-date",
         .signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
        {.name = "PUT object",
         .method = "PUT",
         .path = TEXT("/test$file.text"),
         .headers = {PAIR("x-amz-storage-class", "REDUCED_REDUNDANCY"),
                     PAIR("Date", "Fri, 24 May 2013 00:00:00 GMT")},
         .payload = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
         .signed_headers = "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
         .signature = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
        {.name = "GET bucket lifecycle",
         .path = TEXT("/"),
         .query = {PAIR("lifecycle", "")},
         .signed_headers = "host;x-amz-content-sha256;x-amz-date",
         .signature = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
        {.name = "list objects",
         .path = TEXT(""),
         .query = {PAIR("prefix", "J"), PAIR("max-keys", "2")},
         .signed_headers = "host;x-amz-content-sha256;x-amz-date",
         .signature = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf out;
        struct err err = {0};
        struct sigv4_request request =
            request_of(&rows[i], "examplebucket.s3.amazonaws.com", S3_NOW_MS);
        buf_init(&out, 4096);
        CHECK_ERR_ROW(rows[i].name, sigv4_sign(&s3_credentials, &request, &out, &err), ERR_OK,
                      &err);
        CHECK_STR_ROW(rows[i].name, find_after(&out, "SignedHeaders=", ", \r"),
                      rows[i].signed_headers);
        CHECK_STR_ROW(rows[i].name, find_after(&out, "Signature=", "\r"), rows[i].signature);
        CHECK_STR_ROW(rows[i].name, find_after(&out, "Credential=", ", "),
                      "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request");
        CHECK_STR_ROW(rows[i].name, find_after(&out, "x-amz-date: ", "\r"), "20130524T000000Z");
        CHECK_STR_ROW(rows[i].name, find_after(&out, "x-amz-content-sha256: ", "\r"),
                      request.payload_sha256);
        buf_release(&out);
    }
}

#define UNRESERVED "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

/* The paths of the suite that S3 reads alike: it does not normalise them. */
static const struct example suite[] = {
    {.name = "vanilla",
     .path = TEXT("/"),
     .signature = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
     .url_signature = "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d"},
    {.name = "a header three times",
     .path = TEXT("/"),
     .headers = {PAIR("My-Header1", "value2"), PAIR("My-Header1", "value2"),
                 PAIR("My-Header1", "value1")},
     .signature = "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
     .url_signature = "3349ee0b81b4b589da0ff28a395c3591e04de515651dd74f298fa992d1507a97"},
    {.name = "values keep their order",
     .path = TEXT("/"),
     .headers = {PAIR("My-Header1", "value4"), PAIR("My-Header1", "value1"),
                 PAIR("My-Header1", "value3"), PAIR("My-Header1", "value2")},
     .signature = "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
     .url_signature = "313720e71ca6202fdcfa9b20f88de01a4eb0638a83c833b1c184359a4eda864e"},
    {.name = "spaces in a value",
     .path = TEXT("/"),
     .headers = {PAIR("My-Header1", " value1"), PAIR("My-Header2", " \"a   b   c\"")},
     .signature = "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
     .url_signature = "e7bb0fd515e125e1aec2ecc4c0c17484fb06f6846b927c35e46005dd3df3acd4"},
    {.name = "a space in the path",
     .path = TEXT("/example space/"),
     .signature = "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
     .url_signature = "7a1f416954786484c9824d93c1f26ef64acb9b1b6c9154d08c9f07d0e394abf6"},
    {.name = "slashes in the path",
     .path = TEXT("//example//"),
     .signature = "87cca117541a147f6df867677d98a7d80dff226d2bfca9e4ffa899665623c7e5",
     .url_signature = "822a5a9ba28072c5ab2bb4a6307d0c88276d40e49fec6b724c03fb4d4ba60fc2"},
    {.name = "dots in the path",
     .path = TEXT("/example/.."),
     .signature = "eca7ead57bb5aa5c8e28007acd4ff04e1ff9a0ff3b237ec1554a184887ff9282",
     .url_signature = "cbcb213b928a077e43275df47b500f1dfaa864ab3f5a18f6b95f4ff0938167ee"},
    {.name = "unreserved characters in the path",
     .path = TEXT("/" UNRESERVED),
     .signature = "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
     .url_signature = "95968482db1b9e0fadef6efc1bd24689f77c77d9ef56919c96a28cc92e0d6005"},
    {.name = "unreserved characters in the query",
     .path = TEXT("/"),
     .query = {PAIR(UNRESERVED, UNRESERVED)},
     .signature = "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
     .url_signature = "8e76a88a7433637b12778d5592799b29ad21ecd6cf6325051c21d86f0acda2bf"},
    {.name = "parameters in another order",
     .path = TEXT("/"),
     .query = {PAIR("Param2", "value2"), PAIR("Param1", "value1")},
     .signature = "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
     .url_signature = "86012e2c9ad4d77369f5d81c11f75158aae4f895a085212cc6d3f923d300bed5"},
    {.name = "the order of encoded names",
     .path = TEXT("/"),
     .query = {PAIR("Param-3", "Value3"), PAIR("Param", "Value2"), PAIR("\u1234", "Value1")},
     .signature = "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
     .url_signature = "c5f1848ceec943ac2ca68ee720460c23aaae30a2300586597ada94c4a65e4787"},
    {.name = "session token",
     .path = TEXT("/"),
     .token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267",
     .signature = "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
     .url_signature = "7ff2b50b376cb4d151970630573d6291dc128cc5c2a12ffb237f73cc53f67b6c"},
    {.name = "POST",
     .method = "POST",
     .path = TEXT("/"),
     .signature = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
     .url_signature = "2ce6e6d2e0cf2f9d1b55fafec88cd20574c31dc2e7631979f71ba2310083e95b"},
    {.name = "POST with a parameter",
     .method = "POST",
     .path = TEXT("/"),
     .query = {PAIR("Param1", "value1")},
     .signature = "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
     .url_signature = "a9ef26247f293bffe40eeff86a0480ba8c14d31503b2e0c3399e3a16bf1a3682"},
    {.name = "the case of a value",
     .method = "POST",
     .path = TEXT("/"),
     .headers = {PAIR("My-Header1", "VALUE1")},
     .signature = "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
     .url_signature = "0698bc9e4f7f9139065ba2909c0e99da257e8e2a42492a097bcd46d792391fed"},
};

static void check_suite_row(const struct example *row)
{
    struct sigv4_credentials credentials = {
        .access_key = "AKIDEXAMPLE",
        .secret_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        .session_token = row->token,
        .region = "us-east-1",
        .service = "service",
    };
    struct sigv4_request request = request_of(row, "example.amazonaws.com", SUITE_NOW_MS);
    struct buf out;
    struct err err = {0};
    buf_init(&out, 4096);
    CHECK_ERR_ROW(row->name, sigv4_sign(&credentials, &request, &out, &err), ERR_OK, &err);
    CHECK_STR_ROW(row->name, find_after(&out, "Signature=", "\r"), row->signature);
    buf_reset(&out);
    CHECK_ERR_ROW(row->name, sigv4_presign(&credentials, &request, 3600, &out, &err), ERR_OK, &err);
    CHECK_STR_ROW(row->name, find_after(&out, "X-Amz-Signature=", "&"), row->url_signature);
    buf_release(&out);
}

TEST(sigv4, signs_as_the_test_suite_of_aws_shows)
{
    for (size_t i = 0; i < sizeof suite / sizeof *suite; i++)
        check_suite_row(&suite[i]);
}

TEST(sigv4, presigns_as_amazon_s3_shows)
{
    struct sigv4_request request = {.method = "GET",
                                    .scheme = "https",
                                    .host = "examplebucket.s3.amazonaws.com",
                                    .path = STR("/test.txt"),
                                    .now_ms = S3_NOW_MS};
    struct buf out;
    struct err err = {0};
    buf_init(&out, 4096);
    CHECK_ERR(sigv4_presign(&s3_credentials, &request, 86400, &out, &err), ERR_OK, &err);
    CHECK_STR(buf_str(&out),
              "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
              "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
              "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
              "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
    buf_release(&out);
}

TEST(sigv4, signs_a_policy_as_amazon_s3_shows)
{
    static const char policy[] =
        "{ \"expiration\": \"2015-12-30T12:00:00.000Z\",\r\n"
        "  \"conditions\": [\r\n"
        "    {\"bucket\": \"sigv4examplebucket\"},\r\n"
        "    [\"starts-with\", \"$key\", \"user/user1/\"],\r\n"
        "    {\"acl\": \"public-read\"},\r\n"
        "    {\"success_action_redirect\": "
        "\"http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html\"},\r\n"
        "    [\"starts-with\", \"$Content-Type\", \"image/\"],\r\n"
        "    {\"x-amz-meta-uuid\": \"14365123651274\"},\r\n"
        "    {\"x-amz-server-side-encryption\": \"AES256\"},\r\n"
        "    [\"starts-with\", \"$x-amz-meta-tag\", \"\"],\r\n"
        "\r\n"
        "    {\"x-amz-credential\": "
        "\"AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request\"},\r\n"
        "    {\"x-amz-algorithm\": \"AWS4-HMAC-SHA256\"},\r\n"
        "    {\"x-amz-date\": \"20151229T000000Z\" }\r\n"
        "  ]\r\n"
        "}";
    char base64[4 * ((sizeof policy + 2) / 3) + 1];
    char signature[SIGV4_SIGNATURE_SIZE];
    struct err err = {0};
    text_base64((const unsigned char *)policy, sizeof policy - 1, base64);
    CHECK_ERR(sigv4_signature(&s3_credentials, 1451347200000, str_of(base64), signature, &err),
              ERR_OK, &err);
    CHECK_TEXT(signature, "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e");
}

TEST(sigv4, sends_the_path_and_query_as_it_signs_them)
{
    static const struct {
        const char *name;
        struct str path;
        struct sigv4_pair query[PAIRS];
        const char *want;
    } rows[] = {
        {"plain", TEXT("/b/k"), {PAIR("", "")}, "/b/k"},
        {"no path", TEXT(""), {PAIR("", "")}, "/"},
        {"odd bytes",
         TEXT("/a b+%?#~\xC3\xA4//.."),
         {PAIR("", "")},
         "/a%20b%2B%25%3F%23~%C3%A4//.."},
        {"a parameter without a value", TEXT("/"), {PAIR("uploads", "")}, "/?uploads="},
        {"same name", TEXT("/"), {PAIR("a", "2"), PAIR("a", "10"), PAIR("a", "")}, "/?a=&a=10&a=2"},
        {"slash in a value",
         TEXT("/"),
         {PAIR("prefix", "a/b c&d=e")},
         "/?prefix=a%2Fb%20c%26d%3De"},
        /* "%" sorts before letters and digits, and before "-". */
        {"encoded order",
         TEXT("/"),
         {PAIR("a-", ""), PAIR("a+", ""), PAIR("a", ""), PAIR("A", "")},
         "/?A=&a=&a%2B=&a-="},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf out;
        size_t count = 0;
        while (count < PAIRS && rows[i].query[count].name.len > 0)
            count++;
        struct sigv4_request request = {
            .path = rows[i].path, .query = rows[i].query, .query_count = count};
        buf_init(&out, 4096);
        sigv4_target(&request, &out);
        CHECK_STR_ROW(rows[i].name, buf_str(&out), rows[i].want);
        buf_release(&out);
    }
}

TEST(sigv4, refuses_what_can_not_be_sent)
{
    static const struct {
        const char *name;
        const char *method;
        const char *region;
        const char *host;
        struct sigv4_pair header;
    } rows[] = {
        {"newline in a value", "GET", "r", "h", PAIR("X", "a\r\nY: b")},
        {"NUL in a value", "GET", "r", "h", PAIR("X", "a\0b")},
        {"tab in a value", "GET", "r", "h", PAIR("X", "a\tb")},
        {"DEL in a value", "GET", "r", "h", PAIR("X", "a\x7F")},
        {"colon in a name", "GET", "r", "h", PAIR("X:Y", "a")},
        {"NUL in a name", "GET", "r", "h", PAIR("X\0", "a")},
        {"empty name", "GET", "r", "h", {{"", 0}, {"a", 1}}},
        {"newline in the region", "GET", "r\n", "h", PAIR("X", "a")},
        {"newline in the host", "GET", "r", "h\r\n", PAIR("X", "a")},
        {"space in the method", "GET /", "r", "h", PAIR("X", "a")},
        {"no method", "", "r", "h", PAIR("X", "a")},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sigv4_credentials credentials = s3_credentials;
        struct sigv4_request request = {.method = rows[i].method,
                                        .scheme = "http",
                                        .host = rows[i].host,
                                        .path = STR("/"),
                                        .headers = &rows[i].header,
                                        .header_count = 1,
                                        .payload_sha256 = EMPTY_SHA256};
        struct buf out;
        struct err err = {0};
        credentials.region = rows[i].region;
        buf_init(&out, 4096);
        buf_append_text(&out, "before");
        CHECK_ERR_ROW(rows[i].name, sigv4_sign(&credentials, &request, &out, &err), ERR_INTERNAL,
                      &err);
        CHECK_ERR_ROW(rows[i].name, sigv4_presign(&credentials, &request, 60, &out, &err),
                      ERR_INTERNAL, &err);
        CHECK_STR_ROW(rows[i].name, buf_str(&out), "before");
        buf_release(&out);
    }
}

TEST(sigv4, takes_back_what_does_not_fit)
{
    static const size_t sizes[] = {6, 7, 40, 100, 200, 270};
    struct sigv4_request request = {.method = "GET",
                                    .scheme = "http",
                                    .host = "h",
                                    .path = STR("/"),
                                    .payload_sha256 = EMPTY_SHA256};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct buf out;
        struct err err = {0};
        buf_init(&out, sizes[i]);
        buf_append_text(&out, "before");
        CHECK_ERR(sigv4_sign(&s3_credentials, &request, &out, &err), ERR_NO_MEMORY, &err);
        CHECK_STR(buf_str(&out), "before");
        out.failed = false;
        CHECK_ERR(sigv4_presign(&s3_credentials, &request, 60, &out, &err), ERR_NO_MEMORY, &err);
        CHECK_STR(buf_str(&out), "before");
        buf_release(&out);
    }
}

TEST(sigv4, refuses_too_many_pairs_and_times_out_of_range)
{
    struct sigv4_pair pairs[SIGV4_PAIRS_MAX + 1];
    struct sigv4_request request = {.method = "GET",
                                    .scheme = "http",
                                    .host = "h",
                                    .path = STR("/"),
                                    .query = pairs,
                                    .headers = pairs,
                                    .payload_sha256 = EMPTY_SHA256};
    struct buf out;
    struct err err = {0};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        pairs[i] = (struct sigv4_pair)PAIR("x", "y");
    buf_init(&out, 16384);
    request.query_count = SIGV4_PAIRS_MAX;
    request.header_count = SIGV4_PAIRS_MAX;
    CHECK_ERR(sigv4_sign(&s3_credentials, &request, &out, &err), ERR_OK, &err);
    CHECK_ERR(sigv4_presign(&s3_credentials, &request, 604800, &out, &err), ERR_OK, &err);
    CHECK_ERR(sigv4_presign(&s3_credentials, &request, 604801, &out, &err), ERR_INTERNAL, &err);
    CHECK_ERR(sigv4_presign(&s3_credentials, &request, 0, &out, &err), ERR_INTERNAL, &err);
    request.query_count++;
    CHECK_ERR(sigv4_sign(&s3_credentials, &request, &out, &err), ERR_INTERNAL, &err);
    sigv4_target(&request, &out);
    CHECK(out.failed);
    request.query_count = 0;
    request.header_count++;
    CHECK_ERR(sigv4_sign(&s3_credentials, &request, &out, &err), ERR_INTERNAL, &err);
    buf_release(&out);
}
