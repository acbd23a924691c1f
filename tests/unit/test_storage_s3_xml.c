#include "storage/s3/storage_s3.h"

#include <stdio.h>

#include "check.h"

/* "path=text;" of each element, in the order told. */
static enum err_code note(void *context, struct str path, struct str text, struct err *err)
{
    struct buf *out = context;
    (void)err;
    buf_append_str(out, path);
    buf_append_char(out, '=');
    buf_append_str(out, text);
    buf_append_char(out, ';');
    return ERR_OK;
}

TEST(storage_s3_xml, reads_elements_and_text)
{
    static const struct {
        const char *name;
        const char *in;
        const char *want;
    } rows[] = {
        {"one", "<a>x</a>", "a=x;"},
        {"empty", "<a></a>", "a=;"},
        {"empty, closed at once", "<a/>", "a=;"},
        {"nested", "<a><b>1</b><c><d>2</d></c></a>", "a/b=1;a/c/d=2;a/c=;a=;"},
        {"text around elements is not told", "<a> x <b>1</b> y </a>", "a/b=1;a=;"},
        {"declaration", "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<a>x</a>\n", "a=x;"},
        {"blanks first", " \r\n\t<?xml version='1.0'?> <a>x</a>", "a=x;"},
        {"byte order mark", "\xef\xbb\xbf<?xml version='1.0'?><a>x</a>", "a=x;"},
        {"attributes", "<a xmlns=\"http://x/\" b='c>d'>x</a>", "a=x;"},
        {"attribute, closed at once", "<a><b c=\"d\"/></a>", "a/b=;a=;"},
        {"prefix", "<s3:a><s3:b>x</s3:b></s3:a>", "a/b=x;a=;"},
        {"blanks in tags", "<a ><b\n>x</b\t></a >", "a/b=x;a=;"},
        {"comment", "<!-- <a> --><a><!--x-->y<!----></a>", "a=y;"},
        {"references", "<a>&lt;&gt;&amp;&quot;&apos;</a>", "a=<>&\"';"},
        {"numbers", "<a>&#34;&#x22;&#x41;&#228;&#x20AC;&#x1F600;</a>",
         "a=\"\"A\xc3\xa4\xe2\x82\xac"
         "\xf0\x9f\x98\x80;"},
        {"UTF-8", "<a>\xc3\xa4\xe2\x82\xac</a>", "a=\xc3\xa4\xe2\x82\xac;"},
        {"ampersand once", "<a>&amp;lt;</a>", "a=&lt;;"},
        {"eight deep", "<a><a><a><a><a><a><a><a>x</a></a></a></a></a></a></a></a>",
         "a/a/a/a/a/a/a/a=x;a/a/a/a/a/a/a=;a/a/a/a/a/a=;a/a/a/a/a=;a/a/a/a=;a/a/a=;a/a=;a=;"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err;
        struct buf out;
        buf_init(&out, 4096);
        CHECK_ERR_ROW(rows[i].name, s3_xml_read(str_of(rows[i].in), note, &out, &err), ERR_OK,
                      &err);
        CHECK_STR_ROW(rows[i].name, buf_str(&out), rows[i].want);
        buf_release(&out);
    }
}

TEST(storage_s3_xml, refuses_what_is_not_well_formed_or_too_much)
{
    static const char *const rows[] = {
        "",
        " ",
        "x",
        "<a>",
        "<a",
        "<",
        "<a>x",
        "<a>x</",
        "<a>x</a",
        "</a>",
        "<a></b>",
        "<a><b></a></b>",
        "<a/><b/>",
        "<a/>x",
        "x<a/>",
        "<a></a></a>",
        "<>x</>",
        "< a/>",
        "<a b></a>",
        "<a b=c></a>",
        "<a b=\"c></a>",
        "<a/ >",
        "<a b=\"c\"d=\"e\"/>",
        "<a>&</a>",
        "<a>&;</a>",
        "<a>&lt</a>",
        "<a>&nbsp;</a>",
        "<a>&#;</a>",
        "<a>&#x;</a>",
        "<a>&#0;</a>",
        "<a>&#8;</a>",
        "<a>&#xD800;</a>",
        "<a>&#xFFFE;</a>",
        "<a>&#x110000;</a>",
        "<a>&#99999999999999999999;</a>",
        "<a>&#-1;</a>",
        "<a>\x01</a>",
        "<a>\xff</a>",
        "<a>\xc0\xae</a>",
        "<a>\xed\xa0\x80</a>",
        "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>",
        "<a><![CDATA[x]]></a>",
        "<a><!-- x</a>",
        "<a><?x</a>",
        "<a:b:c/>",
        "<a/b/>",
        "<a><a><a><a><a><a><a><a><a>x</a></a></a></a></a></a></a></a></a>",
        "<a0123456789012345678901234567890123456789012345678901234567890123456789/>",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err;
        struct buf out;
        buf_init(&out, 4096);
        CHECK_ERR_ROW(rows[i], s3_xml_read(str_of(rows[i]), note, &out, &err), ERR_STORAGE, &err);
        buf_release(&out);
    }
}

TEST(storage_s3_xml, tells_the_root_by_its_tag)
{
    static const struct {
        const char *in;
        bool want;
    } rows[] = {
        {"<Error><Code>x</Code></Error>", true},
        {"<Error/>", true},
        {"<Error", true},
        {"<s3:Error xmlns:s3=\"x\">", true},
        {"<?xml version=\"1.0\"?>\n\n   <Error>", true},
        {" \r\n<?xml version=\"1.0\"?><!-- x --><Error>", true},
        {"\xef\xbb\xbf<Error>", true},
        {"<Errors>", false},
        {"<error>", false},
        {"<a><Error/></a>", false},
        {"<!-- <Error> -->", false},
        {"<?xml <Error>", false},
        {"<!-- <Error>", false},
        {"Error", false},
        {"<", false},
        {" ", false},
        {"", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        CHECK_ROW(rows[i].in, s3_xml_has_root(str_of(rows[i].in), "Error") == rows[i].want);
}

TEST(storage_s3_xml, a_text_is_bounded)
{
    struct err err;
    struct buf document;
    struct buf out;
    buf_init(&document, 2 * S3_XML_TEXT_BYTES);
    buf_init(&out, 2 * S3_XML_TEXT_BYTES);
    for (int extra = 0; extra < 2; extra++) {
        buf_reset(&document);
        buf_append_text(&document, "<a>");
        for (int i = 0; i < S3_XML_TEXT_BYTES + extra; i++)
            buf_append_char(&document, 'x');
        buf_append_text(&document, "</a>");
        CHECK_ERR(s3_xml_read(buf_str(&document), note, &out, &err),
                  extra == 0 ? ERR_OK : ERR_STORAGE, &err);
    }
    buf_release(&document);
    buf_release(&out);
}

static enum err_code stop(void *context, struct str path, struct str text, struct err *err)
{
    (void)path;
    (void)text;
    ++*(int *)context;
    return err_set(err, ERR_BUSY, "test", "enough");
}

TEST(storage_s3_xml, a_callback_ends_the_reading)
{
    struct err err;
    int calls = 0;
    CHECK_ERR(s3_xml_read(STR("<a><b/><c/></a>"), stop, &calls, &err), ERR_BUSY, &err);
    CHECK_INT(calls, 1);
}

TEST(storage_s3_xml, the_first_value_of_a_path_is_found)
{
    struct err err;
    struct buf value;
    buf_init(&value, 64);
    CHECK_ERR(s3_xml_value(STR("<r><e>1</e><k>2</k><k>3</k></r>"), "r/k", &value, &err), ERR_OK,
              &err);
    CHECK_STR(buf_str(&value), "2");
    buf_reset(&value);
    CHECK_ERR(s3_xml_value(STR("<r><e>1</e></r>"), "r/k", &value, &err), ERR_STORAGE, &err);
    CHECK_ERR(s3_xml_value(STR("<r><k>1</k>"), "r/k", &value, &err), ERR_STORAGE, &err);
    buf_release(&value);
}
