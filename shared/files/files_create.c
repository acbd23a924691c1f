#include "files/files_create.h"

#include <inttypes.h>

#include "base/crash.h"
#include "base/text.h"
#include "files/file_json.h"
#include "files/sniff.h"
#include "files/upload_sink.h"

#define MIME_UNKNOWN "application/octet-stream"
#define ANSWER_BODY_MAX (32 * 1024)

void create_request_init(struct create_request *request)
{
    *request = (struct create_request){.visibility = VISIBILITY_PRIVATE, .size_hint = -1};
    buf_init(&request->metadata, LIMIT_METADATA_BYTES);
}

void create_request_release(struct create_request *request)
{
    buf_release(&request->metadata);
}

void create_answer_init(struct create_answer *answer)
{
    *answer = (struct create_answer){0};
    buf_init(&answer->body, ANSWER_BODY_MAX);
    buf_init(&answer->location, FILE_PATH_SIZE);
    buf_init(&answer->etag, FILE_TAG_SIZE + 2);
}

void create_answer_release(struct create_answer *answer)
{
    buf_release(&answer->body);
    buf_release(&answer->location);
    buf_release(&answer->etag);
}

/* A key nobody can guess and no client names: its shard, "/", 128 random bits. */
static void make_key(const struct clock *clock, char target[LIMIT_KEY_BYTES + 1])
{
    unsigned char random[16];
    char hex[33];
    clock_random(clock, random, sizeof random);
    text_hex(random, sizeof random, hex);
    snprintf(target, LIMIT_KEY_BYTES + 1, "%.2s/%s", hex, hex);
}

static enum err_code describe_file(const struct files *files, const struct create_request *request,
                                   const struct upload_result *upload, struct file *file,
                                   struct err *err)
{
    const char *bucket = storage_capabilities(files->storage) & STORAGE_CAN_SENDFILE
                             ? FILES_BUCKET
                             : files->config->s3_bucket;
    struct str metadata = request->metadata.len ? buf_str(&request->metadata) : STR("{}");
    file->created_ms = clock_wall_ms(files->clock);
    file->updated_ms = file->created_ms;
    file->expires_ms = request->expires_in ? file->created_ms + request->expires_in * 1000 : 0;
    file->version = 1;
    file->size = upload->size;
    file->visibility = request->visibility;
    file->status = FILE_READY;
    id_new(files->clock, file->id);
    text_hex(upload->sha256, sizeof upload->sha256, file->sha256);
    if (!str_copy(file->owner, sizeof file->owner, str_of(request->principal->owner)) ||
        !str_copy(file->name, sizeof file->name, str_of(request->name)) ||
        !str_copy(file->bucket, sizeof file->bucket, str_of(bucket)) ||
        !str_copy(file->metadata, sizeof file->metadata, metadata))
        return err_set_internal(err, ERR_INTERNAL, 0, "create", "a field is too long");
    return ERR_OK;
}

static enum err_code fingerprint_of(const struct create_request *request,
                                    const unsigned char sha256[32], char ret_fingerprint[65],
                                    struct err *err)
{
    char fields[64];
    snprintf(fields, sizeof fields, "%d %" PRId64, (int)request->visibility, request->expires_in);
    const struct str parts[] = {
        str_of(request->method), str_of(request->route),      str_of(request->name),
        str_of(fields),          buf_str(&request->metadata), {(const char *)sha256, 32},
    };
    return idempotency_fingerprint(parts, sizeof parts / sizeof *parts, ret_fingerprint, err);
}

static enum err_code write_answer(const struct file *file, struct create_answer *answer,
                                  struct err *err)
{
    char tag[FILE_TAG_SIZE];
    char path[FILE_PATH_SIZE];
    file_version_tag(file, tag);
    file_path(file, path);
    file_json_write(&answer->body, NULL, file);
    buf_append_text(&answer->location, path);
    buf_printf(&answer->etag, "\"%s\"", tag);
    if (answer->body.failed || answer->location.failed || answer->etag.failed)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "create", "cannot write the answer");
    answer->size = file->size;
    return ERR_OK;
}

/* One upload on its way from bytes to a row. */
struct creation {
    const struct files *files;
    struct create_request *request;
    struct create_answer *answer;
    struct storage_put *put;
    struct upload_result upload;
    struct file file;
};

static enum err_code insert_row(struct creation *creation, struct err *err)
{
    char fingerprint[65];
    struct idempotency *idempotency = creation->request->idempotency;
    const struct create_answer *answer = creation->answer;
    enum err_code code =
        fingerprint_of(creation->request, creation->upload.sha256, fingerprint, err);
    if (code != ERR_OK)
        return code;
    struct idempotency_answer stored = {.fingerprint = str_of(fingerprint),
                                        .status = 201,
                                        .location = buf_str(&answer->location),
                                        .etag = buf_str(&answer->etag),
                                        .body = buf_str(&answer->body)};
    code = metadata_file_insert(creation->files->metadata, &creation->file,
                                idempotency_answer_of(idempotency, &stored), err);
    if (code == ERR_OK)
        idempotency->finished = true;
    if (code == ERR_EXISTS) /* ids and keys are random: only a sweep's fence can stand there */
        code =
            err_set_internal(err, ERR_STORAGE_UNAVAILABLE, 0, "insert",
                             "a sweep took the bytes of an upload that was not recorded in time");
    return code;
}

/* The bytes are visible under their key: record them, or take them back. When it is not known
 * whether the row was committed the bytes stay, for the sweep to judge. */
static enum err_code record_file(struct creation *creation, struct err *err)
{
    enum err_code code = write_answer(&creation->file, creation->answer, err);
    if (code == ERR_OK)
        code = insert_row(creation, err);
    if (code != ERR_OK && !err->outcome_unknown) {
        struct err ignored; /* an orphan is left to the sweep */
        enum err_code removed =
            storage_remove(creation->files->storage, creation->file.key, &ignored);
        (void)removed;
    }
    return code;
}

static void count_upload(const struct files *files, int64_t size)
{
    metrics_add(files->metrics, METRIC_FILES_UPLOADED, NULL, 1);
    metrics_add(files->metrics, METRIC_UPLOAD_BYTES, NULL, size);
}

/* Judges the declared type by the bytes, and tells the store. */
static void decide_type(void *context, const struct upload_result *upload)
{
    struct creation *creation = context;
    char type[FILE_CONTENT_TYPE_SIZE];
    const char *mime = creation->request->mime[0] ? creation->request->mime : MIME_UNKNOWN;
    if (mime_is_contradicted(mime, upload->head, upload->head_len))
        mime = MIME_UNKNOWN;
    snprintf(creation->file.mime, sizeof creation->file.mime, "%s", mime);
    if (mime_is_text(mime))
        memcpy(creation->file.charset, creation->request->charset, sizeof creation->file.charset);
    file_content_type(&creation->file, type);
    storage_put_set_type(creation->put, type);
}

static bool wants_charset(const struct create_request *request)
{
    return mime_is_text(request->mime) && !request->charset[0];
}

static enum err_code receive(struct creation *creation, struct source *body, struct err *err)
{
    const struct files *files = creation->files;
    const struct create_request *request = creation->request;
    const struct upload_result *upload = &creation->upload;
    bool put_waits = storage_capabilities(files->storage) & STORAGE_WAITS;
    const struct upload_sink_options options = {.put = creation->put,
                                                .put_waits = put_waits,
                                                .begins = decide_type,
                                                .context = creation,
                                                .queue = files->queue,
                                                .max_size = files->config->max_file_size,
                                                .size_hint = request->size_hint,
                                                .with_md5 = request->asserted.has_md5,
                                                .with_utf8 = wants_charset(request)};
    enum err_code code = upload_sink_run(&options, body, &creation->upload, err);
    if (code == ERR_OK && crash_or_fail("step.upload"))
        code = err_set_internal(err, ERR_INTERNAL, 0, "receive", "a test has it fail");
    if (code == ERR_OK)
        code = asserted_digests_check(&request->asserted, upload->sha256, upload->md5, err);
    if (upload->is_utf8 && mime_is_text(creation->file.mime))
        snprintf(creation->file.charset, sizeof creation->file.charset, "utf-8");
    return code == ERR_OK ? describe_file(files, request, upload, &creation->file, err) : code;
}

static enum err_code store(const struct files *files, struct create_request *request,
                           struct source *body, struct create_answer *answer, struct err *err)
{
    struct creation creation = {.files = files, .request = request, .answer = answer};
    make_key(files->clock, creation.file.key);
    enum err_code code = storage_put_begin(files->storage, creation.file.key, request->size_hint,
                                           &creation.put, err);
    if (code != ERR_OK)
        return code;
    code = receive(&creation, body, err);
    if (code == ERR_OK)
        code = storage_put_commit(creation.put, creation.upload.sha256, creation.file.tag, err);
    if (code == ERR_OK)
        code = record_file(&creation, err);
    storage_put_close(creation.put);
    if (code != ERR_OK)
        return code;
    count_upload(files, creation.file.size);
    crash_point("upload.before_reply");
    return ERR_OK;
}

/* The key's first request is done: read the body only to see whether it is the same request. */
static enum err_code replay(const struct files *files, const struct create_request *request,
                            struct source *body, struct create_answer *answer, struct err *err)
{
    struct upload_result upload;
    char fingerprint[65];
    const struct upload_sink_options options = {.max_size = files->config->max_file_size,
                                                .size_hint = request->size_hint};
    const struct idempotency_record *record = &request->idempotency->record;
    enum err_code code = upload_sink_run(&options, body, &upload, err);
    if (code == ERR_OK)
        code = fingerprint_of(request, upload.sha256, fingerprint, err);
    if (code == ERR_OK)
        code = idempotency_match(request->idempotency, fingerprint, err);
    if (code != ERR_OK)
        return code;
    buf_append_str(&answer->body, buf_str(&record->body));
    buf_append_str(&answer->location, buf_str(&record->location));
    buf_append_str(&answer->etag, buf_str(&record->etag));
    answer->replayed = true;
    return ERR_OK;
}

enum err_code files_create(const struct files *files, struct create_request *request,
                           struct source *body, struct create_answer *ret_answer, struct err *err)
{
    int64_t max_size = files->config->max_file_size;
    if (request->body_is_file && request->size_hint > max_size)
        return upload_too_large(max_size, err);
    return request->idempotency->replay ? replay(files, request, body, ret_answer, err)
                                        : store(files, request, body, ret_answer, err);
}

/* Takes a member off a Dictionary (RFC 8941 §3.2), in whose strings commas separate nothing. */
static struct str take_member(struct str *field)
{
    bool is_quoted = false;
    size_t at = 0;
    for (; at < field->len && (is_quoted || field->data[at] != ','); at++) {
        if (field->data[at] == '"')
            is_quoted = !is_quoted;
        else if (is_quoted && field->data[at] == '\\' && at + 1 < field->len)
            at++;
    }
    const struct str member = {field->data, at};
    size_t used = at < field->len ? at + 1 : at;
    *field = (struct str){field->data + used, field->len - used};
    return str_trim(member);
}

/* A Byte Sequence of 32 bytes, with any parameters behind it. */
static bool parse_sha256(struct str value, unsigned char sha256[32])
{
    if (value.len == 0 || value.data[0] != ':')
        return false;
    str_cut(&value, ':');
    bool is_closed = str_find(value, ':') < value.len;
    const struct str base64 = str_cut(&value, ':');
    value = str_trim(value);
    return is_closed && (value.len == 0 || value.data[0] == ';') &&
           text_unbase64(base64, sha256, 32);
}

/* Finds `sha-256=:…:` in a Dictionary of RFC 9530; other algorithms are passed over. */
static enum err_code parse_digest_field(struct str field, unsigned char sha256[32], bool *ret_found,
                                        struct err *err)
{
    while (field.len > 0) {
        struct str value = take_member(&field);
        struct str name = str_trim(str_cut(&value, '='));
        if (!str_equal_nocase(name, STR("sha-256")))
            continue;
        if (!parse_sha256(str_trim(value), sha256))
            return err_set(err, ERR_BAD_REQUEST, "digest", "The sha-256 digest is malformed.");
        *ret_found = true;
    }
    return ERR_OK;
}

enum err_code asserted_digests_parse(struct asserted_digests *digests, struct str content_digest,
                                     struct str repr_digest, struct str content_md5,
                                     struct err *err)
{
    unsigned char other[32];
    bool has_other = false;
    *digests = (struct asserted_digests){0};
    enum err_code code =
        parse_digest_field(content_digest, digests->sha256, &digests->has_sha256, err);
    if (code == ERR_OK)
        code = parse_digest_field(repr_digest, other, &has_other, err);
    if (code != ERR_OK)
        return code;
    if (has_other && digests->has_sha256 && memcmp(other, digests->sha256, sizeof other) != 0)
        return err_set(err, ERR_DIGEST_MISMATCH, "digest",
                       "Content-Digest and Repr-Digest contradict each other.");
    if (has_other)
        memcpy(digests->sha256, other, sizeof other);
    digests->has_sha256 |= has_other;
    if (content_md5.len == 0)
        return ERR_OK;
    if (!text_unbase64(str_trim(content_md5), digests->md5, sizeof digests->md5))
        return err_set(err, ERR_BAD_REQUEST, "digest", "Content-MD5 is malformed.");
    digests->has_md5 = true;
    return ERR_OK;
}
