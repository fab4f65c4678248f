/* The bench's upstream: answers each request at once with a prepared response. One thread, epoll.
 *
 *   upstream PORT FILE...
 *
 * Each FILE is a whole HTTP/1.1 response, head included; NAME of `.../NAME.http` is looked for in the request's path,
 * so `gemini-3-pro-image.http` answers whatever asks for that model. Bodies of requests are read and dropped. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_REPLIES = 16, HEAD = 16384, DRAIN = 1 << 18 };

struct reply { char name[128]; char *bytes; size_t length; };
struct connection { int fd; size_t have; long long body_left; struct reply *reply; size_t sent; char head[HEAD]; };

static struct reply replies[MAX_REPLIES];
static int reply_count, epoll_fd;
static char drain[DRAIN];

static void load(const char *path) {
    struct reply *r = &replies[reply_count++];
    struct stat st;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) < 0) { perror(path); exit(1); }
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    snprintf(r->name, sizeof r->name, "%.*s", (int)(strlen(name) - strlen(".http")), name);
    r->bytes = malloc(r->length = (size_t)st.st_size);
    for (size_t n = 0; n < r->length;) {
        ssize_t got = read(fd, r->bytes + n, r->length - n);
        if (got <= 0) { perror(path); exit(1); }
        n += (size_t)got;
    }
    close(fd);
}

static void drop(struct connection *c) { close(c->fd); free(c); }

static void interest(struct connection *c, unsigned events) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

/* Writes what is left of the reply. -1: the connection is gone; 0: more later; 1: done. */
static int answer(struct connection *c) {
    while (c->sent < c->reply->length) {
        ssize_t n = write(c->fd, c->reply->bytes + c->sent, c->reply->length - c->sent);
        if (n < 0) return errno == EAGAIN ? (interest(c, EPOLLIN | EPOLLOUT), 0) : -1;
        c->sent += (size_t)n;
    }
    c->reply = NULL;
    interest(c, EPOLLIN);
    return 1;
}

static struct reply *choose(const char *head) {
    const char *end = strstr(head, "\r\n");
    for (int i = 0; i < reply_count; i++) {
        const char *at = strstr(head, replies[i].name);
        if (at && at < end) return &replies[i];
    }
    return &replies[0];
}

static int readable(struct connection *c) {
    for (;;) {
        if (c->body_left > 0) {
            size_t want = c->body_left < DRAIN ? (size_t)c->body_left : DRAIN;
            ssize_t n = read(c->fd, drain, want);
            if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
            c->body_left -= n;
            if (c->body_left == 0) { int r = answer(c); if (r <= 0) return r; }
            continue;
        }
        ssize_t n = read(c->fd, c->head + c->have, HEAD - 1 - c->have);
        if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
        c->have += (size_t)n;
        c->head[c->have] = 0;
        char *end = strstr(c->head, "\r\n\r\n");
        if (!end) { if (c->have == HEAD - 1) return -1; continue; }
        long long length = 0;
        for (char *line = strstr(c->head, "\r\n"); line && line < end; line = strstr(line + 2, "\r\n"))
            if (!strncasecmp(line + 2, "content-length:", 15)) length = atoll(line + 17);
        c->reply = choose(c->head);
        c->sent = 0;
        c->body_left = length - (long long)(c->have - (size_t)(end + 4 - c->head));
        c->have = 0;
        if (c->body_left <= 0) { c->body_left = 0; int r = answer(c); if (r <= 0) return r; }
    }
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    if (argc < 3) { fprintf(stderr, "usage: upstream PORT FILE...\n"); return 2; }
    for (int i = 2; i < argc && reply_count < MAX_REPLIES; i++) load(argv[i]);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) { perror("listen"); return 1; }
    epoll_fd = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL}, events[256];
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &e);
    puts("ready");
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(epoll_fd, events, 256, -1);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c) {
                int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (fd < 0) continue;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                c = calloc(1, sizeof *c);
                c->fd = fd;
                struct epoll_event added = {.events = EPOLLIN, .data.ptr = c};
                epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &added);
                continue;
            }
            int r = 1;
            if (c->reply && c->body_left == 0 && (events[i].events & EPOLLOUT)) r = answer(c);
            if (r > 0 && (!c->reply || c->body_left > 0)) r = readable(c);
            if (r < 0 || (events[i].events & (EPOLLERR | EPOLLHUP))) drop(c);
        }
    }
}
