#include "files/installation_mark.h"

#include <stdio.h>

#include "base/str.h"

#define FIRST_LINE "coffer installation 1"
#define ID_LINE "id "
#define REPLACES_LINE "replaces "
#define INCOMPLETE_LINE "incomplete"

void installation_mark_print(const struct installation_mark *mark,
                             char target[INSTALLATION_MARK_SIZE])
{
    bool replaces = mark->replaces[0] != '\0';
    snprintf(target, INSTALLATION_MARK_SIZE, FIRST_LINE "\n" ID_LINE "%s\n%s%s%s%s", mark->id,
             replaces ? REPLACES_LINE : "", mark->replaces, replaces ? "\n" : "",
             mark->is_incomplete ? INCOMPLETE_LINE "\n" : "");
}

static bool read_id(struct str line, struct str name, char target[ID_SIZE])
{
    const struct str id = {line.data + name.len, line.len - name.len};
    return id_is_valid(id) && str_copy(target, ID_SIZE, id);
}

static bool read_line(struct str line, struct installation_mark *mark)
{
    if (str_equal(line, STR(INCOMPLETE_LINE))) {
        mark->is_incomplete = true;
        return true;
    }
    if (str_starts_with(line, STR(ID_LINE)))
        return read_id(line, STR(ID_LINE), mark->id);
    return str_starts_with(line, STR(REPLACES_LINE)) &&
           read_id(line, STR(REPLACES_LINE), mark->replaces);
}

enum err_code installation_mark_parse(const char *text, struct installation_mark *ret_mark,
                                      struct err *err)
{
    struct installation_mark mark = {.id = ""};
    struct str rest = str_of(text);
    bool is_whole = str_equal(str_cut(&rest, '\n'), STR(FIRST_LINE));
    while (is_whole && rest.len > 0)
        is_whole = read_line(str_cut(&rest, '\n'), &mark);
    if (!is_whole || !mark.id[0])
        return err_set(err, ERR_CONFIG, "installation",
                       "The installation id of the store or the database (coffer-installation) "
                       "can't be read: a newer version of coffer wrote it, or something else.");
    *ret_mark = mark;
    return ERR_OK;
}
