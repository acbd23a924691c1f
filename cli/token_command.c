#include <inttypes.h>

#include "access/principal.h"
#include "base/text.h"
#include "command.h"

#define MS_PER_SECOND 1000

/* "90d", "12h", "30m", "3600s", or "never" (0). */
static bool parse_duration(const char *text, int64_t *ret_seconds)
{
    static const struct {
        char unit;
        int64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    struct str rest = str_of(text);
    if (str_equal(rest, STR("never"))) {
        *ret_seconds = 0;
        return true;
    }
    for (size_t i = 0; rest.len > 1 && i < sizeof units / sizeof *units; i++) {
        if (rest.data[rest.len - 1] != units[i].unit)
            continue;
        int64_t count;
        int64_t max = LIMIT_EXPIRES_IN_SECONDS / units[i].seconds;
        if (!text_parse_int((struct str){rest.data, rest.len - 1}, 1, max, &count))
            return false;
        *ret_seconds = count * units[i].seconds;
        return true;
    }
    return false;
}

/* What `token create` makes; seconds 0: never expires. EXIT_DONE, or what was misused. */
static int read_wanted(const struct command *command, const struct command_option *options,
                       struct token *token, int64_t *ret_seconds)
{
    const char *owner = options[0].value;
    if (!owner || !owner_is_valid(str_of(owner)) ||
        !str_copy(token->owner, sizeof token->owner, str_of(owner)))
        return command_misuse(command, "--owner takes 1 to 128 letters, digits and . _ @ -");
    if (!options[1].value || !token_parse_scopes(str_of(options[1].value), &token->scopes))
        return command_misuse(command, "--scope takes read, write, admin, separated by commas");
    if (!options[2].value || !parse_duration(options[2].value, ret_seconds))
        return command_misuse(command, "--expires takes a time like 90d, 12h, 30m, or never");
    return EXIT_DONE;
}

static int create_token(const struct command *command, const struct files *files,
                        struct token *token, int64_t seconds)
{
    struct err err;
    char text[TOKEN_TEXT_SIZE];
    token->expires_ms = seconds ? clock_wall_ms(files->clock) + seconds * MS_PER_SECOND : 0;
    token_make(files->clock, token, text);
    if (metadata_token_insert(files->metadata, token, &err) != ERR_OK)
        return command_fail(command, &err);
    fprintf(stderr, "Token %s of %s. It is shown only now:\n", token->id, token->owner);
    printf("%s\n", text);
    explicit_bzero(text, sizeof text);
    return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}

struct token_list {
    const struct clock *clock;
    bool has_heading;
};

/* Nothing is printed before the tokens can be read. */
static void print_heading(struct token_list *list)
{
    if (!list->has_heading)
        printf("ID\tOWNER\tSCOPE\tCREATED\tEXPIRES\tSTATE\n");
    list->has_heading = true;
}

static enum err_code print_token(void *context, const struct token *token, struct err *err)
{
    struct token_list *list = context;
    char created[TEXT_TIME_SIZE];
    char expires[TEXT_TIME_SIZE] = "never";
    (void)err;
    print_heading(list);
    text_time(token->created_ms, created);
    if (token->expires_ms)
        text_time(token->expires_ms, expires);
    bool expired = token->expires_ms && token->expires_ms <= clock_wall_ms(list->clock);
    printf("%s\t%s\t%s%s%s\t%s\t%s\t%s\n", token->id, token->owner,
           token->scopes & SCOPE_READ ? "r" : "-", token->scopes & SCOPE_WRITE ? "w" : "-",
           token->scopes & SCOPE_ADMIN ? "a" : "-", created, expires,
           token->revoked_ms ? "revoked"
           : expired         ? "expired"
                             : "in force");
    return ERR_OK;
}

static int list_tokens(const struct command *command, const struct files *files)
{
    struct err err;
    struct token_list list = {.clock = files->clock};
    if (metadata_token_list(files->metadata, print_token, &list, &err) != ERR_OK)
        return command_fail(command, &err);
    print_heading(&list);
    return EXIT_DONE;
}

static int revoke_token(const struct command *command, const struct files *files, const char *id)
{
    struct err err;
    enum err_code code =
        metadata_token_revoke(files->metadata, id, clock_wall_ms(files->clock), &err);
    if (code == ERR_NOT_FOUND)
        err_set(&err, ERR_NOT_FOUND, "revoke", "there is no token with this id");
    if (code != ERR_OK)
        return command_fail(command, &err);
    fprintf(stderr, "Token %s is revoked.\n", id);
    return EXIT_DONE;
}

enum verb { VERB_CREATE, VERB_LIST, VERB_REVOKE, VERB_UNKNOWN };

static enum verb find_verb(const struct command_line *line)
{
    static const struct {
        const char *name;
        size_t words;
    } verbs[] = {
        [VERB_CREATE] = {"create", 1}, [VERB_LIST] = {"list", 1}, [VERB_REVOKE] = {"revoke", 2}};
    for (size_t i = 0; line->word_count > 0 && i < sizeof verbs / sizeof *verbs; i++)
        if (strcmp(line->words[0], verbs[i].name) == 0 && line->word_count == verbs[i].words)
            return (enum verb)i;
    return VERB_UNKNOWN;
}

static int run(const struct command *command, int argc, char **argv)
{
    struct command_option options[] = {
        {.name = "--owner"}, {.name = "--scope"}, {.name = "--expires"}};
    struct command_line line = {options, sizeof options / sizeof *options, {NULL}, 0};
    struct command_files opened;
    struct token token = {.revoked_ms = 0};
    int64_t seconds = 0;
    int exit_code = EXIT_DONE;
    if (!command_parse(command, argc, argv, &line))
        return EXIT_USAGE;
    enum verb verb = find_verb(&line);
    if (verb == VERB_UNKNOWN)
        return command_misuse(command, "it takes create, list, or revoke ID");
    if (verb == VERB_CREATE)
        exit_code = read_wanted(command, options, &token, &seconds);
    if (exit_code != EXIT_DONE)
        return exit_code;
    if (!command_open(&opened))
        return EXIT_FAILED;
    if (verb == VERB_CREATE)
        exit_code = create_token(command, &opened.files, &token, seconds);
    else if (verb == VERB_LIST)
        exit_code = list_tokens(command, &opened.files);
    else
        exit_code = revoke_token(command, &opened.files, line.words[1]);
    command_close(&opened);
    return exit_code;
}

const struct command command_token = {
    .name = "token",
    .usage = "token create --owner NAME --scope read,write,admin --expires 90d | list | revoke ID",
    .summary = "Makes, lists and revokes bearer tokens (AUTH_MODE=token).",
    .help = "  create   prints a new token once; only its SHA-256 is stored\n"
            "  list     id, owner, scope, times and state of every token\n"
            "  revoke   ends a token at once\n",
    .run = run,
};
