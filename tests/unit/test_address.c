#include "base/address.h"
#include "check.h"

TEST(address, list_holds)
{
    static const struct {
        const char *name, *list, *address;
        bool want;
    } rows[] = {
        {"exact", "10.1.2.3", "10.1.2.3", true},
        {"other", "10.1.2.3", "10.1.2.4", false},
        {"block first", "10.0.0.0/8", "10.0.0.0", true},
        {"block last", "10.0.0.0/8", "10.255.255.255", true},
        {"block below", "10.0.0.0/8", "9.255.255.255", false},
        {"block above", "10.0.0.0/8", "11.0.0.0", false},
        {"odd prefix in", "172.16.0.0/12", "172.31.255.255", true},
        {"odd prefix out", "172.16.0.0/12", "172.32.0.0", false},
        {"one bit of a byte in", "10.128.0.0/9", "10.200.0.1", true},
        {"one bit of a byte out", "10.128.0.0/9", "10.127.0.1", false},
        {"host bits do not count", "10.9.9.9/8", "10.1.1.1", true},
        {"/32", "10.1.2.3/32", "10.1.2.3", true},
        {"/31", "10.1.2.2/31", "10.1.2.3", true},
        {"/0", "0.0.0.0/0", "203.0.113.9", true},
        {"/0 is not IPv6", "0.0.0.0/0", "2001:db8::1", false},
        {"::/0 is not IPv4", "::/0", "203.0.113.9", false},
        {"::/0", "::/0", "2001:db8::1", true},
        {"IPv6 spelled otherwise", "2001:db8::1", "2001:0DB8:0:0::0001", true},
        {"fc00::/7 in", "fc00::/7", "fdff::1", true},
        {"fc00::/7 out", "fc00::/7", "fe00::1", false},
        {"fe80::/10 in", "fe80::/10", "febf::1", true},
        {"fe80::/10 out", "fe80::/10", "fec0::1", false},
        {"mapped address", "10.0.0.0/8", "::ffff:10.1.2.3", true},
        {"mapped address out", "10.0.0.0/8", "::ffff:11.1.2.3", false},
        {"mapped block", "::ffff:10.0.0.0/104", "10.1.2.3", true},
        {"mapped block out", "::ffff:10.0.0.0/104", "11.1.2.3", false},
        {"IPv6 block around the mapped ones", "::ffff:10.0.0.0/95", "10.1.2.3", false},
        {"IPv6 block in IPv6", "::ffff:10.0.0.0/90", "::fffe:1:1", true},
        {"mapped address, IPv6 block", "::/0", "::ffff:10.1.2.3", false},
        {"second item, spaces", "127.0.0.0/8 , ::1", "::1", true},
        {"bad item holds nothing", "nonsense,10.0.0.1", "10.0.0.1", true},
        {"bad prefix holds nothing", "10.0.0.0/33", "10.0.0.0", false},
        {"bad address", "0.0.0.0/0", "10.0.0", false},
        {"address with port", "0.0.0.0/0", "10.0.0.1:80", false},
        {"address with zone", "fe80::/10", "fe80::1%eth0", false},
        {"address with blank", "0.0.0.0/0", " 10.0.0.1", false},
        {"empty address", "0.0.0.0/0", "", false},
        {"empty list", "", "10.0.0.1", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool got = address_in_list(str_of(rows[i].list), str_of(rows[i].address));
        CHECK_ROW(rows[i].name, got == rows[i].want);
    }
}

TEST(address, list_is_valid)
{
    static const struct {
        const char *in;
        bool want;
    } rows[] = {
        {"127.0.0.0/8,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7,fe80::/10", true},
        {"10.0.0.1", true},
        {" 10.0.0.1 ,\t::1", true},
        {"0.0.0.0/0", true},
        {"::/128", true},
        {"", false},
        {",", false},
        {"10.0.0.1,", false},
        {"10.0.0.1,,::1", false},
        {"10.0.0.0/", false},
        {"10.0.0.0/33", false},
        {"::/129", false},
        {"10.0.0.0/-1", false},
        {"10.0.0.0/8/8", false},
        {"10.0.0/8", false},
        {"256.0.0.1", false},
        {"010.0.0.1", false},
        {"[::1]", false},
        {"localhost", false},
        {"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc:dddd", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        CHECK_ROW(rows[i].in, address_list_is_valid(str_of(rows[i].in)) == rows[i].want);
    CHECK(!address_is_valid(STR("10.0.0.1\0")));
}

TEST(address, loopback)
{
    static const char *const yes[] = {"127.0.0.1", "127.255.0.9", "::1",
                                      "localhost", "LocalHost",   "::ffff:127.0.0.1"};
    static const char *const no[] = {"0.0.0.0",        "::", "128.0.0.1",     "127.1",
                                     "localhost.evil", "",   "127.0.0.1.evil"};
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++)
        CHECK_ROW(yes[i], address_is_loopback(str_of(yes[i])));
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++)
        CHECK_ROW(no[i], !address_is_loopback(str_of(no[i])));
}
