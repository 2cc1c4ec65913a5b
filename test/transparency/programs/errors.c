// The order in which the kernel finds fault with the arguments of a call, and what it leaves alone.
#include <linux/aio_abi.h>

#include "check.h"

static void* unreadable(void) {
  void* page = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(page != MAP_FAILED);
  return page;
}

T(mount_id_is_four_bytes) {
  struct {
    int mount_id, after;
    struct file_handle handle;
    char bytes[128];
  } room = {.after = 0x1234567, .handle.handle_bytes = 128};
  EQ(name_to_handle_at(AT_FDCWD, ".", &room.handle, &room.mount_id, 0), 0);
  EQ(room.after, 0x1234567);
}

T(asynchronous_io_without_a_ring) {
  ERR(syscall(SYS_io_destroy, -1L), EINVAL);
}

T(asynchronous_io_destroyed_twice) {
  aio_context_t ring = 0;
  EQ(syscall(SYS_io_setup, 4, &ring), 0);
  EQ(syscall(SYS_io_destroy, ring), 0);
  ERR(syscall(SYS_io_destroy, ring), EINVAL);
}

T(message_of_impossible_size) {
  int queue = msgget(IPC_PRIVATE, 0600);
  CHECK(queue >= 0);
  struct {
    long type;
    char text[8];
  } message = {1, "text"};
  ERR(msgsnd(queue, &message, (size_t)-1, 0), EINVAL);
  ERR(msgsnd(queue, &message, 100 << 20, 0), EINVAL);
  message.type = 0;
  ERR(msgsnd(queue, &message, 4, 0), EINVAL);
  ERR(msgsnd(queue, unreadable(), 100 << 20, 0), EFAULT);
  EQ(msgctl(queue, IPC_RMID, 0), 0);
}

T(affinity_from_a_long_mask) {
  char* end = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(end != MAP_FAILED);
  EQ(mprotect(end + 4096, 4096, PROT_NONE), 0);
  memset(end, 0xff, 4096);
  EQ(syscall(SYS_sched_setaffinity, 0, 99999, end), 0);
}

T(nothing_to_receive_nowhere) {
  int pair[2];
  EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
  void* nowhere = unreadable();
  ERR(recv(pair[0], nowhere, 10, 0), EAGAIN);
  ERR(recv(open(".", O_RDONLY), nowhere, 10, 0), ENOTSOCK);
  ERR(recv(999, nowhere, 10, 0), EBADF);
  EQ(write(pair[1], "x", 1), 1);
  ERR(recv(pair[0], nowhere, 10, 0), EFAULT);
}

T(no_events_to_nowhere) {
  int set = epoll_create1(0), event = eventfd(0, 0);
  struct epoll_event wanted = {.events = EPOLLIN};
  EQ(epoll_ctl(set, EPOLL_CTL_ADD, event, &wanted), 0);
  EQ(epoll_wait(set, unreadable(), 5, 0), 0);
}

T(clocks_to_sleep_on) {
  struct timespec moment = {0, 1};
  EQ(clock_nanosleep(CLOCK_BOOTTIME, 0, &moment, 0), 0);
  const clockid_t none[] = {CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE};
  for (int i = 0; i < 3; i++) {
    EQ(clock_nanosleep(none[i], 0, &moment, 0), EOPNOTSUPP);
  }
  ERR(syscall(SYS_clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, &moment, 0), EOPNOTSUPP);
  EQ(clock_nanosleep(77, 0, &moment, 0), EINVAL);
}

static void* thread_with_own_table(void* unused) {
  EQ(unshare(CLONE_FILES), 0);
  EQ(dup2(0, 88), 88);
  return unused;
}

T(descriptor_table_of_a_thread) {
  pthread_t thread;
  EQ(pthread_create(&thread, 0, thread_with_own_table, 0), 0);
  EQ(pthread_join(thread, 0), 0);
  ERR(fcntl(88, F_GETFD), EBADF);
}
