#include "files/files_open.h"

#include <stdlib.h>

#include "base/crash.h"
#include "base/digest.h"
#include "base/text.h"
#include "files/file_json.h"
#include "files/object_cache.h"
#include "http/disposition.h"

enum err_code files_check_id(struct str id, struct err *err)
{
    if (id_is_valid(id))
        return ERR_OK;
    err_set(err, ERR_BAD_ID, "id", "The id is not a lower-case UUIDv7.");
    err_subject(err, "parameter", STR("id"));
    return ERR_BAD_ID;
}

static enum err_code parse_id(struct str text, char ret_id[ID_SIZE], struct err *err)
{
    enum err_code code = files_check_id(text, err);
    if (code == ERR_OK && !str_copy(ret_id, ID_SIZE, text))
        code = err_set_internal(err, ERR_INTERNAL, 0, "id", "an id of another length");
    return code;
}

/* Looks the row up; *ret_found is `file`, or NULL when there is none. */
static enum err_code find_row(const struct files *files, struct str id_text, struct file *file,
                              const struct file **ret_found, struct err *err)
{
    char id[ID_SIZE];
    enum err_code code = parse_id(id_text, id, err);
    if (code != ERR_OK)
        return code;
    code = metadata_file_get(files->metadata, id, clock_wall_ms(files->clock), file, err);
    if (code != ERR_OK && code != ERR_NOT_FOUND)
        return code;
    *ret_found = code == ERR_OK ? file : NULL;
    return ERR_OK;
}

enum err_code files_open(const struct files *files, const struct principal *principal,
                         struct str id, struct file *ret_file, struct err *err)
{
    const struct file *found;
    enum err_code code = find_row(files, id, ret_file, &found, err);
    return code == ERR_OK ? principal_may_read(principal, found, err) : code;
}

enum err_code files_open_to_change(const struct files *files, const struct principal *principal,
                                   struct str id, struct file *ret_file, struct err *err)
{
    const struct file *found;
    enum err_code code = find_row(files, id, ret_file, &found, err);
    return code == ERR_OK ? principal_may_write(principal, found, err) : code;
}

/* Either way: the row may come from a node whose clock is ahead. */
static bool may_still_appear(const struct files *files, const struct file *file)
{
    int64_t age_ms = clock_wall_ms(files->clock) - file->created_ms;
    return (storage_capabilities(files->storage) & STORAGE_MAY_LAG) && age_ms < LIMIT_VISIBLE_MS &&
           age_ms > -LIMIT_VISIBLE_MS;
}

static enum err_code missing(const struct files *files, const struct file *file, struct err *err)
{
    if (may_still_appear(files, file))
        return err_set_internal(err, ERR_STORAGE_UNAVAILABLE, 0, "judge bytes",
                                "the store does not show the bytes of file %s yet", file->id);
    return err_set_internal(err, ERR_INTERNAL, 0, "judge bytes", "the bytes of file %s are missing",
                            file->id);
}

/* What it means that the store answered `failure` for the bytes of a row that was live a moment ago:
 * ERR_NOT_FOUND when the row is gone too; when the bytes are missing, ERR_STORAGE_UNAVAILABLE while
 * the store may still show them, then ERR_INTERNAL; anything else as it is. */
static enum err_code files_judge_bytes(const struct files *files, const struct file *file,
                                       enum err_code failure, struct err *err)
{
    struct file again;
    if (failure != ERR_NOT_FOUND && failure != ERR_STORAGE)
        return failure;
    struct err wrong = *err;
    /* A delete may have won between the row and the bytes. */
    enum err_code code =
        metadata_file_get(files->metadata, file->id, clock_wall_ms(files->clock), &again, err);
    if (code == ERR_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND, "judge bytes", "There is no such file.");
    if (code != ERR_OK)
        return code;
    if (failure == ERR_NOT_FOUND)
        return missing(files, file, err);
    *err = wrong;
    return failure;
}

enum err_code files_judge_unsent(const struct files *files, struct str id, struct err *err)
{
    struct file file;
    const struct file *found;
    enum err_code code = find_row(files, id, &file, &found, err);
    if (code != ERR_OK)
        return code;
    if (!found)
        return err_set(err, ERR_NOT_FOUND, "judge bytes", "There is no such file.");
    return err_set_internal(err, ERR_STORAGE_UNAVAILABLE, 0, "judge bytes",
                            "the gateway could not read the bytes of file %s", file.id);
}

enum err_code files_locate(const struct files *files, const struct file *file, struct buf *ret_path,
                           struct err *err)
{
    if (crash_or_fail("step.get"))
        return err_set_internal(err, ERR_INTERNAL, 0, "locate", "a test has it fail");
    if (file->status != FILE_READY)
        return err_set_internal(err, ERR_INTERNAL, 0, "locate", "file %s is quarantined", file->id);
    enum err_code code =
        storage_sendfile_path(files->storage, file->key, file->size, ret_path, err);
    if (code == ERR_OK)
        return ERR_OK;
    code = files_judge_bytes(files, file, code, err);
    if (code == ERR_STORAGE) /* the disk is ours: nobody else answered */
        code = err_set_internal(err, ERR_INTERNAL, 0, "locate",
                                "the bytes of file %s have another size", file->id);
    return code;
}

#define DISPOSITION_MAX 2048
#define NS_PER_SECOND 1000000000LL

struct download {
    struct source source; /* first member: the source is the download */
    const struct files *files;
    struct file file;
    struct storage_get *get;
    struct digest *digest; /* of the whole file; NULL for a range */
    char *piece;
    size_t piece_size;
    size_t piece_len; /* bytes read and not yet given */
    int64_t left;     /* bytes still to be read */
};

enum download_way files_download_way(const struct files *files)
{
    if (storage_capabilities(files->storage) & STORAGE_CAN_SENDFILE)
        return DOWNLOAD_BY_GATEWAY;
    return files->config->download_mode == DOWNLOAD_MODE_REDIRECT ? DOWNLOAD_BY_REDIRECT
                                                                  : DOWNLOAD_BY_STREAM;
}

static enum err_code check_hash(struct download *download, struct err *err)
{
    unsigned char sha256[DIGEST_MAX_BYTES];
    char hex[65];
    if (!download->digest)
        return ERR_OK;
    enum err_code code = digest_finish(download->digest, sha256, err);
    if (code != ERR_OK)
        return code;
    text_hex(sha256, 32, hex);
    if (strcmp(hex, download->file.sha256) != 0)
        return err_set_internal(err, ERR_STORAGE, 0, "download",
                                "the store returned other bytes than file %s has",
                                download->file.id);
    return ERR_OK;
}

static enum err_code read_some(struct download *download, struct err *err)
{
    size_t len = 0;
    size_t room = download->piece_size - download->piece_len;
    enum err_code code =
        storage_get_read(download->get, download->piece + download->piece_len, room, &len, err);
    if (code != ERR_OK)
        return code;
    if (len == 0 || (int64_t)len > download->left)
        return err_set_internal(err, ERR_STORAGE, 0, "download",
                                "the store returned another number of bytes than file %s has",
                                download->file.id);
    if (download->digest)
        digest_update(download->digest, download->piece + download->piece_len, len);
    download->piece_len += len;
    download->left -= (int64_t)len;
    return ERR_OK;
}

/* Reads a whole piece, or what is left; the last is checked. A store that trickles is given up. */
static enum err_code read_piece(struct download *download, struct err *err)
{
    const struct files *files = download->files;
    int64_t until_ns =
        clock_steady_ns(files->clock) + files->config->s3_deadline_seconds * NS_PER_SECOND;
    download->piece_len = 0;
    while (download->left > 0 && download->piece_len < download->piece_size) {
        enum err_code code = read_some(download, err);
        if (code != ERR_OK)
            return code;
        if (download->left > 0 && clock_steady_ns(files->clock) > until_ns)
            return err_set_internal(err, ERR_UPSTREAM_TIMEOUT, 0, "download",
                                    "the store is too slow");
    }
    return download->left == 0 ? check_hash(download, err) : ERR_OK;
}

static enum err_code next_piece(struct source *source, struct str *ret_piece, struct err *err)
{
    struct download *download = (struct download *)source;
    enum err_code code = ERR_OK;
    if (download->piece_len == 0 && download->left > 0)
        code = read_piece(download, err);
    if (code != ERR_OK)
        return code;
    *ret_piece = (struct str){download->piece, download->piece_len};
    download->piece_len = 0;
    return ERR_OK;
}

/* A small file that was read and checked before. */
static bool find_kept(struct download *download)
{
    if (!object_cache_find(download->files->object_cache, &download->file, download->piece))
        return false;
    download->piece_len = download->piece_size;
    download->left = 0;
    return true;
}

/* After a piece was read: when that was all, it has been checked. */
static void keep_small(const struct download *download)
{
    if (download->digest && download->left == 0)
        object_cache_keep(download->files->object_cache, &download->file, download->piece);
}

static enum err_code begin(struct download *download, const struct storage_wanted *wanted,
                           struct err *err)
{
    size_t size = wanted->length <= LIMIT_IO_BUFFER ? (size_t)wanted->length : LIMIT_STREAM_STEP;
    download->piece_size = size;
    download->piece = malloc(size > 0 ? size : 1);
    if (!download->piece)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "download", "out of memory");
    bool is_whole = wanted->length == download->file.size;
    if (is_whole && find_kept(download))
        return ERR_OK;
    enum err_code code = is_whole ? digest_open(&download->digest, DIGEST_SHA256, err) : ERR_OK;
    if (code == ERR_OK)
        code = storage_get_open(download->files->storage, wanted, &download->get, err);
    if (code == ERR_OK)
        code = read_piece(download, err);
    if (code == ERR_OK)
        keep_small(download);
    return code;
}

static enum err_code refuse_quarantined(const struct file *file, struct err *err)
{
    return file->status == FILE_READY ? ERR_OK
                                      : err_set_internal(err, ERR_INTERNAL, 0, "download",
                                                         "file %s is quarantined", file->id);
}

enum err_code files_download_open(const struct files *files, const struct file *file,
                                  const struct download_part *part, struct download **ret_download,
                                  struct err *err)
{
    /* What is read whole is judged by its hash alone: a store may give a new tag to the same bytes
     * (restored from a copy, encrypted anew). */
    const char *tag = part->length == file->size ? NULL : file->tag;
    const struct storage_wanted wanted = {file->key, file->size, tag, part->offset, part->length};
    struct download *download = NULL;
    enum err_code code = refuse_quarantined(file, err);
    if (code != ERR_OK)
        return code;
    download = calloc(1, sizeof *download);
    if (!download)
        return err_set_internal(err, ERR_NO_MEMORY, 0, "download", "out of memory");
    download->source.next = next_piece;
    download->files = files;
    download->file = *file;
    download->left = part->length;
    code = begin(download, &wanted, err);
    if (code != ERR_OK) {
        files_download_close(download);
        return files_judge_bytes(files, file, code, err);
    }
    *ret_download = download;
    return ERR_OK;
}

struct source *files_download_source(struct download *download)
{
    return &download->source;
}

void files_download_close(struct download *download)
{
    if (!download)
        return;
    storage_get_close(download->get);
    digest_close(download->digest);
    free(download->piece);
    free(download);
}

enum err_code files_download_probe(const struct files *files, const struct file *file,
                                   struct err *err)
{
    struct storage_stat stat;
    enum err_code code = refuse_quarantined(file, err);
    if (code != ERR_OK)
        return code;
    code = storage_stat_object(files->storage, file->key, &stat, err);
    if (code == ERR_OK && stat.size != file->size)
        code = err_set_internal(err, ERR_STORAGE, 0, "download",
                                "the store holds something else than file %s", file->id);
    return code == ERR_OK ? ERR_OK : files_judge_bytes(files, file, code, err);
}

enum err_code files_download_url(const struct files *files, const struct file *file,
                                 struct buf *ret_url, struct err *err)
{
    char type[FILE_CONTENT_TYPE_SIZE];
    struct buf disposition;
    file_content_type(file, type);
    buf_init(&disposition, DISPOSITION_MAX);
    disposition_write(&disposition, false, str_of(file->name));
    enum err_code code = refuse_quarantined(file, err);
    if (code == ERR_OK && disposition.failed)
        code = err_set_internal(err, ERR_NO_MEMORY, 0, "download", "out of memory");
    const struct storage_link link = {file->key, type, buf_text(&disposition),
                                      DOWNLOAD_URL_SECONDS};
    if (code == ERR_OK)
        code = storage_presign_get(files->storage, &link, ret_url, err);
    buf_release(&disposition);
    return code;
}
