#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/text.h"
#include "observe/report_parts.h"

#define SUFFIX ".envelope"
#define TEMP_SUFFIX ".new"
#define NAME_SIZE 64
#define STALE_SECONDS 60 /* a file that is still being written after this long never will be */

void report_spool_init(struct report_spool *spool, const struct config *config)
{
    *spool = (struct report_spool){.max_bytes = config->sentry_spool_bytes, .held_fd = -1};
    snprintf(spool->folder, sizeof spool->folder, "%s/log", config->data_dir);
    const char *base = access(spool->folder, W_OK) == 0 ? spool->folder : config->runtime_dir;
    char chosen[sizeof spool->folder];
    int len = snprintf(chosen, sizeof chosen, "%s/reports", base);
    if (len < 0 || (size_t)len >= sizeof chosen)
        spool->max_bytes = 0;
    memcpy(spool->folder, chosen, sizeof spool->folder);
}

/* ---- the folder ---- */

static int open_folder(const struct report_spool *spool)
{
    return open(spool->folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static int make_folder(const struct report_spool *spool)
{
    if (mkdir(spool->folder, 0700) != 0 && errno != EEXIST)
        return -1;
    return open_folder(spool);
}

bool report_folder_make(const struct config *config, char *ret_path, size_t size)
{
    struct report_spool spool;
    if (!*config->sentry_dsn)
        return false;
    report_spool_init(&spool, config);
    int fd = spool.max_bytes > 0 ? make_folder(&spool) : -1;
    if (fd < 0)
        return false;
    close(fd);
    return str_copy(ret_path, size, str_of(spool.folder));
}

static DIR *list_folder(int folder_fd)
{
    int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir && fd >= 0)
        close(fd);
    return dir;
}

static bool ends_with(const char *name, const char *end)
{
    size_t len = strlen(name);
    size_t end_len = strlen(end);
    return len > end_len && strcmp(name + len - end_len, end) == 0;
}

static bool is_report(const char *name)
{
    return strlen(name) < NAME_SIZE && ends_with(name, SUFFIX);
}

/* What a program left that was killed while it wrote. */
static void remove_stale(int folder_fd, const char *name)
{
    struct stat stat;
    if (ends_with(name, TEMP_SUFFIX) && fstatat(folder_fd, name, &stat, AT_SYMLINK_NOFOLLOW) == 0 &&
        time(NULL) - stat.st_mtime > STALE_SECONDS)
        unlinkat(folder_fd, name, 0);
}

struct listing {
    int64_t bytes;
    char oldest[NAME_SIZE]; /* of those after `after`; "" when there is none */
};

static bool list_reports(int folder_fd, const char *after, struct listing *ret_listing)
{
    struct listing listing = {.bytes = 0};
    struct dirent *entry = NULL;
    struct stat stat;
    DIR *dir = list_folder(folder_fd);
    if (!dir)
        return false;
    while ((entry = readdir(dir))) {
        const char *name = entry->d_name;
        remove_stale(folder_fd, name);
        if (!is_report(name) || fstatat(folder_fd, name, &stat, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        listing.bytes += stat.st_size;
        if (strcmp(name, after) > 0 && (!*listing.oldest || strcmp(name, listing.oldest) < 0))
            memcpy(listing.oldest, name, strlen(name) + 1);
    }
    closedir(dir);
    *ret_listing = listing;
    return true;
}

bool report_spool_is_empty(const struct report_spool *spool)
{
    struct listing listing = {.bytes = 0};
    int folder_fd = open_folder(spool);
    if (folder_fd < 0)
        return true;
    bool is_empty = !list_reports(folder_fd, "", &listing) || !*listing.oldest;
    close(folder_fd);
    return is_empty;
}

/* ---- put ---- */

/* False when it does not fit, whatever goes. */
static bool make_room(const struct report_spool *spool, int folder_fd, size_t len,
                      unsigned *ret_dropped)
{
    struct listing listing;
    int64_t needed = (int64_t)len;
    if (needed > spool->max_bytes)
        return false;
    for (;;) {
        if (!list_reports(folder_fd, "", &listing))
            return false;
        if (listing.bytes + needed <= spool->max_bytes)
            return true;
        if (!*listing.oldest || unlinkat(folder_fd, listing.oldest, 0) != 0)
            return false;
        ++*ret_dropped;
    }
}

/* Whole or not at all for who looks at names that end in SUFFIX. */
static bool write_file(int folder_fd, const char *name, struct str body)
{
    char temp[NAME_SIZE + sizeof TEMP_SUFFIX];
    struct err err;
    snprintf(temp, sizeof temp, "%s" TEMP_SUFFIX, name);
    int fd = openat(folder_fd, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    bool is_written = io_write_all(fd, body.data, body.len, &err) == ERR_OK;
    is_written = close(fd) == 0 && is_written;
    is_written = is_written && renameat(folder_fd, temp, folder_fd, name) == 0;
    if (!is_written)
        unlinkat(folder_fd, temp, 0);
    return is_written;
}

bool report_spool_put(const struct report_spool *spool, const struct clock *clock, struct str body,
                      unsigned *ret_dropped)
{
    char name[NAME_SIZE];
    char random_hex[17];
    unsigned char random[8];
    *ret_dropped = 0;
    int folder_fd = spool->max_bytes > 0 ? make_folder(spool) : -1;
    if (folder_fd < 0)
        return false;
    clock_random(clock, random, sizeof random);
    text_hex(random, sizeof random, random_hex);
    snprintf(name, sizeof name, "%016" PRId64 "-%s" SUFFIX, clock_wall_ms(clock), random_hex);
    bool is_kept =
        make_room(spool, folder_fd, body.len, ret_dropped) && write_file(folder_fd, name, body);
    close(folder_fd);
    return is_kept;
}

/* ---- take ---- */

/* The lock says who sends it; with the lock, is the name still there? */
static int lock_report(int folder_fd, const char *name)
{
    struct stat stat;
    int fd = openat(folder_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -1;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &stat) == 0 && stat.st_nlink > 0 &&
        S_ISREG(stat.st_mode))
        return fd;
    close(fd);
    return -1;
}

static bool read_report(int fd, struct buf *body)
{
    char piece[4096];
    struct err err;
    size_t len = 0;
    do {
        if (io_read_some(fd, piece, sizeof piece, &len, &err) != ERR_OK)
            return false;
        buf_append(body, piece, len);
    } while (len > 0 && !body->failed);
    return body->len > 0 && !body->failed;
}

/* True when this one is held and read. One that can't be read is removed. */
static bool take_report(struct report_spool *spool, int folder_fd, const char *name,
                        struct buf *body)
{
    int fd = lock_report(folder_fd, name);
    if (fd < 0)
        return false;
    buf_reset(body);
    if (!read_report(fd, body)) {
        unlinkat(folder_fd, name, 0);
        close(fd);
        return false;
    }
    spool->held_fd = fd;
    memcpy(spool->held_name, name, strlen(name) + 1);
    return true;
}

bool report_spool_take(struct report_spool *spool, struct buf *body)
{
    struct listing listing = {.bytes = 0};
    char after[NAME_SIZE] = "";
    int folder_fd = open_folder(spool);
    bool is_taken = false;
    if (folder_fd < 0)
        return false;
    while (!is_taken && list_reports(folder_fd, after, &listing) && *listing.oldest) {
        is_taken = take_report(spool, folder_fd, listing.oldest, body);
        memcpy(after, listing.oldest, sizeof after);
    }
    close(folder_fd);
    return is_taken;
}

void report_spool_release(struct report_spool *spool, bool is_done)
{
    int folder_fd = is_done ? open_folder(spool) : -1;
    if (folder_fd >= 0) {
        unlinkat(folder_fd, spool->held_name, 0);
        close(folder_fd);
    }
    close(spool->held_fd);
    spool->held_fd = -1;
}
