/* What the tests of images run inside: one operation for each argument, its answer on a line. It is linked statically,
   for an image holds nothing but it. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void answer(int failed) { printf("%s\n", failed ? strerror(errno) : "ok"); }

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        char *what = argv[i], *path = strchr(what, ' ');
        if (path) *path++ = 0;
        if (!strcmp(what, "cat")) {
            char text[4096];
            int file = open(path, O_RDONLY);
            ssize_t n = file < 0 ? -1 : read(file, text, sizeof text);
            if (n < 0) answer(1);
            else printf("%.*s\n", (int)n, text);
        } else if (!strcmp(what, "write")) {
            int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
            answer(file < 0 || write(file, "written", 7) != 7);
        } else if (!strcmp(what, "fill")) {
            int file = open(path, O_WRONLY | O_CREAT, 0644);
            static char zeros[1 << 20];
            ssize_t n = 1;
            for (int i = 0; i < 64 && n > 0; i++) n = write(file, zeros, sizeof zeros);
            if (n > 0) printf("no limit\n");
            else answer(1);
            unlink(path);
        } else if (!strcmp(what, "rm")) {
            answer(unlink(path));
        } else if (!strcmp(what, "rmdir")) {
            answer(rmdir(path));
        } else if (!strcmp(what, "mkdir")) {
            answer(mkdir(path, 0755));
        } else if (!strcmp(what, "owned")) {
            struct stat found;
            if (lstat(path, &found)) answer(1);
            else printf("%s\n", found.st_uid == getuid() ? "mine" : "other");
        } else if (!strcmp(what, "cwd")) {
            char text[4096];
            printf("%s\n", getcwd(text, sizeof text));
        } else if (!strcmp(what, "listen")) {
            struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(path))};
            int s = socket(AF_INET, SOCK_STREAM, 0);
            answer(bind(s, (struct sockaddr *)&at, sizeof at) || listen(s, 1));
        } else {
            printf("?\n");
        }
        fflush(stdout);
    }
    return 0;
}
