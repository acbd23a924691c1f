#include "access_log/access_reader.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "access_log/access_line.h"
#include "check.h"

struct fixture {
    int ends[2];
    struct access_reader reader;
};

static void begin(struct fixture *fixture)
{
    struct err err;
    REQUIRE(pipe(fixture->ends) == 0);
    access_reader_enlarge_pipe(fixture->ends[0], 1024 * 1024);
    CHECK_ERR(access_reader_init(&fixture->reader, fixture->ends[0], &err), ERR_OK, &err);
}

static void end(struct fixture *fixture)
{
    access_reader_release(&fixture->reader);
    close(fixture->ends[0]);
    if (fixture->ends[1] >= 0)
        close(fixture->ends[1]);
}

static void put(struct fixture *fixture, const char *text, size_t len)
{
    CHECK_INT(write(fixture->ends[1], text, len), (int64_t)len);
    CHECK(access_reader_fill(&fixture->reader));
}

static void expect(struct fixture *fixture, const char *want)
{
    char *line = NULL;
    size_t len = 0;
    bool found = access_reader_next(&fixture->reader, &line, &len);
    CHECK_INT(found, want != NULL);
    if (found && want)
        CHECK_STR(((struct str){line, len}), want);
}

TEST(access_reader, lines_come_whole_whatever_the_reads)
{
    struct fixture fixture;
    begin(&fixture);
    put(&fixture, "one\ntwo\nthr", 11);
    expect(&fixture, "one");
    expect(&fixture, "two");
    expect(&fixture, NULL);
    put(&fixture, "ee", 2);
    expect(&fixture, NULL);
    put(&fixture, "\n\n", 2);
    expect(&fixture, "three");
    expect(&fixture, "");
    expect(&fixture, NULL);
    end(&fixture);
}

TEST(access_reader, what_the_pipe_ends_in_is_no_line)
{
    struct fixture fixture;
    begin(&fixture);
    put(&fixture, "one\ntw", 6);
    close(fixture.ends[1]);
    fixture.ends[1] = -1;
    expect(&fixture, "one");
    CHECK(!access_reader_fill(&fixture.reader));
    expect(&fixture, NULL);
    end(&fixture);
}

/* The line after one that is too long is there, wherever the reads cut. */
static void check_long(size_t len, size_t step)
{
    struct fixture fixture;
    char *text = malloc(len + 1);
    REQUIRE(text);
    begin(&fixture);
    memset(text, 'x', len);
    for (size_t at = 0; at < len; at += step) {
        put(&fixture, text, len - at < step ? len - at : step);
        expect(&fixture, NULL);
    }
    put(&fixture, "\nnext\n", 6);
    if (len <= ACCESS_LINE_MAX) {
        text[len] = '\0';
        expect(&fixture, text);
    }
    expect(&fixture, "next");
    expect(&fixture, NULL);
    end(&fixture);
    free(text);
}

TEST(access_reader, lines_that_are_too_long_are_left_out)
{
    check_long(ACCESS_LINE_MAX - 1, 4096);
    check_long(ACCESS_LINE_MAX, 4096);
    check_long(ACCESS_LINE_MAX, ACCESS_LINE_MAX);
    check_long(ACCESS_LINE_MAX + 1, 4096);
    check_long(ACCESS_LINE_MAX + 1, ACCESS_LINE_MAX + 1);
    check_long(3 * ACCESS_LINE_MAX, 30000);
    check_long(20 * ACCESS_LINE_MAX, 100000);
}
