#include "files/files_download.h"

#include <stdlib.h>

#include "base/digest.h"
#include "base/text.h"
#include "files/file_headers.h"
#include "files/files_open.h"
#include "files/object_cache.h"
#include "http/disposition.h"

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
