#include "storage/s3/storage_s3_xml.h"

#include "base/text.h"

#define PATH_BYTES (S3_XML_DEPTH * (S3_XML_NAME_BYTES + 1))

struct xml {
    struct str rest; /* not read yet */
    s3_xml_callback *callback;
    void *context;
    struct buf path;
    size_t depth;
    struct buf text;   /* since the last tag */
    bool is_leaf;      /* the element that is open holds no other one */
    bool is_past_root; /* the root has ended */
};

static enum err_code malformed(struct err *err)
{
    return err_set_internal(err, ERR_STORAGE, 0, "read XML",
                            "The store answered XML that can't be read.");
}

static bool is_space(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

static bool is_name_byte(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte == '_' || byte == '-' || byte == '.' ||
           byte == ':' || ((unsigned char)byte & 0x80);
}

static void skip(struct xml *xml, size_t len)
{
    xml->rest.data += len;
    xml->rest.len -= len;
}

static void skip_space(struct xml *xml)
{
    while (xml->rest.len > 0 && is_space(xml->rest.data[0]))
        skip(xml, 1);
}

static bool take(struct xml *xml, struct str expected)
{
    if (!str_starts_with(xml->rest, expected))
        return false;
    skip(xml, expected.len);
    return true;
}

static bool skip_past(struct xml *xml, struct str end)
{
    const char *found =
        xml->rest.len > 0 ? memmem(xml->rest.data, xml->rest.len, end.data, end.len) : NULL;
    if (!found)
        return false;
    skip(xml, (size_t)(found - xml->rest.data) + end.len);
    return true;
}

/* A name without its prefix. */
static bool take_name(struct xml *xml, struct str *ret_name)
{
    struct str name = {xml->rest.data, 0};
    while (name.len < xml->rest.len && is_name_byte(name.data[name.len]))
        name.len++;
    skip(xml, name.len);
    size_t colon = str_find(name, ':');
    if (colon < name.len) {
        name.data += colon + 1;
        name.len -= colon + 1;
    }
    *ret_name = name;
    return name.len > 0 && name.len <= S3_XML_NAME_BYTES && str_find(name, ':') == name.len &&
           str_find(name, '/') == name.len;
}

/* XML 1.0 §2.2 */
static bool is_xml_char(uint32_t code_point)
{
    return code_point == 0x9 || code_point == 0xA || code_point == 0xD ||
           (code_point >= 0x20 && code_point <= 0xD7FF) ||
           (code_point >= 0xE000 && code_point <= 0xFFFD) ||
           (code_point >= 0x10000 && code_point <= 0x10FFFF);
}

static void append_utf8(uint32_t code_point, struct buf *out)
{
    if (code_point < 0x80) {
        buf_append_char(out, (char)code_point);
        return;
    }
    if (code_point < 0x800) {
        buf_append_char(out, (char)(0xC0 | (code_point >> 6)));
    } else {
        if (code_point < 0x10000) {
            buf_append_char(out, (char)(0xE0 | (code_point >> 12)));
        } else {
            buf_append_char(out, (char)(0xF0 | (code_point >> 18)));
            buf_append_char(out, (char)(0x80 | ((code_point >> 12) & 0x3F)));
        }
        buf_append_char(out, (char)(0x80 | ((code_point >> 6) & 0x3F)));
    }
    buf_append_char(out, (char)(0x80 | (code_point & 0x3F)));
}

static int digit_value(char byte, uint32_t base)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    if (base == 16 && byte >= 'a' && byte <= 'f')
        return byte - 'a' + 10;
    if (base == 16 && byte >= 'A' && byte <= 'F')
        return byte - 'A' + 10;
    return -1;
}

/* "34" or "x22" */
static bool decode_number(struct str digits, uint32_t *ret_code_point)
{
    uint32_t value = 0;
    uint32_t base = 10;
    if (digits.len > 0 && digits.data[0] == 'x') {
        base = 16;
        digits.data++;
        digits.len--;
    }
    if (digits.len == 0 || digits.len > 8)
        return false;
    for (size_t i = 0; i < digits.len; i++) {
        int digit = digit_value(digits.data[i], base);
        if (digit < 0)
            return false;
        value = value * base + (uint32_t)digit;
        if (value > 0x10FFFF)
            return false;
    }
    *ret_code_point = value;
    return is_xml_char(value);
}

static bool take_reference(struct xml *xml)
{
    static const struct {
        const char *name;
        char byte;
    } named[] = {{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}};
    struct str name = {xml->rest.data + 1, xml->rest.len - 1};
    name.len = str_find(name, ';');
    if (name.len + 1 >= xml->rest.len)
        return false;
    skip(xml, name.len + 2);
    if (name.len > 0 && name.data[0] == '#') {
        uint32_t code_point = 0;
        if (!decode_number((struct str){name.data + 1, name.len - 1}, &code_point))
            return false;
        append_utf8(code_point, &xml->text);
        return true;
    }
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++)
        if (str_equal(name, str_of(named[i].name))) {
            buf_append_char(&xml->text, named[i].byte);
            return true;
        }
    return false;
}

/* Up to the next tag or the end of the document. */
static bool take_text(struct xml *xml)
{
    while (xml->rest.len > 0 && xml->rest.data[0] != '<') {
        size_t at = 0;
        uint32_t code_point = 0;
        if (xml->rest.data[0] == '&') {
            if (!take_reference(xml))
                return false;
            continue;
        }
        if (!text_utf8_next(xml->rest, &at, &code_point) || !is_xml_char(code_point))
            return false;
        buf_append(&xml->text, xml->rest.data, at);
        skip(xml, at);
    }
    return !xml->text.failed;
}

/* Outside the root there is only white space. */
static bool is_blank(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!is_space(text.data[i]))
            return false;
    return true;
}

static bool skip_attributes(struct xml *xml)
{
    for (;;) {
        struct str name;
        size_t before = xml->rest.len;
        skip_space(xml);
        if (xml->rest.len == 0)
            return false;
        if (xml->rest.data[0] == '>' || xml->rest.data[0] == '/')
            return true;
        if (xml->rest.len == before || !take_name(xml, &name))
            return false;
        skip_space(xml);
        if (!take(xml, STR("=")))
            return false;
        skip_space(xml);
        bool is_single = take(xml, STR("'"));
        if ((!is_single && !take(xml, STR("\""))) ||
            !skip_past(xml, is_single ? STR("'") : STR("\"")))
            return false;
    }
}

/* Tells of the open element and leaves it. */
static enum err_code end_element(struct xml *xml, struct err *err)
{
    const struct str text = xml->is_leaf ? buf_str(&xml->text) : (struct str){NULL, 0};
    enum err_code code = xml->callback(xml->context, buf_str(&xml->path), text, err);
    size_t len = xml->path.len;
    while (len > 0 && xml->path.data[len - 1] != '/')
        len--;
    xml->path.len = len > 0 ? len - 1 : 0;
    xml->path.data[xml->path.len] = '\0';
    xml->depth--;
    xml->is_leaf = false;
    xml->is_past_root = xml->depth == 0;
    buf_reset(&xml->text);
    return code;
}

static enum err_code start_tag(struct xml *xml, struct err *err)
{
    struct str name;
    if (xml->is_past_root || xml->depth == S3_XML_DEPTH || !take_name(xml, &name) ||
        !skip_attributes(xml))
        return malformed(err);
    if (xml->depth++ > 0)
        buf_append_char(&xml->path, '/');
    buf_append_str(&xml->path, name);
    if (xml->path.failed)
        return malformed(err);
    xml->is_leaf = true;
    buf_reset(&xml->text);
    if (take(xml, STR("/>")))
        return end_element(xml, err);
    return take(xml, STR(">")) ? ERR_OK : malformed(err);
}

static enum err_code end_tag(struct xml *xml, struct err *err)
{
    struct str name;
    struct str open = buf_str(&xml->path);
    if (xml->depth == 0 || !take_name(xml, &name))
        return malformed(err);
    skip_space(xml);
    size_t slash = open.len;
    while (slash > 0 && open.data[slash - 1] != '/')
        slash--;
    open.data += slash;
    open.len -= slash;
    if (!str_equal(name, open) || !take(xml, STR(">")))
        return malformed(err);
    return end_element(xml, err);
}

static enum err_code take_markup(struct xml *xml, struct err *err)
{
    if (take(xml, STR("</")))
        return end_tag(xml, err);
    if (take(xml, STR("<!--")))
        return skip_past(xml, STR("-->")) ? ERR_OK : malformed(err);
    if (take(xml, STR("<?")))
        return skip_past(xml, STR("?>")) ? ERR_OK : malformed(err);
    skip(xml, 1);
    return start_tag(xml, err);
}

/* Unicode 15.0, table 23-5 */
static void skip_byte_order_mark(struct xml *xml)
{
    take(xml, STR("\xef\xbb\xbf"));
}

enum err_code s3_xml_read(struct str document, s3_xml_callback *callback, void *context,
                          struct err *err)
{
    struct xml xml = {.rest = document, .callback = callback, .context = context};
    enum err_code code = ERR_OK;
    buf_init(&xml.path, PATH_BYTES);
    buf_init(&xml.text, S3_XML_TEXT_BYTES);
    skip_byte_order_mark(&xml);
    while (code == ERR_OK && xml.rest.len > 0) {
        if (!take_text(&xml) || (xml.depth == 0 && !is_blank(buf_str(&xml.text))))
            code = malformed(err);
        else if (xml.rest.len > 0)
            code = take_markup(&xml, err);
    }
    if (code == ERR_OK && !xml.is_past_root)
        code = malformed(err);
    buf_release(&xml.path);
    buf_release(&xml.text);
    return code;
}

bool s3_xml_has_root(struct str document, const char *name)
{
    struct xml xml = {.rest = document};
    struct str root;
    skip_byte_order_mark(&xml);
    for (;;) {
        skip_space(&xml);
        bool is_comment = take(&xml, STR("<!--"));
        if (!is_comment && !take(&xml, STR("<?")))
            break;
        if (!skip_past(&xml, is_comment ? STR("-->") : STR("?>")))
            return false;
    }
    return take(&xml, STR("<")) && take_name(&xml, &root) && str_equal(root, str_of(name));
}

/* ---- one value ---- */

struct sought {
    struct str path;
    struct buf *text;
    bool found;
};

static enum err_code note_value(void *context, struct str path, struct str text, struct err *err)
{
    struct sought *sought = context;
    (void)err;
    if (!sought->found && str_equal(path, sought->path)) {
        sought->found = true;
        buf_append_str(sought->text, text);
    }
    return ERR_OK;
}

enum err_code s3_xml_value(struct str document, const char *path, struct buf *ret_text,
                           struct err *err)
{
    struct sought sought = {str_of(path), ret_text, false};
    enum err_code code = s3_xml_read(document, note_value, &sought, err);
    if (code != ERR_OK)
        return code;
    return sought.found && !ret_text->failed ? ERR_OK : malformed(err);
}
