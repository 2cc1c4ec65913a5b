// Descriptors: whoever closes, duplicates onto, or runs out of all numbers finds what it would find
// without those that the process has for being away.
#include "check.h"

#define UNSHARE 2
#define ON_EXEC 4

static int close_all(unsigned from, unsigned flags) {
  return syscall(SYS_close_range, from, ~0U, flags);
}
static int null(void) {
  return open("/dev/null", O_RDWR);
}
static void* seven(void* unused) {
  return (void*)7;
}
static void thread_works(void) {
  pthread_t thread;
  void* result;
  EQ(pthread_create(&thread, 0, seven, 0), 0);
  EQ(pthread_join(thread, &result), 0);
  EQ(result, 7);
}
static void fork_works(void) {
  const pid_t child = fork();
  if (child == 0)
    _exit(5);
  EQ(WEXITSTATUS(reap(child)), 5);
}
static void in_child(void (*steps)(void)) {
  const pid_t child = fork();
  if (child == 0) {
    steps();
    _exit(0);
  }
  child_ok(child);
}
static void set_limit(rlim_t soft, int hard_too) {
  struct rlimit limit;
  EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = soft;
  limit.rlim_max = hard_too ? soft : limit.rlim_max;
  EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
}
// As many as the machine allows, at most 6000.
static int many(void) {
  struct rlimit limit;
  EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const int n = limit.rlim_max < 6000 ? limit.rlim_max : 6000;
  set_limit(n, 0);
  return n;
}

static void range_closed(void) {
  EQ(close_all(3, 0), 0);
  EQ(null(), 3);
  fork_works();
  thread_works();
}
T(close_range_3) {
  in_child(range_closed);
  range_closed();
}
T(close_range_0) {
  const pid_t child = fork();
  if (child == 0) {
    if (close_all(0, 0) != 0 || null() != 0)
      _exit(1);
    const pid_t next = fork();
    int status = 0;
    if (next == 0)
      _exit(5);
    _exit(waitpid(next, &status, 0) == next && WEXITSTATUS(status) == 5 ? 0 : 2);
  }
  child_ok(child);
}
T(close_range_on_exec) {
  const pid_t child = fork();
  if (child == 0) {
    EQ(close_all(3, ON_EXEC), 0);
    fork_works();
    execl("/bin/true", "true", (char*)0);
    _exit(3);
  }
  child_ok(child);
}
T(close_range_unshare) {
  EQ(close_all(3, UNSHARE), 0);
  fork_works();
}
T(close_range_errors) {
  ERR(syscall(SYS_close_range, 5, 4, 0), EINVAL);
  ERR(syscall(SYS_close_range, 3, 4, 64), EINVAL);
  ERR(syscall(SYS_close_range, 4096, 4096, 64), EINVAL);
}
static void* own_table(void* unused) {
  EQ(close_all(3, UNSHARE), 0);
  EQ(null(), 3);
  return 0;
}
T(close_range_unshare_thread) {
  const int kept = null();
  pthread_t thread;
  EQ(pthread_create(&thread, 0, own_table, 0), 0);
  EQ(pthread_join(thread, 0), 0);
  EQ(fcntl(kept, F_GETFD), 0);
  fork_works();
}
static void* closer(void* unused) {
  EQ(close_all(3, 0), 0);
  for (int fd = 3; fd < 5000; ++fd)
    close(fd);
  return (void*)(long)null();
}
T(close_in_thread) {
  pthread_t thread;
  void* result;
  EQ(pthread_create(&thread, 0, closer, 0), 0);
  EQ(pthread_join(thread, &result), 0);
  EQ(result, 3);
  thread_works();
}
static void by_hand(void) {
  for (int fd = 3; fd < 5000; ++fd)
    close(fd);
  EQ(null(), 3);
  fork_works();
}
T(close_by_hand) {
  in_child(by_hand);
  by_hand();
}
static void by_folder(void) {
  for (int i = 0; i < 20; ++i)
    null();
  DIR* const folder = opendir("/proc/self/fd");
  CHECK(folder);
  struct dirent* entry;
  while ((entry = readdir(folder))) {
    const int fd = atoi(entry->d_name);
    if (entry->d_name[0] != '.' && fd > 2 && fd != dirfd(folder))
      EQ(close(fd), 0);
  }
  closedir(folder);
  EQ(null(), 3);
  fork_works();
}
T(close_by_folder) {
  in_child(by_folder);
  by_folder();
}
T(close_in_vfork) {
  const pid_t child = vfork();
  if (child == 0) {
    for (int fd = 3; fd < 5000; ++fd)
      close(fd);
    if (close_all(3, 0) != 0 || close_all(3, UNSHARE) != 0 || null() != 3)
      _exit(1);
    execl("/bin/true", "true", (char*)0);
    _exit(3);
  }
  child_ok(child);
}
static void onto_all(void) {
  const int n = many(), fd = null();
  for (int to = fd; to < n; ++to)
    EQ(dup2(fd, to), to);
  for (int at = fd; at < n; ++at)
    CHECK(fcntl(at, F_GETFD) >= 0);
  ERR(null(), EMFILE);
  fork_works();
  thread_works();
  EQ(close_all(3, 0), 0);
  EQ(null(), 3);
}
T(dup2_onto_all) {
  in_child(onto_all);
  onto_all();
}
static void all_numbers(void) {
  const int n = many();
  EQ(close_all(3, 0), 0);
  for (int at = 3; at < n; ++at)
    EQ(null(), at);
  ERR(null(), EMFILE);
  fork_works();
  thread_works();
}
T(all_numbers_in_turn) {
  in_child(all_numbers);
  all_numbers();
}
T(dupfd_any_number) {
  const int n = many();
  for (int at = 100; at < n; ++at) {
    EQ(fcntl(0, F_DUPFD, at), at);
    EQ(close(at), 0);
  }
}
static void pipes(void) {
  const int n = (many() - 20) & ~1;
  int fds[6000], left = 0;
  for (int i = 0; i < n; i += 2)
    EQ(pipe2(fds + i, O_CLOEXEC), 0);
  for (int i = 0; i < n; ++i)
    CHECK(fcntl(fds[i], F_GETFD) >= 0);
  fork_works();
  thread_works();
  EQ(syscall(SYS_close_range, 3, 1000, 0), 0);
  EQ(syscall(SYS_close_range, 1002, 3000, 0), 0);
  EQ(close_all(3002, 0), 0);
  for (int i = 0; i < n; ++i)
    left += fcntl(fds[i], F_GETFD) >= 0;
  EQ(left, 2);
}
T(many_pipes) {
  in_child(pipes);
  pipes();
}
T(threads_among_many) {
  static int fds[6000];
  pthread_t threads[40];
  const int n = many() - 40;
  for (int i = 0; i < n; ++i)
    CHECK((fds[i] = dup(0)) >= 0 || errno == EMFILE);
  for (int i = 0; i < 40; ++i)
    EQ(pthread_create(threads + i, 0, seven, 0), 0);
  for (int i = 0; i < n; ++i)
    CHECK(fds[i] < 0 || fcntl(fds[i], F_GETFD) >= 0);
  for (int i = 0; i < 40; ++i)
    EQ(pthread_join(threads[i], 0), 0);
}

// Everything that makes or needs descriptors out of the program's sight.
static void with_limit(int limit) {
  EQ(close_all(3, 0), 0);
  ERR(open("/nonexistent", O_RDONLY), limit > 3 ? ENOENT : EMFILE);
  fork_works();
  thread_works();
  if (limit > 3) {
    CHECK(strstr(slurp("/proc/self/status"), "Threads"));
    CHECK(strstr(slurp("/proc/self/maps"), "[stack]"));
    struct stat info;
    const int fd = open("/proc/self/stat", O_RDONLY);
    EQ(fd, 3);
    EQ(fstat(fd, &info), 0);
    EQ(info.st_mode, S_IFREG | 0444);
    close(fd);
    const pid_t child = vfork();
    if (child == 0) {
      execl("/bin/true", "true", (char*)0);
      _exit(3);
    }
    reap(child);
  }
  struct rusage usage;
  EQ(getrusage(RUSAGE_SELF, &usage), 0);
  nap(1);
}
static void soft_3(void) {
  set_limit(3, 0);
  with_limit(3);
}
static void soft_4(void) {
  set_limit(4, 0);
  with_limit(4);
}
static void hard_3(void) {
  set_limit(3, 1);
  with_limit(3);
}
static void hard_4(void) {
  set_limit(4, 1);
  with_limit(4);
}
T(limit_3) {
  in_child(soft_3);
  in_child(hard_3);
  soft_3();
}
T(limit_4) {
  in_child(soft_4);
  in_child(hard_4);
  soft_4();
}
T(limit_0) {
  EQ(close_all(3, 0), 0);
  set_limit(0, 0);
  fork_works();
  thread_works();
}
T(limit_used_up) {
  set_limit(40, 0);
  while (null() >= 0) {
  }
  EQ(errno, EMFILE);
  fork_works();
  thread_works();
  int open_now = 0;
  for (int fd = 0; fd < 100; ++fd)
    open_now += fcntl(fd, F_GETFD) >= 0;
  EQ(open_now, 40);
}
static void lowered_and_used(void) {
  struct rlimit limit = {100, 200};
  EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = limit.rlim_max = 50;
  EQ(prlimit(0, RLIMIT_NOFILE, &limit, &limit), 0);
  EQ(limit.rlim_cur, 100);
  EQ(limit.rlim_max, 200);
  EQ(close_all(3, 0), 0);
  for (int at = 3; at < 50; ++at)
    EQ(null(), at);
  ERR(null(), EMFILE);
  fork_works();
  thread_works();
}
T(hard_limit_lowered) {
  in_child(lowered_and_used);
  lowered_and_used();
}
static void* makes_children(void* stop) {
  while (!*(volatile int*)stop)
    fork_works();
  return 0;
}
T(limit_beside_forks) {
  volatile int stop = 0;
  pthread_t threads[2];
  set_limit(300, 0);
  for (int i = 0; i < 2; ++i)
    EQ(pthread_create(&threads[i], 0, makes_children, (void*)&stop), 0);
  for (int round = 0; round < 6000; ++round) {
    struct rlimit limit = {300 + (round + 1) % 100, 0}, before;
    EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    EQ(before.rlim_cur, 300 + round % 100);
    limit.rlim_max = before.rlim_max;
    EQ(prlimit(0, RLIMIT_NOFILE, &limit, &before), 0);
    EQ(before.rlim_cur, 300 + round % 100);
  }
  stop = 1;
  for (int i = 0; i < 2; ++i)
    EQ(pthread_join(threads[i], 0), 0);
}
