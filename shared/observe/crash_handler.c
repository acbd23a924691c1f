#include "observe/crash_handler.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/sanitizer.h"
#include "base/text.h"
#include "base/thread.h"

#define HASH_DIGITS 16

uint64_t crash_record_hash(struct str text)
{
    uint64_t hash = 0xcbf29ce484222325U;
    for (size_t i = 0; i < text.len; i++)
        hash = (hash ^ (unsigned char)text.data[i]) * 0x100000001b3U;
    return hash;
}

/* ---- words ---- */

static bool parse_hex(struct str word, uintptr_t *ret_value)
{
    uintptr_t value = 0;
    if (word.len == 0 || word.len > 2 * sizeof value)
        return false;
    for (size_t i = 0; i < word.len; i++) {
        const char *digit = memchr("0123456789abcdef", word.data[i], 16);
        if (!digit)
            return false;
        value = value << 4 | (uintptr_t)(digit - "0123456789abcdef");
    }
    *ret_value = value;
    return true;
}

static bool parse_address(struct str word, uintptr_t *ret_value)
{
    return str_starts_with(word, STR("0x")) &&
           parse_hex((struct str){word.data + 2, word.len - 2}, ret_value);
}

static bool parse_int(struct str word, int *ret_value)
{
    int64_t value;
    bool is_negative = str_starts_with(word, STR("-"));
    if (is_negative)
        word = (struct str){word.data + 1, word.len - 1};
    if (!text_parse_int(word, 0, INT32_MAX, &value))
        return false;
    *ret_value = is_negative ? -(int)value : (int)value;
    return true;
}

/* Visible ASCII; "-" stands for nothing. */
static bool copy_word(struct str word, char *target, size_t size)
{
    for (size_t i = 0; i < word.len; i++)
        if (word.data[i] <= ' ' || word.data[i] > '~')
            return false;
    if (word.len == 0)
        return false;
    return str_copy(target, size, str_equal(word, STR("-")) ? STR("") : word);
}

static bool copy_hex(struct str word, char *target, size_t digits)
{
    return copy_word(word, target, digits + 1) && (strlen(target) == digits || *target == '\0') &&
           strspn(target, "0123456789abcdef") == strlen(target);
}

/* ---- lines ---- */

static bool parse_signal(struct str rest, struct crash_record *record)
{
    return parse_int(str_cut(&rest, ' '), &record->signal) && record->signal > 0 &&
           record->signal < 65 && parse_int(str_cut(&rest, ' '), &record->code) &&
           parse_address(rest, &record->address);
}

static bool parse_request(struct str rest, struct crash_record *record)
{
    struct trace *trace = &record->trace;
    if (record->has_request || record->image_count > 0 || record->frame_count > 0)
        return false;
    record->has_request = true;
    return copy_word(str_cut(&rest, ' '), trace->request_id, sizeof trace->request_id) &&
           copy_hex(str_cut(&rest, ' '), trace->trace_id, sizeof trace->trace_id - 1) &&
           copy_hex(str_cut(&rest, ' '), trace->span_id, sizeof trace->span_id - 1) &&
           copy_hex(str_cut(&rest, ' '), trace->parent_id, sizeof trace->parent_id - 1) &&
           copy_word(rest, record->route, sizeof record->route) && *trace->trace_id &&
           *trace->span_id;
}

static bool parse_image(struct str rest, struct crash_record *record)
{
    struct crash_image *image = &record->images[record->image_count];
    uintptr_t size = 0;
    if (record->image_count == CRASH_IMAGES)
        return false;
    record->image_count++;
    bool is_good = parse_address(str_cut(&rest, ' '), &image->start) &&
                   parse_address(str_cut(&rest, ' '), &size) &&
                   copy_word(str_cut(&rest, ' '), image->build_id, sizeof image->build_id) &&
                   copy_word(rest, image->file, sizeof image->file);
    image->size = size;
    return is_good && size > 0 && size <= UINTPTR_MAX - image->start &&
           strspn(image->build_id, "0123456789abcdef") == strlen(image->build_id);
}

static bool parse_frame(struct str rest, struct crash_record *record)
{
    return record->frame_count < STACK_DEPTH &&
           parse_address(rest, &record->frames[record->frame_count++]);
}

static bool parse_line(struct str line, struct crash_record *record)
{
    struct str word = str_cut(&line, ' ');
    if (str_equal(word, STR("request")))
        return parse_request(line, record);
    if (str_equal(word, STR("image")))
        return parse_image(line, record);
    return str_equal(word, STR("frame")) && parse_frame(line, record);
}

/* The next line's rest when it begins with `word`; else something no value is. */
static struct str next_value(struct str *rest, struct str word)
{
    struct str line = str_cut(rest, '\n');
    return str_equal(str_cut(&line, ' '), word) ? line : STR("");
}

static bool parse_head(struct str *rest, struct crash_record *record)
{
    return str_equal(next_value(rest, STR("coffer-crash")), STR("1")) &&
           copy_word(next_value(rest, STR("program")), record->program, sizeof record->program) &&
           copy_word(next_value(rest, STR("release")), record->release, sizeof record->release) &&
           text_parse_int(next_value(rest, STR("time")), 0, INT64_MAX / 2, &record->time_ms) &&
           parse_signal(next_value(rest, STR("signal")), record);
}

/* The text without its last line, which must be right. */
static bool unseal(struct str *text)
{
    static const struct str end = {"end ", 4};
    size_t line = end.len + HASH_DIGITS + 1;
    uintptr_t hash = 0;
    if (text->len <= line || text->data[text->len - 1] != '\n')
        return false;
    struct str last = {text->data + text->len - line, line - 1};
    text->len -= line;
    return str_starts_with(last, end) &&
           parse_hex((struct str){last.data + end.len, HASH_DIGITS}, &hash) &&
           hash == crash_record_hash(*text);
}

bool crash_record_parse(struct str text, struct crash_record *ret_record)
{
    struct str rest = text;
    *ret_record = (struct crash_record){.signal = 0};
    if (text.len > CRASH_RECORD_MAX || !unseal(&rest) || !parse_head(&rest, ret_record))
        return false;
    while (rest.len > 0)
        if (!parse_line(str_cut(&rest, '\n'), ret_record))
            return false;
    return true;
}

/* No function of libc but memcpy and memset: a signal handler runs this. */

#define END_BYTES 24 /* kept for the last line */

static const char hex_digits[] = "0123456789abcdef";

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
        reversed[len++] = hex_digits[rest % 10];
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
        add(text, hex_digits[(address >> (4 * width)) & 15]);
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
        line[len++] = hex_digits[(hash >> (shift - 4)) & 15];
    line[len++] = '\n';
    for (size_t i = 0; i < len; i++)
        text->bytes[text->whole + i] = line[i];
    text->len = text->whole += len;
}

static size_t aligned(size_t size)
{
    return (size + 3) & ~(size_t)3;
}

/* Addresses as they stand in headers are numbers. */
static const void *at_address(uintptr_t address)
{
    return (const void *)address; /* NOLINT(performance-no-int-to-ptr) */
}

static bool is_build_id(const ElfW(Nhdr) * note)
{
    return note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 &&
           memcmp(note + 1, "GNU", 4) == 0 && note->n_descsz < IMAGE_BUILD_ID_SIZE / 2;
}

static void write_hex(const unsigned char *bytes, size_t len, char *target)
{
    for (size_t i = 0; i < len; i++) {
        target[2 * i] = hex_digits[bytes[i] >> 4];
        target[2 * i + 1] = hex_digits[bytes[i] & 15];
    }
    target[2 * len] = '\0';
}

/* The build-id among the notes at `at`. No function of libc that may wait: see image_of. */
static void read_notes(const char *at, size_t len, char build_id[IMAGE_BUILD_ID_SIZE])
{
    while (len >= sizeof(ElfW(Nhdr))) {
        const ElfW(Nhdr) *note = (const void *)at;
        size_t head = sizeof *note + aligned(note->n_namesz);
        size_t size = head + aligned(note->n_descsz);
        if (size > len)
            return;
        if (is_build_id(note)) {
            write_hex((const unsigned char *)at + head, note->n_descsz, build_id);
            return;
        }
        at += size;
        len -= size;
    }
}

static void read_build_id(const ElfW(Phdr) * headers, size_t count, uintptr_t base,
                          char build_id[IMAGE_BUILD_ID_SIZE])
{
    build_id[0] = '\0';
    for (size_t i = 0; i < count && build_id[0] == '\0'; i++)
        if (headers[i].p_type == PT_NOTE)
            read_notes(at_address(base + headers[i].p_vaddr), headers[i].p_memsz, build_id);
}

bool image_of(uintptr_t address, struct image *ret_image)
{
    struct dl_find_object found;
    void *inside = (void *)address; /* NOLINT(performance-no-int-to-ptr) */
    if (_dl_find_object(inside, &found) != 0 || !found.dlfo_link_map)
        return false;
    const ElfW(Ehdr) *header = found.dlfo_map_start;
    ret_image->start = (uintptr_t)found.dlfo_map_start;
    ret_image->size = (uintptr_t)found.dlfo_map_end - ret_image->start;
    ret_image->file = found.dlfo_link_map->l_name ? found.dlfo_link_map->l_name : "";
    ret_image->build_id[0] = '\0';
    if (ret_image->size >= sizeof *header && memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 &&
        header->e_phoff < ret_image->size)
        read_build_id(at_address(ret_image->start + header->e_phoff), header->e_phnum,
                      found.dlfo_link_map->l_addr, ret_image->build_id);
    return true;
}

struct search {
    const char *build_id;
    struct image *image;
};

static int compare(struct dl_phdr_info *info, size_t size, void *context)
{
    const struct search *search = context;
    char build_id[IMAGE_BUILD_ID_SIZE];
    (void)size;
    read_build_id(info->dlpi_phdr, info->dlpi_phnum, info->dlpi_addr, build_id);
    if (strcmp(build_id, search->build_id) != 0)
        return 0;
    for (size_t i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD)
            return image_of(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr, search->image);
    return 0;
}

bool image_with_build_id(const char *build_id, struct image *ret_image)
{
    struct search search = {build_id, ret_image};
    return *build_id && dl_iterate_phdr(compare, &search) != 0;
}

static int read_count(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    *(unsigned long long *)context = info->dlpi_adds;
    return 1;
}

unsigned long long images_loaded(void)
{
    unsigned long long count = 0;
    dl_iterate_phdr(read_count, &count);
    return count;
}

#define HANDLER_SECONDS 30
#define PATH_SIZE 512
#define NAME_SIZE 96

static struct {
    char program[CRASH_NAME_SIZE];
    char program_file[PATH_SIZE];
    char final_names[CRASH_RECORDS_MAX][NAME_SIZE];
    struct metrics *metrics;
    int folder_fd;
    bool is_installed;
} setup = {.folder_fd = -1};

enum phase { PHASE_READING, PHASE_WRITING, PHASE_ENDING };

/* Of the thread that crashes first. */
static struct {
    atomic_int thread;
    enum phase phase;
    struct crash_text text;
    uintptr_t frames[STACK_DEPTH];
    uintptr_t images[CRASH_IMAGES]; /* their first addresses */
    size_t image_count;
} crash;

static _Thread_local struct {
    const struct trace *trace;
    const char *route;
} current;

void crash_request_begin(const struct trace *trace, const char *route)
{
    current.trace = trace;
    current.route = route;
}

void crash_request_end(void)
{
    current.trace = NULL;
}

/* ---- on a fault: async-signal-safe ---- */

static int thread_id(void)
{
    return (int)syscall(SYS_gettid);
}

static void die(int number)
{
    const struct sigaction plain = {.sa_handler = SIG_DFL};
    sigset_t only;
    crash.phase = PHASE_ENDING;
    sigemptyset(&only);
    sigaddset(&only, number);
    sigaction(number, &plain, NULL);
    sigprocmask(SIG_UNBLOCK, &only, NULL);
    syscall(SYS_tgkill, getpid(), thread_id(), number);
    _exit(128 + number);
}

/* Where the thread stood, and the word its stack pointer shows. */
static void read_context(const void *context, uintptr_t *ret_address, const uintptr_t **ret_stack)
{
    const ucontext_t *state = context;
    *ret_address = 0;
    *ret_stack = NULL;
#if defined(__x86_64__)
    *ret_address = (uintptr_t)state->uc_mcontext.gregs[REG_RIP];
    /* NOLINTNEXTLINE(performance-no-int-to-ptr) */
    *ret_stack = (const uintptr_t *)state->uc_mcontext.gregs[REG_RSP];
#elif defined(__aarch64__)
    *ret_address = (uintptr_t)state->uc_mcontext.pc;
    *ret_stack = (const uintptr_t *)&state->uc_mcontext.regs[30];
#else
    (void)state;
#endif
}

static void add_image(uintptr_t address)
{
    struct image image;
    if (crash.image_count == CRASH_IMAGES || !image_of(address, &image))
        return;
    for (size_t i = 0; i < crash.image_count; i++)
        if (crash.images[i] == image.start)
            return;
    crash.images[crash.image_count++] = image.start;
    crash_text_image(&crash.text, &image, setup.program_file);
}

static void add_frame(uintptr_t address)
{
    add_image(address);
    crash_text_frame(&crash.text, address);
}

static void read_frames(const void *context)
{
    uintptr_t address;
    const uintptr_t *stack;
    struct image image;
    read_context(context, &address, &stack);
    size_t count = stack_walk(address, crash.frames);
    for (size_t i = 0; i < count; i++)
        add_frame(crash.frames[i]);
    if (count == 0 && address != 0)
        add_frame(address);
    /* A call of what is no function: where it came from is all there is to say. */
    if (count <= 1 && stack && image_of(*stack, &image))
        add_frame(*stack);
}

static bool write_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t written = write(fd, bytes, len);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        bytes += written;
        len -= (size_t)written;
    }
    return true;
}

/* A name of its own: the process's number may be that of an earlier one. */
static void make_part_name(char name[NAME_SIZE])
{
    struct timespec now = {0};
    size_t len = 0;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t number = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
    for (const char *at = "crash-"; *at; at++)
        name[len++] = *at;
    for (const char *at = setup.program; *at; at++)
        name[len++] = *at;
    name[len++] = '-';
    for (unsigned shift = 64; shift > 0; shift -= 4)
        name[len++] = "0123456789abcdef"[(number >> (shift - 4)) & 15];
    for (const char *at = CRASH_PART_SUFFIX; *at; at++)
        name[len++] = *at;
    name[len] = '\0';
}

/* Whole under one of the names, or not at all. */
static bool write_record(void)
{
    char part[NAME_SIZE];
    make_part_name(part);
    int fd =
        openat(setup.folder_fd, part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    bool is_kept = false;
    if (write_all(fd, crash.text.bytes, crash.text.len))
        for (unsigned i = 0; i < CRASH_RECORDS_MAX && !is_kept; i++)
            is_kept = linkat(setup.folder_fd, part, setup.folder_fd, setup.final_names[i], 0) == 0;
    unlinkat(setup.folder_fd, part, 0);
    close(fd);
    return is_kept;
}

static const char *signal_text(int number)
{
    switch (number) {
    case SIGSEGV:
        return "SIGSEGV";
    case SIGBUS:
        return "SIGBUS";
    case SIGFPE:
        return "SIGFPE";
    case SIGILL:
        return "SIGILL";
    case SIGABRT:
        return "SIGABRT";
    default:
        return "a signal";
    }
}

static void say(int number, bool is_kept)
{
    const char *const parts[] = {setup.program, ": crashed by ", signal_text(number),
                                 is_kept ? ", to be reported\n" : ", no record is kept\n"};
    char line[160];
    size_t len = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        for (const char *at = parts[i]; *at && len < sizeof line; at++)
            line[len++] = *at;
    write_all(STDERR_FILENO, line, len);
}

static void finish(int number)
{
    static const unsigned dropped = METRIC_SENTRY_DROPPED_LIMIT;
    crash.phase = PHASE_WRITING;
    crash_text_end(&crash.text);
    bool is_kept = write_record();
    say(number, is_kept);
    if (!is_kept)
        metrics_add(setup.metrics, METRIC_SENTRY_EVENTS, &dropped, 1);
    die(number);
}

/* Has this thread the say? Otherwise it waits for the end, or is told that the handler faulted. */
static void take_over(int number)
{
    int self = thread_id();
    int nobody = 0;
    if (atomic_compare_exchange_strong(&crash.thread, &nobody, self))
        return;
    while (nobody != self)
        pause();
    if (crash.phase == PHASE_READING)
        finish(number);
    die(number);
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    struct timespec now = {0};
    take_over(number);
    alarm(HANDLER_SECONDS);
    clock_gettime(CLOCK_REALTIME, &now);
    crash_text_begin(&crash.text, setup.program,
                     (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000);
    crash_text_signal(&crash.text, number, info->si_code,
                      info->si_code > 0 ? (uintptr_t)info->si_addr : 0);
    if (current.trace)
        crash_text_request(&crash.text, current.trace, current.route);
    read_frames(context);
    finish(number);
}

/* ---- before ---- */

static bool open_folder(const char *folder)
{
    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        return false;
    setup.folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return setup.folder_fd >= 0;
}

static void set_actions(void)
{
    /* NODEFER: a fault of the handler comes to the handler. */
    struct sigaction action = {.sa_sigaction = on_fault,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    const struct sigaction plain = {.sa_handler = SIG_DFL};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < FAULT_SIGNALS; i++)
        sigaction(fault_signals[i], setup.is_installed ? &action : &plain, NULL);
}

bool crash_handler_install(const struct crash_options *options)
{
    struct image image;
    if (HAS_SANITIZER || setup.is_installed ||
        strlen(options->program) >= sizeof setup.program / 2 || !open_folder(options->folder))
        return false;
    snprintf(setup.program, sizeof setup.program, "%s", options->program);
    for (unsigned i = 0; i < CRASH_RECORDS_MAX; i++)
        snprintf(setup.final_names[i], NAME_SIZE, CRASH_FILE_NAME, setup.program, i);
    ssize_t len = readlink("/proc/self/exe", setup.program_file, PATH_SIZE - 1);
    setup.program_file[len > 0 ? len : 0] = '\0';
    setup.metrics = options->metrics;
    /* What these two make at their first call is made now. */
    image_of((uintptr_t)crash_handler_install, &image);
    stack_walk(0, crash.frames);
    setup.is_installed = true;
    signal_stack_enable();
    set_actions();
    return true;
}

void crash_handler_remove(void)
{
    if (!setup.is_installed)
        return;
    setup.is_installed = false;
    set_actions();
    close(setup.folder_fd);
    setup.folder_fd = -1;
}
