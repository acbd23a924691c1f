#include "observe/metrics_table.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "base/text.h"

/* Linux: PID_MAX_LIMIT is 2^22. Start times are in ticks since boot, so 42 bits last. */
#define PID_BITS 22
#define PID_MASK (((uint64_t)1 << PID_BITS) - 1)

/* Fields of /proc/<pid>/stat by their number in proc(5). */
enum stat_field {
    STAT_STATE = 3,
    STAT_UTIME = 14,
    STAT_STIME = 15,
    STAT_THREADS = 20,
    STAT_START = 22,
    STAT_VSIZE = 23,
    STAT_RSS = 24,
    STAT_FIELDS
};

struct process_stat {
    char state;
    uint64_t numbers[STAT_FIELDS]; /* by field number; 0 where the field is not a number */
};

static bool read_proc(pid_t pid, const char *name, char *target, size_t size, struct str *ret_text)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/%s", (long)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t len;
    do
        len = read(fd, target, size);
    while (len < 0 && errno == EINTR);
    close(fd);
    if (len <= 0)
        return false;
    *ret_text = (struct str){target, (size_t)len};
    return true;
}

/* The second field is the program's own name in parentheses and may hold anything: the other
 * fields begin after the last ')'. */
static bool read_stat(pid_t pid, struct process_stat *ret_stat)
{
    char text[1024];
    struct str rest;
    if (!read_proc(pid, "stat", text, sizeof text, &rest))
        return false;
    const char *end = memrchr(rest.data, ')', rest.len);
    if (!end || (size_t)(end - rest.data) + 2 >= rest.len)
        return false;
    rest.len -= (size_t)(end + 2 - rest.data);
    rest.data = end + 2;
    struct process_stat stat = {0};
    for (int field = STAT_STATE; field < STAT_FIELDS; field++) {
        struct str word = str_cut(&rest, ' ');
        int64_t number = 0;
        if (field == STAT_STATE)
            stat.state = word.len ? word.data[0] : '?';
        else if (text_parse_int(word, 0, INT64_MAX, &number))
            stat.numbers[field] = (uint64_t)number;
    }
    *ret_stat = stat;
    return true;
}

static pid_t pid_of(uint64_t identity)
{
    return (pid_t)(identity & PID_MASK);
}

uint64_t process_identity(pid_t pid)
{
    struct process_stat stat = {0};
    uint64_t start = read_stat(pid, &stat) ? stat.numbers[STAT_START] : 0;
    return start << PID_BITS | ((uint64_t)pid & PID_MASK);
}

static bool is_same(const struct process_stat *stat, uint64_t identity)
{
    uint64_t start = identity >> PID_BITS;
    if (stat->state == 'Z' || stat->state == 'X')
        return false;
    return start == 0 || stat->numbers[STAT_START] == start;
}

bool process_is_alive(uint64_t identity)
{
    pid_t pid = pid_of(identity);
    struct process_stat stat;
    if (pid <= 0 || (kill(pid, 0) != 0 && errno == ESRCH))
        return false;
    return !read_stat(pid, &stat) || is_same(&stat, identity);
}

/* Since Linux 6.2 the folder's size is the number. Before, it must be read, which other processes
 * may not where the process has given up being dumpable. */
static bool count_fds(pid_t pid, uint64_t *ret_count)
{
    char path[64];
    struct stat stat_fd;
    snprintf(path, sizeof path, "/proc/%ld/fd", (long)pid);
    if (stat(path, &stat_fd) == 0 && stat_fd.st_size > 0) {
        *ret_count = (uint64_t)stat_fd.st_size;
        return true;
    }
    DIR *dir = opendir(path);
    if (!dir)
        return false;
    uint64_t count = 0;
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
        if (isdigit((unsigned char)entry->d_name[0]))
            count++;
    if (pid == getpid())
        count--; /* the folder itself */
    closedir(dir);
    *ret_count = count;
    return true;
}

static bool read_max_fds(pid_t pid, uint64_t *ret_max)
{
    char text[4096];
    struct str rest;
    struct str name = STR("Max open files");
    int64_t soft = 0;
    if (!read_proc(pid, "limits", text, sizeof text, &rest))
        return false;
    while (rest.len) {
        struct str line = str_cut(&rest, '\n');
        if (!str_starts_with(line, name))
            continue;
        line.data += name.len;
        line.len -= name.len;
        line = str_trim(line);
        if (!text_parse_int(str_cut(&line, ' '), 0, INT64_MAX, &soft))
            return false; /* "unlimited" */
        *ret_max = (uint64_t)soft;
        return true;
    }
    return false;
}

static int64_t clock_ms(clockid_t clock)
{
    struct timespec now = {0};
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

uint64_t process_start_ms(uint64_t identity)
{
    uint64_t start = identity >> PID_BITS;
    if (start == 0)
        return 0;
    uint64_t boot_ms = (uint64_t)(clock_ms(CLOCK_REALTIME) - clock_ms(CLOCK_BOOTTIME));
    return boot_ms + start * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
}

bool process_read_usage(uint64_t identity, struct process_usage *ret_usage)
{
    pid_t pid = pid_of(identity);
    struct process_stat stat;
    if (pid <= 0 || !read_stat(pid, &stat) || !is_same(&stat, identity))
        return false;
    uint64_t ticks = (uint64_t)sysconf(_SC_CLK_TCK);
    struct process_usage usage = {
        .cpu_us = (stat.numbers[STAT_UTIME] + stat.numbers[STAT_STIME]) * (1000000 / ticks),
        .memory = stat.numbers[STAT_RSS] * (uint64_t)sysconf(_SC_PAGESIZE),
        .virtual_memory = stat.numbers[STAT_VSIZE],
        .threads = stat.numbers[STAT_THREADS],
    };
    usage.has_fds = count_fds(pid, &usage.open_fds);
    usage.has_max_fds = read_max_fds(pid, &usage.max_fds);
    *ret_usage = usage;
    return true;
}
