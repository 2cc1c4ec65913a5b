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
  timer_t timer;
  struct sigevent silent = {.sigev_notify = SIGEV_NONE};
  const int refused = timer_create(CLOCK_REALTIME_ALARM, &silent, &timer) < 0 ? errno : 0;
  EQ(clock_nanosleep(CLOCK_REALTIME_ALARM, 0, &moment, 0), refused);
  EQ(clock_nanosleep(CLOCK_BOOTTIME_ALARM, 0, &moment, 0), refused);
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

// Beyond the addresses that programs have: refused before the kind of descriptor matters.
T(data_outside) {
  int pair[2], null = open("/dev/null", O_WRONLY), tcp = socket(AF_INET, SOCK_STREAM, 0);
  EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
  void* outside = (void*)-4096L;
  ERR(read(pair[0], outside, 8), EFAULT);
  ERR(write(tcp, outside, 8), EFAULT);
  ERR(recv(0, outside, 8, 0), EFAULT);
  char byte = 'x';
  struct iovec pieces[2] = {{&byte, 1}, {outside, 1}};
  ERR(writev(null, pieces, 2), EFAULT);
  pieces[1].iov_base = 0;
  pieces[1].iov_len = -1;
  ERR(writev(null, pieces, 2), EINVAL);
  pieces[1].iov_len = 0;
  EQ(writev(null, pieces, 2), 1);
  pieces[1] = (struct iovec){unreadable(), 1};
  EQ(writev(pair[0], pieces, 2) == 1 || errno == EFAULT, 1);
}

T(semaphores_from_nowhere) {
  int set = semget(IPC_PRIVATE, 3, 0600);
  CHECK(set >= 0);
  unsigned short values[3] = {1, 2, 3};
  EQ(semctl(set, 0, SETALL, values), 0);
  ERR(semctl(set, 0, SETALL, unreadable()), EFAULT);
  ERR(semctl(set, 0, GETALL, unreadable()), EFAULT);
  EQ(semctl(set, 2, GETVAL), 3);
  EQ(semctl(set, 0, IPC_RMID), 0);
}

T(message_longer_than_all) {
  int queue = msgget(IPC_PRIVATE, 0600);
  CHECK(queue >= 0);
  struct {
    long type;
    char text[8];
  } message = {1, "text"};
  EQ(msgsnd(queue, &message, 4, 0), 0);
  ERR(msgrcv(queue, &message, -1, 0, IPC_NOWAIT), EINVAL);
  EQ(msgrcv(queue, &message, 8, 0, IPC_NOWAIT), 4);
  EQ(msgctl(queue, IPC_RMID, 0), 0);
}

T(mask_from_nowhere) {
  struct timespec none = {0, 0};
  ERR(syscall(SYS_pselect6, 0, 0, 0, 0, &none, unreadable()), EFAULT);
  ERR(syscall(SYS_pselect6, 0, 0, 0, 0, &none, (void*)-8L), EFAULT);
  ERR(syscall(SYS_pselect6, -1, 0, 0, 0, &none, unreadable()), EFAULT);
  EQ(syscall(SYS_pselect6, 0, 0, 0, 0, &none, 0), 0);
}

T(pending_into_a_long_set) {
  char room[128];
  memset(room, 0x5a, sizeof room);
  ERR(syscall(SYS_rt_sigpending, room, 16), EINVAL);
  EQ(room[0], 0x5a);
  EQ(syscall(SYS_rt_sigpending, room, 4), 0);
  EQ(room[4], 0x5a);
}

T(advice_with_flags) {
  ERR(syscall(SYS_process_madvise, 999, 0, 0, MADV_COLD, 1), EINVAL);
  ERR(syscall(SYS_process_madvise, 999, 0, 0, MADV_COLD, 0), EBADF);
}

T(clone3_of_the_future) {
  uint64_t wanted[16] = {0};
  wanted[4] = SIGCHLD;
  ERR(syscall(SYS_clone3, wanted, 5000), E2BIG);
  ERR(syscall(SYS_clone3, wanted, 56), EINVAL);
  wanted[15] = 1;
  ERR(syscall(SYS_clone3, wanted, sizeof wanted), E2BIG);
  wanted[15] = 0;
  wanted[0] = 1ul << 40;
  ERR(syscall(SYS_clone3, wanted, sizeof wanted), EINVAL);
  wanted[0] = 0;
  pid_t child = syscall(SYS_clone3, wanted, sizeof wanted);
  if (child == 0)
    _exit(7);
  EQ(reap(child), 7 << 8);
}

T(thread_word) {
  int* word = 0;
  EQ(prctl(PR_GET_TID_ADDRESS, &word), 0);
  int own = 0;
  EQ(syscall(SYS_set_tid_address, &own), getpid());
  int* now = 0;
  EQ(prctl(PR_GET_TID_ADDRESS, &now), 0);
  CHECK(now == &own);
  syscall(SYS_set_tid_address, word);
  ERR(prctl(PR_GET_TID_ADDRESS, unreadable()), EFAULT);
}

T(sealed_when_unmapped) {
  int file = memfd_create("sealed", MFD_ALLOW_SEALING);
  EQ(ftruncate(file, 8192), 0);
  char* memory = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  CHECK(memory != MAP_FAILED);
  memory[5000] = 7;
  ERR(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
  EQ(munmap(memory, 8192), 0);
  EQ(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE), 0);
  ERR(write(file, "x", 1), EPERM);
  char byte = 0;
  EQ(pread(file, &byte, 1, 5000), 1);
  EQ(byte, 7);
  ERR((long)mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), EPERM);
}

// What was mapped before goes on writing.
T(sealed_for_the_future) {
  int file = memfd_create("sealed", MFD_ALLOW_SEALING);
  EQ(ftruncate(file, 8192), 0);
  char* memory = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  CHECK(memory != MAP_FAILED);
  strcpy(memory, "before");
  EQ(fcntl(file, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
  strcpy(memory + 4096, "after");
  char text[8] = "";
  EQ(pread(file, text, 6, 0), 6);
  CHECK(!strcmp(text, "before"));
  EQ(pread(file, text, 6, 4096), 6);
  CHECK(!strcmp(text, "after"));
  ERR(pwrite(file, "x", 1, 0), EPERM);
  ERR((long)mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), EPERM);
}

// The first attempt goes home in vain; the memory that is not mapped any more does not hinder.
T(sealed_after_all) {
  int file = memfd_create("sealed", MFD_ALLOW_SEALING);
  EQ(ftruncate(file, 4096), 0);
  char* memory = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  CHECK(memory != MAP_FAILED);
  memory[0] = 3;
  EQ(munmap(memory, 4096), 0);
  EQ(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE), 0);
  EQ(fcntl(file, F_GET_SEALS), F_SEAL_WRITE);
  memory = mmap(0, 4096, PROT_READ, MAP_PRIVATE, file, 0);
  EQ(memory[0], 3);
}

T(time_to_wait_by_no_clock) {
  unsigned word = 0;
  struct timespec moment = {0, 1};
  ERR(syscall(SYS_futex, &word, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 0, &moment, 0, 0), ENOSYS);
  ERR(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &moment, 0, -1), ETIMEDOUT);
  moment.tv_nsec = -1;
  ERR(syscall(SYS_futex, &word, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 0, &moment, 0, 0), EINVAL);
}
