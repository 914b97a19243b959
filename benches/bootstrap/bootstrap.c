/* The least that a custom runtime can do: asks the Lambda Runtime API for an invocation, answers it, and again.
 * `cc -O2 -o bootstrap bootstrap.c`; reads AWS_LAMBDA_RUNTIME_API, which is ADDRESS:PORT. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char BODY[] = "{\"statusCode\":200,\"body\":\"Hello, world!\\n\"}";
static char buffer[64 << 10];

/* Reads one answer's head and body, and leaves its text in `buffer`. */
static int read_answer(int fd) {
    size_t have = 0;
    for (;;) {
        ssize_t got = read(fd, buffer + have, sizeof buffer - 1 - have);
        if (got <= 0) return -1;
        have += (size_t)got;
        buffer[have] = 0;
        char *end = strstr(buffer, "\r\n\r\n");
        if (!end) continue;
        char *length = strcasestr(buffer, "content-length:");
        size_t body = length && length < end ? strtoul(length + 15, NULL, 10) : 0;
        if (have >= (size_t)(end + 4 - buffer) + body) return 0;
    }
}

int main(void) {
    char host[64] = {0};
    const char *api = getenv("AWS_LAMBDA_RUNTIME_API");
    const char *colon = api ? strchr(api, ':') : NULL;
    if (!colon || (size_t)(colon - api) >= sizeof host) return 1;
    memcpy(host, api, (size_t)(colon - api));
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(colon + 1))};
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1 || connect(fd, (struct sockaddr *)&to, sizeof to)) return 2;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    for (;;) {
        char post[512];
        int n = snprintf(post, sizeof post, "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nhost: %s\r\n\r\n", api);
        if (write(fd, post, (size_t)n) != n || read_answer(fd)) return 3;
        char *id = strcasestr(buffer, "lambda-runtime-aws-request-id:");
        if (!id) return 4;
        id += strspn(id + 30, " ") + 30;
        id[strcspn(id, "\r")] = 0;
        n = snprintf(post, sizeof post,
                     "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nhost: %s\r\n"
                     "content-length: %zu\r\n\r\n%s",
                     id, api, sizeof BODY - 1, BODY);
        if (write(fd, post, (size_t)n) != n || read_answer(fd)) return 5;
    }
}
