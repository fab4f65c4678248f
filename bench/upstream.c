/* The bench's upstream: answers each request with a prepared response. One thread, epoll.
 *
 *   upstream PORT FILE...
 *
 * Each FILE is a whole HTTP/1.1 response in chunks, head included, called `.../NAME.GAP.http`. NAME is looked for in the
 * request's path, so `gemini-3-pro-image.0.http` answers whatever asks for that model. With a GAP of 0 it goes out at
 * once, else a chunk every GAP milliseconds; all files that have a gap have the same. Bodies of requests are dropped. */
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
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_REPLIES = 16, HEAD = 16384, DRAIN = 1 << 18, MAX_CHUNKS = 4096 };

struct reply { char name[128]; char *bytes; size_t length; long long gap_ns; size_t stops[MAX_CHUNKS]; };
struct connection {
    int fd; size_t have; long long body_left; struct reply *reply; size_t sent; int stop, blocked; char head[HEAD];
    long long due_ns; struct connection *next; /* among those that wait for their next chunk's time */
};

static struct reply replies[MAX_REPLIES];
static int reply_count, epoll_fd, timer_fd;
static char drain[DRAIN];
static struct connection *waiting, **waiting_end = &waiting; /* in order of time: the gap is the same for all */

static long long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Where to stop and wait: after each chunk but the last, which goes out with the terminator. */
static void find_stops(struct reply *r) {
    int n = 0;
    char *at = memmem(r->bytes, r->length, "\r\n\r\n", 4) + 4, *end = r->bytes + r->length;
    while (r->gap_ns && n < MAX_CHUNKS - 1) {
        char *data;
        long size = strtol(at, &data, 16);
        at = data + 2 + size + 2;
        if (size == 0 || at + 5 >= end) break;
        r->stops[n++] = (size_t)(at - r->bytes);
    }
    r->stops[n] = r->length;
}

static void load(const char *path) {
    struct reply *r = &replies[reply_count++];
    struct stat st;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) < 0) { perror(path); exit(1); }
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    snprintf(r->name, sizeof r->name, "%.*s", (int)(strlen(name) - strlen(".http")), name);
    char *gap = strrchr(r->name, '.');
    if (!gap) { fprintf(stderr, "%s is not called NAME.GAP.http\n", path); exit(1); }
    r->gap_ns = atoll(gap + 1) * 1000000;
    *gap = 0;
    r->bytes = malloc((r->length = (size_t)st.st_size) + 1);
    r->bytes[r->length] = 0;
    for (size_t n = 0; n < r->length;) {
        ssize_t got = read(fd, r->bytes + n, r->length - n);
        if (got <= 0) { perror(path); exit(1); }
        n += (size_t)got;
    }
    close(fd);
    find_stops(r);
}

static void set_timer(void) {
    long long at = waiting ? waiting->due_ns : 0;
    struct itimerspec when = {.it_value = {.tv_sec = at / 1000000000, .tv_nsec = at % 1000000000}};
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void wait_for_time(struct connection *c) {
    c->due_ns += c->reply->gap_ns;
    c->next = NULL;
    *waiting_end = c;
    waiting_end = &c->next;
    if (waiting == c) set_timer();
}

static void drop(struct connection *c) {
    for (struct connection **at = &waiting; *at; at = &(*at)->next)
        if (*at == c) {
            if (waiting_end == &c->next) waiting_end = at;
            *at = c->next;
            break;
        }
    close(c->fd);
    free(c);
}

static void block(struct connection *c, int blocked) {
    struct epoll_event e = {.events = blocked ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c};
    c->blocked = blocked;
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

/* Writes what is left of the reply up to its next stop. -1: the connection is gone; 0: more later; 1: done. */
static int answer(struct connection *c) {
    while (c->sent < c->reply->stops[c->stop]) {
        ssize_t n = write(c->fd, c->reply->bytes + c->sent, c->reply->stops[c->stop] - c->sent);
        if (n < 0) return errno == EAGAIN ? (block(c, 1), 0) : -1;
        c->sent += (size_t)n;
    }
    if (c->blocked) block(c, 0);
    if (c->sent < c->reply->length) {
        c->stop++;
        wait_for_time(c);
        return 0;
    }
    c->reply = NULL;
    return 1;
}

/* Those whose time has come go on; a late one doesn't wait for its next time all the longer. */
static void go_on(void) {
    unsigned long long times;
    if (read(timer_fd, &times, sizeof times) < 0) return;
    long long now = now_ns();
    while (waiting && waiting->due_ns <= now) {
        struct connection *c = waiting;
        waiting = c->next;
        if (!waiting) waiting_end = &waiting;
        answer(c); /* where it fails, epoll tells of it, and then it is dropped */
    }
    set_timer();
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
        c->stop = 0;
        c->due_ns = c->reply->gap_ns ? now_ns() : 0;
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
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    e.data.ptr = &timer_fd;
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &e);
    puts("ready");
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(epoll_fd, events, 256, -1);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (events[i].data.ptr == &timer_fd) { go_on(); continue; }
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
            if (c->blocked && (events[i].events & EPOLLOUT)) r = answer(c);
            if (r > 0 && (!c->reply || c->body_left > 0)) r = readable(c);
            if (r < 0 || (events[i].events & (EPOLLERR | EPOLLHUP))) drop(c);
        }
    }
}
