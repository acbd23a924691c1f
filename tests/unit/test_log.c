#include <cjson/cJSON.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/text.h"
#include "check.h"
#include "observe/log.h"

#define LINES_MAX 20000
#define LONG_TEXT 20000

static int64_t fixed_wall(const struct clock *clock)
{
    (void)clock;
    return 1795255200123; /* 2026-11-21T10:00:00.123Z */
}

static void fixed_random(const struct clock *clock, void *target, size_t len)
{
    (void)clock;
    memset(target, 0xab, len);
}

static const struct clock fixed_clock = {.wall_ms = fixed_wall, .random = fixed_random};

struct log_file {
    char path[128];
    struct log *log;
};

static enum err_code open_target(struct log **ret_log, const char *target, enum err_level level,
                                 struct err *err)
{
    static struct config config = {.environment = "test"};
    snprintf(config.log_file, sizeof config.log_file, "%s", target);
    config.log_level = level;
    return log_open(ret_log, &config, "files_get", &fixed_clock, err);
}

/* A log in a new folder; every level is enabled. */
static struct log_file open_file(void)
{
    struct log_file file = {.log = NULL};
    struct err err;
    snprintf(file.path, sizeof file.path, "%s/test.log", check_temp_dir());
    CHECK_ERR(open_target(&file.log, file.path, ERR_LEVEL_DEBUG, &err), ERR_OK, &err);
    return file;
}

static struct buf read_all(const char *path)
{
    struct buf text;
    char piece[4096];
    buf_init(&text, 1 << 26);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    for (ssize_t len = read(fd, piece, sizeof piece); len > 0; len = read(fd, piece, sizeof piece))
        buf_append(&text, piece, (size_t)len);
    close(fd);
    return text;
}

/* Every line ends in a newline, is at most LOG_LINE_MAX long, UTF-8 and one JSON object. */
static int check_lines(const char *label, struct str text)
{
    int count = 0;
    CHECK_ROW(label, text.len == 0 || text.data[text.len - 1] == '\n');
    while (text.len) {
        struct str line = str_cut(&text, '\n');
        const char *end = NULL;
        cJSON *object = cJSON_ParseWithLengthOpts(line.data, line.len, &end, false);
        CHECK_ROW(label, cJSON_IsObject(object) && end == line.data + line.len);
        CHECK_ROW(label, line.len < LOG_LINE_MAX);
        CHECK_ROW(label, text_is_utf8(line));
        cJSON_Delete(object);
        count++;
    }
    return count;
}

/* The message member as it stands in the only line of the file, still escaped. */
static struct str raw_message(const struct buf *text)
{
    static const char before[] = "\"message\":\"";
    static const char after[] = "\",\"ecs.version\"";
    const char *start = strstr(buf_text(text), before);
    const char *end = start ? strstr(start, after) : NULL;
    if (!end)
        return STR("(no message)");
    start += sizeof before - 1;
    return (struct str){start, (size_t)(end - start)};
}

TEST(log, members_stand_in_the_order_of_the_header)
{
    struct log_file file = open_file();
    struct trace trace = {.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"};
    struct log_field fields[] = {
        LOG_FIELD_STR("http.request.method", STR("GET")),
        LOG_FIELD_INT("http.response.status_code", 200),
        LOG_FIELD_STR("url.path", STR("/api/files")),
        LOG_FIELD_INT("event.duration", INT64_MIN),
        LOG_FIELD_INT("zero", 0),
    };
    log_write(file.log, ERR_LEVEL_WARN, &trace, "answered", (struct log_fields){fields, 5});
    log_write(file.log, ERR_LEVEL_INFO, NULL, "started", LOG_NO_FIELDS);
    struct buf text = read_all(file.path);
    CHECK_STR(buf_str(&text), "{\"@timestamp\":\"2026-11-21T10:00:00.123Z\",\"log.level\":\"warn\","
                              "\"message\":\"answered\",\"ecs.version\":\"8.11.0\","
                              "\"service.name\":\"coffer-files_get\","
                              "\"service.environment\":\"test\",\"level\":\"warn\","
                              "\"service\":\"coffer-files_get\","
                              "\"event.id\":\"abababababababab0000000000000000\","
                              "\"trace.id\":\"4bf92f3577b34da6a3ce929d0e0e4736\","
                              "\"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\","
                              "\"http.request.method\":\"GET\",\"http.response.status_code\":200,"
                              "\"url.path\":\"/api/files\",\"event.duration\":-9223372036854775808,"
                              "\"zero\":0}\n"
                              "{\"@timestamp\":\"2026-11-21T10:00:00.123Z\",\"log.level\":\"info\","
                              "\"message\":\"started\",\"ecs.version\":\"8.11.0\","
                              "\"service.name\":\"coffer-files_get\","
                              "\"service.environment\":\"test\",\"level\":\"info\","
                              "\"service\":\"coffer-files_get\","
                              "\"event.id\":\"abababababababab0000000000000001\"}\n");
    buf_release(&text);
    log_close(file.log);
}

TEST(log, strings_are_escaped)
{
    static const struct {
        const char *name;
        const char *in;
        const char *want;
    } rows[] = {
        {"plain", "a b ~ 1/2", "a b ~ 1/2"},
        {"forged line", "x\n{\"level\":\"error\"}", "x\\n{\\\"level\\\":\\\"error\\\"}"},
        {"backslash", "a\\nb", "a\\\\nb"},
        {"short forms", "\b\f\r\t", "\\b\\f\\r\\t"},
        {"controls", "\x01\x1f", "\\u0001\\u001f"},
        {"ANSI", "\x1b[31mred", "\\u001b[31mred"},
        {"DEL", "a\x7f", "a\\u007f"},
        {"C1",
         "a\xc2\x9b"
         "1m",
         "a\\u009b1m"},
        {"first after C1", "\xc2\xa0", "\xc2\xa0"},
        {"UTF-8", "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
         "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"line separators", "\xe2\x80\xa8\xe2\x80\xa9", "\\u2028\\u2029"},
        {"next to them", "\xe2\x80\xa7\xe2\x80\xaa", "\xe2\x80\xa7\xe2\x80\xaa"},
        {"stray byte",
         "a\xff"
         "b",
         "a\xef\xbf\xbd"
         "b"},
        {"cut short", "a\xe2\x82", "a\xef\xbf\xbd\xef\xbf\xbd"},
        {"overlong", "\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"surrogate", "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"empty", "", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct log_file file = open_file();
        log_write(file.log, ERR_LEVEL_INFO, NULL, rows[i].in, LOG_NO_FIELDS);
        struct buf text = read_all(file.path);
        CHECK_STR_ROW(rows[i].name, raw_message(&text), rows[i].want);
        CHECK_INT_ROW(rows[i].name, check_lines(rows[i].name, buf_str(&text)), 1);
        buf_release(&text);
        log_close(file.log);
    }
}

/* Bytes from a fixed sequence: UTF-8, halves of it, quotes and controls, all mixed. */
static size_t odd_bytes(char *target, size_t max, unsigned *seed)
{
    static const char *const pieces[] = {"a",
                                         "\"",
                                         "\\",
                                         "\n",
                                         "\xff",
                                         "\xe2\x82",
                                         "\xf0\x9f",
                                         "\xf0\x9f\x98\x80",
                                         "\xe2\x80\xa8",
                                         "\xc3\xa9",
                                         "\x01"};
    size_t len = (size_t)rand_r(seed) % max;
    size_t at = 0;
    while (at < len) {
        size_t choice = (size_t)rand_r(seed) % (sizeof pieces / sizeof pieces[0] + 1);
        if (choice == sizeof pieces / sizeof pieces[0]) {
            target[at++] = (char)rand_r(seed);
            continue;
        }
        size_t piece = strlen(pieces[choice]);
        if (piece > len - at)
            piece = len - at;
        memcpy(target + at, pieces[choice], piece);
        at += piece;
    }
    target[len] = '\0';
    return len;
}

TEST(log, any_bytes_of_any_length_make_one_valid_line)
{
    static char message[LONG_TEXT];
    static char one[LONG_TEXT];
    static char two[LONG_TEXT];
    struct log_file file = open_file();
    unsigned seed = 1;
    const int rounds = 2000;
    for (int i = 0; i < rounds; i++) {
        size_t max = i % 2 ? LONG_TEXT : 100;
        odd_bytes(message, max, &seed);
        struct log_field fields[] = {
            LOG_FIELD_STR("one", ((struct str){one, odd_bytes(one, max, &seed)})),
            LOG_FIELD_INT("number", i),
            LOG_FIELD_STR("two", ((struct str){two, odd_bytes(two, max, &seed)})),
        };
        log_write(file.log, ERR_LEVEL_INFO, NULL, message, (struct log_fields){fields, 3});
    }
    struct buf text = read_all(file.path);
    CHECK_INT(check_lines("random", buf_str(&text)), rounds);
    CHECK_INT((int64_t)log_dropped(file.log), 0);
    buf_release(&text);
    log_close(file.log);
}

TEST(log, long_strings_are_cut_on_a_code_point_and_keep_room_for_what_follows)
{
    static char text_of[4][LONG_TEXT + 1];
    static const char *const letters[] = {"a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    for (int size = 1; size <= 4; size++) {
        char *letter_text = text_of[size - 1];
        for (int i = 0; i + size <= LONG_TEXT; i += size)
            memcpy(letter_text + i, letters[size - 1], (size_t)size);
        struct log_file file = open_file();
        struct log_field fields[] = {
            LOG_FIELD_STR("long", ((struct str){letter_text, strlen(letter_text)})),
            LOG_FIELD_INT("event.duration", 123456789),
            LOG_FIELD_STR("short", STR("kept")),
        };
        log_write(file.log, ERR_LEVEL_INFO, NULL, letter_text, (struct log_fields){fields, 3});
        struct buf text = read_all(file.path);
        CHECK_INT_ROW(letters[size - 1], check_lines(letters[size - 1], buf_str(&text)), 1);
        CHECK_ROW(letters[size - 1], text.len <= LOG_LINE_MAX && text.len > LOG_LINE_MAX - 100);
        cJSON *object = cJSON_Parse(buf_text(&text));
        const char *cut = cJSON_GetStringValue(cJSON_GetObjectItem(object, "long"));
        CHECK_ROW(letters[size - 1], cut && strlen(cut) >= 124 && !strstr(cut, "\xef\xbf\xbd"));
        CHECK_ROW(letters[size - 1],
                  cJSON_GetNumberValue(cJSON_GetObjectItem(object, "event.duration")) == 123456789);
        const char *kept = cJSON_GetStringValue(cJSON_GetObjectItem(object, "short"));
        CHECK_STR_ROW(letters[size - 1], str_of(kept), "kept");
        cJSON_Delete(object);
        buf_release(&text);
        log_close(file.log);
    }
}

TEST(log, more_fields_than_fit_are_left_out_whole)
{
    struct log_file file = open_file();
    static struct log_field fields[500];
    for (size_t i = 0; i < 500; i++)
        fields[i] = i % 2 ? LOG_FIELD_INT("some.number", INT64_MAX)
                          : LOG_FIELD_STR("some.string", STR("0123456789012345678901234567890"));
    log_write(file.log, ERR_LEVEL_INFO, NULL, "many", (struct log_fields){fields, 500});
    struct buf text = read_all(file.path);
    CHECK_INT(check_lines("many fields", buf_str(&text)), 1);
    CHECK(text.len > LOG_LINE_MAX / 2);
    buf_release(&text);
    log_close(file.log);
}

TEST(log, lines_below_the_level_are_not_written)
{
    static const enum err_level levels[] = {ERR_LEVEL_DEBUG, ERR_LEVEL_INFO, ERR_LEVEL_WARN,
                                            ERR_LEVEL_ERROR};
    for (int i = 0; i < 4; i++) {
        struct err err;
        char path[128];
        struct log *log = NULL;
        snprintf(path, sizeof path, "%s/test.log", check_temp_dir());
        REQUIRE(open_target(&log, path, levels[i], &err) == ERR_OK);
        for (int level = 0; level < 4; level++) {
            CHECK_INT(log_enabled(log, levels[level]), level >= i);
            log_write(log, levels[level], NULL, "x", LOG_NO_FIELDS);
        }
        struct buf text = read_all(path);
        CHECK_INT(check_lines("level", buf_str(&text)), 4 - i);
        buf_release(&text);
        log_close(log);
    }
}

TEST(log, no_log_is_allowed)
{
    log_write(NULL, ERR_LEVEL_ERROR, NULL, "x", LOG_NO_FIELDS);
    log_reopen(NULL);
    log_close(NULL);
    CHECK(!log_enabled(NULL, ERR_LEVEL_ERROR));
    CHECK_INT((int64_t)log_dropped(NULL), 0);
}

TEST(log, a_target_that_cant_be_opened_is_a_configuration_error)
{
    static const struct {
        const char *name;
        const char *format;
    } rows[] = {
        {"no folder", "%s/missing/test.log"},
        {"a folder", "%s"},
        {"no socket", "unix:%s/missing.sock"},
        {"socket name too long",
         "unix:%s/012345678901234567890123456789012345678901234567890123456789012345678901234567890"
         "12345678901234567890123456789"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char target[256];
        struct err err = {.code = ERR_OK};
        struct log *log = NULL;
        const char *const dir = check_temp_dir();
        struct buf text;
        buf_init(&text, sizeof target);
        const char *rest = rows[i].format;
        const char *mark = strstr(rest, "%s");
        buf_append(&text, rest, (size_t)(mark - rest));
        buf_append_text(&text, dir);
        buf_append_text(&text, mark + 2);
        snprintf(target, sizeof target, "%s", buf_text(&text));
        buf_release(&text);
        CHECK_ERR_ROW(rows[i].name, open_target(&log, target, ERR_LEVEL_INFO, &err), ERR_CONFIG,
                      &err);
        CHECK_ROW(rows[i].name, log == NULL && strstr(err.message, "LOG_FILE") != NULL);
    }
}

TEST(log, a_full_disk_drops_and_counts)
{
    struct log *log = NULL;
    struct err err;
    REQUIRE(open_target(&log, "/dev/full", ERR_LEVEL_INFO, &err) == ERR_OK);
    for (int i = 0; i < 5; i++)
        log_write(log, ERR_LEVEL_INFO, NULL, "x", LOG_NO_FIELDS);
    CHECK_INT((int64_t)log_dropped(log), 5);
    log_close(log);
}

/* The kernel cuts the write that crosses RLIMIT_FSIZE, as a disk does that is nearly full. */
TEST(log, after_a_torn_line_the_next_one_starts_anew)
{
    struct log_file file = open_file();
    struct rlimit limit;
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction before;
    REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0 && sigaction(SIGXFSZ, &ignore, &before) == 0);
    log_write(file.log, ERR_LEVEL_INFO, NULL, "whole", LOG_NO_FIELDS);
    struct stat stat_before = {0};
    REQUIRE(stat(file.path, &stat_before) == 0);
    struct rlimit small = {(rlim_t)stat_before.st_size + 50, limit.rlim_max};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
    log_write(file.log, ERR_LEVEL_INFO, NULL, "torn", LOG_NO_FIELDS);
    log_write(file.log, ERR_LEVEL_INFO, NULL, "lost", LOG_NO_FIELDS);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    sigaction(SIGXFSZ, &before, NULL);
    log_write(file.log, ERR_LEVEL_INFO, NULL, "after", LOG_NO_FIELDS);
    log_write(file.log, ERR_LEVEL_INFO, NULL, "last", LOG_NO_FIELDS);
    CHECK_INT((int64_t)log_dropped(file.log), 2);
    struct buf text = read_all(file.path);
    struct str rest = buf_str(&text);
    struct str whole = str_cut(&rest, '\n');
    struct str torn = str_cut(&rest, '\n');
    CHECK(memmem(whole.data, whole.len, "\"whole\"", 7) != NULL);
    CHECK_INT((int64_t)torn.len, 50);
    CHECK_INT(check_lines("after", rest), 2);
    buf_release(&text);
    log_close(file.log);
}

TEST(log, half_a_line_of_another_process_is_ended_first)
{
    struct err err;
    struct log *log = NULL;
    char path[128];
    snprintf(path, sizeof path, "%s/test.log", check_temp_dir());
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0 && write(fd, "{\"half", 6) == 6);
    close(fd);
    REQUIRE(open_target(&log, path, ERR_LEVEL_INFO, &err) == ERR_OK);
    log_write(log, ERR_LEVEL_INFO, NULL, "x", LOG_NO_FIELDS);
    struct buf text = read_all(path);
    struct str rest = buf_str(&text);
    CHECK_STR(str_cut(&rest, '\n'), "{\"half");
    CHECK_INT(check_lines("next", rest), 1);
    buf_release(&text);
    log_close(log);
}

TEST(log, reopen_goes_on_in_a_new_file)
{
    struct log_file file = open_file();
    char rotated[160];
    snprintf(rotated, sizeof rotated, "%s.1", file.path);
    log_write(file.log, ERR_LEVEL_INFO, NULL, "one", LOG_NO_FIELDS);
    REQUIRE(rename(file.path, rotated) == 0);
    log_write(file.log, ERR_LEVEL_INFO, NULL, "two", LOG_NO_FIELDS);
    log_reopen(file.log);
    log_write(file.log, ERR_LEVEL_INFO, NULL, "three", LOG_NO_FIELDS);
    struct buf old_text = read_all(rotated);
    struct buf new_text = read_all(file.path);
    CHECK_INT(check_lines("old", buf_str(&old_text)), 2);
    CHECK_INT(check_lines("new", buf_str(&new_text)), 1);
    buf_release(&old_text);
    buf_release(&new_text);
    log_close(file.log);
}

TEST(log, reopen_keeps_the_old_file_when_there_is_no_new_one)
{
    struct log_file file = open_file();
    char moved[160];
    char *slash = strrchr(file.path, '/');
    *slash = '\0';
    snprintf(moved, sizeof moved, "%s.moved", file.path);
    REQUIRE(rename(file.path, moved) == 0);
    log_reopen(file.log);
    log_write(file.log, ERR_LEVEL_INFO, NULL, "x", LOG_NO_FIELDS);
    CHECK_INT((int64_t)log_dropped(file.log), 0);
    REQUIRE(rename(moved, file.path) == 0);
    *slash = '/';
    struct buf text = read_all(file.path);
    CHECK_INT(check_lines("kept", buf_str(&text)), 1);
    buf_release(&text);
    log_close(file.log);
}

#define WRITERS 8
#define LINES_EACH 1000

static void *write_lines(void *context)
{
    struct log *log = context;
    struct log_field fields[] = {LOG_FIELD_STR("filler", STR("0123456789"))};
    for (int i = 0; i < LINES_EACH; i++)
        log_write(log, ERR_LEVEL_INFO, NULL, "x", (struct log_fields){fields, 1});
    return NULL;
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, 32);
}

static size_t collect_ids(struct str text, char (*ids)[32], size_t count)
{
    static const char name[] = "\"event.id\":\"";
    while (text.len) {
        const char *at = memmem(text.data, text.len, name, sizeof name - 1);
        if (!at)
            break;
        memcpy(ids[count++], at + sizeof name - 1, 32);
        size_t skip = (size_t)(at - text.data) + sizeof name - 1;
        text = (struct str){text.data + skip, text.len - skip};
    }
    return count;
}

TEST(log, threads_and_rotation_lose_no_line_and_repeat_no_id)
{
    static char ids[LINES_MAX][32];
    struct log_file file = open_file();
    pthread_t threads[WRITERS];
    const int rotations = 20;
    for (int i = 0; i < WRITERS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, write_lines, file.log) == 0);
    for (int i = 0; i < rotations; i++) {
        char rotated[160];
        snprintf(rotated, sizeof rotated, "%s.%d", file.path, i);
        CHECK_INT(rename(file.path, rotated), 0);
        log_reopen(file.log);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    int lines = 0;
    size_t count = 0;
    for (int i = 0; i <= rotations; i++) {
        char name[160];
        snprintf(name, sizeof name, i < rotations ? "%s.%d" : "%s", file.path, i);
        struct buf text = read_all(name);
        lines += check_lines("rotated", buf_str(&text));
        count = collect_ids(buf_str(&text), ids, count);
        buf_release(&text);
    }
    CHECK_INT(lines, WRITERS * LINES_EACH);
    CHECK_INT((int64_t)count, WRITERS * LINES_EACH);
    CHECK_INT((int64_t)log_dropped(file.log), 0);
    qsort(ids, count, sizeof ids[0], compare_ids);
    int repeated = 0;
    for (size_t i = 1; i < count; i++)
        repeated += memcmp(ids[i - 1], ids[i], 32) == 0;
    CHECK_INT(repeated, 0);
    log_close(file.log);
}

static int bind_datagram(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        return -1;
    return fd;
}

TEST(log, a_datagram_is_a_line_and_a_receiver_may_be_full_or_restart)
{
    char path[100];
    char target[128];
    char line[LOG_LINE_MAX + 1];
    struct log *log = NULL;
    struct err err;
    snprintf(path, sizeof path, "%s/log.sock", check_temp_dir());
    snprintf(target, sizeof target, "unix:%s", path);
    int receiver = bind_datagram(path);
    REQUIRE(receiver >= 0 && open_target(&log, target, ERR_LEVEL_INFO, &err) == ERR_OK);
    log_write(log, ERR_LEVEL_INFO, NULL, "first", LOG_NO_FIELDS);
    ssize_t len = recv(receiver, line, sizeof line, 0);
    CHECK_INT(check_lines("datagram", (struct str){line, len > 0 ? (size_t)len : 0}), 1);
    for (int i = 0; i < 5000; i++)
        log_write(log, ERR_LEVEL_INFO, NULL, "nobody reads", LOG_NO_FIELDS);
    CHECK(log_dropped(log) > 0);
    close(receiver);
    uint64_t dropped = log_dropped(log);
    log_write(log, ERR_LEVEL_INFO, NULL, "nobody there", LOG_NO_FIELDS);
    CHECK_INT((int64_t)log_dropped(log), (int64_t)dropped + 1);
    receiver = bind_datagram(path);
    log_write(log, ERR_LEVEL_INFO, NULL, "again", LOG_NO_FIELDS);
    CHECK(recv(receiver, line, sizeof line, 0) > 0);
    close(receiver);
    log_close(log);
}

TEST(log, a_stuck_fifo_never_blocks)
{
    char path[128];
    struct log *log = NULL;
    struct err err;
    snprintf(path, sizeof path, "%s/fifo", check_temp_dir());
    REQUIRE(mkfifo(path, 0600) == 0);
    REQUIRE(open_target(&log, path, ERR_LEVEL_INFO, &err) == ERR_OK);
    for (int i = 0; i < 5000; i++)
        log_write(log, ERR_LEVEL_INFO, NULL, "nobody reads", LOG_NO_FIELDS);
    CHECK(log_dropped(log) > 0);
    log_close(log);
}
