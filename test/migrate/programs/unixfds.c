// Unix sockets: stream, datagram and sequenced packets, passing descriptors and credentials,
// message boundaries, scatter and gather, socket options, half-close.
#include <stddef.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "rounds.h"

static void send_fd(int socket_fd, int fd, const char* text) {
  char control[CMSG_SPACE(sizeof(int))] = {0};
  struct iovec part = {(void*)text, strlen(text)};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &fd, sizeof(int));
  CHECK_EQ(sendmsg(socket_fd, &message, 0), (ssize_t)strlen(text));
}

static int receive_fd(int socket_fd, const char* expected) {
  char control[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))], text[64] = {0};
  struct iovec parts[2] = {{text, 3}, {text + 3, 60}};
  struct msghdr message = {
      .msg_iov = parts, .msg_iovlen = 2, .msg_control = control, .msg_controllen = sizeof(control)};
  CHECK_EQ(recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC), (ssize_t)strlen(expected));
  CHECK(strcmp(text, expected) == 0);
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  CHECK(header && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof(int)));
  int fd;
  memcpy(&fd, CMSG_DATA(header), sizeof(int));
  CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
  return fd;
}

static void passing(int type) {
  int pair[2], ends[2];
  CHECK_EQ(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair), 0);
  CHECK_EQ(pipe(ends), 0);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    close(pair[0]);
    send_fd(pair[1], ends[1], "here is a pipe");
    _exit(0);
  }
  close(pair[1]);
  close(ends[1]);
  int fd = receive_fd(pair[0], "here is a pipe");
  int status;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  CHECK_EQ(write(fd, "through", 7), 7);
  close(fd);
  char text[16];
  CHECK_EQ(read(ends[0], text, sizeof(text)), 7);
  CHECK_EQ(read(ends[0], text, sizeof(text)), 0);
  close(ends[0]);
  close(pair[0]);
}

static void named(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
  socklen_t size = offsetof(struct sockaddr_un, sun_path) + 7;
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(listener >= 0);
  unlink("socket");
  CHECK_EQ(bind(listener, (struct sockaddr*)&address, size), 0);
  CHECK_EQ(listen(listener, 4), 0);
  pid_t parent = getpid(), child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    int peer = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_EQ(connect(peer, (struct sockaddr*)&address, size), 0);
    struct ucred who;
    socklen_t length = sizeof(who);
    CHECK_EQ(getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &length), 0);
    CHECK_EQ(who.pid, parent);
    char big[70000];
    for (size_t i = 0; i < sizeof(big); i++) {
      big[i] = (char)mix(i);
    }
    for (size_t at = 0; at < sizeof(big);) {
      ssize_t put = send(peer, big + at, sizeof(big) - at, MSG_NOSIGNAL);
      CHECK(put > 0);
      at += (size_t)put;
    }
    CHECK_EQ(shutdown(peer, SHUT_WR), 0);
    char answer[4];
    CHECK_EQ(recv(peer, answer, 4, MSG_WAITALL), 4);
    CHECK(memcmp(answer, "good", 4) == 0);
    _exit(0);
  }
  int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  CHECK(peer >= 0);
  size_t at = 0;
  char buffer[9000];
  for (ssize_t got; (got = recv(peer, buffer, sizeof(buffer), 0)) != 0;) {
    CHECK(got > 0);
    for (ssize_t i = 0; i < got; i++) {
      CHECK_EQ(buffer[i], (char)mix(at++));
    }
  }
  CHECK_EQ(at, 70000);
  CHECK_EQ(send(peer, "good", 4, 0), 4);
  int status;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  close(peer);
  close(listener);
  CHECK_EQ(unlink("socket"), 0);
}

static void packets(void) {
  int pair[2];
  CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
  struct iovec parts[3] = {{"one", 3}, {"", 0}, {"three", 5}};
  CHECK_EQ(writev(pair[0], parts, 3), 8);
  CHECK_EQ(send(pair[0], "second", 6, 0), 6);
  char text[32];
  CHECK_EQ(recv(pair[1], text, sizeof(text), MSG_PEEK), 8);
  CHECK_EQ(recv(pair[1], text, 4, MSG_TRUNC), 8);
  CHECK_EQ(recv(pair[1], text, sizeof(text), 0), 6);
  CHECK(recv(pair[1], text, sizeof(text), MSG_DONTWAIT) == -1 && errno == EAGAIN);
  close(pair[0]);
  CHECK_EQ(recv(pair[1], text, sizeof(text), 0), 0);
  CHECK(send(pair[1], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
  close(pair[1]);
}

static void one_round(long number) {
  (void)number;
  passing(SOCK_STREAM);
  passing(SOCK_DGRAM);
  passing(SOCK_SEQPACKET);
  named();
  packets();
}

int main(void) {
  run_rounds(one_round);
  puts("unixfds: descriptors and bytes arrived");
  return 0;
}
