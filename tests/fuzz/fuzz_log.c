/*
 * Input: what a client or a server may bring into a log line, as its message and as a field. The
 * line is one JSON object with exactly those members, not too long, and shows no secret behind a
 * name that the input ends in.
 */
#include <cjson/cJSON.h>

#include "base/text.h"
#include "fuzz.h"
#include "observe/log_queue.h"
#include "observe/log_redact.h"

static void check_line(struct str bytes)
{
    struct log_line line;
    const struct log_field fields[] = {LOG_FIELD_STR("text", bytes), LOG_FIELD_INT("number", 7)};
    const struct str head = STR("{\"message\":\"");
    log_line_init(&line);
    log_line_raw(&line, head.data, head.len);
    for (size_t i = 0; i < 2; i++)
        MUST(log_line_reserve(&line, &fields[i]));
    line.reserved++; /* the quote */
    log_line_escaped(&line, bytes);
    line.reserved--;
    log_line_raw(&line, "\"", 1);
    for (size_t i = 0; i < 2; i++)
        log_line_field(&line, &fields[i]);
    log_line_finish(&line);
    MUST(line.len <= LOG_LINE_MAX && line.text[line.len - 1] == '\n');
    MUST(text_is_utf8((struct str){line.text, line.len}));
    cJSON *object = cJSON_ParseWithLength(line.text, line.len);
    MUST(cJSON_GetArraySize(object) == 3);
    MUST(cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(object, "number")) == 7);
    MUST(cJSON_IsString(cJSON_GetObjectItemCaseSensitive(object, "message")));
    MUST(cJSON_IsString(cJSON_GetObjectItemCaseSensitive(object, "text")));
    cJSON_Delete(object);
}

/* A secret is one byte at least, and its mask has three. */
static void check_masked(struct str bytes)
{
    static const char *const secrets[] = {"\ntoken=Xq7hunter2", "\nCookie: a=Xq7hunter2",
                                          "\nhttp://u:Xq7hunter2@h/",
                                          "\n{\"password\": \"Xq7hunter2\"}"};
    if (memmem(bytes.data, bytes.len, "hunter2", 7))
        return;
    for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++) {
        struct buf text;
        struct buf out;
        buf_init(&text, bytes.len + 100);
        buf_init(&out, 4 * (bytes.len + 100));
        buf_append_str(&text, bytes);
        buf_append_text(&text, secrets[i]);
        log_redact(buf_str(&text), &out);
        MUST(!out.failed && out.len <= 3 * text.len);
        MUST(!memmem(out.data, out.len, "hunter2", 7));
        buf_release(&text);
        buf_release(&out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const struct str text = {(const char *)bytes, size};
    check_line(text);
    check_masked(text);
    return 0;
}
