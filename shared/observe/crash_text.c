/* No function of libc but memcpy and memset: a signal handler runs this. */
#include "observe/crash_record.h"

#define END_BYTES 24 /* kept for the last line */

static const char digits[] = "0123456789abcdef";

static void add(struct crash_text *text, char byte)
{
    if (text->len < sizeof text->bytes - END_BYTES)
        text->bytes[text->len++] = byte;
}

static void add_text(struct crash_text *text, const char *value)
{
    while (*value)
        add(text, *value++);
}

/* A word of a line, or what is the rest of one: nothing in it ends either. */
static void add_word(struct crash_text *text, const char *value, size_t max)
{
    if (!value || !*value)
        value = "-";
    for (size_t i = 0; value[i] && i < max; i++) {
        unsigned char byte = (unsigned char)value[i];
        add(text, byte > ' ' && byte < 0x7f ? (char)byte : '?');
    }
}

static void add_number(struct crash_text *text, int64_t value)
{
    char reversed[20];
    size_t len = 0;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    if (value < 0)
        add(text, '-');
    do
        reversed[len++] = digits[rest % 10];
    while ((rest /= 10) > 0);
    while (len > 0)
        add(text, reversed[--len]);
}

static void add_address(struct crash_text *text, uintptr_t address)
{
    unsigned width = 1;
    while (width < 16 && address >> (4 * width) > 0)
        width++;
    add_text(text, "0x");
    while (width-- > 0)
        add(text, digits[(address >> (4 * width)) & 15]);
}

/* A line that had no room goes as a whole. */
static void end_line(struct crash_text *text)
{
    bool is_cut = text->len >= sizeof text->bytes - END_BYTES;
    if (is_cut) {
        text->len = text->whole;
        return;
    }
    add(text, '\n');
    text->whole = text->len;
}

void crash_text_begin(struct crash_text *text, const char *program, int64_t time_ms)
{
    text->len = text->whole = 0;
    add_text(text, "coffer-crash 1\nprogram ");
    add_word(text, program, CRASH_NAME_SIZE - 1);
    add_text(text, "\nrelease " COFFER_VERSION "\ntime ");
    add_number(text, time_ms);
    end_line(text);
}

void crash_text_signal(struct crash_text *text, int number, int code, uintptr_t address)
{
    add_text(text, "signal ");
    add_number(text, number);
    add(text, ' ');
    add_number(text, code);
    add(text, ' ');
    add_address(text, address);
    end_line(text);
}

void crash_text_request(struct crash_text *text, const struct trace *trace, const char *route)
{
    add_text(text, "request ");
    add_word(text, trace->request_id, sizeof trace->request_id - 1);
    add(text, ' ');
    add_word(text, trace->trace_id, sizeof trace->trace_id - 1);
    add(text, ' ');
    add_word(text, trace->span_id, sizeof trace->span_id - 1);
    add(text, ' ');
    add_word(text, trace->parent_id, sizeof trace->parent_id - 1);
    add(text, ' ');
    add_word(text, route, CRASH_ROUTE_SIZE - 1);
    end_line(text);
}

void crash_text_image(struct crash_text *text, const struct image *image, const char *program_file)
{
    add_text(text, "image ");
    add_address(text, image->start);
    add(text, ' ');
    add_address(text, image->size);
    add(text, ' ');
    add_word(text, image->build_id, IMAGE_BUILD_ID_SIZE - 1);
    add(text, ' ');
    add_word(text, *image->file ? image->file : program_file, CRASH_FILE_SIZE - 1);
    end_line(text);
}

void crash_text_frame(struct crash_text *text, uintptr_t address)
{
    add_text(text, "frame ");
    add_address(text, address);
    end_line(text);
}

void crash_text_end(struct crash_text *text)
{
    uint64_t hash = crash_record_hash((struct str){text->bytes, text->whole});
    char line[END_BYTES] = "end ";
    size_t len = 4;
    for (unsigned shift = 64; shift > 0; shift -= 4)
        line[len++] = digits[(hash >> (shift - 4)) & 15];
    line[len++] = '\n';
    for (size_t i = 0; i < len; i++)
        text->bytes[text->whole + i] = line[i];
    text->len = text->whole += len;
}
