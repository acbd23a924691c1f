/* What clients are given to reach the store themselves. No request is made here. */
#include "base/text.h"
#include "storage/s3/storage_s3.h"

#define PATH_BYTES 512
#define FIELDS_MAX 3

static enum err_code s3_presign_get(void *state, const struct storage_link *link,
                                    struct buf *ret_url, struct err *err)
{
    const struct storage_s3 *s3 = state;
    struct buf path;
    enum err_code code = storage_check_key(link->key, err);
    if (code != ERR_OK)
        return code;
    buf_init(&path, PATH_BYTES);
    s3_path(&s3->public_endpoint, s3->bucket, link->key, &path);
    const struct sigv4_pair query[] = {
        {STR("response-content-disposition"), str_of(link->disposition)},
        {STR("response-content-type"), str_of(link->mime)},
    };
    const struct sigv4_request request = {
        .method = "GET",
        .scheme = s3->public_endpoint.scheme,
        .host = s3->public_endpoint.host,
        .path = buf_str(&path),
        .query = query,
        .query_count = sizeof query / sizeof query[0],
        .now_ms = clock_wall_ms(s3->clock),
    };
    code = sigv4_presign(&s3->credentials, &request, link->seconds, ret_url, err);
    buf_release(&path);
    return code;
}

/* The fields that the client must send as they are: the store checks each. */
static size_t exact_fields(const struct storage_s3 *s3, const struct storage_form *form,
                           char checksum[45], struct sigv4_pair fields[FIELDS_MAX])
{
    size_t count = 0;
    unsigned char sha256[32];
    if (form->mime && *form->mime)
        fields[count++] = (struct sigv4_pair){STR("Content-Type"), str_of(form->mime)};
    if (form->sha256 && text_unhex(str_of(form->sha256), sha256, sizeof sha256)) {
        text_base64(sha256, sizeof sha256, checksum);
        if (!(atomic_load(&s3->refused) & S3_CHECKSUM))
            fields[count++] = (struct sigv4_pair){STR(S3_CHECKSUM_HEADER), str_of(checksum)};
        fields[count++] = (struct sigv4_pair){STR(S3_SHA256_HEADER), str_of(form->sha256)};
    }
    return count;
}

static enum err_code s3_presign_post(void *state, const struct storage_form *form,
                                     const struct storage_form_out *out, struct err *err)
{
    const struct storage_s3 *s3 = state;
    struct sigv4_pair fields[FIELDS_MAX];
    char checksum[45];
    struct buf path;
    enum err_code code = storage_check_key(form->key, err);
    if (code != ERR_OK)
        return code;
    const struct sigv4_policy policy = {
        .bucket = s3->bucket,
        .key = form->key,
        .exact = fields,
        .exact_count = exact_fields(s3, form, checksum, fields),
        .min_size = form->min_size,
        .max_size = form->max_size,
        .now_ms = clock_wall_ms(s3->clock),
        .seconds = form->seconds,
    };
    buf_init(&path, PATH_BYTES);
    s3_path(&s3->public_endpoint, s3->bucket, NULL, &path);
    buf_printf(out->url, "%s://%s%s", s3->public_endpoint.scheme, s3->public_endpoint.host,
               buf_text(&path));
    buf_release(&path);
    if (out->url->failed)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "presign", "Out of memory.");
    return sigv4_post(&s3->credentials, &policy, out->field, out->context, err);
}

const struct storage_presigning s3_presigning = {
    .get = s3_presign_get,
    .post = s3_presign_post,
};
