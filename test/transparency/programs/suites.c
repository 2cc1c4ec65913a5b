// What others' conformance suites found to differ, one small test for each.
#include <linux/sched.h>
#include <sys/auxv.h>
#include <sys/shm.h>
#include <sys/statfs.h>

#include "check.h"

static char state_of(FILE* status) {
  char line[256], state = 0;
  rewind(status);
  while (fgets(line, sizeof line, status))
    if (!strncmp(line, "State:\t", 7))
      state = line[7];
  return state;
}
static void until_state(FILE* status, char wanted, char other) {
  char now;
  do
    now = state_of(status);
  while (now != wanted && now != other);
}
// An open /proc/PID/status tells each new state when it is read from its start again.
T(status_followed) {
  pid_t p = fork();
  if (!p) {
    raise(SIGSTOP);
    while (1)
      pause();
  }
  char name[64];
  sprintf(name, "/proc/%d/status", p);
  FILE* f = fopen(name, "r");
  CHECK(f);
  until_state(f, 'T', 't');
  EQ(kill(p, SIGCONT), 0);
  until_state(f, 'S', 'S');
  kill(p, SIGKILL);
  EQ(WTERMSIG(reap(p)), SIGKILL);
}
T(maps_followed) {
  int fd = open("/proc/self/maps", O_RDONLY);
  static char text[1 << 20], name[32];
  CHECK(read(fd, text, sizeof text) > 0);
  void* m = mmap(0, 123 << 12, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(m != MAP_FAILED);
  mmap(m + (123 << 12) - 4096, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  sprintf(name, "%lx-%lx r--p", (long)m, (long)m + (122 << 12));
  memset(text, 0, sizeof text);
  CHECK(pread(fd, text, sizeof text - 1, 0) > 0);
  for (long n = strlen(text), got; (got = pread(fd, text + n, sizeof text - 1 - n, n)) > 0;
       n += got)
    ;
  CHECK(strstr(text, name));
}
// The same through a copy of the descriptor, in a child and by readv.
T(stat_by_others) {
  int fd = open("/proc/self/stat", O_RDONLY), copy = dup(fd), n = 0;
  char text[1024] = "", once[1024] = "";
  CHECK(read(fd, once, sizeof once - 1) > 0);
  EQ(prctl(PR_SET_NAME, "renamed"), 0);
  EQ(lseek(copy, 0, SEEK_SET), 0);
  struct iovec v = {text, sizeof text - 1};
  CHECK(readv(copy, &v, 1) > 0);
  CHECK(strstr(text, "(renamed)") && !strstr(once, "(renamed)"));
  EQ(lseek(fd, 0, SEEK_CUR), (long)strlen(text));
}
T(text_described) {
  int fd = open("/proc/self/stat", O_RDONLY);
  struct stat s, by_name;
  struct statfs fs;
  EQ(fstat(fd, &s), 0);
  EQ(stat("/proc/self/stat", &by_name), 0);
  EQ(s.st_size, 0);
  EQ(s.st_mode, S_IFREG | 0444);
  EQ(s.st_dev, by_name.st_dev);
  EQ(fstatfs(fd, &fs), 0);
  EQ(fs.f_type, 0x9fa0);
}

static int end_thread(void* unused) {
  return 1;
}
// A thread with a descriptor table of its own, without thread-local storage and on a tiny stack.
T(clone_thread_alone) {
  char stack[1024] __attribute__((aligned(16)));
  volatile pid_t tid = 1;
  int got = clone(end_thread, stack + sizeof stack,
                  CLONE_THREAD | CLONE_VM | CLONE_SIGHAND | CLONE_CHILD_CLEARTID, 0, 0, 0, &tid);
  CHECK(got > 0);
  while (tid != 0)
    syscall(SYS_futex, &tid, FUTEX_WAIT, 1, 0);
}
T(membarrier_unregistered) {
  ERR(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0), EPERM);
  EQ(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0), 0);
  EQ(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0), 0);
  ERR(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0), EPERM);
}

static sigjmp_buf no_room;
static void too_small(int s, siginfo_t* i, void* c) {
  last_info = *i;
  handled[s]++;
  siglongjmp(no_room, 1);
}
// A handler that does not fit on its alternate stack: SIGSEGV, which may be handled elsewhere.
T(altstack_too_small) {
  size_t size = getauxval(AT_MINSIGSTKSZ) / 2 + 1024;
  if (size < 2048 || size >= getauxval(AT_MINSIGSTKSZ)) {
    return;  // this CPU's frame is smaller than the least stack there may be
  }
  char* memory = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  stack_t small = {memory + 32768, 0, size};
  EQ(sigaltstack(&small, 0), 0);
  on(SIGUSR1, SA_ONSTACK);
  struct sigaction a = {.sa_sigaction = too_small, .sa_flags = SA_SIGINFO};
  EQ(sigaction(SIGSEGV, &a, 0), 0);
  if (!sigsetjmp(no_room, 1))
    raise(SIGUSR1);
  EQ(handled[SIGSEGV], 1);
  EQ(handled[SIGUSR1], 0);
  EQ(last_info.si_code, SI_KERNEL);
  sigset_t now;
  EQ(sigprocmask(SIG_BLOCK, 0, &now), 0);
  EQ(sigismember(&now, SIGUSR1), 0);
  for (int i = 0; i < 32768; i++)
    EQ(memory[i], 0);
  stack_t enough = {memory, 0, 65536};
  EQ(sigaltstack(&enough, 0), 0);
  raise(SIGUSR1);
  EQ(handled[SIGUSR1], 1);
}
// A SIGSEGV handler that does not fit either ends the process.
T(altstack_too_small_twice) {
  pid_t p = fork();
  if (!p) {
    size_t size = getauxval(AT_MINSIGSTKSZ) / 2 + 1024;
    char* memory = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t small = {memory + 32768, 0, size};
    if (size < 2048 || size >= getauxval(AT_MINSIGSTKSZ) || sigaltstack(&small, 0) != 0)
      kill(getpid(), SIGSEGV);
    on(SIGUSR1, SA_ONSTACK);
    on(SIGSEGV, SA_ONSTACK);
    raise(SIGUSR1);
    _exit(0);
  }
  EQ(WTERMSIG(reap(p)), SIGSEGV);
}

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif
static volatile char dispatch;
static void dispatched(int s, siginfo_t* i, void* c) {
  dispatch = 0;
  last_info = *i;
  handled[s]++;
}
T(user_dispatch) {
  struct sigaction a = {.sa_sigaction = dispatched, .sa_flags = SA_SIGINFO};
  EQ(sigaction(SIGSYS, &a, 0), 0);
  EQ(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &dispatch), 0);
  dispatch = 1;
  syscall(SYS_getpriority, PRIO_PROCESS, 0);
  EQ(handled[SIGSYS], 1);
  EQ(last_info.si_syscall, SYS_getpriority);
  EQ(prctl(PR_SET_SYSCALL_USER_DISPATCH, 0, 0, 0, 0), 0);
}

// A child attaches to its parent, then lets the parent trace it.
T(ptrace_both_ways) {
  int to[2], from[2], status;
  char c;
  EQ(pipe(to), 0);
  EQ(pipe(from), 0);
  pid_t parent = getpid(), p = fork();
  if (!p) {
    EQ(read(to[0], &c, 1), 1);
    EQ(ptrace(PTRACE_ATTACH, parent, 0, 0), 0);
    EQ(waitpid(parent, &status, 0), parent);
    CHECK(WIFSTOPPED(status));
    EQ(ptrace(PTRACE_DETACH, parent, 0, 0), 0);
    EQ(ptrace(PTRACE_TRACEME, 0, 0, 0), 0);
    EQ(write(from[1], "x", 1), 1);
    raise(SIGSTOP);
    _exit(0);
  }
  EQ(write(to[1], "x", 1), 1);
  EQ(read(from[0], &c, 1), 1);
  EQ(waitpid(p, &status, 0), p);
  EQ(status, SIGSTOP << 8 | 0x7f);
  EQ(ptrace(PTRACE_DETACH, p, 0, 0), 0);
  EQ(reap(p), 0);
}
T(ptrace_of_sharers) {
  int* shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  *shared = 1;
  t_ptrace_both_ways();
}

// A program may unmap everything but itself and go on.
static char* code_page(int fd) {
  // pause for ever, after a byte to `fd`: no stack, no library.
  static const unsigned char code[] = {
      0x31, 0xff,                                                     // xor edi, edi
      0x48, 0x89, 0xde, 0x48, 0x29, 0xfe,                             // mov rsi, rbx; sub rsi, rdi
      0xb8, 11,   0,    0,    0,    0x0f, 0x05,                       // munmap(0, page)
      0x48, 0x85, 0xc0, 0x75, 0x29,                                   // test rax, rax; jnz hang
      0x48, 0x8d, 0xbb, 0x00, 0x10, 0x00, 0x00,                       // lea rdi, [rbx + 4096]
      0x4c, 0x89, 0xee, 0x48, 0x29, 0xfe,                             // mov rsi, r13; sub rsi, rdi
      0xb8, 11,   0,    0,    0,    0x0f, 0x05,                       // munmap(page + 4096, end)
      0x44, 0x89, 0xe7, 0x48, 0x89, 0xde,                             // mov edi, r12d; mov rsi, rbx
      0xba, 1,    0,    0,    0,    0xb8, 1,    0, 0, 0, 0x0f, 0x05,  // write(fd, page, 1)
      0xb8, 34,   0,    0,    0,    0x0f, 0x05,                       // hang: pause()
      0xeb, 0xf7,
  };
  char* page =
      mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memcpy(page, code, sizeof code);
  return page;
}
static void leave_rseq(void) {
  extern const long __rseq_offset;
  syscall(SYS_rseq, (char*)__builtin_thread_pointer() + __rseq_offset, 32, 1, 0x53053053);
}
T(unmap_everything) {
  int ends[2];
  char c;
  EQ(pipe(ends), 0);
  pid_t p = fork();
  if (!p) {
    close(ends[0]);
    leave_rseq();
    register char* page __asm__("rbx") = code_page(ends[1]);
    register long fd __asm__("r12") = ends[1];
    register long end __asm__("r13") = 0x7ffffffff000;
    __asm__ volatile("jmp *%0" : : "r"(page), "r"(fd), "r"(end));
    __builtin_unreachable();
  }
  close(ends[1]);
  EQ(read(ends[0], &c, 1), 1);
  EQ(kill(p, SIGTERM), 0);
  EQ(WTERMSIG(reap(p)), SIGTERM);
}
// ... or everything, itself included.
T(unmap_all) {
  pid_t p = fork();
  if (!p) {
    munmap(0, 0x7ffffffff000);
    _exit(0);
  }
  EQ(WTERMSIG(reap(p)), SIGSEGV);
}

static void* same(void* argument) {
  return argument;
}

static void child_thread_and_program(void) {
  pid_t child = fork();
  if (child == 0)
    _exit(3);
  CHECK(child > 0);
  EQ(reap(child), 3 << 8);
  pthread_t thread;
  void* result = 0;
  EQ(pthread_create(&thread, 0, same, &thread), 0);
  EQ(pthread_join(thread, &result), 0);
  CHECK(result == &thread);
  child = vfork();
  if (child == 0) {
    execl("/bin/true", "true", (char*)0);
    _exit(4);
  }
  CHECK(child > 0);
  EQ(reap(child), 0);
}

// What keeps the process in touch with its home stands above the limit it had: it forks all the
// same.
T(few_descriptors_allowed) {
  const struct rlimit few = {20, 20};
  EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  child_thread_and_program();
}

T(few_descriptors_allowed_to_nobody) {
  const struct rlimit few = {200, 200};
  EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  EQ(setuid(65534), 0);
  child_thread_and_program();
}

T(all_descriptors_used) {
  int file = open("mapped", O_RDWR | O_CREAT, 0600);
  EQ(write(file, "content", 7), 7);
  const struct rlimit few = {64, 64};
  EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  while (fcntl(file, F_DUPFD_CLOEXEC, 0) >= 0) {
  }
  EQ(errno, EMFILE);
  char* own = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
  CHECK(own != MAP_FAILED && memcmp(own, "content", 7) == 0);
  char* shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  CHECK(shared != MAP_FAILED && memcmp(shared, "content", 7) == 0);
  shared[0] = 'C';
  char byte = 0;
  EQ(pread(file, &byte, 1, 0), 1);
  EQ(byte, 'C');
  child_thread_and_program();
}
// A program that a linker has written through a shared mapping runs as soon as the linker has
// ended: nobody has it open for writing any more.
static void copy_mapped(const char* from, int to) {
  int source = open(from, O_RDONLY);
  struct stat st;
  EQ(fstat(source, &st), 0);
  EQ(ftruncate(to, st.st_size), 0);
  char* out = mmap(0, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, to, 0);
  CHECK(out != MAP_FAILED);
  EQ(pread(source, out, st.st_size, 0), st.st_size);
}
T(executes_what_was_mapped) {
  char name[] = "/tmp/mappedXXXXXX";
  int fd = mkstemp(name);
  EQ(fchmod(fd, 0755), 0);
  pid_t linker = fork();
  if (!linker) {
    copy_mapped("/bin/true", fd);
    _exit(0);
  }
  close(fd);
  EQ(reap(linker), 0);
  pid_t p = fork();
  if (!p) {
    execl(name, "true", NULL);
    _exit(errno);
  }
  int status = reap(p);
  unlink(name);
  EQ(WEXITSTATUS(status), 0);
}
// A new segment with this identifier. Others make some, too: until nobody else takes the number.
static int segment_numbered(int wanted) {
  for (int i = 0; i < 100; i++) {
    FILE* next = fopen("/proc/sys/kernel/shm_next_id", "w");
    CHECK(next);
    fprintf(next, "%d", wanted);
    fclose(next);
    int id = shmget(IPC_PRIVATE, 4096, 0600);
    if (id == wanted)
      return id;
    shmctl(id, IPC_RMID, 0);
  }
  CHECK(!"the number is taken");
}
// The identifier of System V shared memory stands where other memory has its inode, on the same
// device: two objects, though their numbers are the same.
T(shm_numbered_like_a_memfd) {
  int fd = memfd_create("twin", 0);
  struct stat st;
  EQ(ftruncate(fd, 4096), 0);
  EQ(fstat(fd, &st), 0);
  int id = segment_numbered(st.st_ino);
  char* memory = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(memory != MAP_FAILED);
  strcpy(memory, "memfd");
  char* segment = shmat(id, 0, 0);
  EQ(shmctl(id, IPC_RMID, 0), 0);
  CHECK(segment != (void*)-1);
  EQ(segment[0], 0);
  strcpy(segment, "sysv");
  CHECK(!strcmp(memory, "memfd"));
}
// The first segment of a machine.
T(shm_numbered_zero) {
  int id = segment_numbered(0);
  char* segment = shmat(id, 0, 0);
  int error = errno;
  EQ(shmctl(id, IPC_RMID, 0), 0);
  CHECK(segment != (void*)-1 || (errno = error, 0));
  strcpy(segment, "zero");
}

// ---- a process that others watch until it sleeps ----

// The letter of a stat, or of a status file.
static char state_in(const char* name) {
  const char* const line = strstr(slurp(name), "State:\t");
  const char* const text = line ? line + 5 : strrchr(slurp(name), ')');
  CHECK(text);
  return text[2];
}
static void watch_until_asleep(const char* name) {
  const long begin = ms();
  while (state_in(name) != 'S')
    CHECK(ms() - begin < 20000);
}

// It sleeps in the call that waits, not in those before: a signal that comes then finds the
// handler.
static void sleeper(const char* file) {
  char name[64];
  for (int i = 0; i < 15; i++) {
    pid_t p = fork();
    if (!p) {
      struct stat s;
      stat("/", &s);
      close(open("/dev/null", O_RDONLY));
      on(SIGINT, 0);
      pause();
      _exit(handled[SIGINT]);
    }
    sprintf(name, "/proc/%d/%s", p, file);
    watch_until_asleep(name);
    kill(p, SIGINT);
    const int status = reap(p);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 1)
      FAIL("round %d: status %#x", i, status);
  }
}
T(asleep_means_waiting) {
  sleeper("stat");
}
T(asleep_by_status) {
  sleeper("status");
}

// Asleep on its host, at home, and not at all.
static volatile int spinning = 1;
static int word;
static void* sleep_here(void* tid) {
  *(int*)tid = syscall(SYS_gettid);
  return (void*)syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, 0, 0, 0);
}
static int nothing[2];
static void* sleep_at_home(void* tid) {
  char c;
  *(int*)tid = syscall(SYS_gettid);
  return (void*)read(nothing[0], &c, 1);
}
static void* spin(void* tid) {
  *(int*)tid = syscall(SYS_gettid);
  while (spinning)
    sink++;
  return 0;
}
T(threads_asleep) {
  void* (*const what[3])(void*) = {sleep_here, sleep_at_home, spin};
  volatile int tid[3] = {0};
  pthread_t threads[3];
  char name[64];
  EQ(pipe(nothing), 0);
  for (int i = 0; i < 3; i++) {
    EQ(pthread_create(&threads[i], 0, what[i], (void*)&tid[i]), 0);
    while (!tid[i])
      sched_yield();
  }
  for (int i = 0; i < 2; i++) {
    sprintf(name, "/proc/self/task/%d/stat", tid[i]);
    watch_until_asleep(name);
    EQ(state_in(name), 'S');
  }
  sprintf(name, "/proc/self/task/%d/stat", tid[2]);
  EQ(state_in(name), 'R');
  EQ(state_in("/proc/self/stat"), 'R');
  spinning = 0;
  EQ(write(nothing[1], "x", 1), 1);
  while (!syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0))
    sched_yield();
  for (int i = 0; i < 3; i++)
    EQ(pthread_join(threads[i], 0), 0);
}

// ---- the most memory of children ----

static void have(size_t mb) {
  char* p = malloc(mb << 20);
  memset(p, 1, mb << 20);
  free(p);
}
static int about(long kb, long mb) {
  return labs(kb - (mb << 10)) < 20 << 10;
}
T(memory_of_children) {
  struct rusage r;
  pid_t p = fork();
  if (!p) {
    have(100);
    _exit(0);
  }
  child_ok(p);
  EQ(getrusage(RUSAGE_CHILDREN, &r), 0);
  if (!about(r.ru_maxrss, 100))
    FAIL("of a child: %ld", r.ru_maxrss);
  p = fork();
  if (!p) {
    pid_t q = fork();
    if (!q) {
      have(160);
      _exit(0);
    }
    child_ok(q);
    _exit(0);
  }
  EQ(wait4(p, 0, 0, &r), p);
  if (!about(r.ru_maxrss, 160))
    FAIL("of a grandchild: %ld", r.ru_maxrss);
  p = fork();
  if (!p)
    _exit(0);
  child_ok(p);
  EQ(getrusage(RUSAGE_CHILDREN, &r), 0);
  if (!about(r.ru_maxrss, 160))
    FAIL("of all: %ld", r.ru_maxrss);
  EQ(getrusage(RUSAGE_SELF, &r), 0);
  CHECK(r.ru_maxrss < 80 << 10);
}

// ---- controls that nobody knows ----

T(control_of_nothing) {
  int n;
  ERR(ioctl(999, 0x12345, &n), EBADF);
  ERR(ioctl(999, 0x2285, &n), EBADF);
}
T(control_of_a_driver) {
  struct {
    char name[16];
    char rest[24];
  } request = {"nothing0"};
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  ERR(ioctl(s, 0x89f0, &request), ENODEV);
  EQ(getpid(), syscall(SYS_getpid));
}

// ---- locked pages, as seen by msync ----

T(invalidate_locked) {
  char* p = mmap(0, 8192, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EQ(msync(p, 4096, MS_ASYNC | MS_INVALIDATE), 0);
  EQ(mlockall(MCL_CURRENT), 0);
  ERR(msync(p, 4096, MS_ASYNC | MS_INVALIDATE), EBUSY);
  EQ(munlockall(), 0);
  EQ(msync(p, 4096, MS_ASYNC | MS_INVALIDATE), 0);
}

// ---- register state that a process has to ask for ----

T(asks_for_tiles) {
  unsigned long supported = 0, permitted = 0;
  if (syscall(SYS_arch_prctl, 0x1021, &supported))
    return;
  const int has_tiles = supported >> 18 & 1;
  EQ(syscall(SYS_arch_prctl, 0x1023, 18), has_tiles ? 0 : -1);
  EQ(syscall(SYS_arch_prctl, 0x1022, &permitted), 0);
  EQ(permitted >> 18 & 1, has_tiles);
  EQ(permitted & ~(1ul << 18) & ~supported, 0);
}
// Says that it writes an int, and takes a number. Not every kernel has it.
T(next_watch_by_number) {
  const int f = inotify_init1(IN_NONBLOCK);
  EQ(ioctl(f, _IOW('I', 0, int), 100), 0);
  EQ(inotify_add_watch(f, ".", IN_MODIFY), 100);
}
T(clone3_detached) {
  unsigned long args[11] = {CLONE_DETACHED, 0, 0, 0, SIGCHLD};
  const long made = syscall(SYS_clone3, args, sizeof args);
  if (made == 0)
    _exit(0);
  EQ(made, -1);
  EQ(errno, EINVAL);
}
T(more_events_than_any) {
  struct epoll_event event;
  const int e = epoll_create1(0);
  ERR(epoll_wait(e, &event, 1 << 30, 0), EINVAL);
  EQ(epoll_wait(e, &event, 1 << 20, 0), 0);
}
