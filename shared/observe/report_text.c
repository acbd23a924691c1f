#include "observe/report_parts.h"

/* Where the template has a name, the path has a file's; an unknown path may hold anything. */
struct str report_path(const char *route, struct str path)
{
    if (!route || route[0] != '/' || strstr(route, ":name"))
        return str_of(route);
    return path;
}
