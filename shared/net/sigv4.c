#include "net/sigv4.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/text.h"

/*
 * The texts that a Signature Version 4 is made of: stamps, scopes, encoded paths and queries, headers
 * in canonical form. What does not fit marks the buffer.
 */

#define SIGV4_STAMP_SIZE 32 /* "20130524T000000Z"; room for text_time's form */

/* "s3" unless the credentials say otherwise. */
static const char *sigv4_service(const struct sigv4_credentials *credentials)
{
    return credentials->service && credentials->service[0] != '\0' ? credentials->service : "s3";
}

static void sigv4_stamp(int64_t now_ms, char target[SIGV4_STAMP_SIZE])
{
    char time[TEXT_TIME_SIZE];
    char *at = target;
    text_time(now_ms, time);
    for (const char *from = time; *from != '\0' && *from != '.'; from++)
        if (*from != '-' && *from != ':')
            *at++ = *from;
    *at++ = 'Z';
    *at = '\0';
}

/* "20130524/us-east-1/s3/aws4_request" */
static void sigv4_scope(const struct sigv4_credentials *credentials, const char *stamp,
                        struct buf *out)
{
    buf_printf(out, "%.8s/%s/%s/aws4_request", stamp, credentials->region,
               sigv4_service(credentials));
}

/* Without control characters. */
static bool sigv4_is_printable(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7F)
            return false;
    return true;
}

static bool is_alphanumeric(char byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') ||
           (byte >= 'A' && byte <= 'Z');
}

/* RFC 9110 §5.6.2: the name of a header. */
static bool sigv4_is_token(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!is_alphanumeric(text.data[i]) &&
            (text.data[i] == '\0' || !strchr("!#$%&'*+-.^_`|~", text.data[i])))
            return false;
    return text.len > 0;
}

/* Slashes stay, an empty path becomes "/". */
static void sigv4_encode_path(struct str path, struct buf *out)
{
    if (path.len == 0)
        buf_append_char(out, '/');
    text_percent_encode(path, "/", out);
}

/* "name=value&…", in the order given. */
static void sigv4_encode_query(const struct sigv4_pair *query, size_t count, struct buf *out)
{
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buf_append_char(out, '&');
        text_percent_encode(query[i].name, "", out);
        buf_append_char(out, '=');
        text_percent_encode(query[i].value, "", out);
    }
}

/* Where a byte stands among encoded ones: "%" sorts before every unreserved character, and two
 * escapes sort like their bytes. */
static int encoded_rank(char byte)
{
    bool unreserved =
        is_alphanumeric(byte) || byte == '-' || byte == '.' || byte == '_' || byte == '~';
    return (unreserved ? 256 : 0) + (unsigned char)byte;
}

static int compare_encoded(struct str a, struct str b)
{
    for (size_t i = 0; i < a.len && i < b.len; i++)
        if (a.data[i] != b.data[i])
            return encoded_rank(a.data[i]) - encoded_rank(b.data[i]);
    return (a.len > b.len) - (a.len < b.len);
}

static int compare_query(const struct sigv4_pair *a, const struct sigv4_pair *b)
{
    int order = compare_encoded(a->name, b->name);
    return order != 0 ? order : compare_encoded(a->value, b->value);
}

static char lower(char byte)
{
    return (char)(byte >= 'A' && byte <= 'Z' ? byte + ('a' - 'A') : byte);
}

static int compare_headers(const struct sigv4_pair *a, const struct sigv4_pair *b)
{
    for (size_t i = 0; i < a->name.len && i < b->name.len; i++) {
        char left = lower(a->name.data[i]);
        char right = lower(b->name.data[i]);
        if (left != right)
            return (unsigned char)left - (unsigned char)right;
    }
    return (a->name.len > b->name.len) - (a->name.len < b->name.len);
}

/* By insertion: the lists are short, and equal ones must keep their order. */
static void sort(struct sigv4_pair *pairs, size_t count,
                 int (*compare)(const struct sigv4_pair *, const struct sigv4_pair *))
{
    for (size_t i = 1; i < count; i++) {
        const struct sigv4_pair pair = pairs[i];
        size_t at = i;
        for (; at > 0 && compare(&pairs[at - 1], &pair) > 0; at--)
            pairs[at] = pairs[at - 1];
        pairs[at] = pair;
    }
}

/* By encoded name, then encoded value. */
static void sigv4_sort_query(struct sigv4_pair *query, size_t count)
{
    sort(query, count, compare_query);
}

/* By name in lower case; equal names keep their order. */
static void sigv4_sort_headers(struct sigv4_pair *headers, size_t count)
{
    sort(headers, count, compare_headers);
}

static void append_lower(struct str text, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++)
        buf_append_char(out, lower(text.data[i]));
}

/* Without spaces at the ends, and with one where there were several. */
static void append_collapsed(struct str text, struct buf *out)
{
    text = str_trim(text);
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] != ' ' || text.data[i - 1] != ' ')
            buf_append_char(out, text.data[i]);
}

static bool same_name(const struct sigv4_pair *headers, size_t index)
{
    return index > 0 && compare_headers(&headers[index - 1], &headers[index]) == 0;
}

/* The rest takes sorted headers: "name:value\n" each, values of one name joined by commas. */
static void sigv4_canonical_headers(const struct sigv4_pair *headers, size_t count, struct buf *out)
{
    for (size_t i = 0; i < count; i++) {
        if (same_name(headers, i)) {
            buf_append_char(out, ',');
        } else {
            append_lower(headers[i].name, out);
            buf_append_char(out, ':');
        }
        append_collapsed(headers[i].value, out);
        if (i + 1 == count || !same_name(headers, i + 1))
            buf_append_char(out, '\n');
    }
}

/* "host;x-amz-date" */
static void sigv4_signed_headers(const struct sigv4_pair *headers, size_t count, struct buf *out)
{
    for (size_t i = 0; i < count; i++) {
        if (same_name(headers, i))
            continue;
        if (i > 0)
            buf_append_char(out, ';');
        append_lower(headers[i].name, out);
    }
}

void sigv4_target(const struct sigv4_request *request, struct buf *out)
{
    struct sigv4_pair query[SIGV4_PAIRS_MAX];
    sigv4_encode_path(request->path, out);
    if (request->query_count == 0)
        return;
    if (request->query_count > SIGV4_PAIRS_MAX) {
        out->failed = true;
        return;
    }
    memcpy(query, request->query, request->query_count * sizeof *query);
    sigv4_sort_query(query, request->query_count);
    buf_append_char(out, '?');
    sigv4_encode_query(query, request->query_count, out);
}

#define ALGORITHM "AWS4-HMAC-SHA256"
#define SHA256_BYTES 32
#define CANONICAL_MAX (64 * 1024)
#define DATE_LENGTH 8 /* of a stamp */
#define EXPIRES_MAX 604800
/* What the signer adds: host, date, content, session token; five parameters and the token. */
#define OWN_PAIRS 6
#define PAIRS_MAX (SIGV4_PAIRS_MAX + OWN_PAIRS)

/* Of one signing: what is signed, in the order it is signed, and texts that the pairs point to. */
struct signing {
    const struct sigv4_credentials *credentials;
    const struct sigv4_request *request;
    char stamp[SIGV4_STAMP_SIZE];
    struct buf scope;          /* "20130524/us-east-1/s3/aws4_request" */
    struct buf credential;     /* access key and scope */
    struct buf signed_headers; /* "host;x-amz-date" */
    struct sigv4_pair headers[PAIRS_MAX];
    size_t header_count;
    struct sigv4_pair query[PAIRS_MAX];
    size_t query_count;
    char expires[8];
};

static bool is_s3(const struct sigv4_credentials *credentials)
{
    return strcmp(sigv4_service(credentials), "s3") == 0;
}

static bool has_session(const struct sigv4_credentials *credentials)
{
    return credentials->session_token && credentials->session_token[0] != '\0';
}

static void add_pair(struct sigv4_pair *pairs, size_t *count, const char *name, struct str value)
{
    pairs[(*count)++] = (struct sigv4_pair){str_of(name), value};
}

static enum err_code refuse(struct err *err, const char *what)
{
    return err_set_internal(err, ERR_INTERNAL, 0, "sign", "cannot sign: %s", what);
}

static enum err_code no_room(struct err *err)
{
    return err_set_internal(err, ERR_NO_MEMORY, 0, "sign", "no room for a signed request");
}

static void signing_release(struct signing *signing)
{
    buf_release(&signing->scope);
    buf_release(&signing->credential);
    buf_release(&signing->signed_headers);
}

static enum err_code signing_init(struct signing *signing,
                                  const struct sigv4_credentials *credentials,
                                  const struct sigv4_request *request, struct err *err)
{
    memset(signing, 0, sizeof *signing);
    signing->credentials = credentials;
    signing->request = request;
    buf_init(&signing->scope, CANONICAL_MAX);
    buf_init(&signing->credential, CANONICAL_MAX);
    buf_init(&signing->signed_headers, CANONICAL_MAX);
    if (request->query_count > SIGV4_PAIRS_MAX || request->header_count > SIGV4_PAIRS_MAX)
        return refuse(err, "too many parameters or headers");
    sigv4_stamp(request->now_ms, signing->stamp);
    sigv4_scope(credentials, signing->stamp, &signing->scope);
    buf_printf(&signing->credential, "%s/%s", credentials->access_key, buf_text(&signing->scope));
    add_pair(signing->headers, &signing->header_count, "host", str_of(request->host));
    return ERR_OK;
}

/* Takes the caller's pairs behind what is there already. */
static void take_request(struct signing *signing)
{
    const struct sigv4_request *request = signing->request;
    for (size_t i = 0; i < request->header_count; i++)
        signing->headers[signing->header_count++] = request->headers[i];
    for (size_t i = 0; i < request->query_count; i++)
        signing->query[signing->query_count++] = request->query[i];
    sigv4_sort_headers(signing->headers, signing->header_count);
    sigv4_sort_query(signing->query, signing->query_count);
    sigv4_signed_headers(signing->headers, signing->header_count, &signing->signed_headers);
}

static enum err_code check(const struct signing *signing, struct err *err)
{
    const struct sigv4_credentials *credentials = signing->credentials;
    if (!sigv4_is_printable(buf_str(&signing->credential)) ||
        !sigv4_is_printable(str_of(credentials->session_token)))
        return refuse(err, "a control character in the credentials");
    if (!sigv4_is_token(str_of(signing->request->method)))
        return refuse(err, "a method that is none");
    for (size_t i = 0; i < signing->header_count; i++)
        if (!sigv4_is_token(signing->headers[i].name) ||
            !sigv4_is_printable(signing->headers[i].value))
            return refuse(err, "a header that can't be sent");
    if (signing->scope.failed || signing->credential.failed || signing->signed_headers.failed)
        return no_room(err);
    return ERR_OK;
}

static bool hmac(const unsigned char *key, size_t key_len, struct str text,
                 unsigned char target[SHA256_BYTES])
{
    unsigned len = 0;
    return HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)text.data, text.len, target,
                &len) != NULL;
}

/* key = HMAC(HMAC(HMAC(HMAC("AWS4" + secret, date), region), service), "aws4_request") */
static bool signing_key(const struct sigv4_credentials *credentials, const char *stamp,
                        unsigned char key[SHA256_BYTES])
{
    struct buf start;
    buf_init(&start, CANONICAL_MAX);
    buf_printf(&start, "AWS4%s", credentials->secret_key);
    bool done =
        !start.failed &&
        hmac((const unsigned char *)start.data, start.len, (struct str){stamp, DATE_LENGTH}, key) &&
        hmac(key, SHA256_BYTES, str_of(credentials->region), key) &&
        hmac(key, SHA256_BYTES, str_of(sigv4_service(credentials)), key) &&
        hmac(key, SHA256_BYTES, STR("aws4_request"), key);
    if (start.data)
        OPENSSL_cleanse(start.data, start.cap);
    buf_release(&start);
    return done;
}

static enum err_code sign_text(const struct sigv4_credentials *credentials, const char *stamp,
                               struct str text, char ret_hex[SIGV4_SIGNATURE_SIZE], struct err *err)
{
    unsigned char key[SHA256_BYTES];
    unsigned char signature[SHA256_BYTES];
    bool done = signing_key(credentials, stamp, key) && hmac(key, sizeof key, text, signature);
    OPENSSL_cleanse(key, sizeof key);
    if (!done)
        return err_set_internal(err, ERR_INTERNAL, 0, "sign", "cannot compute a signature");
    text_hex(signature, sizeof signature, ret_hex);
    return ERR_OK;
}

enum err_code sigv4_signature(const struct sigv4_credentials *credentials, int64_t now_ms,
                              struct str text, char ret_hex[SIGV4_SIGNATURE_SIZE], struct err *err)
{
    char stamp[SIGV4_STAMP_SIZE];
    sigv4_stamp(now_ms, stamp);
    return sign_text(credentials, stamp, text, ret_hex, err);
}

static void canonical_request(const struct signing *signing, const char *payload, struct buf *out)
{
    buf_printf(out, "%s\n", signing->request->method);
    sigv4_encode_path(signing->request->path, out);
    buf_append_char(out, '\n');
    sigv4_encode_query(signing->query, signing->query_count, out);
    buf_append_char(out, '\n');
    sigv4_canonical_headers(signing->headers, signing->header_count, out);
    buf_printf(out, "\n%s\n%s", buf_text(&signing->signed_headers), payload);
}

/* The signature of all that the signing holds; both lists are in the order of signing. */
static enum err_code sign_request(const struct signing *signing, const char *payload,
                                  char ret_hex[SIGV4_SIGNATURE_SIZE], struct err *err)
{
    unsigned char digest[SHA256_BYTES];
    char digest_hex[2 * SHA256_BYTES + 1];
    unsigned len = 0;
    struct buf text;
    buf_init(&text, CANONICAL_MAX);
    canonical_request(signing, payload, &text);
    enum err_code code = text.failed ? no_room(err) : ERR_OK;
    if (code == ERR_OK && EVP_Digest(text.data, text.len, digest, &len, EVP_sha256(), NULL) != 1)
        code = err_set_internal(err, ERR_INTERNAL, 0, "sign", "cannot compute a digest");
    if (code == ERR_OK) {
        text_hex(digest, sizeof digest, digest_hex);
        buf_reset(&text);
        buf_printf(&text, ALGORITHM "\n%s\n%s\n%s", signing->stamp, buf_text(&signing->scope),
                   digest_hex);
        code = text.failed
                   ? no_room(err)
                   : sign_text(signing->credentials, signing->stamp, buf_str(&text), ret_hex, err);
    }
    buf_release(&text);
    return code;
}

/* After appending: takes it back when it did not fit, or when what followed failed. */
static enum err_code finish(struct buf *out, size_t before, enum err_code code, struct err *err)
{
    if (code == ERR_OK && out->failed)
        code = no_room(err);
    if (code != ERR_OK && out->len > before) {
        out->len = before;
        out->data[before] = '\0';
    }
    return code;
}

static void append_header(struct buf *out, struct str name, struct str value)
{
    buf_append_str(out, name);
    buf_append_text(out, ": ");
    buf_append_str(out, value);
    buf_append_text(out, "\r\n");
}

static void append_headers(const struct signing *signing, size_t own_count,
                           const struct sigv4_pair *own, const char *signature, struct buf *out)
{
    for (size_t i = 0; i < own_count; i++)
        append_header(out, own[i].name, own[i].value);
    for (size_t i = 0; i < signing->request->header_count; i++)
        append_header(out, signing->request->headers[i].name, signing->request->headers[i].value);
    buf_append_text(out, "Authorization: " ALGORITHM " Credential=");
    buf_append_str(out, buf_str(&signing->credential));
    buf_printf(out, ", SignedHeaders=%s, Signature=%s\r\n", buf_text(&signing->signed_headers),
               signature);
}

enum err_code sigv4_sign(const struct sigv4_credentials *credentials,
                         const struct sigv4_request *request, struct buf *out, struct err *err)
{
    struct signing signing;
    struct sigv4_pair own[OWN_PAIRS];
    size_t own_count = 0;
    char signature[SIGV4_SIGNATURE_SIZE];
    const size_t before = out->len;
    enum err_code code = signing_init(&signing, credentials, request, err);
    if (code != ERR_OK)
        goto out;
    add_pair(own, &own_count, "x-amz-date", str_of(signing.stamp));
    if (is_s3(credentials))
        add_pair(own, &own_count, "x-amz-content-sha256", str_of(request->payload_sha256));
    if (has_session(credentials))
        add_pair(own, &own_count, "x-amz-security-token", str_of(credentials->session_token));
    for (size_t i = 0; i < own_count; i++)
        signing.headers[signing.header_count++] = own[i];
    take_request(&signing);
    code = check(&signing, err);
    if (code == ERR_OK)
        code = sign_request(&signing, request->payload_sha256, signature, err);
    if (code == ERR_OK)
        append_headers(&signing, own_count, own, signature, out);
out:
    signing_release(&signing);
    return finish(out, before, code, err);
}

/* The parameters of the signature, in the order in which AWS shows them. */
static void add_parameters(struct signing *signing, int64_t seconds)
{
    struct sigv4_pair *query = signing->query;
    size_t *count = &signing->query_count;
    snprintf(signing->expires, sizeof signing->expires, "%d", (int)seconds);
    add_pair(query, count, "X-Amz-Algorithm", STR(ALGORITHM));
    add_pair(query, count, "X-Amz-Credential", buf_str(&signing->credential));
    add_pair(query, count, "X-Amz-Date", str_of(signing->stamp));
    add_pair(query, count, "X-Amz-Expires", str_of(signing->expires));
    add_pair(query, count, "X-Amz-SignedHeaders", buf_str(&signing->signed_headers));
    if (has_session(signing->credentials))
        add_pair(query, count, "X-Amz-Security-Token", str_of(signing->credentials->session_token));
}

enum err_code sigv4_presign(const struct sigv4_credentials *credentials,
                            const struct sigv4_request *request, int64_t seconds, struct buf *out,
                            struct err *err)
{
    struct signing signing;
    char signature[SIGV4_SIGNATURE_SIZE];
    const size_t before = out->len;
    enum err_code code = signing_init(&signing, credentials, request, err);
    if (code != ERR_OK)
        goto out;
    take_request(&signing);
    code = check(&signing, err);
    if (code == ERR_OK && (seconds < 1 || seconds > EXPIRES_MAX))
        code = refuse(err, "a URL that is valid for 0 seconds, or more than a week");
    if (code != ERR_OK)
        goto out;
    add_parameters(&signing, seconds);
    buf_printf(out, "%s://%s", request->scheme, request->host);
    sigv4_encode_path(request->path, out);
    buf_append_char(out, '?');
    sigv4_encode_query(signing.query, signing.query_count, out);
    sigv4_sort_query(signing.query, signing.query_count);
    code = sign_request(&signing, is_s3(credentials) ? SIGV4_UNSIGNED : request->payload_sha256,
                        signature, err);
    if (code == ERR_OK)
        buf_printf(out, "&X-Amz-Signature=%s", signature);
out:
    signing_release(&signing);
    return finish(out, before, code, err);
}
