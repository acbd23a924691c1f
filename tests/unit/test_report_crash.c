#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "http_tools.h"
#include "observe/crash_handler.h"
#include "observe/report_parts.h"
#include "observe/stack.h"

static struct report_crashes crashes;
static struct crash_record record;
static char base[200];   /* of one test */
static char folder[300]; /* of the records */

static void setup(void)
{
    static int number;
    crashes = (struct report_crashes){.program = "files_get"};
    snprintf(base, sizeof base, "%s/crashes%d", check_temp_dir(), number++);
    snprintf(folder, sizeof folder, "%s/reports", base); /* as below RUNTIME_DIR */
    snprintf(crashes.folder, sizeof crashes.folder, "%s", folder);
    mkdir(base, 0700);
    mkdir(folder, 0700);
}

static void path_of(const char *name, char target[400])
{
    snprintf(target, 400, "%s/%s", folder, name);
}

static void write_bytes(const char *name, const char *bytes, size_t len)
{
    char path[400];
    path_of(name, path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK_INT(write(fd, bytes, len), (int64_t)len);
    close(fd);
}

static void age(const char *name, int seconds)
{
    char path[400];
    struct timespec times[2];
    path_of(name, path);
    clock_gettime(CLOCK_REALTIME, &times[0]);
    times[0].tv_sec -= seconds;
    times[1] = times[0];
    CHECK_INT(utimensat(AT_FDCWD, path, times, 0), 0);
}

static bool exists(const char *name)
{
    char path[400];
    path_of(name, path);
    return access(path, F_OK) == 0;
}

/* A crash of `program` in this test, where it stands now. */
static void make_text(struct crash_text *text, const char *program)
{
    struct image image;
    CHECK(image_of((uintptr_t)make_text, &image));
    crash_text_begin(text, program, 1000);
    crash_text_signal(text, 11, 1, 0x10);
    crash_text_image(text, &image, "/proc/self/exe");
    crash_text_frame(text, (uintptr_t)make_text + 4);
    crash_text_end(text);
}

static void write_record(unsigned number, const char *program)
{
    static struct crash_text text;
    char name[100];
    make_text(&text, program);
    snprintf(name, sizeof name, CRASH_FILE_NAME, "files_get", number);
    write_bytes(name, text.bytes, text.len);
}

TEST(report_crash, records_are_taken_once_and_not_too_often)
{
    int64_t wait_ms = 0;
    setup();
    CHECK(!report_crashes_take(&crashes, &record, &wait_ms));
    CHECK(wait_ms < 0);
    write_record(0, "files_get");
    write_record(7, "files_get");
    CHECK_INT(report_crashes_waiting(&crashes), 2);
    CHECK(report_crashes_take(&crashes, &record, &wait_ms));
    CHECK_INT(record.signal, 11);
    report_crashes_finish(&crashes);
    CHECK_INT(report_crashes_waiting(&crashes), 1);
    CHECK(!report_crashes_take(&crashes, &record, &wait_ms));
    CHECK(wait_ms > 0 && wait_ms <= 6000);
    age("crash-files_get.last", 7);
    CHECK(report_crashes_take(&crashes, &record, &wait_ms));
    report_crashes_finish(&crashes);
    age("crash-files_get.last", 7);
    CHECK(!report_crashes_take(&crashes, &record, &wait_ms));
    CHECK(wait_ms < 0);
    CHECK_INT(crashes.dropped, 0);
}

TEST(report_crash, records_that_are_no_good_are_dropped_and_counted)
{
    static struct crash_text text;
    static char large[CRASH_RECORD_MAX + 100];
    int64_t wait_ms = 0;
    setup();
    make_text(&text, "files_get");
    write_bytes("crash-files_get-0.record", text.bytes, text.len - 1);
    write_bytes("crash-files_get-1.record", "", 0);
    write_bytes("crash-files_get-2.record", large, sizeof large);
    write_record(3, "files_list"); /* another program's */
    write_record(5, "files_get");
    CHECK(report_crashes_take(&crashes, &record, &wait_ms));
    CHECK_INT(crashes.dropped, 4);
    CHECK_INT(report_crashes_waiting(&crashes), 0);
    report_crashes_finish(&crashes);
}

TEST(report_crash, a_folder_or_link_in_place_of_a_record_is_no_trap)
{
    char path[400];
    int64_t wait_ms = 0;
    setup();
    path_of("crash-files_get-0.record", path);
    CHECK_INT(symlink("/etc/passwd", path), 0);
    path_of("crash-files_get-1.record", path);
    CHECK_INT(mkfifo(path, 0600), 0);
    CHECK(!report_crashes_take(&crashes, &record, &wait_ms));
    CHECK_INT(crashes.dropped, 2);
    CHECK_INT(report_crashes_waiting(&crashes), 0);
    CHECK(access("/etc/passwd", F_OK) == 0);
}

TEST(report_crash, what_was_left_half_done_is_dropped_after_a_while)
{
    int64_t wait_ms = 0;
    setup();
    write_bytes("crash-files_get-1234.part", "x", 1);
    write_bytes("crash-files_get-0.record.taken", "x", 1);
    write_bytes("crash-files_list-1234.part", "x", 1);
    CHECK(!report_crashes_take(&crashes, &record, &wait_ms));
    CHECK_INT(crashes.dropped, 0);
    age("crash-files_get-1234.part", 100);
    age("crash-files_get-0.record.taken", 100);
    age("crash-files_list-1234.part", 100);
    CHECK(!report_crashes_take(&crashes, &record, &wait_ms));
    CHECK_INT(crashes.dropped, 2);
    CHECK(!exists("crash-files_get-1234.part") && exists("crash-files_list-1234.part"));
}

TEST(report_crash, tells_signal_and_function)
{
    static struct crash_text text;
    struct report_crash_texts texts;
    struct report_event event;
    struct stack_trace trace;
    struct stack_names *names = stack_names_new(true);
    make_text(&text, "files_get");
    REQUIRE(crash_record_parse((struct str){text.bytes, text.len}, &record));
    stack_names_crash(names, &record, &trace);
    report_crash_describe(&record, &trace, &texts, &event);
    CHECK_TEXT(event.type, "SIGSEGV");
    CHECK_STR(event.value, "Segmentation fault at 0x10 (code 1)");
    CHECK_TEXT(event.mechanism, "signalhandler");
    CHECK(event.level == REPORT_FATAL && event.is_unhandled && !event.trace);
    CHECK_INT(event.time_ms, 1000);
    CHECK_TEXT(event.release, COFFER_VERSION);
    /* Of an image that is not here any more (the program was updated) only the place is known. */
    snprintf(record.images[0].build_id, sizeof record.images[0].build_id, "00112233");
    snprintf(record.images[0].file, sizeof record.images[0].file, "/x/files_get");
    stack_names_crash(names, &record, &trace);
    report_crash_describe(&record, &trace, &texts, &event);
    CHECK_INT((int64_t)trace.frame_count, 1);
    CHECK(!trace.frames[0].function);
    CHECK(strncmp(event.operation, "files_get+0x", 12) == 0);
    record.frame_count = 0;
    record.code = 0;
    stack_names_crash(names, &record, &trace);
    report_crash_describe(&record, &trace, &texts, &event);
    CHECK_TEXT(event.operation, "unknown");
    CHECK_STR(event.value, "Segmentation fault, sent by a process");
    stack_names_free(names);
}

/* ---- with the whole report ---- */

/* How many envelopes of the spool hold `text`. */
static int kept(const char *text)
{
    int count = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        static char bytes[65536];
        char path[700];
        if (!strstr(entry->d_name, ".envelope"))
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t len = read(fd, bytes, sizeof bytes - 1);
        close(fd);
        bytes[len > 0 ? len : 0] = '\0';
        count += strstr(bytes, text) != NULL;
    }
    if (dir)
        closedir(dir);
    return count;
}

struct fixture {
    struct config config;
    struct report_options options;
    struct report *report;
};

/* The tracker is away: what is made stays in the spool. */
static void open_report(struct fixture *fixture)
{
    struct err err;
    *fixture = (struct fixture){.config.environment = "test",
                                .config.sentry_dsn = "http://key@127.0.0.1:9/1",
                                .config.sentry_spool_bytes = 1000000};
    snprintf(fixture->config.data_dir, sizeof fixture->config.data_dir, "%s/data", base);
    snprintf(fixture->config.runtime_dir, sizeof fixture->config.runtime_dir, "%s", base);
    fixture->options = (struct report_options){
        .config = &fixture->config, .program = "files_get", .clock = &clock_system};
    CHECK_ERR(sender_open(&fixture->options.sender, &clock_system, &err), ERR_OK, &err);
}

static void start_report(struct fixture *fixture)
{
    struct err err;
    CHECK_ERR(report_open(&fixture->report, &fixture->options, &err), ERR_OK, &err);
}

static void close_report(struct fixture *fixture)
{
    sender_close(fixture->options.sender);
    report_close(fixture->report);
}

TEST(report_crash, becomes_a_report_at_the_next_start)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    struct fixture f;
    setup();
    open_report(&f);
    write_record(0, "files_get");
    start_report(&f);
    CHECK_INT(report_crashes_waiting(&crashes), 1); /* the drivers are not open yet */
    report_crashes(f.report);
    for (int i = 0; i < 1000 && kept("SIGSEGV") == 0; i++)
        nanosleep(&pause, NULL);
    CHECK_INT(kept("\"type\":\"SIGSEGV\""), 1);
    CHECK_INT(kept("\"handled\":false"), 1);
    CHECK_INT(kept("\"level\":\"fatal\""), 1);
    CHECK_INT(kept("make_text"), 1);
    close_report(&f);
    CHECK(!exists("crash-files_get-0.record.taken"));
}

/* As if the program had crashed while it named one: that would go on for ever. */
TEST(report_crash, has_no_names_when_one_before_was_not_finished)
{
    struct fixture f;
    setup();
    open_report(&f);
    write_bytes("crash-files_get-0.record.taken", "x", 1);
    write_record(1, "files_get");
    write_record(2, "files_get");
    start_report(&f);
    CHECK_INT(kept("SIGSEGV"), 1);
    CHECK_INT(kept("make_text"), 0);
    CHECK_INT(kept("instruction_addr"), 1);
    close_report(&f);
}

TEST(report_crash, of_a_program_that_crashes_at_each_start_is_told_at_once)
{
    struct fixture f;
    setup();
    open_report(&f);
    write_record(0, "files_get");
    write_record(1, "files_get");
    start_report(&f);
    CHECK_INT(kept("SIGSEGV"), 1);
    CHECK_INT(report_crashes_waiting(&crashes), 1);
    close_report(&f);
}
