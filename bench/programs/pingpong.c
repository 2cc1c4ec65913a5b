// Raw 64-byte TCP ping-pong. `pingpong serve ADDRESS` prints its port and answers one client at a
// time until it is ended; `pingpong ADDRESS PORT COUNT` prints nanoseconds per round trip.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { kSize = 64 };

static void die(const char* what) {
  perror(what);
  exit(1);
}

static int moved(int fd, char* buffer, int sending) {
  for (int at = 0; at < kSize;) {
    ssize_t n = sending ? send(fd, buffer + at, kSize - (size_t)at, MSG_NOSIGNAL)
                        : recv(fd, buffer + at, kSize - (size_t)at, 0);
    if (n <= 0) {
      return 0;
    }
    at += (int)n;
  }
  return 1;
}

static int no_delay(int fd) {
  int one = 1;
  return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

int main(int argc, char** argv) {
  char buffer[kSize] = {0};
  struct sockaddr_in address = {.sin_family = AF_INET};
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (argc == 3 && strcmp(argv[1], "serve") == 0) {
    inet_pton(AF_INET, argv[2], &address.sin_addr);
    if (bind(fd, (struct sockaddr*)&address, sizeof(address)) || listen(fd, 4)) {
      die("listen");
    }
    socklen_t size = sizeof(address);
    getsockname(fd, (struct sockaddr*)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
      int peer = accept(fd, NULL, NULL);
      no_delay(peer);
      while (moved(peer, buffer, 0) && moved(peer, buffer, 1)) {
      }
      close(peer);
    }
  }
  if (argc != 4) {
    fprintf(stderr, "usage: pingpong serve ADDRESS | pingpong ADDRESS PORT COUNT\n");
    return 2;
  }
  inet_pton(AF_INET, argv[1], &address.sin_addr);
  address.sin_port = htons((uint16_t)atoi(argv[2]));
  if (connect(fd, (struct sockaddr*)&address, sizeof(address)) || no_delay(fd)) {
    die("connect");
  }
  long count = atol(argv[3]);
  struct timespec start, end;
  clock_gettime(CLOCK_MONOTONIC, &start);
  for (long i = 0; i < count; i++) {
    if (!moved(fd, buffer, 1) || !moved(fd, buffer, 0)) {
      die("ping");
    }
  }
  clock_gettime(CLOCK_MONOTONIC, &end);
  printf("%.1f\n",
         ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec)) /
             (double)count);
  return 0;
}
