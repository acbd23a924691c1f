#include "command.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/config_env.h"
#include "base/service_user.h"

#define DATABASE_FILE "db/coffer.sqlite" /* in DATA_DIR */
#define WARNINGS_MAX (16 * 1024)

static const char *env_file;

int command_fail(const struct command *command, const struct err *err)
{
    fprintf(stderr, "coffer %s: %s\n", command->name, err->message);
    return EXIT_FAILED;
}

int command_misuse(const struct command *command, const char *message)
{
    fprintf(stderr, "coffer %s: %s\nusage: coffer %s\n", command->name, message, command->usage);
    return EXIT_USAGE;
}

static struct command_option *find_option(struct command_line *line, const char *name)
{
    for (size_t i = 0; i < line->option_count; i++)
        if (strcmp(line->options[i].name, name) == 0)
            return &line->options[i];
    return NULL;
}

static const char *take_option(struct command_option *option, int argc, char **argv, int *at)
{
    if (!option)
        return "there is no such option";
    if (option->value)
        return "an option is given twice";
    if (option->is_flag) {
        option->value = "1";
        return NULL;
    }
    if (*at + 1 >= argc)
        return "an option lacks its value";
    option->value = argv[++*at];
    return NULL;
}

bool command_parse(const struct command *command, int argc, char **argv, struct command_line *line)
{
    const char *wrong = NULL;
    line->word_count = 0;
    for (int i = 1; i < argc && !wrong; i++) {
        if (strncmp(argv[i], "--", 2) == 0)
            wrong = take_option(find_option(line, argv[i]), argc, argv, &i);
        else if (line->word_count == sizeof line->words / sizeof *line->words)
            wrong = "there are too many words";
        else
            line->words[line->word_count++] = argv[i];
    }
    if (wrong)
        command_misuse(command, wrong);
    return !wrong;
}

enum err_code command_open_files(struct command_files *opened, struct err *err)
{
    opened->files = (struct files){.config = &opened->config, .clock = &clock_system};
    enum err_code code =
        storage_open(&opened->files.storage, &opened->config, &clock_system, NULL, err);
    if (code == ERR_OK)
        code = metadata_open(&opened->files.metadata, &opened->config, &clock_system, NULL, err);
    return code;
}

void command_use_env_file(const char *path)
{
    env_file = path;
}

enum err_code command_load_env(struct buf *exports, struct err *err)
{
    return config_env_load(env_file, exports, err);
}

enum err_code command_load_settings(struct config *config, struct err *err)
{
    enum err_code code = command_load_env(NULL, err);
    return code == ERR_OK ? config_load(config, err) : code;
}

void command_warn(void)
{
    struct buf lines;
    buf_init(&lines, WARNINGS_MAX);
    config_env_suspects(&lines);
    for (struct str rest = buf_str(&lines); rest.len > 0;) {
        struct str line = str_cut(&rest, '\n');
        fprintf(stderr, "coffer: warning: %.*s\n", (int)line.len, line.data);
    }
    buf_release(&lines);
}

static bool keeps_files(const struct config *config)
{
    return strcmp(config->storage_driver, "fs") == 0;
}

static bool keeps_database(const struct config *config)
{
    return strcmp(config->metadata_driver, "sqlite") == 0;
}

bool command_keeps_data(const struct config *config)
{
    return keeps_files(config) || keeps_database(config);
}

/* Without credentials and options: mongodb://USER:PASSWORD@HOSTS/DATABASE?OPTIONS */
static struct str mongodb_hosts(const char *uri)
{
    const char *scheme_end = strstr(uri, "://");
    const char *begin = scheme_end ? scheme_end + 3 : uri;
    size_t len = strcspn(begin, "/?");
    for (size_t i = 0; i < len; i++) {
        if (begin[i] == '@') {
            begin += i + 1;
            len -= i + 1;
            i = 0;
        }
    }
    return (struct str){begin, len};
}

void command_announce(const struct config *config, const char *what)
{
    fprintf(stderr, "coffer: %s ", what);
    if (command_keeps_data(config))
        fprintf(stderr, "DATA_DIR %s", config->data_dir);
    if (!keeps_files(config))
        fprintf(stderr, "%sbucket %s at %s", keeps_database(config) ? ", " : "", config->s3_bucket,
                config->s3_endpoint);
    if (!keeps_database(config)) {
        struct str hosts = mongodb_hosts(config->mongodb_uri);
        fprintf(stderr, ", database %s at %.*s", config->mongodb_database, (int)hosts.len,
                hosts.data);
    }
    fputc('\n', stderr);
}

enum err_code command_give_up_root(const struct config *config, struct err *err)
{
    struct service_user user;
    enum err_code code = service_user_find(config, &user, err);
    return code == ERR_OK ? service_user_become(&user, err) : code;
}

enum err_code command_check_there(const struct config *config, struct err *err)
{
    char path[CONFIG_TEXT_SIZE + sizeof DATABASE_FILE];
    struct stat stat_buf;
    if (!command_keeps_data(config))
        return ERR_OK;
    if (stat(config->data_dir, &stat_buf) != 0 && errno == ENOENT)
        return err_set_internal(err, ERR_CONFIG, ENOENT, "check",
                                "DATA_DIR %.128s is not there: set DATA_DIR, or run `coffer init` "
                                "for a first start",
                                config->data_dir);
    snprintf(path, sizeof path, "%s/" DATABASE_FILE, config->data_dir);
    if (keeps_database(config) && stat(path, &stat_buf) != 0 && errno == ENOENT)
        return err_set_internal(err, ERR_CONFIG, ENOENT, "check",
                                "there is no database %.128s: set DATA_DIR, or run `coffer init` "
                                "for a first start",
                                path);
    return data_dir_check(config, err);
}

/* A database elsewhere is asked: a misspelt name of it is an empty one. */
static enum err_code check_database(const struct command_files *opened, struct err *err)
{
    if (keeps_database(&opened->config))
        return ERR_OK;
    return metadata_ping(opened->files.metadata, err);
}

bool command_open(struct command_files *opened)
{
    struct err err;
    *opened = (struct command_files){.files = {.storage = NULL}};
    command_warn();
    enum err_code code = command_load_settings(&opened->config, &err);
    if (code == ERR_OK) {
        command_announce(&opened->config, "works on");
        code = command_give_up_root(&opened->config, &err);
    }
    if (code == ERR_OK)
        code = command_check_there(&opened->config, &err);
    if (code == ERR_OK)
        code = command_open_files(opened, &err);
    if (code == ERR_OK)
        code = check_database(opened, &err);
    if (code == ERR_OK)
        return true;
    fprintf(stderr, "coffer: %s\n", err.message);
    command_close(opened);
    return false;
}

void command_close(struct command_files *opened)
{
    metadata_close(opened->files.metadata);
    storage_close(opened->files.storage);
}
