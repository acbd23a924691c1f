#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

#define LARGE (4 * 1024 * 1024)

static unsigned char pattern(size_t at)
{
    return (unsigned char)(at * 31 + at / 251);
}

static _Atomic int signals;

static void count_signal(int number)
{
    (void)number;
    signals++;
}

/* Without SA_RESTART the calls really return EINTR, or short after some bytes. */
static void catch_signals(struct sigaction *ret_before)
{
    struct sigaction action = {.sa_handler = count_signal};
    signals = 0;
    CHECK(sigaction(SIGUSR2, &action, ret_before) == 0);
}

/* Over 100 ms, so that the target surely waits in its call for some of them. */
static void send_signals(pthread_t target)
{
    struct timespec pause = {.tv_nsec = 2 * 1000 * 1000};
    for (int i = 0; i < 50; i++) {
        nanosleep(&pause, NULL);
        pthread_kill(target, SIGUSR2);
    }
}

struct reader {
    int fd;
    bool is_rude; /* signals the writer before it reads */
    pthread_t writer;
    size_t len;
    bool is_whole;
};

static void *read_all(void *argument)
{
    struct reader *reader = argument;
    unsigned char bytes[10007];
    size_t got;
    struct err err;
    reader->is_whole = true;
    if (reader->is_rude)
        send_signals(reader->writer);
    while (io_read_some(reader->fd, bytes, sizeof bytes, &got, &err) == ERR_OK && got > 0) {
        for (size_t i = 0; i < got; i++)
            reader->is_whole = reader->is_whole && bytes[i] == pattern(reader->len + i);
        reader->len += got;
    }
    return NULL;
}

/* Sends more than the descriptor takes at once, while the reader empties it bit by bit. */
static void check_transfer(int read_fd, int write_fd, bool with_signals)
{
    struct err err = {0};
    struct reader reader = {.fd = read_fd, .is_rude = with_signals, .writer = pthread_self()};
    pthread_t thread;
    unsigned char *bytes = malloc(LARGE);
    REQUIRE(bytes != NULL);
    for (size_t i = 0; i < LARGE; i++)
        bytes[i] = pattern(i);
    bool started = pthread_create(&thread, NULL, read_all, &reader) == 0;
    CHECK(started);
    if (started) {
        CHECK_ERR(io_write_all(write_fd, bytes, LARGE, &err), ERR_OK, &err);
        close(write_fd);
        pthread_join(thread, NULL);
        CHECK_INT((int64_t)reader.len, LARGE);
        CHECK(reader.is_whole);
    }
    close(read_fd);
    free(bytes);
}

TEST(io, all_arrives_through_a_pipe)
{
    int fds[2];
    REQUIRE(pipe2(fds, O_CLOEXEC) == 0);
    check_transfer(fds[0], fds[1], false);
}

TEST(io, all_arrives_through_a_socket_with_a_small_buffer)
{
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    int size = 4096;
    setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    check_transfer(fds[0], fds[1], false);
}

struct interrupter {
    pthread_t target;
    int fd;     /* made ready after the signals */
    size_t len; /* bytes to take from it; 0: one byte is written instead */
    bool is_done;
};

/* Signals a thread that waits in read or write, and ends the wait only then. */
static void *interrupt(void *argument)
{
    struct interrupter *interrupter = argument;
    char bytes[4096];
    send_signals(interrupter->target);
    if (interrupter->len == 0)
        interrupter->is_done = write(interrupter->fd, "x", 1) == 1;
    while (interrupter->len > 0) {
        ssize_t got = read(interrupter->fd, bytes, sizeof bytes);
        if (got <= 0)
            return NULL;
        interrupter->len -= (size_t)got;
        interrupter->is_done = interrupter->len == 0;
    }
    return NULL;
}

/* How many bytes the pipe takes before a write to it waits. */
static size_t fill_pipe(int fd)
{
    static const char block[4096];
    size_t len = 0;
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    for (ssize_t got = 0; got >= 0; got = write(fd, block, sizeof block))
        len += (size_t)got;
    fcntl(fd, F_SETFL, flags);
    return len;
}

static void check_interrupted(bool is_write)
{
    struct sigaction before;
    struct err err = {0};
    char byte = 'x';
    size_t len = 0;
    int fds[2];
    pthread_t thread;
    REQUIRE(pipe2(fds, O_CLOEXEC) == 0);
    catch_signals(&before);
    struct interrupter interrupter = {.target = pthread_self(), .fd = fds[is_write ? 0 : 1]};
    if (is_write)
        interrupter.len = fill_pipe(fds[1]) + 1;
    REQUIRE(pthread_create(&thread, NULL, interrupt, &interrupter) == 0);
    if (is_write)
        CHECK_ERR(io_write_all(fds[1], &byte, 1, &err), ERR_OK, &err);
    else
        CHECK_ERR(io_read_some(fds[0], &byte, 1, &len, &err), ERR_OK, &err);
    close(fds[is_write ? 1 : 0]); /* a call that failed must not leave the thread waiting */
    pthread_join(thread, NULL);
    close(fds[is_write ? 0 : 1]);
    CHECK(interrupter.is_done);
    CHECK(signals > 0);
    CHECK_INT((int64_t)len, is_write ? 0 : 1);
    sigaction(SIGUSR2, &before, NULL);
}

TEST(io, short_writes_go_on_where_they_ended)
{
    struct sigaction before;
    int fds[2];
    REQUIRE(pipe2(fds, O_CLOEXEC) == 0);
    catch_signals(&before);
    check_transfer(fds[0], fds[1], true);
    CHECK(signals > 0);
    sigaction(SIGUSR2, &before, NULL);
}

TEST(io, signals_do_not_end_a_write)
{
    check_interrupted(true);
}

TEST(io, signals_do_not_end_a_read)
{
    check_interrupted(false);
}

TEST(io, full_disk_has_a_code_of_its_own)
{
    struct err err = {0};
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    REQUIRE(fd >= 0);
    CHECK_ERR(io_write_all(fd, "x", 1, &err), ERR_DISK_FULL, &err);
    CHECK_INT(err.os_errno, ENOSPC);
    CHECK(err.internal);
    CHECK_TEXT(err.operation, "write");
    close(fd);
}

TEST(io, other_failures_are_the_store_away)
{
    struct err err = {0};
    char byte;
    size_t len = 77;
    CHECK_ERR(io_write_all(-1, "x", 1, &err), ERR_STORAGE_UNAVAILABLE, &err);
    CHECK_INT(err.os_errno, EBADF);
    CHECK_ERR(io_read_some(-1, &byte, 1, &len, &err), ERR_STORAGE_UNAVAILABLE, &err);
    CHECK_INT(err.os_errno, EBADF);
    CHECK_INT((int64_t)len, 77);
}

TEST(io, closed_pipe_is_epipe)
{
    struct err err = {0};
    struct sigaction action = {.sa_handler = SIG_IGN};
    struct sigaction before;
    int fds[2];
    REQUIRE(pipe2(fds, O_CLOEXEC) == 0);
    REQUIRE(sigaction(SIGPIPE, &action, &before) == 0);
    close(fds[0]);
    CHECK_ERR(io_write_all(fds[1], "x", 1, &err), ERR_STORAGE_UNAVAILABLE, &err);
    CHECK_INT(err.os_errno, EPIPE);
    sigaction(SIGPIPE, &before, NULL);
    close(fds[1]);
}

TEST(io, read_gives_what_is_there_and_then_the_end)
{
    struct err err = {0};
    char bytes[16];
    size_t len = 99;
    int fds[2];
    REQUIRE(pipe2(fds, O_CLOEXEC) == 0);
    CHECK_ERR(io_write_all(fds[1], "abc", 3, &err), ERR_OK, &err);
    CHECK_ERR(io_write_all(fds[1], NULL, 0, &err), ERR_OK, &err);
    close(fds[1]);
    CHECK_ERR(io_read_some(fds[0], bytes, sizeof bytes, &len, &err), ERR_OK, &err);
    CHECK_STR(((struct str){bytes, len}), "abc");
    CHECK_ERR(io_read_some(fds[0], bytes, sizeof bytes, &len, &err), ERR_OK, &err);
    CHECK_INT((int64_t)len, 0);
    close(fds[0]);
}
