#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "base/config_table.h"
#include "base/limits.h"
#include "base/text.h"

_Static_assert(sizeof(enum auth_mode) == sizeof(unsigned) &&
                   sizeof(enum durability) == sizeof(unsigned) &&
                   sizeof(enum err_level) == sizeof(unsigned) &&
                   sizeof(enum node_mode) == sizeof(unsigned) &&
                   sizeof(enum s3_addressing) == sizeof(unsigned) &&
                   sizeof(enum download_mode) == sizeof(unsigned),
               "settings of type SETTING_CHOICE are written as unsigned");

#define OPERATION "read settings"

static enum err_code bad_value(const struct setting *setting, struct str value, const char *wanted,
                               struct err *err)
{
    bool may_show = !setting->secret && value.len <= 60;
    for (size_t i = 0; i < value.len; i++)
        may_show = may_show && value.data[i] >= ' ' && value.data[i] <= '~';
    return err_set(err, ERR_CONFIG, OPERATION, "%s must be %s%s%.*s%s.", setting->name, wanted,
                   may_show ? ", not \"" : "", may_show ? (int)value.len : 0, value.data,
                   may_show ? "\"" : "");
}

static enum err_code out_of_range(const struct setting *setting, struct str value, struct err *err)
{
    struct buf wanted;
    buf_init(&wanted, 256);
    setting_print_range(setting, &wanted);
    enum err_code code = bad_value(setting, value, buf_text(&wanted), err);
    buf_release(&wanted);
    return code;
}

static bool find_choice(const char *const *choices, struct str value, unsigned *ret_index)
{
    for (unsigned i = 0; choices[i]; i++) {
        if (str_equal(str_of(choices[i]), value)) {
            *ret_index = i;
            return true;
        }
    }
    return false;
}

static enum err_code read_text(const struct setting *setting, struct str value, char *target,
                               struct err *err)
{
    unsigned index;
    if ((setting->choices && !find_choice(setting->choices, value, &index)) ||
        (setting->is_valid && value.len > 0 && !setting->is_valid(value)))
        return out_of_range(setting, value, err);
    if (!str_copy(target, CONFIG_TEXT_SIZE, value))
        return err_set(err, ERR_CONFIG, OPERATION, "%s must not be longer than %d bytes.",
                       setting->name, CONFIG_TEXT_SIZE - 1);
    return ERR_OK;
}

static enum err_code read_number(const struct setting *setting, struct str value, int64_t *target,
                                 struct err *err)
{
    int64_t number;
    bool is_read = setting->type == SETTING_BYTES
                       ? text_parse_bytes(value, &number)
                       : text_parse_int(value, setting->min, setting->max, &number);
    if (!is_read || number < setting->min || number > setting->max)
        return out_of_range(setting, value, err);
    *target = number;
    return ERR_OK;
}

static enum err_code read_choice(const struct setting *setting, struct str value, unsigned *target,
                                 struct err *err)
{
    return find_choice(setting->choices, value, target) ? ERR_OK
                                                        : out_of_range(setting, value, err);
}

static enum err_code read_bool(const struct setting *setting, struct str value, bool *target,
                               struct err *err)
{
    if (!str_equal(value, STR("0")) && !str_equal(value, STR("1")))
        return out_of_range(setting, value, err);
    *target = value.data[0] == '1';
    return ERR_OK;
}

/* Paths reach lighttpd's configuration, where these characters mean something. */
static enum err_code check_path_characters(const struct setting *setting, struct str value,
                                           struct err *err)
{
    for (size_t i = 0; i < value.len; i++) {
        unsigned char byte = (unsigned char)value.data[i];
        if (byte < ' ' || byte == 0x7F || strchr("\"'`$\\", byte))
            return err_set(err, ERR_CONFIG, OPERATION,
                           "%s must not hold quotes, \"$\", backslashes or control characters.",
                           setting->name);
    }
    return ERR_OK;
}

/* Adds the segments of `path` to `out`, without empty ones and ".". ".." is taken only where what
 * it leaves is the current folder, which getcwd gave without symbolic links: after a named folder
 * the kernel may go elsewhere than the text says. */
static bool add_segments(struct str path, struct buf *out)
{
    bool may_leave = path.len > 0 && path.data[0] != '/';
    while (path.len > 0) {
        struct str segment = str_cut(&path, '/');
        if (segment.len == 0 || str_equal(segment, STR(".")))
            continue;
        if (str_equal(segment, STR(".."))) {
            if (!may_leave)
                return false;
            while (out->len > 0 && out->data[--out->len] != '/')
                continue;
            continue;
        }
        may_leave = false;
        buf_append_char(out, '/');
        buf_append_str(out, segment);
    }
    return true;
}

static enum err_code read_path(const struct setting *setting, struct str value, char *target,
                               struct err *err)
{
    char cwd[CONFIG_TEXT_SIZE] = "";
    struct buf path;
    buf_init(&path, CONFIG_TEXT_SIZE - 1);
    enum err_code code = check_path_characters(setting, value, err);
    if (code != ERR_OK)
        goto out;
    if (value.data[0] != '/') {
        if (!getcwd(cwd, sizeof cwd)) {
            code = err_set_internal(err, ERR_CONFIG, errno, "getcwd",
                                    "%s is relative, but the current folder has no usable path.",
                                    setting->name);
            goto out;
        }
        add_segments(str_of(cwd), &path);
    }
    if (!add_segments(value, &path)) {
        code = err_set(err, ERR_CONFIG, OPERATION, "%s must not hold \"..\" after a folder's name.",
                       setting->name);
        goto out;
    }
    /* The current folder is part of the path by now. */
    code = check_path_characters(setting, buf_str(&path), err);
    if (code == ERR_OK && path.len == 0)
        code =
            err_set(err, ERR_CONFIG, OPERATION, "%s must not be the root folder.", setting->name);
    if (code == ERR_OK && (path.failed || !str_copy(target, CONFIG_TEXT_SIZE, buf_str(&path))))
        code = err_set(err, ERR_CONFIG, OPERATION, "%s must not be longer than %d bytes.",
                       setting->name, CONFIG_TEXT_SIZE - 1);
out:
    buf_release(&path);
    return code;
}

static enum err_code read_log(const struct setting *setting, struct str value, char *target,
                              struct err *err)
{
    struct str scheme = STR("unix:");
    if (!str_starts_with(value, scheme))
        return read_path(setting, value, target, err);
    struct str path = {value.data + scheme.len, value.len - scheme.len};
    if (path.len < 2 || path.data[0] != '/' || path.len > LIMIT_SOCKET_PATH_BYTES)
        return err_set(err, ERR_CONFIG, OPERATION,
                       "%s must be unix: and an absolute path of at most %d bytes.", setting->name,
                       LIMIT_SOCKET_PATH_BYTES);
    enum err_code code = check_path_characters(setting, value, err);
    return code == ERR_OK ? read_text(setting, value, target, err) : code;
}

enum err_code setting_read(const struct setting *setting, struct str value, struct config *config,
                           struct err *err)
{
    void *target = (char *)config + setting->offset;
    switch (setting->type) {
    case SETTING_TEXT:
        return read_text(setting, value, target, err);
    case SETTING_PATH:
        return value.len > 0 ? read_path(setting, value, target, err) : ERR_OK;
    case SETTING_LOG:
        return value.len > 0 ? read_log(setting, value, target, err) : ERR_OK;
    case SETTING_INT:
    case SETTING_BYTES:
        return read_number(setting, value, target, err);
    case SETTING_BOOL:
        return read_bool(setting, value, target, err);
    case SETTING_CHOICE:
        return read_choice(setting, value, target, err);
    }
    return err_set(err, ERR_INTERNAL, OPERATION, "%s has no type.", setting->name);
}
