/*
 * A FastCGI client (https://fastcgi-archives.github.io/FastCGI_Specification.html) for tests: what
 * the gateway says to a program, one request a connection.
 */
#ifndef COFFER_TESTS_FCGI_CLIENT_H
#define COFFER_TESTS_FCGI_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

/* Connects to the program's socket; -1 when that fails. */
int fcgi_client_connect(const char *path);
/* Sends the begin record and the variables, "NAME=value" up to a NULL. */
bool fcgi_client_begin(int fd, const char *const *variables);
/* Sends body bytes; len 0 ends the body. */
bool fcgi_client_body(int fd, const void *data, size_t len);
/* Reads the answer to its end into text[size], NUL-terminated; false when the connection ended
 * before the end record. */
bool fcgi_client_answer(int fd, char *text, size_t size);

#endif
