#include "base/config_env.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/config_table.h"
#include "base/limits.h"

#define OPERATION "read env file"
#define SUSPECT_DISTANCE \
    2 /* letters by which a name in the environment may differ from a setting's */
#define NO_DISTANCE SIZE_MAX

/* ---- names ---- */

/* True ends the walk. */
typedef bool visit_name(void *context, const char *name);

/* Every name that a setting may be given by. */
static bool walk_names(visit_name *visit, void *context)
{
    for (size_t i = 0; i < config_setting_count; i++) {
        const struct setting *setting = &config_settings[i];
        const char *const names[] = {setting->name, setting->alias};
        for (size_t k = 0; k < sizeof names / sizeof *names && names[k]; k++) {
            char file[SECRET_NAME_SIZE];
            snprintf(file, sizeof file, "%s_FILE", names[k]);
            if (visit(context, names[k]) || (setting->secret && visit(context, file)))
                return true;
        }
    }
    return false;
}

static bool is_same(void *context, const char *name)
{
    const struct str *wanted = context;
    return str_equal(*wanted, str_of(name));
}

static bool is_setting(struct str name)
{
    return walk_names(is_same, &name);
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static bool same_letter(char a, char b)
{
    return toupper((unsigned char)a) == toupper((unsigned char)b);
}

/* Letters added, dropped, changed or swapped with their neighbour (optimal string alignment), case
 * ignored. NO_DISTANCE for names too long to be a setting's. */
static size_t distance(struct str a, struct str b)
{
    size_t rows[3][SECRET_NAME_SIZE + 1];
    size_t *before = rows[0];
    size_t *last = rows[1];
    size_t *row = rows[2];
    if (a.len > SECRET_NAME_SIZE || b.len > SECRET_NAME_SIZE)
        return NO_DISTANCE;
    for (size_t k = 0; k <= b.len; k++)
        last[k] = before[k] = k;
    for (size_t i = 1; i <= a.len; i++) {
        row[0] = i;
        for (size_t k = 1; k <= b.len; k++) {
            size_t change = same_letter(a.data[i - 1], b.data[k - 1]) ? 0 : 1;
            row[k] = least(least(last[k], row[k - 1]) + 1, last[k - 1] + change);
            if (i > 1 && k > 1 && same_letter(a.data[i - 1], b.data[k - 2]) &&
                same_letter(a.data[i - 2], b.data[k - 1]))
                row[k] = least(row[k], before[k - 2] + 1);
        }
        size_t *free_row = before;
        before = last;
        last = row;
        row = free_row;
    }
    return last[b.len];
}

struct nearest {
    struct str to;
    size_t distance;
    char name[SECRET_NAME_SIZE];
};

static bool is_nearer(void *context, const char *name)
{
    struct nearest *nearest = context;
    size_t found = distance(nearest->to, str_of(name));
    if (found < nearest->distance) {
        nearest->distance = found;
        snprintf(nearest->name, sizeof nearest->name, "%s", name);
    }
    return false;
}

static struct nearest find_nearest(struct str name)
{
    struct nearest nearest = {.to = name, .distance = NO_DISTANCE};
    walk_names(is_nearer, &nearest);
    return nearest;
}

/* ---- the file ---- */

struct env_file {
    const char *path;
    struct str text; /* whole */
    struct buf *exports;
};

/* One line of it. */
struct env_line {
    int number; /* 1 is the first */
    struct str name;
    struct str value;
};

static bool is_name(struct str name)
{
    for (size_t i = 0; i < name.len; i++) {
        char byte = name.data[i];
        bool is_letter = (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z');
        if (byte != '_' && !is_letter && (i == 0 || byte < '0' || byte > '9'))
            return false;
    }
    return name.len > 0;
}

static bool is_quoted(struct str value, char quote)
{
    return value.len >= 2 && value.data[0] == quote && value.data[value.len - 1] == quote;
}

/* False for an empty line, a comment, and one without a name (line->name is empty then and `bad` is
 * set). */
static bool split(struct str text, struct env_line *line, bool *ret_bad)
{
    if (text.len > 0 && text.data[text.len - 1] == '\r')
        text.len--;
    struct str trimmed = str_trim(text);
    *ret_bad = false;
    if (trimmed.len == 0 || trimmed.data[0] == '#')
        return false;
    size_t at = str_find(text, '=');
    line->name = (struct str){text.data, at};
    *ret_bad = at == text.len || !is_name(line->name);
    if (*ret_bad)
        return false;
    line->value = (struct str){text.data + at + 1, text.len - at - 1};
    if (is_quoted(line->value, '"') || is_quoted(line->value, '\''))
        line->value = (struct str){line->value.data + 1, line->value.len - 2};
    return true;
}

/* The line that set the name before; 0: none. */
static int find_first(const struct env_file *file, const struct env_line *line)
{
    struct str rest = file->text;
    bool bad = false;
    for (int number = 1; number < line->number; number++) {
        struct env_line other = {.number = number};
        if (split(str_cut(&rest, '\n'), &other, &bad) && str_equal(other.name, line->name))
            return number;
    }
    return 0;
}

static enum err_code unknown_name(const struct env_file *file, const struct env_line *line,
                                  struct err *err)
{
    const struct nearest nearest = find_nearest(line->name);
    int len = (int)least(line->name.len, SECRET_NAME_SIZE);
    if (nearest.distance <= line->name.len / 2)
        return err_set(err, ERR_CONFIG, OPERATION,
                       "%.64s, line %d: there is no setting %.*s; did you mean %s?", file->path,
                       line->number, len, line->name.data, nearest.name);
    return err_set(err, ERR_CONFIG, OPERATION,
                   "%.64s, line %d: there is no setting %.*s; a variable of another program "
                   "belongs in the environment.",
                   file->path, line->number, len, line->name.data);
}

static enum err_code add(const struct env_file *file, const struct env_line *line, struct err *err)
{
    char name[SECRET_NAME_SIZE];
    char value[LIMIT_ENV_FILE_BYTES + 1];
    if (!str_copy(name, sizeof name, line->name) || !str_copy(value, sizeof value, line->value))
        return err_set(err, ERR_CONFIG, OPERATION, "%.64s, line %d: a NUL byte.", file->path,
                       line->number);
    if (getenv(name))
        return ERR_OK;
    int failed = setenv(name, value, 1);
    explicit_bzero(value, sizeof value);
    if (failed)
        return err_set_internal(err, ERR_CONFIG, errno, OPERATION, "Out of memory.");
    if (file->exports)
        setting_print_export(name, line->value, file->exports);
    return ERR_OK;
}

static enum err_code take_lines(const struct env_file *file, struct err *err)
{
    enum err_code code = ERR_OK;
    struct str rest = file->text;
    for (int number = 1; code == ERR_OK && rest.len > 0; number++) {
        struct env_line line = {.number = number};
        bool bad = false;
        bool is_set = split(str_cut(&rest, '\n'), &line, &bad);
        int first = is_set ? find_first(file, &line) : 0;
        if (bad)
            code = err_set(err, ERR_CONFIG, OPERATION,
                           "%.64s, line %d: not of the form NAME=value.", file->path, number);
        else if (is_set && !is_setting(line.name))
            code = unknown_name(file, &line, err);
        else if (first > 0)
            code = err_set(err, ERR_CONFIG, OPERATION,
                           "%.64s, line %d: %.*s is set a second time (first in line %d).",
                           file->path, number, (int)line.name.len, line.name.data, first);
        else if (is_set)
            code = add(file, &line, err);
    }
    return code;
}

static enum err_code cannot_read(const char *path, int os_errno, struct err *err)
{
    return err_set_internal(err, ERR_CONFIG, os_errno, OPERATION, "%.128s can't be read: %s.", path,
                            strerror(os_errno));
}

static enum err_code read_all(int fd, const char *path, struct buf *text, struct err *err)
{
    char part[4096];
    ssize_t len = 0;
    while (!text->failed && (len = read(fd, part, sizeof part)) > 0)
        buf_append(text, part, (size_t)len);
    int os_errno = errno;
    explicit_bzero(part, sizeof part);
    if (text->failed)
        return err_set(err, ERR_CONFIG, OPERATION, "%.64s is larger than %d bytes.", path,
                       LIMIT_ENV_FILE_BYTES);
    return len < 0 ? cannot_read(path, os_errno, err) : ERR_OK;
}

/* What editors of Windows put first. */
static struct str without_mark(struct str text)
{
    struct str mark = STR("\xEF\xBB\xBF");
    if (!str_starts_with(text, mark))
        return text;
    return (struct str){text.data + mark.len, text.len - mark.len};
}

enum err_code config_env_load(const char *path, struct buf *exports, struct err *err)
{
    const char *named = path ? path : getenv("COFFER_ENV_FILE");
    bool must_exist = named && *named;
    struct env_file file = {.path = must_exist ? named : CONFIG_ENV_FILE, .exports = exports};
    int fd = open(file.path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT && !must_exist ? ERR_OK : cannot_read(file.path, errno, err);
    struct buf text;
    buf_init(&text, LIMIT_ENV_FILE_BYTES);
    enum err_code code = read_all(fd, file.path, &text, err);
    close(fd);
    file.text = without_mark(buf_str(&text));
    if (code == ERR_OK)
        code = take_lines(&file, err);
    if (text.len > 0)
        explicit_bzero(text.data, text.len);
    buf_release(&text);
    return code;
}

/* ---- the environment ---- */

void config_env_suspects(struct buf *out)
{
    for (char **each = environ; *each; each++) {
        struct str rest = str_of(*each);
        struct str name = str_cut(&rest, '=');
        if (is_setting(name))
            continue;
        const struct nearest nearest = find_nearest(name);
        if (nearest.distance <= SUSPECT_DISTANCE)
            buf_printf(out, "%.*s in the environment is not a setting; did you mean %s?\n",
                       (int)name.len, name.data, nearest.name);
    }
}
