/*
 * POST policies: a JSON text that says what the form may hold, and its signature. Every field is
 * pinned, for some stores take fields that the policy does not name.
 */
#include <stdlib.h>

#include "base/text.h"
#include "net/sigv4_text.h"

#define ALGORITHM "AWS4-HMAC-SHA256"
#define POLICY_MAX (64 * 1024)
#define FIELD_NAME_SIZE 128
#define OWN_FIELDS 5 /* key, algorithm, credential, date, token */

/* Of one policy: the fields that the form holds before the policy itself. */
struct post {
    const struct sigv4_credentials *credentials;
    const struct sigv4_policy *policy;
    char stamp[SIGV4_STAMP_SIZE];
    struct buf credential;
    struct sigv4_pair fields[SIGV4_PAIRS_MAX + OWN_FIELDS];
    size_t field_count;
    struct buf json;
    char *base64;
};

static void add_field(struct post *post, const char *name, struct str value)
{
    post->fields[post->field_count++] = (struct sigv4_pair){str_of(name), value};
}

static void collect_fields(struct post *post)
{
    const struct sigv4_credentials *credentials = post->credentials;
    for (size_t i = 0; i < post->policy->exact_count; i++)
        post->fields[post->field_count++] = post->policy->exact[i];
    add_field(post, "key", str_of(post->policy->key));
    add_field(post, "x-amz-algorithm", STR(ALGORITHM));
    buf_printf(&post->credential, "%s/", credentials->access_key);
    sigv4_scope(credentials, post->stamp, &post->credential);
    add_field(post, "x-amz-credential", buf_str(&post->credential));
    add_field(post, "x-amz-date", str_of(post->stamp));
    if (credentials->session_token && credentials->session_token[0] != '\0')
        add_field(post, "x-amz-security-token", str_of(credentials->session_token));
}

/* UTF-16 for what lies beyond the first plane (RFC 8259 §7). */
static void append_escape(uint32_t code_point, struct buf *out)
{
    if (code_point > 0xFFFF) {
        code_point -= 0x10000;
        buf_printf(out, "\\u%04x", 0xD800 + (code_point >> 10));
        code_point = 0xDC00 + (code_point & 0x3FF);
    }
    buf_printf(out, "\\u%04x", code_point);
}

/* A JSON string in ASCII alone, which no store can read in two ways. False when it is no UTF-8. */
static bool append_string(struct str text, struct buf *out)
{
    size_t at = 0;
    uint32_t code_point = 0;
    buf_append_char(out, '"');
    while (at < text.len) {
        if (!text_utf8_next(text, &at, &code_point))
            return false;
        if (code_point == '"' || code_point == '\\')
            buf_append_char(out, '\\');
        if (code_point >= 0x20 && code_point < 0x7F)
            buf_append_char(out, (char)code_point);
        else
            append_escape(code_point, out);
    }
    buf_append_char(out, '"');
    return true;
}

static bool append_condition(struct str name, struct str value, struct buf *out)
{
    buf_append_text(out, ", {");
    bool valid = append_string(name, out);
    buf_append_text(out, ": ");
    valid = append_string(value, out) && valid;
    buf_append_char(out, '}');
    return valid;
}

static bool write_policy(struct post *post)
{
    char expiration[TEXT_TIME_SIZE];
    const struct sigv4_policy *policy = post->policy;
    struct buf *out = &post->json;
    text_time(policy->now_ms + policy->seconds * 1000, expiration);
    /* Whole seconds. */
    const struct str time = {expiration, str_find(str_of(expiration), '.')};
    buf_printf(out, "{\"expiration\": \"%.*sZ\", \"conditions\": [", (int)time.len, time.data);
    buf_printf(out, "[\"content-length-range\", %lld, %lld]", (long long)policy->min_size,
               (long long)policy->max_size);
    bool valid = append_condition(STR("bucket"), str_of(policy->bucket), out);
    for (size_t i = 0; i < post->field_count; i++)
        valid = append_condition(post->fields[i].name, post->fields[i].value, out) && valid;
    buf_append_text(out, "]}");
    return valid;
}

static enum err_code check_fields(const struct post *post, struct err *err)
{
    for (size_t i = 0; i < post->field_count; i++) {
        const struct sigv4_pair *field = &post->fields[i];
        if (!sigv4_is_token(field->name) || field->name.len >= FIELD_NAME_SIZE ||
            !sigv4_is_printable(field->value))
            return err_set_internal(err, ERR_INTERNAL, 0, "sign",
                                    "cannot sign: a form field that can't be sent");
    }
    return ERR_OK;
}

static enum err_code encode_policy(struct post *post, struct err *err)
{
    if (!write_policy(post))
        return err_set_internal(err, ERR_INTERNAL, 0, "sign", "cannot sign: no UTF-8 in a form");
    if (post->json.failed || post->credential.failed)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "sign", "no room for a policy");
    post->base64 = malloc(4 * ((post->json.len + 2) / 3) + 1);
    if (!post->base64)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "sign", "no room for a policy");
    text_base64((const unsigned char *)post->json.data, post->json.len, post->base64);
    return ERR_OK;
}

static void tell_fields(const struct post *post, const char *signature,
                        sigv4_field_callback *callback, void *context)
{
    char name[FIELD_NAME_SIZE];
    for (size_t i = 0; i < post->field_count; i++)
        if (str_copy(name, sizeof name, post->fields[i].name))
            callback(context, name, post->fields[i].value);
    callback(context, "policy", str_of(post->base64));
    callback(context, "x-amz-signature", str_of(signature));
}

enum err_code sigv4_post(const struct sigv4_credentials *credentials,
                         const struct sigv4_policy *policy, sigv4_field_callback *callback,
                         void *context, struct err *err)
{
    struct post post = {.credentials = credentials, .policy = policy};
    char signature[SIGV4_SIGNATURE_SIZE];
    if (policy->exact_count > SIGV4_PAIRS_MAX)
        return err_set_internal(err, ERR_INTERNAL, 0, "sign", "cannot sign: too many form fields");
    buf_init(&post.credential, POLICY_MAX);
    buf_init(&post.json, POLICY_MAX);
    sigv4_stamp(policy->now_ms, post.stamp);
    collect_fields(&post);
    enum err_code code = check_fields(&post, err);
    if (code == ERR_OK)
        code = encode_policy(&post, err);
    if (code == ERR_OK)
        code = sigv4_signature(credentials, policy->now_ms, str_of(post.base64), signature, err);
    if (code == ERR_OK)
        tell_fields(&post, signature, callback, context);
    free(post.base64);
    buf_release(&post.json);
    buf_release(&post.credential);
    return code;
}
