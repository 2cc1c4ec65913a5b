// Calls that transfer all or wait: writes to full pipes and sockets, receives of a known size. A
// move in the middle of one does not make it end early.
#include <pthread.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "rounds.h"

enum { kSize = 600000, kStep = 8192, kPieces = 7 };

struct link {
  int from, to;
  const char* how;
};

static char sent[kSize];

static uint64_t hash_of(const char* data, size_t n) {
  uint64_t h = n;
  for (size_t i = 0; i + 8 <= n; i += 8) {
    uint64_t word;
    memcpy(&word, data + i, 8);
    h = mix(h ^ word);
  }
  return h;
}

// In small steps, slowly: who writes waits most of the time.
static void* drain(void* argument) {
  const struct link* link = argument;
  char* got = malloc(kSize);
  CHECK(got);
  for (size_t n = 0; n < kSize;) {
    ssize_t part = read(link->from, got + n, kSize - n < kStep ? kSize - n : kStep);
    CHECK(part > 0);
    n += (size_t)part;
    usleep(500);
  }
  CHECK_EQ(hash_of(got, kSize), hash_of(sent, kSize));
  free(got);
  return NULL;
}

static void* fill(void* argument) {
  const struct link* link = argument;
  for (size_t n = 0; n < kSize;) {
    ssize_t part = write(link->to, sent + n, kSize - n < kStep ? kSize - n : kStep);
    CHECK(part > 0);
    n += (size_t)part;
    usleep(500);
  }
  return NULL;
}

static struct msghdr in_pieces(char* data, struct iovec* pieces) {
  for (int i = 0; i < kPieces; i++) {
    pieces[i].iov_base = data + kSize / kPieces * i;
    pieces[i].iov_len = i < kPieces - 1 ? kSize / kPieces : kSize - kSize / kPieces * i;
  }
  return (struct msghdr){.msg_iov = pieces, .msg_iovlen = kPieces};
}

static void send_all(struct link link) {
  pthread_t reader;
  struct iovec pieces[kPieces];
  struct msghdr message = in_pieces(sent, pieces);
  CHECK_EQ(pthread_create(&reader, NULL, drain, &link), 0);
  if (strcmp(link.how, "write") == 0) {
    CHECK_EQ(write(link.to, sent, kSize), kSize);
  } else if (strcmp(link.how, "writev") == 0) {
    CHECK_EQ(writev(link.to, pieces, kPieces), kSize);
  } else if (strcmp(link.how, "send") == 0) {
    CHECK_EQ(send(link.to, sent, kSize, 0), kSize);
  } else {
    CHECK_EQ(sendmsg(link.to, &message, 0), kSize);
  }
  CHECK_EQ(pieces[0].iov_len, kSize / kPieces);
  CHECK_EQ(pthread_join(reader, NULL), 0);
}

static void receive_all(struct link link) {
  pthread_t writer;
  char* got = malloc(kSize);
  struct iovec pieces[kPieces];
  struct msghdr message = in_pieces(got, pieces);
  CHECK_EQ(pthread_create(&writer, NULL, fill, &link), 0);
  if (strcmp(link.how, "recv") == 0) {
    CHECK_EQ(recv(link.from, got, kSize, MSG_WAITALL), kSize);
  } else {
    CHECK_EQ(recvmsg(link.from, &message, MSG_WAITALL), kSize);
  }
  CHECK_EQ(hash_of(got, kSize), hash_of(sent, kSize));
  CHECK_EQ(pthread_join(writer, NULL), 0);
  free(got);
}

static void one_round(long number) {
  int pair[2];
  for (size_t i = 0; i + 8 <= kSize; i += 8) {
    const uint64_t word = mix((uint64_t)number << 32 | i);
    memcpy(sent + i, &word, 8);
  }
  CHECK_EQ(pipe(pair), 0);
  send_all((struct link){pair[0], pair[1], number % 2 ? "write" : "writev"});
  close(pair[0]);
  close(pair[1]);
  CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  send_all((struct link){pair[0], pair[1], number % 2 ? "send" : "sendmsg"});
  receive_all((struct link){pair[1], pair[0], number % 2 ? "recvmsg" : "recv"});
  close(pair[0]);
  close(pair[1]);
}

int main(void) {
  run_rounds(one_round);
  puts("transfers: none cut short");
  return 0;
}
