#include "observe/log_redact.h"

enum secret_kind {
    SECRET_VALUE, /* what follows a name that ends so, and ":" or "=" */
    SECRET_LINE,  /* the same, to the end of the line */
    SECRET_WORD,  /* the word behind this one */
    SECRET_REST,  /* the rest of a word that begins so */
};

struct secret_row {
    enum secret_kind kind;
    struct str text; /* lower case, for either; as it stands for SECRET_REST */
};

#define TEXT(literal)                  \
    {                                  \
        (literal), sizeof(literal) - 1 \
    }

/* Besides this table: the user and password of a URL, and all values of its query. */
static const struct secret_row secrets[] = {
    {SECRET_LINE, TEXT("authorization")}, /* also Proxy-Authorization */
    {SECRET_LINE, TEXT("cookie")},        /* also Set-Cookie */
    {SECRET_VALUE, TEXT("password")},
    {SECRET_VALUE, TEXT("passwd")},
    {SECRET_VALUE, TEXT("passphrase")},
    {SECRET_VALUE, TEXT("pwd")},
    {SECRET_VALUE, TEXT("secret")},
    {SECRET_VALUE, TEXT("token")}, /* also X-Amz-Security-Token */
    {SECRET_VALUE, TEXT("signature")},
    {SECRET_VALUE, TEXT("sig")},
    {SECRET_VALUE, TEXT("credential")}, /* also X-Amz-Credential */
    {SECRET_VALUE, TEXT("credentials")},
    {SECRET_VALUE, TEXT("key")}, /* also secret_key, sentry_key, Idempotency-Key, X-Api-Key */
    {SECRET_VALUE, TEXT("keyid")},
    {SECRET_VALUE, TEXT("session")},
    {SECRET_VALUE, TEXT("sessionid")},
    {SECRET_VALUE, TEXT("dsn")},
    {SECRET_WORD, TEXT("bearer")},
    {SECRET_WORD, TEXT("basic")},
    {SECRET_REST, TEXT("coffer_")}, /* principal.h */
    {SECRET_REST, TEXT("eyJ")},     /* a JSON web token: "{" and a quote in base64url */
};
#define ROWS (sizeof secrets / sizeof secrets[0])

/* Where a secret may begin behind: the ends of the rows above. Everything else is passed over. */
static const bool is_telling[256] = {
    ['='] = true, [':'] = true, ['%'] = true, [' '] = true, ['_'] = true, ['J'] = true};

/* What is looked at around one of them, so that no text is read through again and again. */
#define NAME_MAX_BYTES 64
#define USER_INFO_MAX_BYTES 1024

static bool is_name_byte(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte == '_' || byte == '-';
}

static bool is_quote(char byte)
{
    return byte == '"' || byte == '\'';
}

static bool is_line_end(char byte)
{
    return byte == '\n' || byte == '\r';
}

static bool is_closing(char byte)
{
    return byte == ',' || byte == ';' || byte == ')' || byte == ']' || byte == '}';
}

static bool is_blank(char byte)
{
    return (unsigned char)byte <= ' ' && !is_line_end(byte);
}

/* `end` is in lower case. The last byte first: it tells most apart. */
static bool ends_with(struct str text, struct str end)
{
    return text.len >= end.len && (text.data[text.len - 1] | 0x20) == end.data[end.len - 1] &&
           str_equal_nocase((struct str){text.data + text.len - end.len, end.len}, end);
}

/* May stand between a name and its sign: JSON's quotes, also in a JSON text that was quoted itself. */
static bool is_between(char byte)
{
    return is_blank(byte) || is_quote(byte) || byte == '\\';
}

/* The name that ends at `end`, or before what may stand between. */
static struct str name_before(struct str text, size_t end)
{
    while (end > 0 && is_between(text.data[end - 1]))
        end--;
    size_t start = end;
    while (start > 0 && end - start < NAME_MAX_BYTES && is_name_byte(text.data[start - 1]))
        start--;
    return (struct str){text.data + start, end - start};
}

/* Punctuation belongs to a value unless it closes something, or a blank or a quote follows. */
static bool ends_value(struct str text, size_t at)
{
    char byte = text.data[at];
    if ((unsigned char)byte <= ' ' || byte == '&' || byte == '<' || byte == '>' || is_quote(byte))
        return true;
    if (!is_closing(byte))
        return false;
    char next = at + 1 < text.len ? text.data[at + 1] : ' ';
    return (unsigned char)next <= ' ' || is_quote(next) || is_closing(next);
}

static size_t word_end(struct str text, size_t at)
{
    while (at < text.len && !ends_value(text, at))
        at++;
    return at;
}

/* Behind an opening quote: where the closing one is that no backslash stands before. */
static size_t quoted_end(struct str text, size_t at, char quote)
{
    while (at < text.len && text.data[at] != quote)
        at += text.data[at] == '\\' ? 2 : 1;
    return at < text.len ? at : text.len;
}

static size_t line_end(struct str text, size_t at)
{
    while (at < text.len && !is_line_end(text.data[at]))
        at++;
    return at;
}

static struct log_secret value_at(struct str text, size_t at, enum secret_kind kind)
{
    while (at < text.len && (is_blank(text.data[at]) || text.data[at] == '\\'))
        at++;
    if (kind == SECRET_LINE)
        return (struct log_secret){at, line_end(text, at)};
    if (at < text.len && is_quote(text.data[at]))
        return (struct log_secret){at + 1, quoted_end(text, at + 1, text.data[at])};
    return (struct log_secret){at, word_end(text, at)};
}

static const struct secret_row *find_row(enum secret_kind first, enum secret_kind last,
                                         struct str name)
{
    for (size_t i = 0; i < ROWS; i++)
        if (secrets[i].kind >= first && secrets[i].kind <= last && ends_with(name, secrets[i].text))
            return &secrets[i];
    return NULL;
}

/* ---- what may begin behind each telling byte; {at, at} when nothing does ---- */

static const struct log_secret none = {0, 0};

/* A name, "=" or ":" or what encodes them up to `at`, a value. */
static struct log_secret named_value(struct str text, size_t sign, size_t at)
{
    struct str name = name_before(text, sign);
    if (name.len == 0)
        return none;
    const struct secret_row *row = find_row(SECRET_VALUE, SECRET_LINE, name);
    if (row)
        return value_at(text, at, row->kind);
    bool is_query = name.data > text.data && strchr("?&", name.data[-1]) && name.data[-1];
    if (!is_query || text.data[sign] != '=')
        return none;
    return (struct log_secret){at, word_end(text, at)};
}

static bool is_port(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
    return true;
}

/* Is there more than ports behind the colons of what stands before a "/"? A MongoDB URL has a list. */
static bool has_password(struct str authority)
{
    while (authority.len > 0) {
        struct str host = str_cut(&authority, ',');
        str_cut(&host, ':');
        if (!is_port(host))
            return true;
    }
    return false;
}

static bool ends_url(char byte)
{
    return (unsigned char)byte <= ' ' || is_quote(byte) || byte == '<' || byte == '>';
}

/* Behind "://": up to the last "@" of the authority. A "/" in a password makes a wrong URL, which
 * is what errors quote; then a password stands before it where else a port would. Where the text was
 * cut, the "@" may be gone with the rest. */
static struct log_secret user_info(struct str text, size_t at)
{
    size_t last = at;
    size_t end = at;
    bool has_slash = false;
    for (; end < text.len && end - at < USER_INFO_MAX_BYTES && !ends_url(text.data[end]); end++) {
        if (text.data[end] == '@')
            last = end;
        if (text.data[end] != '/' || has_slash)
            continue;
        if (last > at || !has_password((struct str){text.data + at, end - at}))
            return (struct log_secret){at, last};
        has_slash = true;
    }
    bool is_cut = last == at && (end == text.len || end - at == USER_INFO_MAX_BYTES);
    if (is_cut && (has_slash || has_password((struct str){text.data + at, end - at})))
        last = end;
    return (struct log_secret){at, last};
}

static struct log_secret after_colon(struct str text, size_t at)
{
    if (text.len - at > 3 && text.data[at + 1] == '/' && text.data[at + 2] == '/')
        return user_info(text, at + 3);
    return named_value(text, at, at + 1);
}

/* "%3D" and "%3A". */
static struct log_secret after_percent(struct str text, size_t at)
{
    if (text.len - at <= 3 || text.data[at + 1] != '3' || !strchr("DdAa", text.data[at + 2]))
        return none;
    return named_value(text, at, at + 3);
}

static struct log_secret after_blank(struct str text, size_t at)
{
    if (at == 0 || !is_name_byte(text.data[at - 1]))
        return none;
    bool is_scheme = find_row(SECRET_WORD, SECRET_WORD, name_before(text, at)) != NULL;
    return is_scheme ? value_at(text, at + 1, SECRET_VALUE) : none;
}

/* A word that begins with what ends here. */
static struct log_secret rest_of_word(struct str text, size_t at)
{
    struct str before = {text.data, at + 1};
    size_t end = at + 1;
    for (size_t i = 0; i < ROWS; i++) {
        struct str prefix = secrets[i].text;
        if (secrets[i].kind != SECRET_REST || before.len < prefix.len ||
            memcmp(text.data + before.len - prefix.len, prefix.data, prefix.len) != 0)
            continue;
        while (end < text.len && (is_name_byte(text.data[end]) || text.data[end] == '.'))
            end++;
        return (struct log_secret){at + 1, end};
    }
    return none;
}

static struct log_secret secret_behind(struct str text, size_t at)
{
    switch (text.data[at]) {
    case ':':
        return after_colon(text, at);
    case '=':
        return named_value(text, at, at + 1);
    case '%':
        return after_percent(text, at);
    case ' ':
        return after_blank(text, at);
    default:
        return rest_of_word(text, at);
    }
}

/* A masked word may be or end in the name of another secret, whose value goes on behind it. */
static struct log_secret extended(struct str text, struct log_secret secret)
{
    for (size_t i = secret.from; i < secret.to && secret.to < text.len; i++) {
        if ((text.data[i] != ':' && text.data[i] != '=') || is_line_end(text.data[secret.to]))
            continue;
        const struct secret_row *row = find_row(SECRET_VALUE, SECRET_LINE, name_before(text, i));
        if (!row || (row->kind == SECRET_VALUE && i + 1 < secret.to))
            continue;
        struct log_secret inner = value_at(text, i + 1, row->kind);
        if (inner.to > secret.to)
            secret.to = inner.to;
    }
    return secret;
}

struct log_secret log_redact_next(struct str text, size_t at)
{
    for (; at < text.len; at++) {
        if (!is_telling[(unsigned char)text.data[at]])
            continue;
        struct log_secret secret = secret_behind(text, at);
        if (secret.to > secret.from)
            return extended(text, secret);
    }
    return (struct log_secret){text.len, text.len};
}

void log_redact(struct str text, struct buf *out)
{
    for (size_t at = 0; at < text.len;) {
        struct log_secret secret = log_redact_next(text, at);
        buf_append(out, text.data + at, secret.from - at);
        if (secret.to > secret.from)
            buf_append_text(out, LOG_REDACTED);
        at = secret.to;
    }
}
