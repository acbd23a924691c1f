#include <inttypes.h>

#include "base/jsonw.h"
#include "base/text.h"
#include "observe/report_parts.h"

#define DEBUG_ID_BYTES 16

static void write_address(struct buf *out, const char *name, uintptr_t address)
{
    char text[24];
    int len = snprintf(text, sizeof text, "0x%" PRIxPTR, address);
    jsonw_string(out, name, (struct str){text, (size_t)len});
}

static void write_frame(struct buf *out, const struct stack_frame *frame)
{
    jsonw_begin_object(out, NULL);
    if (frame->function)
        jsonw_string(out, "function", str_of(frame->function));
    if (frame->file)
        jsonw_string(out, "filename", str_of(frame->file));
    if (frame->line > 0)
        jsonw_int(out, "lineno", frame->line);
    write_address(out, "instruction_addr", frame->address);
    jsonw_bool(out, "in_app", frame->in_app);
    jsonw_end_object(out);
}

static void write_frames(struct buf *out, const struct stack_trace *stack)
{
    jsonw_begin_object(out, "stacktrace");
    jsonw_begin_array(out, "frames");
    for (size_t i = 0; i < stack->frame_count; i++)
        write_frame(out, &stack->frames[i]);
    jsonw_end_array(out);
    jsonw_end_object(out);
}

/* A build-id as the debug id of an ELF file: its first bytes as a GUID, whose first three fields
 * are numbers in little-endian order. */
static bool make_debug_id(const char *build_id, char target[37])
{
    static const unsigned char order[DEBUG_ID_BYTES] = {3, 2, 1,  0,  5,  4,  7,  6,
                                                        8, 9, 10, 11, 12, 13, 14, 15};
    unsigned char bytes[DEBUG_ID_BYTES];
    unsigned char guid[DEBUG_ID_BYTES];
    char hex[2 * DEBUG_ID_BYTES + 1];
    struct str digits = str_of(build_id);
    if (digits.len < sizeof hex - 1 ||
        !text_unhex((struct str){digits.data, sizeof hex - 1}, bytes, sizeof bytes))
        return false;
    for (size_t i = 0; i < DEBUG_ID_BYTES; i++)
        guid[i] = bytes[order[i]];
    text_hex(guid, sizeof guid, hex);
    snprintf(target, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
    return true;
}

static void write_image(struct buf *out, const struct stack_image *image)
{
    char debug_id[37];
    if (!image->build_id || !make_debug_id(image->build_id, debug_id))
        return;
    jsonw_begin_object(out, NULL);
    jsonw_string(out, "type", STR("elf"));
    jsonw_string(out, "code_id", str_of(image->build_id));
    jsonw_string(out, "debug_id", str_of(debug_id));
    jsonw_string(out, "code_file", str_of(image->file));
    write_address(out, "image_addr", image->start);
    jsonw_int(out, "image_size", (int64_t)image->size);
    jsonw_end_object(out);
}

static void write_images(struct buf *out, const struct stack_trace *stack)
{
    jsonw_begin_object(out, "debug_meta");
    jsonw_begin_array(out, "images");
    for (size_t i = 0; i < stack->image_count; i++)
        write_image(out, &stack->images[i]);
    jsonw_end_array(out);
    jsonw_end_object(out);
}

void report_finish_event(const struct stack_trace *stack, struct buf *out)
{
    if (stack && stack->frame_count > 0)
        write_frames(out, stack);
    jsonw_end_object(out); /* the exception */
    jsonw_end_array(out);
    jsonw_end_object(out);
    if (stack && stack->image_count > 0)
        write_images(out, stack);
    jsonw_end_object(out);
}
