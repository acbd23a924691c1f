#include "http/jsonio.h"

#include "base/limits.h"
#include "check.h"

static enum err_code parse(struct str text, struct err *err)
{
    cJSON *value = NULL;
    enum err_code code = jsonio_parse(text, &value, err);
    cJSON_Delete(value);
    return code;
}

TEST(jsonio, parses_what_rfc_8259_allows)
{
    static const char *const rows[] = {
        "{}",
        "[]",
        " \t\r\n{ \"a\" : [ 1 , -0 , 0.5 , 1e9 , 1E+2 , -1.5e-3 ] } \n",
        "null",
        "\"a\"",
        "true",
        "[false]",
        "0",
        "-12.25",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\"",
        "\"\\ud83d\\ude00\"",
        "{\"\":1}",
        "{\"a\":1,\"A\":2}",
        "\"\xC3\xA4\xF0\x9F\x98\x80\x7F\"",
        "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err;
        CHECK_ERR_ROW(rows[i], parse(str_of(rows[i]), &err), ERR_OK, &err);
    }
}

TEST(jsonio, abuse_59_refuses_everything_else)
{
    static const char *const rows[] = {
        "",
        " ",
        "{",
        "}",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "[1 2]",
        "{1:2}",
        "{} {}",
        "{}x",
        "[]]",
        "nul",
        "True",
        "nullx",
        "NaN",
        "Infinity",
        "-",
        "+1",
        "01",
        "-01",
        "1.",
        ".5",
        "1e",
        "1e+",
        "0x10",
        "1_0",
        "--1",
        "\"",
        "\"a",
        "\"\\x\"",
        "\"\\",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\\ud800\\ud800\"",
        "\"\\ud800x\"",
        "\"\\u0000\"",
        "\"a\nb\"",
        "\"\x01\"",
        "\"\t\"",
        "\"\xFF\"",
        "\"\xC0\xAE\"",
        "\"\xED\xA0\x80\"",
        "\xEF\xBB\xBF{}",
        "/**/{}",
        "{\"a\":1,\"a\":1}",
        "[{\"b\":{\"a\":1,\"c\":2,\"\\u0061\":1}}]",
        "1e999",
        "[-1e400]",
        "{\"a\"\v:1}",
        "[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]",
        "\f1",
        "\"a\"\"b\"",
        "1111111111111111111111111111111111111111111111111111111111111111",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err;
        CHECK_ERR_ROW(rows[i], parse(str_of(rows[i]), &err), ERR_BAD_JSON, &err);
    }
    struct err err;
    CHECK_ERR(parse((struct str){"{}\0", 3}, &err), ERR_BAD_JSON, &err);
    CHECK_ERR(parse((struct str){"\"a\0b\"", 5}, &err), ERR_BAD_JSON, &err);
    CHECK_ERR(parse((struct str){NULL, 0}, &err), ERR_BAD_JSON, &err);
}

TEST(jsonio, abuse_59_ten_thousand_brackets_cost_no_stack)
{
    static char text[10000];
    struct err err;
    memset(text, '[', sizeof text);
    CHECK_ERR(parse((struct str){text, sizeof text}, &err), ERR_BAD_JSON, &err);
    CHECK_TEXT(err.message, "The JSON text is nested too deeply.");
}

TEST(jsonio, the_length_is_bounded)
{
    static char text[LIMIT_JSON_BODY_BYTES + 1];
    struct err err;
    memset(text, ' ', sizeof text);
    text[0] = '1';
    CHECK_ERR(parse((struct str){text, LIMIT_JSON_BODY_BYTES}, &err), ERR_OK, &err);
    CHECK_ERR(parse((struct str){text, LIMIT_JSON_BODY_BYTES + 1}, &err), ERR_BAD_JSON, &err);
}

TEST(jsonio, a_failed_parse_leaves_the_result_alone)
{
    cJSON marker;
    cJSON *value = &marker;
    struct err err;
    CHECK_ERR(jsonio_parse(STR("[1,{\"a\":1,\"a\":2}]"), &value, &err), ERR_BAD_JSON, &err);
    CHECK(value == &marker);
}

static void check_metadata(const char *text, enum err_code want_code, const char *want)
{
    cJSON *value = NULL;
    struct buf out;
    struct err err;
    buf_init(&out, LIMIT_METADATA_BYTES);
    CHECK_ERR_ROW(text, jsonio_parse(str_of(text), &value, &err), ERR_OK, &err);
    CHECK_ERR_ROW(text, jsonio_metadata(value, &out, &err), want_code, &err);
    CHECK_STR_ROW(text, buf_str(&out), want);
    cJSON_Delete(value);
    buf_release(&out);
}

TEST(jsonio, metadata_is_an_object_of_strings_written_compactly_in_its_order)
{
    check_metadata("{}", ERR_OK, "{}");
    check_metadata(" { \"b\" : \"1\" ,\n\"a\":\"\\u00e4\\n\" }", ERR_OK,
                   "{\"b\":\"1\",\"a\":\"\xC3\xA4\\n\"}");
    check_metadata("{\"\":\"\"}", ERR_OK, "{\"\":\"\"}");
    check_metadata("[]", ERR_BAD_PARAMETER, "");
    check_metadata("null", ERR_BAD_PARAMETER, "");
    check_metadata("\"a\"", ERR_BAD_PARAMETER, "");
    check_metadata("{\"a\":1}", ERR_BAD_PARAMETER, "");
    check_metadata("{\"b\":\"1\",\"a\":null}", ERR_BAD_PARAMETER, "");
    check_metadata("{\"a\":{}}", ERR_BAD_PARAMETER, "");
    check_metadata("{\"a\":true}", ERR_BAD_PARAMETER, "");
}

/* Metadata of one member, `len` bytes as written. */
static enum err_code write_metadata_of(size_t len)
{
    static char text[LIMIT_METADATA_BYTES + 2];
    cJSON *value = NULL;
    struct buf out;
    struct err err;
    memset(text, 'x', sizeof text);
    memcpy(text, "{\"k\":\"", 6);
    memcpy(text + len - 2, "\"}", 2);
    buf_init(&out, LIMIT_METADATA_BYTES);
    enum err_code code = jsonio_parse((struct str){text, len}, &value, &err);
    if (code == ERR_OK)
        code = jsonio_metadata(value, &out, &err);
    cJSON_Delete(value);
    buf_release(&out);
    return code;
}

TEST(jsonio, metadata_is_measured_as_written)
{
    CHECK_INT(write_metadata_of(LIMIT_METADATA_BYTES), ERR_OK);
    CHECK_INT(write_metadata_of(LIMIT_METADATA_BYTES + 1), ERR_BAD_PARAMETER);
}

TEST(jsonio, merges_as_rfc_7396_says)
{
    static const struct {
        const char *current, *patch, *want;
        enum err_code code;
    } rows[] = {
        {"{}", "{}", "{}", ERR_OK},
        {"{\"a\":\"1\"}", "{}", "{\"a\":\"1\"}", ERR_OK},
        {"{\"a\":\"1\"}", "{\"a\":\"2\"}", "{\"a\":\"2\"}", ERR_OK},
        {"{\"a\":\"1\",\"b\":\"2\"}", "{\"a\":null}", "{\"b\":\"2\"}", ERR_OK},
        {"{\"a\":\"1\"}", "{\"b\":null}", "{\"a\":\"1\"}", ERR_OK},
        {"{\"a\":\"1\",\"b\":\"2\"}", "{\"c\":\"3\",\"a\":\"x\"}",
         "{\"a\":\"x\",\"b\":\"2\",\"c\":\"3\"}", ERR_OK},
        {"{\"a\":\"1\"}", "{\"A\":\"2\"}", "{\"a\":\"1\",\"A\":\"2\"}", ERR_OK},
        {"{\"a\":\"1\"}", "{\"A\":null}", "{\"a\":\"1\"}", ERR_OK},
        {"{\"a\":\"1\"}", "{\"a\":2}", "", ERR_BAD_PARAMETER},
        {"{\"a\":\"1\"}", "{\"a\":{}}", "", ERR_BAD_PARAMETER},
        {"{\"a\":\"1\"}", "[]", "", ERR_BAD_PARAMETER},
        {"{\"a\":\"1\"}", "\"x\"", "", ERR_BAD_PARAMETER},
        {"{\"a\":", "{}", "", ERR_INTERNAL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cJSON *patch = NULL;
        struct buf out;
        struct err err;
        buf_init(&out, LIMIT_METADATA_BYTES);
        CHECK_ERR_ROW(rows[i].patch, jsonio_parse(str_of(rows[i].patch), &patch, &err), ERR_OK,
                      &err);
        CHECK_ERR_ROW(rows[i].patch,
                      jsonio_merge_metadata(str_of(rows[i].current), patch, &out, &err),
                      rows[i].code, &err);
        CHECK_STR_ROW(rows[i].patch, buf_str(&out), rows[i].want);
        cJSON_Delete(patch);
        buf_release(&out);
    }
}

TEST(jsonio, a_patch_of_more_names_than_metadata_can_hold_is_refused)
{
    struct buf text;
    struct buf out;
    cJSON *patch = NULL;
    struct err err;
    buf_init(&text, LIMIT_JSON_BODY_BYTES);
    buf_init(&out, LIMIT_METADATA_BYTES);
    jsonw_begin_object(&text, NULL);
    for (int i = 0; i < 3000; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        jsonw_null(&text, name);
    }
    jsonw_end_object(&text);
    REQUIRE(jsonio_parse(buf_str(&text), &patch, &err) == ERR_OK);
    CHECK_ERR(jsonio_merge_metadata(STR("{}"), patch, &out, &err), ERR_BAD_PARAMETER, &err);
    cJSON_Delete(patch);
    buf_release(&text);
    buf_release(&out);
}

TEST(jsonw, sets_the_commas)
{
    struct buf out;
    buf_init(&out, 1024);
    jsonw_begin_object(&out, NULL);
    jsonw_string(&out, "a", STR("{"));
    jsonw_int(&out, "b", INT64_MIN);
    jsonw_begin_array(&out, "c");
    jsonw_bool(&out, NULL, true);
    jsonw_bool(&out, NULL, false);
    jsonw_null(&out, NULL);
    jsonw_begin_object(&out, NULL);
    jsonw_end_object(&out);
    jsonw_begin_array(&out, NULL);
    jsonw_end_array(&out);
    jsonw_string(&out, NULL, STR(","));
    jsonw_string(&out, NULL, STR(""));
    jsonw_end_array(&out);
    jsonw_raw(&out, "d", STR("{\"x\":1}"));
    jsonw_begin_object(&out, "e");
    jsonw_end_object(&out);
    jsonw_end_object(&out);
    CHECK_STR(buf_str(&out),
              "{\"a\":\"{\",\"b\":-9223372036854775808,\"c\":[true,false,null,{},[],\",\",\"\"],"
              "\"d\":{\"x\":1},\"e\":{}}");
    CHECK(!out.failed);
    buf_release(&out);
}

TEST(jsonw, escapes_what_json_or_a_terminal_would_misread)
{
    static const struct {
        const char *in, *want;
    } rows[] = {
        {"plain ~", "\"plain ~\""},
        {"a\"b\\c/", "\"a\\\"b\\\\c/\""},
        {"\b\f\n\r\t\x01\x1f", "\"\\b\\f\\n\\r\\t\\u0001\\u001f\""},
        {"\x7f\xC2\x80\xC2\x9f\xC2\xA0", "\"\\u007f\\u0080\\u009f\xC2\xA0\""},
        {"\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80", "\"\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80\""},
        {"a\xFF"
         "b\xC3",
         "\"a\xEF\xBF\xBD"
         "b\xEF\xBF\xBD\""},
        {"\xED\xA0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf out;
        buf_init(&out, 256);
        jsonw_string(&out, NULL, str_of(rows[i].in));
        CHECK_STR_ROW(rows[i].want, buf_str(&out), rows[i].want);
        buf_release(&out);
    }
}

TEST(jsonw, names_are_escaped_too)
{
    struct buf out;
    buf_init(&out, 256);
    jsonw_begin_object(&out, NULL);
    jsonw_int(&out, "a\"b\n", 1);
    jsonw_end_object(&out);
    CHECK_STR(buf_str(&out), "{\"a\\\"b\\n\":1}");
    buf_release(&out);
}

TEST(jsonw, every_string_reads_back_as_it_was)
{
    for (uint32_t first = 1; first < 0x800; first++) {
        char in[3] = {(char)first, 0, 0};
        if (first >= 0x80) {
            in[0] = (char)(0xC0 | first >> 6);
            in[1] = (char)(0x80 | (first & 0x3F));
        }
        struct buf out;
        cJSON *value = NULL;
        struct err err;
        buf_init(&out, 64);
        jsonw_string(&out, NULL, str_of(in));
        CHECK_ERR_ROW(in, jsonio_parse(buf_str(&out), &value, &err), ERR_OK, &err);
        CHECK_STR_ROW(in, str_of(value ? value->valuestring : NULL), in);
        cJSON_Delete(value);
        buf_release(&out);
    }
}
