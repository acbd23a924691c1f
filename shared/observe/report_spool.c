#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/text.h"
#include "observe/crash_handler.h"
#include "observe/report_parts.h"
#include "observe/stack.h"

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

#define TAKEN_SUFFIX ".taken"
#define PAUSE_MS \
    6000 /* between two of a program: one that crashes at each start tells 10 a minute */
#define RECORD_STALE_SECONDS 60
#define RECORD_NAME_SIZE 128

/* ---- the folder ---- */

static int open_record_folder(const struct report_crashes *crashes)
{
    return open(crashes->folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static void record_name(const struct report_crashes *crashes, unsigned number,
                        char name[RECORD_NAME_SIZE])
{
    snprintf(name, RECORD_NAME_SIZE, CRASH_FILE_NAME, crashes->program, number);
}

unsigned report_crashes_waiting(const struct report_crashes *crashes)
{
    char name[RECORD_NAME_SIZE];
    unsigned count = 0;
    int folder_fd = open_record_folder(crashes);
    if (folder_fd < 0)
        return 0;
    for (unsigned i = 0; i < CRASH_RECORDS_MAX; i++) {
        record_name(crashes, i, name);
        count += faccessat(folder_fd, name, F_OK, 0) == 0;
    }
    close(folder_fd);
    return count;
}

static bool is_stale(int folder_fd, const char *name)
{
    struct stat stat;
    return fstatat(folder_fd, name, &stat, AT_SYMLINK_NOFOLLOW) == 0 &&
           time(NULL) - stat.st_mtime > RECORD_STALE_SECONDS;
}

static bool is_part(const struct report_crashes *crashes, const char *name)
{
    char start[RECORD_NAME_SIZE];
    size_t len = strlen(name);
    size_t end = sizeof CRASH_PART_SUFFIX - 1;
    snprintf(start, sizeof start, "crash-%s-", crashes->program);
    return len > end && strcmp(name + len - end, CRASH_PART_SUFFIX) == 0 &&
           strncmp(name, start, strlen(start)) == 0;
}

/* Of a handler that was ended while it wrote. */
static unsigned remove_parts(const struct report_crashes *crashes, int folder_fd)
{
    unsigned removed = 0;
    int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    for (struct dirent *entry; (entry = readdir(dir));)
        if (is_part(crashes, entry->d_name) && is_stale(folder_fd, entry->d_name) &&
            unlinkat(folder_fd, entry->d_name, 0) == 0)
            removed++;
    closedir(dir);
    return removed;
}

/* Records that a program took and did not finish. */
static unsigned remove_taken(struct report_crashes *crashes, int folder_fd)
{
    char name[RECORD_NAME_SIZE];
    unsigned removed = 0;
    for (unsigned i = 0; i < CRASH_RECORDS_MAX; i++) {
        record_name(crashes, i, name);
        snprintf(name + strlen(name), RECORD_NAME_SIZE - strlen(name), TAKEN_SUFFIX);
        crashes->is_unfinished |= faccessat(folder_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
        if (is_stale(folder_fd, name) && unlinkat(folder_fd, name, 0) == 0)
            removed++;
    }
    return removed;
}

/* ---- not too often ---- */

static int64_t pause_left_ms(const struct report_crashes *crashes, int folder_fd)
{
    char name[RECORD_NAME_SIZE];
    struct stat stat;
    struct timespec now;
    snprintf(name, sizeof name, "crash-%s.last", crashes->program);
    clock_gettime(CLOCK_REALTIME, &now);
    if (fstatat(folder_fd, name, &stat, AT_SYMLINK_NOFOLLOW) == 0) {
        int64_t passed_ms = ((int64_t)now.tv_sec - stat.st_mtim.tv_sec) * 1000 +
                            (now.tv_nsec - stat.st_mtim.tv_nsec) / 1000000;
        if (passed_ms >= 0 && passed_ms < PAUSE_MS)
            return PAUSE_MS - passed_ms;
    }
    return 0;
}

static void begin_pause(const struct report_crashes *crashes, int folder_fd)
{
    char name[RECORD_NAME_SIZE];
    snprintf(name, sizeof name, "crash-%s.last", crashes->program);
    int fd = openat(folder_fd, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    futimens(fd, NULL);
    close(fd);
}

/* ---- take ---- */

static bool read_record(int folder_fd, const char *name, struct crash_record *record)
{
    char text[CRASH_RECORD_MAX + 1];
    struct err err;
    size_t len = 0;
    size_t got = 0;
    int fd = openat(folder_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return false;
    do {
        if (io_read_some(fd, text + len, sizeof text - len, &got, &err) != ERR_OK)
            got = 0;
        len += got;
    } while (got > 0 && len < sizeof text);
    close(fd);
    return crash_record_parse((struct str){text, len}, record);
}

/* One program has it: who could rename it. It is removed when the report of it is kept. */
static bool take_record(struct report_crashes *crashes, int folder_fd, unsigned number,
                        struct crash_record *record)
{
    char name[RECORD_NAME_SIZE];
    record_name(crashes, number, name);
    snprintf(crashes->taken, sizeof crashes->taken, "%s" TAKEN_SUFFIX, name);
    if (renameat(folder_fd, name, folder_fd, crashes->taken) != 0)
        return false;
    if (read_record(folder_fd, crashes->taken, record) &&
        strcmp(record->program, crashes->program) == 0)
        return true;
    unlinkat(folder_fd, crashes->taken, 0);
    crashes->dropped++;
    return false;
}

bool report_crashes_take(struct report_crashes *crashes, struct crash_record *ret_record,
                         int64_t *ret_wait_ms)
{
    bool is_taken = false;
    *ret_wait_ms = -1;
    int folder_fd = open_record_folder(crashes);
    if (folder_fd < 0)
        return false;
    crashes->dropped += remove_parts(crashes, folder_fd) + remove_taken(crashes, folder_fd);
    int64_t wait_ms = pause_left_ms(crashes, folder_fd);
    if (wait_ms > 0 && report_crashes_waiting(crashes) > 0)
        *ret_wait_ms = wait_ms;
    for (unsigned i = 0; wait_ms == 0 && i < CRASH_RECORDS_MAX && !is_taken; i++)
        is_taken = take_record(crashes, folder_fd, i, ret_record);
    if (is_taken)
        begin_pause(crashes, folder_fd);
    close(folder_fd);
    return is_taken;
}

void report_crashes_finish(struct report_crashes *crashes)
{
    int folder_fd = open_record_folder(crashes);
    if (folder_fd < 0)
        return;
    unlinkat(folder_fd, crashes->taken, 0);
    close(folder_fd);
}

/* ---- the event ---- */

static void describe(const struct crash_record *record, char text[REPORT_CRASH_TEXT_SIZE])
{
    const char *what = sigdescr_np(record->signal);
    if (record->code <= 0 && record->code != SI_TKILL)
        snprintf(text, REPORT_CRASH_TEXT_SIZE, "%s, sent by a process", what ? what : "a signal");
    else if (record->signal == SIGABRT)
        snprintf(text, REPORT_CRASH_TEXT_SIZE, "%s", what ? what : "a signal");
    else
        snprintf(text, REPORT_CRASH_TEXT_SIZE, "%s at 0x%jx (code %d)", what ? what : "a signal",
                 (uintmax_t)record->address, record->code);
}

/* The function, else where in which image: what makes two crashes equal. */
static void locate(const struct crash_record *record, const struct stack_trace *stack,
                   char place[REPORT_CRASH_PLACE_SIZE])
{
    const struct stack_frame *top = stack_top_in_app(stack);
    uintptr_t address = top ? top->address : record->frame_count > 0 ? record->frames[0] : 0;
    snprintf(place, REPORT_CRASH_PLACE_SIZE, "unknown");
    if (top && top->function) {
        snprintf(place, REPORT_CRASH_PLACE_SIZE, "%s", top->function);
        return;
    }
    for (size_t i = 0; i < record->image_count; i++) {
        const struct crash_image *image = &record->images[i];
        const char *slash = strrchr(image->file, '/');
        if (address - image->start < image->size)
            snprintf(place, REPORT_CRASH_PLACE_SIZE, "%.60s+0x%jx", slash ? slash + 1 : image->file,
                     (uintmax_t)(address - image->start));
    }
}

void report_crash_describe(const struct crash_record *record, const struct stack_trace *stack,
                           struct report_crash_texts *texts, struct report_event *ret_event)
{
    const char *name = sigabbrev_np(record->signal);
    snprintf(texts->type, sizeof texts->type, "SIG%s", name ? name : "NAL");
    describe(record, texts->value);
    locate(record, stack, texts->place);
    *ret_event = (struct report_event){.level = REPORT_FATAL,
                                       .is_unhandled = true,
                                       .mechanism = "signalhandler",
                                       .type = texts->type,
                                       .value = str_of(texts->value),
                                       .operation = texts->place,
                                       .time_ms = record->time_ms,
                                       .signal = record->signal,
                                       .signal_code = record->code,
                                       .release = record->release,
                                       .stack = stack};
    if (!record->has_request)
        return;
    ret_event->trace = &record->trace;
    ret_event->route = record->route;
}
