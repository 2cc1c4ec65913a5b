// System calls by family: limits, times, descriptors passed, IPC, memory, scheduling, clone.
#include <linux/aio_abi.h>
#include <linux/capability.h>
#include <linux/kcmp.h>
#include <linux/landlock.h>
#include <linux/rseq.h>
#include <sys/fsuid.h>
#include <sys/pidfd.h>

#include "check.h"
// Who is told by a pidfd that a child has ended finds it.
T(pidfd_then_wait) {
  for (int i = 0; i < 150; i++) {
    siginfo_t info = {};
    pid_t p = fork();
    if (!p)
      _exit(5);
    int fd = pidfd_open(p, 0);
    struct pollfd ended = {fd, POLLIN};
    EQ(poll(&ended, 1, -1), 1);
    if (i % 2) {
      int status;
      EQ(waitpid(p, &status, WNOHANG), p);
      EQ(WEXITSTATUS(status), 5);
    } else {
      EQ(waitid(i % 4 ? P_PID : 3 /* P_PIDFD */, i % 4 ? p : fd, &info, WEXITED | WNOHANG), 0);
      EQ(info.si_pid, p);
      EQ(info.si_status, 5);
    }
    close(fd);
  }
}
// A timer that has gone off has not gone off before its time, by the clock that the program reads:
// who finds some time left goes back to sleep, and the timer does not come again.
T(timerfd_not_early) {
  int fd = timerfd_create(CLOCK_MONOTONIC, 0);
  for (int i = 0; i < 30; i++) {
    struct timespec now;
    struct itimerspec at = {};
    uint64_t count;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long long wanted = now.tv_sec * 1000000000LL + now.tv_nsec + 3000000;
    at.it_value.tv_sec = wanted / 1000000000;
    at.it_value.tv_nsec = wanted % 1000000000;
    EQ(timerfd_settime(fd, TFD_TIMER_ABSTIME, &at, 0), 0);
    EQ(read(fd, &count, 8), 8);
    clock_gettime(CLOCK_MONOTONIC, &now);
    CHECK(now.tv_sec * 1000000000LL + now.tv_nsec >= wanted);
  }
}
T(rlimit_as) {
  pid_t p = fork();
  if (!p) {
    struct rlimit r = {200 << 20, 200 << 20};
    EQ(setrlimit(RLIMIT_AS, &r), 0);
    void* a = mmap(0, 100 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(a != MAP_FAILED);
    ERR(mmap(0, 150 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
    _exit(0);
  }
  child_ok(p);
}
// Away the second is made by a return, which is no matter of the program's limits.
T(calls_with_little_memory) {
  for (int resource = 0; resource < 2; resource++) {
    const pid_t child = fork();
    if (!child) {
      const rlim_t left = resource ? 0 : (rlim_t)strtoul(slurp("/proc/self/statm"), 0, 10) * 4096 + 65536;
      struct rlimit memory, files = {64, 64}, now;
      EQ(getrlimit(resource ? RLIMIT_DATA : RLIMIT_AS, &memory), 0);
      memory.rlim_cur = left;
      EQ(setrlimit(resource ? RLIMIT_DATA : RLIMIT_AS, &memory), 0);
      EQ(setrlimit(RLIMIT_NOFILE, &files), 0);
      EQ(getrlimit(resource ? RLIMIT_DATA : RLIMIT_AS, &now), 0);
      EQ(now.rlim_cur, left);
      EQ(now.rlim_max, memory.rlim_max);
      _exit(0);
    }
    child_ok(child);
  }
}
T(rlimit_data) {
  struct rlimit r = {8 << 20, 8 << 20};
  EQ(setrlimit(RLIMIT_DATA, &r), 0);
  ERR(mmap(0, 50 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
  CHECK(sbrk(20 << 20) == (void*)-1);
  void* m = mmap(0, 1 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(m != MAP_FAILED);
}
T(rlimit_memlock) {
  struct rlimit r = {65536, 65536};
  EQ(setrlimit(RLIMIT_MEMLOCK, &r), 0);
  pid_t p = fork();
  if (!p) {
    setuid(65534);
    char* m = mmap(0, 1 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ERR(mlock(m, 1 << 20), ENOMEM);
    EQ(mlock(m, 4096), 0);
    _exit(0);
  }
  child_ok(p);
}
T(rlimit_stack) {
  pid_t p = fork();
  if (!p) {
    struct rlimit r = {256 << 10, 256 << 10};
    setrlimit(RLIMIT_STACK, &r);
    int f(int n) {
      volatile char b[16384];
      b[0] = n;
      return n == 0 ? 0 : f(n - 1) + b[0];
    }
    f(100);
    _exit(0);
  }
  EQ(WTERMSIG(reap(p)), SIGSEGV);
}
T(rlimit_cpu) {
  pid_t p = fork();
  if (!p) {
    struct rlimit r = {1, 3};
    setrlimit(RLIMIT_CPU, &r);
    while (1)
      sink++;
  }
  EQ(WTERMSIG(reap(p)), SIGXCPU);
  p = fork();
  if (!p) {
    on(SIGXCPU, 0);
    struct rlimit r = {1, 2};
    setrlimit(RLIMIT_CPU, &r);
    while (1)
      sink++;
  }
  EQ(WTERMSIG(reap(p)), SIGKILL);
}
T(rlimit_fsize) {
  pid_t p = fork();
  if (!p) {
    struct rlimit r = {100, 100};
    setrlimit(RLIMIT_FSIZE, &r);
    int f = open("f", O_CREAT | O_RDWR, 0600);
    char b[200];
    EQ(write(f, b, 200), 100);
    write(f, b, 10);
    _exit(0);
  }
  EQ(WTERMSIG(reap(p)), SIGXFSZ);
}
T(rlimit_nproc) {
  struct rlimit r;
  getrlimit(RLIMIT_NPROC, &r);
  pid_t p = fork();
  if (!p) {
    setuid(65533);
    r.rlim_cur = 1;
    r.rlim_max = 1;
    EQ(setrlimit(RLIMIT_NPROC, &r), 0);
    ERR(fork(), EAGAIN);
    _exit(0);
  }
  child_ok(p);
}
T(prlimit_child) {
  pid_t p = fork();
  if (!p) {
    pause();
  }
  struct rlimit o, n = {64, 128};
  EQ(prlimit(p, RLIMIT_NOFILE, &n, &o), 0);
  EQ(prlimit(p, RLIMIT_NOFILE, 0, &o), 0);
  EQ(o.rlim_cur, 64);
  kill(p, 9);
  reap(p);
}
T(rusage_self) {
  burn(200);
  struct rusage r;
  getrusage(RUSAGE_SELF, &r);
  long u = r.ru_utime.tv_sec * 1000 + r.ru_utime.tv_usec / 1000 + r.ru_stime.tv_sec * 1000 +
           r.ru_stime.tv_usec / 1000;
  CHECK(u >= 150 && u < 2000);
  CHECK(r.ru_maxrss > 500);
  CHECK(r.ru_minflt > 20);
  getrusage(RUSAGE_THREAD, &r);
  u = r.ru_utime.tv_sec * 1000 + r.ru_utime.tv_usec / 1000;
  CHECK(u >= 100);
  ERR(getrusage(55, &r), EINVAL);
  ERR(getrusage(0, (void*)-1), EFAULT);
}
T(rusage_maxrss) {
  struct rusage a, b;
  getrusage(0, &a);
  char* p = mmap(0, 256 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(p, 1, 256 << 20);
  getrusage(0, &b);
  CHECK(b.ru_maxrss - a.ru_maxrss > 200000);
}
T(rusage_children) {
  pid_t p = fork();
  if (!p) {
    burn(300);
    _exit(0);
  }
  struct rusage r;
  int s;
  EQ(wait4(p, &s, 0, &r), p);
  long u = r.ru_utime.tv_sec * 1000 + r.ru_utime.tv_usec / 1000;
  if (u < 250 || u > 900)
    FAIL("wait4 %ld", u);
  struct rusage c;
  getrusage(RUSAGE_CHILDREN, &c);
  u = c.ru_utime.tv_sec * 1000 + c.ru_utime.tv_usec / 1000;
  if (u < 250)
    FAIL("children %ld", u);
  struct tms t;
  times(&t);
  if (t.tms_cutime < 25)
    FAIL("cutime %ld", t.tms_cutime);
}
T(rusage_grandchildren) {
  pid_t p = fork();
  if (!p) {
    pid_t q = fork();
    if (!q) {
      burn(200);
      _exit(0);
    }
    reap(q);
    _exit(0);
  }
  reap(p);
  struct rusage c;
  getrusage(RUSAGE_CHILDREN, &c);
  long u = c.ru_utime.tv_sec * 1000 + c.ru_utime.tv_usec / 1000;
  if (u < 150)
    FAIL("children %ld", u);
}
T(rusage_killed) {
  pid_t p = fork();
  if (!p) {
    while (1)
      sink++;
  }
  nap(600);
  kill(p, SIGKILL);
  struct rusage r;
  int s;
  wait4(p, &s, 0, &r);
  long u = r.ru_utime.tv_sec * 1000 + r.ru_utime.tv_usec / 1000;
  if (u < 50)
    FAIL("killed %ld", u);
}
T(waitid_rusage) {
  pid_t p = fork();
  if (!p) {
    burn(200);
    _exit(0);
  }
  struct rusage r;
  siginfo_t i;
  EQ(syscall(SYS_waitid, P_PID, p, &i, WEXITED, &r), 0);
  long u = r.ru_utime.tv_sec * 1000 + r.ru_utime.tv_usec / 1000;
  if (u < 150)
    FAIL("%ld", u);
}
T(wait_signo_info) {
  pid_t p = fork();
  if (!p)
    _exit(3);
  siginfo_t i;
  memset(&i, 0, sizeof i);
  EQ(waitid(P_ALL, 0, &i, WEXITED | WNOWAIT), 0);
  EQ(i.si_pid, p);
  EQ(i.si_status, 3);
  EQ(i.si_signo, SIGCHLD);
  EQ(waitid(P_PID, p, &i, WEXITED), 0);
  ERR(waitid(P_PID, p, &i, WEXITED), ECHILD);
  ERR(waitpid(-1, 0, 12345678), EINVAL);
  ERR(waitpid(-1, 0, 0), ECHILD);
  EQ(waitid(P_ALL, 0, 0, WEXITED), -1);
}
T(scm_rights) {
  int sv[2];
  socketpair(AF_UNIX, SOCK_STREAM, 0, sv);
  int p[2];
  pipe(p);
  struct msghdr m = {};
  struct iovec v = {"x", 1};
  char c[CMSG_SPACE(8)];
  memset(c, 0, sizeof c);
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  m.msg_control = c;
  m.msg_controllen = sizeof c;
  struct cmsghdr* h = CMSG_FIRSTHDR(&m);
  h->cmsg_level = SOL_SOCKET;
  h->cmsg_type = SCM_RIGHTS;
  h->cmsg_len = CMSG_LEN(8);
  memcpy(CMSG_DATA(h), p, 8);
  EQ(sendmsg(sv[0], &m, 0), 1);
  char b[4], c2[CMSG_SPACE(8)];
  struct iovec w = {b, 4};
  struct msghdr r = {
      .msg_iov = &w, .msg_iovlen = 1, .msg_control = c2, .msg_controllen = sizeof c2};
  EQ(recvmsg(sv[1], &r, MSG_CMSG_CLOEXEC), 1);
  h = CMSG_FIRSTHDR(&r);
  CHECK(h);
  int q[2];
  memcpy(q, CMSG_DATA(h), 8);
  EQ(write(q[1], "ab", 2), 2);
  EQ(read(p[0], b, 4), 2);
  EQ(fcntl(q[0], F_GETFD), FD_CLOEXEC);
  char small[CMSG_SPACE(4)];
  m.msg_control = c;
  sendmsg(sv[0], &m, 0);
  r.msg_control = small;
  r.msg_controllen = CMSG_LEN(4);
  EQ(recvmsg(sv[1], &r, 0), 1);
  CHECK(r.msg_flags & MSG_CTRUNC);
}
T(scm_creds) {
  int sv[2];
  socketpair(AF_UNIX, SOCK_DGRAM, 0, sv);
  int one = 1;
  setsockopt(sv[1], SOL_SOCKET, SO_PASSCRED, &one, 4);
  EQ(send(sv[0], "x", 1, 0), 1);
  char b[4], c[100];
  struct iovec w = {b, 4};
  struct msghdr r = {.msg_iov = &w, .msg_iovlen = 1, .msg_control = c, .msg_controllen = 100};
  EQ(recvmsg(sv[1], &r, 0), 1);
  struct cmsghdr* h = CMSG_FIRSTHDR(&r);
  EQ(h->cmsg_type, SCM_CREDENTIALS);
  struct ucred u;
  memcpy(&u, CMSG_DATA(h), sizeof u);
  EQ(u.pid, getpid());
  struct ucred pc;
  socklen_t l = sizeof pc;
  EQ(getsockopt(sv[0], SOL_SOCKET, SO_PEERCRED, &pc, &l), 0);
  EQ(pc.pid, getpid());
}
T(splice_tee) {
  int p[2], q[2];
  pipe(p);
  pipe(q);
  int f = open("f", O_RDWR | O_CREAT, 0600);
  write(f, "hello world", 11);
  off64_t o = 6;
  EQ(splice(f, &o, p[1], 0, 5, 0), 5);
  EQ(o, 11);
  EQ(tee(p[0], q[1], 5, 0), 5);
  char b[16];
  EQ(read(q[0], b, 16), 5);
  EQ(memcmp(b, "world", 5), 0);
  EQ(read(p[0], b, 16), 5);
}
T(vmsplice_out) {
  int p[2];
  pipe(p);
  char a[] = "from memory";
  struct iovec v[2] = {{a, 5}, {a + 5, 6}};
  EQ(vmsplice(p[1], v, 2, 0), 11);
  char b[16];
  EQ(read(p[0], b, 16), 11);
  EQ(memcmp(a, b, 11), 0);
  write(p[1], "into mem", 8);
  memset(b, 0, 16);
  struct iovec w = {b, 8};
  EQ(vmsplice(p[0], &w, 1, 0), 8);
  EQ(memcmp(b, "into mem", 8), 0);
  ERR(vmsplice(99, v, 1, 0), EBADF);
  int f = open("f", O_CREAT | O_RDWR, 0600);
  ERR(vmsplice(f, v, 1, 0), EBADF);
}
T(vmsplice_big) {
  int p[2];
  pipe(p);
  static char a[200000];
  memset(a, 7, sizeof a);
  pid_t c = fork();
  if (!c) {
    close(p[1]);
    long n = 0, r;
    char b[4096];
    while ((r = read(p[0], b, 4096)) > 0)
      n += r;
    _exit(n != 200000);
  }
  close(p[0]);
  long at = 0;
  while (at < 200000) {
    struct iovec v = {a + at, 200000 - at};
    long n = vmsplice(p[1], &v, 1, 0);
    CHECK(n > 0);
    at += n;
  }
  close(p[1]);
  child_ok(c);
}
T(sendfile_copy) {
  int f = open("f", O_RDWR | O_CREAT, 0600), g = open("g", O_RDWR | O_CREAT, 0600);
  write(f, "0123456789", 10);
  off_t o = 2;
  EQ(sendfile(g, f, &o, 5), 5);
  EQ(o, 7);
  loff_t a = 0, b = 5;
  EQ(copy_file_range(f, &a, g, &b, 3, 0), 3);
  struct stat s;
  fstat(g, &s);
  EQ(s.st_size, 8);
}
T(xattr) {
  int f = open("f", O_RDWR | O_CREAT, 0600);
  if (fsetxattr(f, "user.a", "val", 3, 0)) {
    EQ(errno, EOPNOTSUPP);
    return;
  }
  char b[16];
  EQ(getxattr("f", "user.a", b, 16), 3);
  EQ(getxattr("f", "user.a", 0, 0), 3);
  ERR(getxattr("f", "user.a", b, 1), ERANGE);
  ERR(getxattr("f", "user.b", b, 1), ENODATA);
  char l[64];
  CHECK(listxattr("f", l, 64) > 0);
  EQ(removexattr("f", "user.a"), 0);
}
T(inotify) {
  int i = inotify_init1(IN_NONBLOCK);
  int w = inotify_add_watch(i, ".", IN_CREATE | IN_DELETE);
  CHECK(w > 0);
  close(open("x", O_CREAT | O_RDWR, 0600));
  unlink("x");
  char b[500];
  CHECK(read(i, b, 500) > 0);
  EQ(inotify_rm_watch(i, w), 0);
  int n;
  EQ(ioctl(i, FIONREAD, &n), 0);
}
T(fanotify) {
  int f = fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK, O_RDONLY);
  if (f < 0)
    return;
  EQ(fanotify_mark(f, FAN_MARK_ADD, FAN_OPEN | FAN_EVENT_ON_CHILD, AT_FDCWD, "."), 0);
  close(open("x", O_CREAT | O_RDWR, 0600));
  struct fanotify_event_metadata m[4];
  CHECK(read(f, m, sizeof m) > 0);
  EQ(m[0].pid, getpid());
}
T(mqueue) {
  char n[40];
  sprintf(n, "/tess%d", getpid());
  struct mq_attr a = {.mq_maxmsg = 4, .mq_msgsize = 64};
  mqd_t q = mq_open(n, O_CREAT | O_RDWR, 0600, &a);
  CHECK(q >= 0);
  mq_unlink(n);
  EQ(mq_send(q, "low", 4, 1), 0);
  EQ(mq_send(q, "high", 5, 9), 0);
  char b[64];
  unsigned p;
  EQ(mq_receive(q, b, 64, &p), 5);
  EQ(p, 9);
  ERR(mq_receive(q, b, 10, &p), EMSGSIZE);
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  mq_receive(q, b, 64, 0);
  t.tv_nsec += 50000000;
  if (t.tv_nsec > 999999999)
    t.tv_sec++, t.tv_nsec -= 1000000000;
  ERR(mq_timedreceive(q, b, 64, 0, &t), ETIMEDOUT);
  struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
  e.sigev_value.sival_int = 5;
  on(SIGUSR1, SA_SIGINFO);
  EQ(mq_notify(q, &e), 0);
  mq_send(q, "x", 1, 0);
  EQ(handled[SIGUSR1], 1);
  EQ(last_info.si_code, SI_MESGQ);
  EQ(last_info.si_value.sival_int, 5);
}
static volatile int mqn;
static void mqf(union sigval v) {
  mqn = v.sival_int;
}
T(mq_notify_thread) {
  char n[40];
  sprintf(n, "/tesu%d", getpid());
  mqd_t q = mq_open(n, O_CREAT | O_RDWR, 0600, 0);
  mq_unlink(n);
  struct sigevent e = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = mqf};
  e.sigev_value.sival_int = 5;
  EQ(mq_notify(q, &e), 0);
  mq_send(q, "x", 1, 0);
  for (int i = 0; i < 200 && !mqn; i++)
    nap(10);
  EQ(mqn, 5);
}
T(sysv_msg) {
  int q = msgget(IPC_PRIVATE, 0600);
  struct {
    long t;
    char b[32];
  } m = {3, "three"}, r;
  EQ(msgsnd(q, &m, 6, 0), 0);
  m.t = 1;
  strcpy(m.b, "one");
  EQ(msgsnd(q, &m, 4, 0), 0);
  EQ(msgrcv(q, &r, 32, -5, 0), 4);
  EQ(r.t, 1);
  ERR(msgrcv(q, &r, 2, 3, 0), E2BIG);
  EQ(msgrcv(q, &r, 2, 3, MSG_NOERROR), 2);
  ERR(msgrcv(q, &r, 32, 0, IPC_NOWAIT), ENOMSG);
  struct msqid_ds d;
  EQ(msgctl(q, IPC_STAT, &d), 0);
  EQ(d.msg_qnum, 0);
  EQ(d.msg_lspid, getpid());
  EQ(msgctl(q, IPC_RMID, 0), 0);
  ERR(msgsnd(q, &m, 1, 0), EINVAL);
}
T(sysv_sem) {
  int q = semget(IPC_PRIVATE, 3, 0600);
  union {
    int v;
    struct semid_ds* b;
    unsigned short* a;
  } u;
  unsigned short v[3] = {1, 2, 3};
  u.a = v;
  EQ(semctl(q, 0, SETALL, u), 0);
  v[0] = 9;
  EQ(semctl(q, 0, GETALL, u), 0);
  EQ(v[0], 1);
  EQ(semctl(q, 2, GETVAL), 3);
  struct sembuf s[2] = {{0, -1, SEM_UNDO}, {1, 1, 0}};
  EQ(semop(q, s, 2), 0);
  EQ(semctl(q, 1, GETVAL), 3);
  EQ(semctl(q, 0, GETPID), getpid());
  pid_t p = fork();
  if (!p) {
    struct sembuf w = {0, -1, 0};
    _exit(semop(q, &w, 1));
  }
  nap(100);
  EQ(semctl(q, 0, GETNCNT), 1);
  struct sembuf w = {0, 1, 0};
  EQ(semop(q, &w, 1), 0);
  child_ok(p);
  struct timespec t = {0, 50000000};
  w.sem_op = -1;
  ERR(semtimedop(q, &w, 1, &t), EAGAIN);
  EQ(semctl(q, 0, IPC_RMID), 0);
}
T(ofd_locks) {
  int f = open("f", O_CREAT | O_RDWR, 0600), g = open("f", O_RDWR);
  struct flock k = {.l_type = F_WRLCK, .l_len = 10};
  EQ(fcntl(f, F_OFD_SETLK, &k), 0);
  k.l_pid = 0;
  ERR(fcntl(g, F_OFD_SETLK, &k), EAGAIN);
  EQ(fcntl(g, F_OFD_GETLK, &k), 0);
  EQ(k.l_type, F_WRLCK);
  EQ(k.l_pid, -1);
}
T(posix_locks) {
  int f = open("f", O_CREAT | O_RDWR, 0600);
  struct flock k = {.l_type = F_WRLCK};
  EQ(fcntl(f, F_SETLK, &k), 0);
  pid_t p = fork();
  if (!p) {
    struct flock k = {.l_type = F_RDLCK};
    ERR(fcntl(f, F_SETLK, &k), EAGAIN);
    k.l_type = F_RDLCK;
    EQ(fcntl(f, F_GETLK, &k), 0);
    EQ(k.l_pid, getppid());
    EQ(fcntl(f, F_SETLKW, &k), 0);
    _exit(0);
  }
  nap(100);
  k.l_type = F_UNLCK;
  fcntl(f, F_SETLK, &k);
  child_ok(p);
  EQ(lockf(f, F_TLOCK, 10), 0);
}
T(deadlock) {
  int f = open("f", O_CREAT | O_RDWR, 0600);
  int a[2];
  pipe(a);
  struct flock k1 = {.l_type = F_WRLCK, .l_start = 0, .l_len = 1},
               k2 = {.l_type = F_WRLCK, .l_start = 1, .l_len = 1};
  EQ(fcntl(f, F_SETLK, &k1), 0);
  pid_t p = fork();
  if (!p) {
    fcntl(f, F_SETLK, &k2);
    write(a[1], "x", 1);
    EQ(fcntl(f, F_SETLKW, &k1), 0);
    _exit(0);
  }
  char b;
  read(a[0], &b, 1);
  nap(100);
  ERR(fcntl(f, F_SETLKW, &k2), EDEADLK);
  k1.l_type = F_UNLCK;
  fcntl(f, F_SETLK, &k1);
  child_ok(p);
}
T(lease) {
  int f = open("f", O_CREAT | O_RDWR, 0600);
  close(f);
  f = open("f", O_RDONLY);
  if (fcntl(f, F_SETLEASE, F_RDLCK))
    return;
  EQ(fcntl(f, F_GETLEASE), F_RDLCK);
  on(SIGIO, 0);
  pid_t p = fork();
  if (!p) {
    int g = open("f", O_WRONLY);
    _exit(g < 0);
  }
  long a = ms();
  while (!handled[SIGIO] && ms() - a < 3000)
    ;
  EQ(handled[SIGIO], 1);
  fcntl(f, F_SETLEASE, F_UNLCK);
  child_ok(p);
}
T(dnotify) {
  int d = open(".", O_RDONLY);
  on(SIGIO, 0);
  if (fcntl(d, F_NOTIFY, DN_CREATE))
    return;
  close(open("z", O_CREAT | O_RDWR, 0600));
  EQ(handled[SIGIO], 1);
}
T(memfd) {
  int f = memfd_create("name", MFD_ALLOW_SEALING);
  EQ(write(f, "abc", 3), 3);
  EQ(fcntl(f, F_ADD_SEALS, F_SEAL_WRITE), 0);
  ERR(write(f, "d", 1), EPERM);
  EQ(fcntl(f, F_GET_SEALS), F_SEAL_WRITE);
  char b[64], p[40];
  sprintf(p, "/proc/self/fd/%d", f);
  int n = readlink(p, b, 64);
  b[n] = 0;
  CHECK(strstr(b, "memfd:name"));
  char* m = mmap(0, 4096, PROT_READ, MAP_PRIVATE, f, 0);
  CHECK(m != MAP_FAILED);
  EQ(m[1], 'b');
}
T(pidfd) {
  pid_t p = fork();
  if (!p) {
    pause();
  }
  int f = syscall(SYS_pidfd_open, p, 0);
  int g = syscall(SYS_pidfd_getfd, f, 1, 0);
  CHECK(g >= 0);
  ERR(syscall(SYS_pidfd_getfd, f, 99, 0), EBADF);
  kill(p, 9);
  struct pollfd q = {f, POLLIN};
  EQ(poll(&q, 1, 2000), 1);
  reap(p);
  ERR(syscall(SYS_pidfd_open, p, 0), ESRCH);
  ERR(syscall(SYS_pidfd_open, -1, 0), EINVAL);
}
T(pidfd_clone) {
  int pf = -1;
  pid_t p = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, &pf, 0, 0);
  if (!p)
    _exit(9);
  CHECK(pf >= 0);
  siginfo_t i;
  EQ(waitid(P_PIDFD, pf, &i, WEXITED), 0);
  EQ(i.si_status, 9);
}
T(kcmp) {
  int a = dup(1);
  pid_t p = getpid();
  EQ(syscall(SYS_kcmp, p, p, KCMP_FILE, 1, a), 0);
  CHECK(syscall(SYS_kcmp, p, p, KCMP_FILE, 0, a) != 0);
  pid_t c = fork();
  if (!c)
    pause();
  EQ(syscall(SYS_kcmp, p, c, KCMP_FILE, 1, 1), 0);
  CHECK(syscall(SYS_kcmp, p, c, KCMP_VM, 0, 0) != 0);
  kill(c, 9);
  reap(c);
}
T(prctl_get) {
  EQ(prctl(PR_SET_DUMPABLE, 0), 0);
  EQ(prctl(PR_GET_DUMPABLE), 0);
  EQ(prctl(PR_SET_KEEPCAPS, 1), 0);
  EQ(prctl(PR_GET_KEEPCAPS), 1);
  int s;
  EQ(prctl(PR_SET_PDEATHSIG, 10), 0);
  EQ(prctl(PR_GET_PDEATHSIG, &s), 0);
  EQ(s, 10);
  EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
  EQ(prctl(PR_SET_TIMERSLACK, 12345), 0);
  EQ(prctl(PR_GET_TIMERSLACK), 12345);
  EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  EQ(prctl(PR_GET_CHILD_SUBREAPER, &s), 0);
  EQ(s, 1);
  ERR(prctl(999), EINVAL);
  ERR(prctl(PR_SET_PDEATHSIG, 99), EINVAL);
  EQ(prctl(PR_GET_SECCOMP), 0);
  EQ(prctl(PR_CAPBSET_READ, 0), 1);
  int tsc;
  EQ(prctl(PR_GET_TSC, &tsc), 0);
  EQ(tsc, PR_TSC_ENABLE);
  EQ(prctl(PR_GET_TIMING), 0);
  EQ(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
  EQ(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1);
  EQ(prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0), 0);
  EQ(prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0) >= 0, 1);
  EQ(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 1, 0, 0), 0);
  long b = prctl(PR_GET_SECUREBITS);
  CHECK(b >= 0);
  EQ(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0) >= 0, 1);
}
T(prctl_mm_vma) {
  char* p = mmap(0, 8192, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int r = prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, p, 8192, "myname");
  if (r) {
    EQ(errno, EINVAL);
    puts("no names");
    return;
  }
  CHECK(strstr(slurp("/proc/self/maps"), "[anon:myname]"));
}
T(prctl_tsc) {
  pid_t p = fork();
  if (!p) {
    prctl(PR_SET_TSC, PR_TSC_SIGSEGV);
    unsigned a, d;
    asm volatile("rdtsc" : "=a"(a), "=d"(d));
    _exit(0);
  }
  EQ(WTERMSIG(reap(p)), SIGSEGV);
}
T(prctl_mdwe) {
  pid_t p = fork();
  if (!p) {
    int r = prctl(65, 1, 0, 0, 0);
    if (r)
      _exit(0);
    EQ(prctl(66, 0, 0, 0, 0), 1);
    char* m = mmap(0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ERR(mprotect(m, 4096, 7), EACCES);
    _exit(0);
  }
  child_ok(p);
}
T(thp_status) {
  prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
  CHECK(strstr(slurp("/proc/self/status"), "THP_enabled:\t0"));
}
T(seccomp_strict) {
  pid_t p = fork();
  if (!p) {
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
    syscall(SYS_write, 1, "", 0);
    syscall(SYS_exit, 7);
  }
  EQ(reap(p), 7 << 8);
  p = fork();
  if (!p) {
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
    syscall(SYS_getpid);
    syscall(SYS_exit, 7);
  }
  EQ(WTERMSIG(reap(p)), SIGKILL);
}
static int filt(int nr, unsigned act) {
  struct sock_filter f[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, act), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  struct sock_fprog p = {4, f};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p);
}
T(seccomp_errno) {
  EQ(filt(SYS_mkdir, SECCOMP_RET_ERRNO | 77), 0);
  errno = 0;
  EQ(syscall(SYS_mkdir, "d", 0700), -1);
  EQ(errno, 77);
  EQ(prctl(PR_GET_SECCOMP), 2);
  CHECK(strstr(slurp("/proc/self/status"), "Seccomp:\t2"));
}
T(seccomp_errno_local) {
  EQ(filt(SYS_getpid, SECCOMP_RET_ERRNO | 77), 0);
  errno = 0;
  EQ(syscall(SYS_getpid), -1);
  EQ(errno, 77);
  EQ(filt(SYS_sched_yield, SECCOMP_RET_ERRNO | 55), 0);
  EQ(syscall(SYS_sched_yield), -1);
  EQ(errno, 55);
  pid_t p = fork();
  if (!p) {
    EQ(syscall(SYS_getpid), -1);
    _exit(0);
  }
  child_ok(p);
}
T(seccomp_kill) {
  pid_t p = fork();
  if (!p) {
    filt(SYS_mkdir, SECCOMP_RET_KILL_PROCESS);
    mkdir("d", 0700);
    _exit(0);
  }
  EQ(WTERMSIG(reap(p)), SIGSYS);
  p = fork();
  if (!p) {
    filt(SYS_getpid, SECCOMP_RET_KILL);
    syscall(SYS_getpid);
    _exit(0);
  }
  EQ(WTERMSIG(reap(p)), SIGSYS);
}
T(seccomp_trap) {
  on(SIGSYS, SA_SIGINFO);
  EQ(filt(SYS_mkdir, SECCOMP_RET_TRAP | 33), 0);
  syscall(SYS_mkdir, "d", 0700);
  EQ(handled[SIGSYS], 1);
  EQ(last_info.si_code, 1);
  EQ(last_info.si_syscall, SYS_mkdir);
  EQ(last_info.si_errno, 33);
  EQ(last_info.si_arch, AUDIT_ARCH_X86_64);
}
T(seccomp_args) {
  struct sock_filter f[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
                            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_dup, 0, 3),
                            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 16),
                            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 1),
                            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 66),
                            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  struct sock_fprog p = {6, f};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  EQ(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &p), 0);
  errno = 0;
  EQ(dup(1), -1);
  EQ(errno, 66);
  CHECK(dup(0) >= 0);
  unsigned a = SECCOMP_RET_TRAP;
  EQ(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &a), 0);
}
T(seccomp_write_arg) { /* pointer argument compared */
  static char magic[] = "x";
  struct sock_filter f[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
                            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 0, 3),
                            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 24),
                            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)(uintptr_t)magic, 0, 1),
                            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 66),
                            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  struct sock_fprog p = {6, f};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  EQ(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &p), 0);
  int q[2];
  pipe(q);
  errno = 0;
  EQ(write(q[1], magic, 1), -1);
  EQ(errno, 66);
  EQ(write(q[1], "y", 1), 1);
}
T(landlock) {
  struct landlock_ruleset_attr a = {.handled_access_fs = LANDLOCK_ACCESS_FS_WRITE_FILE};
  int f = syscall(SYS_landlock_create_ruleset, &a, sizeof a, 0);
  if (f < 0)
    return;
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  close(open("f", O_CREAT | O_RDWR, 0600));
  EQ(syscall(SYS_landlock_restrict_self, f, 0), 0);
  ERR(open("f", O_RDWR), EACCES);
  CHECK(open("f", O_RDONLY) >= 0);
}
T(membarrier) {
  int m = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
  CHECK(m > 0);
  EQ(syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0), 0);
  EQ(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0), 0);
  EQ(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0), 0);
}
T(madvise_all) {
  char* p = mmap(0, 16 << 12, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int a[] = {0, 1, 2, 3, 4, 8, 10, 11, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24};
  for (int i = 0; i < 19; i++) {
    memset(p, 1, 65536);
    int r = madvise(p, 65536, a[i]);
    if (r && errno != EINVAL && errno != EBADF)
      FAIL("advice %d", a[i]);
    printf("%d:%d\n", a[i], r);
  }
  memset(p, 1, 4096);
  EQ(madvise(p, 4096, MADV_DONTNEED), 0);
  EQ(p[0], 0);
  ERR(madvise(p + 1, 4096, MADV_DONTNEED), EINVAL);
  ERR(madvise((void*)0x1000, 4096, MADV_DONTNEED), ENOMEM);
  ERR(madvise(p, 4096, 1212), EINVAL);
}
T(madvise_fork) {
  char* p = mmap(0, 8192, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  p[0] = 5;
  p[4096] = 5;
  EQ(madvise(p, 4096, MADV_WIPEONFORK), 0);
  EQ(madvise(p + 4096, 4096, MADV_DONTFORK), 0);
  pid_t c = fork();
  if (!c) {
    EQ(p[0], 0);
    signal(SIGSEGV, SIG_DFL);
    sink = p[4096];
    _exit(0);
  }
  EQ(WTERMSIG(reap(c)), SIGSEGV);
  EQ(p[0], 5);
}
T(mremap) {
  char* p = mmap(0, 8192, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  strcpy(p + 4096, "here");
  p = mremap(p, 8192, 1 << 20, MREMAP_MAYMOVE);
  CHECK(p != MAP_FAILED);
  EQ(strcmp(p + 4096, "here"), 0);
  char* q = mmap(0, 1 << 20, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EQ((long)mremap(p, 8192, 8192, MREMAP_MAYMOVE | MREMAP_FIXED, q), (long)q);
  EQ(strcmp(q + 4096, "here"), 0);
  ERR(mremap(q + 1, 4096, 4096, 0), EINVAL);
  ERR(mremap((void*)0x1000, 4096, 8192, MREMAP_MAYMOVE), EFAULT);
  char* d = mremap(q, 4096, 4096, MREMAP_MAYMOVE | 4, 0);
  CHECK(d != MAP_FAILED);
}
T(mincore) {
  char* p = mmap(0, 4 * 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  p[4096] = 1;
  unsigned char v[4];
  EQ(mincore(p, 4 * 4096, v), 0);
  EQ(v[0] & 1, 0);
  EQ(v[1] & 1, 1);
  ERR(mincore((void*)0x1000, 4096, v), ENOMEM);
  ERR(mincore(p + 1, 4096, v), EINVAL);
}
T(mincore_file) {
  int f = open("f", O_CREAT | O_RDWR, 0600);
  static char b[16384];
  write(f, b, 16384);
  char* p = mmap(0, 16384, PROT_READ, MAP_PRIVATE, f, 0);
  sink = p[0] + p[8192];
  unsigned char v[4];
  EQ(mincore(p, 16384, v), 0);
  EQ(v[0] & 1, 1);
  EQ(v[2] & 1, 1);
}
T(msync_errs) {
  char* p = mmap(0, 8192, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EQ(msync(p, 8192, MS_SYNC), 0);
  ERR(msync(p + 1, 1, MS_SYNC), EINVAL);
  ERR(msync(p, 1, MS_SYNC | MS_ASYNC), EINVAL);
  munmap(p, 8192);
  ERR(msync(p, 4096, MS_SYNC), ENOMEM);
}
T(mmap_errs) {
  ERR(mmap(0, 0, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
  int f = open("f", O_CREAT | O_WRONLY, 0600);
  write(f, "x", 1);
  ERR(mmap(0, 4096, PROT_READ, MAP_PRIVATE, f, 0), EACCES);
  ERR(mmap(0, 4096, PROT_READ, MAP_PRIVATE, 99, 0), EBADF);
  ERR(mmap(0, 4096, PROT_READ, MAP_PRIVATE, f, 1), EINVAL);
  ERR(mmap(0, 4096, 3, 0, f, 0), EINVAL);
  ERR(mmap((void*)1, 4096, 3, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
  ERR(munmap((void*)1, 4096), EINVAL);
  ERR(mprotect((void*)1, 4096, 3), EINVAL);
  ERR(mmap(0, ~0ul - 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
  int p[2];
  pipe(p);
  ERR(mmap(0, 4096, PROT_READ, MAP_PRIVATE, p[0], 0), ENODEV);
  char* q = mmap(0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ERR(mmap(q, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
}
T(brk_test) {
  char* a = sbrk(0);
  EQ(brk(a + 100000), 0);
  a[99999] = 1;
  EQ((long)sbrk(0), (long)a + 100000);
  EQ(brk(a), 0);
}
// Locked memory that nobody has touched is there, unless it is to be locked when it is touched.
T(locked_untouched) {
  const int pages = 16;
  unsigned char there[16];
  char* memory = mmap(0, pages << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EQ(mlock(memory, pages << 12), 0);
  char* later = mmap(0, pages << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EQ(mprotect(later + (15 << 12), 4096, PROT_NONE), 0);
  EQ(syscall(SYS_mlock2, later, 8 << 12, MLOCK_ONFAULT), 0);
  for (int turn = 0; turn < 3; turn++) {
    EQ(getppid() > 0, 1);
    EQ(mincore(memory, pages << 12, there), 0);
    for (int i = 0; i < pages; i++)
      EQ(there[i] & 1, 1);
    EQ(mincore(later, 8 << 12, there), 0);
    for (int i = 0; i < 8; i++)
      EQ(there[i] & 1, 0);
    char start[32];
    sprintf(start, "%lx-", (long)later);
    char* flags = strstr(strstr(slurp("/proc/self/smaps"), start), "VmFlags:");
    char* end = strchr(flags, '\n');
    *end = 0;
    CHECK(strstr(flags, " lo ") && strstr(flags, " lf"));
  }
}
T(mlock_fam) {
  char* p = mmap(0, 8192, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EQ(mlock(p, 8192), 0);
  EQ(munlock(p, 8192), 0);
  EQ(mlock2(p, 8192, MLOCK_ONFAULT), 0);
  ERR(mlock2(p, 8192, 77), EINVAL);
  ERR(mlock((void*)0x1000, 4096), ENOMEM);
  EQ(mlockall(MCL_CURRENT), 0);
  EQ(munlockall(), 0);
  ERR(mlockall(0), EINVAL);
}
T(sched_fam) {
  struct sched_param p = {0};
  EQ(sched_getscheduler(0), SCHED_OTHER);
  EQ(sched_setscheduler(0, SCHED_BATCH, &p), 0);
  EQ(sched_getscheduler(0), SCHED_BATCH);
  EQ(sched_setscheduler(0, SCHED_IDLE, &p), 0);
  ERR(sched_setscheduler(0, 99, &p), EINVAL);
  struct timespec t;
  EQ(sched_rr_get_interval(0, &t), 0);
  EQ(sched_get_priority_max(SCHED_FIFO), 99);
  cpu_set_t s;
  EQ(sched_getaffinity(0, sizeof s, &s), 0);
  int n = CPU_COUNT(&s);
  CHECK(n >= 1);
  CPU_ZERO(&s);
  CPU_SET(0, &s);
  EQ(sched_setaffinity(0, sizeof s, &s), 0);
  EQ(sched_getaffinity(0, sizeof s, &s), 0);
  EQ(CPU_COUNT(&s), 1);
  unsigned c;
  EQ(getcpu(&c, 0), 0);
  EQ(c, 0);
  EQ(sched_getcpu(), 0);
}
T(sched_fifo) {
  struct sched_param p = {10};
  int r = sched_setscheduler(0, SCHED_FIFO, &p);
  printf("%d\n", r);
  if (!r) {
    EQ(sched_getscheduler(0), SCHED_FIFO);
    EQ(sched_getparam(0, &p), 0);
    EQ(p.sched_priority, 10);
  }
}
T(nice_prio) {
  errno = 0;
  EQ(nice(3), 3);
  EQ(getpriority(PRIO_PROCESS, 0), 3);
  EQ(setpriority(PRIO_PROCESS, 0, 10), 0);
  EQ(getpriority(PRIO_PROCESS, getpid()), 10);
  CHECK(strstr(slurp("/proc/self/stat"), " 30 10 "));
}
T(clone_vm) {
  static volatile int x;
  int f(void* a) {
    x = 5;
    return 3;
  }
  char* st = mmap(0, 65536, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  pid_t p = clone(f, st + 65536, CLONE_VM | SIGCHLD, 0);
  CHECK(p > 0);
  EQ(reap(p), 3 << 8);
  EQ(x, 5);
}
T(clone_files) {
  int f(void* a) {
    close(0);
    open("/dev/null", O_RDONLY);
    return 0;
  }
  int q[2];
  pipe(q);
  int g(void* a) {
    close(q[0]);
    return 0;
  }
  char* st = mmap(0, 65536, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  pid_t p = clone(g, st + 65536, CLONE_FILES | SIGCHLD, 0);
  child_ok(p);
  ERR(fcntl(q[0], F_GETFD), EBADF);
}
T(clone_all) {
  static volatile int x;
  int f(void* a) {
    x = 7;
    chdir("/");
    close(99);
    signal(SIGUSR1, SIG_IGN);
    return 1;
  }
  char* st = mmap(0, 65536, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  pid_t p = clone(f, st + 65536, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | SIGCHLD, 0);
  EQ(reap(p), 1 << 8);
  EQ(x, 7);
  char c[100];
  getcwd(c, 100);
  EQ(strcmp(c, "/"), 0);
  struct sigaction a;
  sigaction(SIGUSR1, 0, &a);
  EQ((long)a.sa_handler, (long)SIG_IGN);
}
T(clone_parent) {
  pid_t me = getpid();
  int f(void* a) {
    return getppid() == me ? 4 : 5;
  }
  pid_t p = fork();
  if (!p) {
    char* st = mmap(0, 65536, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pid_t q = clone(f, st + 65536, CLONE_PARENT | SIGCHLD, 0);
    _exit(q < 0);
  }
  int s;
  child_ok(p);
  EQ(wait(&s) > 0, 1);
  EQ(s, 4 << 8);
}
T(clone_newpid) {
  int f(void* a) {
    return getpid() == 1 && getppid() == 0 ? 0 : 1;
  }
  char* st = mmap(0, 65536, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  pid_t p = clone(f, st + 65536, CLONE_NEWPID | SIGCHLD, 0);
  CHECK(p > 0);
  child_ok(p);
}
T(clone_newns) {
  pid_t p = fork();
  if (!p) {
    EQ(unshare(CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET), 0);
    EQ(sethostname("other", 5), 0);
    struct utsname u;
    uname(&u);
    EQ(strcmp(u.nodename, "other"), 0);
    _exit(0);
  }
  child_ok(p);
}
T(clone_settid) {
  pid_t a = 0, b = 0;
  pid_t p = syscall(SYS_clone, CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, 0, &a, &b, 0);
  if (!p)
    _exit(b != getpid());
  child_ok(p);
  EQ(a, p);
  EQ(b, 0);
}
T(clone_vfork_flag) {
  static volatile int x;
  int f(void* a) {
    nap(100);
    x = 1;
    return 0;
  }
  char* st = mmap(0, 65536, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  pid_t p = clone(f, st + 65536, CLONE_VM | CLONE_VFORK | SIGCHLD, 0);
  EQ(x, 1);
  child_ok(p);
}
T(clone3_basic) {
  struct {
    uint64_t f, pf, ct, pt, es, st, ss, tls, set, n, cg;
  } a = {.es = SIGCHLD};
  pid_t p = syscall(SYS_clone3, &a, sizeof a);
  if (!p)
    _exit(6);
  EQ(reap(p), 6 << 8);
  ERR(syscall(SYS_clone3, &a, 8), EINVAL);
  a.es = 200;
  ERR(syscall(SYS_clone3, &a, sizeof a), EINVAL);
  pid_t want = 30000 + getpid() % 1000;
  a.es = SIGCHLD;
  a.set = (uintptr_t)&want;
  a.n = 1;
  p = syscall(SYS_clone3, &a, sizeof a);
  if (p < 0)
    FAIL("set_tid");
  if (!p)
    _exit(getpid() != want);
  EQ(p, want);
  child_ok(p);
}
T(clone_nosig) {
  pid_t p = syscall(SYS_clone, 0, 0, 0, 0, 0);
  if (!p)
    _exit(2);
  ERR(waitpid(p, 0, 0), ECHILD);
  int s;
  EQ(waitpid(p, &s, __WCLONE), p);
  EQ(s, 2 << 8);
}
T(ptrace_child) {
  pid_t p = fork();
  if (!p) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    _exit(9);
  }
  int s;
  EQ(waitpid(p, &s, 0), p);
  CHECK(WIFSTOPPED(s));
  EQ(ptrace(PTRACE_CONT, p, 0, 0), 0);
  EQ(waitpid(p, &s, 0), p);
  EQ(s, 9 << 8);
}
T(aio_kernel) {
  aio_context_t c = 0;
  int r = syscall(SYS_io_setup, 4, &c);
  if (r)
    FAIL("io_setup");
  int f = open("f", O_CREAT | O_RDWR, 0600);
  char b[16] = "hello";
  struct iocb cb = {.aio_lio_opcode = IOCB_CMD_PWRITE,
                    .aio_fildes = f,
                    .aio_buf = (uintptr_t)b,
                    .aio_nbytes = 5},
              *l = &cb;
  EQ(syscall(SYS_io_submit, c, 1, &l), 1);
  struct io_event e;
  EQ(syscall(SYS_io_getevents, c, 1, 1, &e, 0), 1);
  EQ(e.res, 5);
  memset(b, 0, 16);
  cb.aio_lio_opcode = IOCB_CMD_PREAD;
  EQ(syscall(SYS_io_submit, c, 1, &l), 1);
  EQ(syscall(SYS_io_getevents, c, 1, 1, &e, 0), 1);
  EQ(memcmp(b, "hello", 5), 0);
  EQ(syscall(SYS_io_destroy, c), 0);
}
T(ioctls) {
  int p[2];
  pipe(p);
  write(p[1], "abc", 3);
  int n;
  EQ(ioctl(p[0], FIONREAD, &n), 0);
  EQ(n, 3);
  int one = 1;
  EQ(ioctl(p[0], FIONBIO, &one), 0);
  CHECK(fcntl(p[0], F_GETFL) & O_NONBLOCK);
  EQ(ioctl(p[0], FIOCLEX), 0);
  EQ(fcntl(p[0], F_GETFD), 1);
  ERR(ioctl(p[0], TCGETS, &n), ENOTTY);
  ERR(ioctl(99, FIONREAD, &n), EBADF);
  ERR(ioctl(p[0], 0x12345, &n), ENOTTY);
  int m = posix_openpt(O_RDWR | O_NOCTTY);
  grantpt(m);
  unlockpt(m);
  struct winsize w = {24, 80};
  EQ(ioctl(m, TIOCSWINSZ, &w), 0);
  memset(&w, 0, sizeof w);
  EQ(ioctl(m, TIOCGWINSZ, &w), 0);
  EQ(w.ws_col, 80);
  struct termios t;
  int s = open(ptsname(m), O_RDWR | O_NOCTTY);
  EQ(tcgetattr(s, &t), 0);
  cfmakeraw(&t);
  EQ(tcsetattr(s, TCSANOW, &t), 0);
  write(m, "hi", 2);
  char b[8];
  EQ(read(s, b, 8), 2);
}
T(setuid_exec) {
  pid_t p = fork();
  if (!p) {
    setgid(65534);
    setuid(65534);
    execlp("/usr/bin/id", "id", NULL);
  }
  child_ok(p);
  if (access("/usr/bin/su", F_OK))
    return;
  p = fork();
  if (!p) {
    setgid(65534);
    setuid(65534);
    execl("/usr/bin/passwd", "passwd", "-S", NULL);
    _exit(9);
  }
  printf("%d\n", reap(p));
}
T(setfsuid_etc) {
  pid_t p = fork();
  if (!p) {
    EQ(setfsuid(1000), 0);
    EQ(setfsuid(-1), 1000);
    EQ(setresuid(-1, 1000, -1), 0);
    EQ(geteuid(), 1000);
    ERR(open("/etc/shadow", O_RDONLY), EACCES);
    EQ(seteuid(0), 0);
    EQ(setgroups(0, 0), 0);
    EQ(getgroups(0, 0), 0);
    EQ(setgid(50), 0);
    EQ(getegid(), 50);
    EQ(setuid(1000), 0);
    ERR(setuid(0), EPERM);
    EQ(getuid(), 1000);
    _exit(0);
  }
  child_ok(p);
}
T(getpid_ns) {
  EQ(syscall(SYS_getpid), getpid());
  EQ(getpgid(0), getpgrp());
  pid_t p = fork();
  if (!p) {
    EQ(setsid(), getpid());
    EQ(getsid(0), getpid());
    ERR(setsid(), EPERM);
    _exit(0);
  }
  child_ok(p);
}
T(openat2) {
  struct {
    uint64_t f, m, r;
  } h = {O_RDONLY, 0, 0x08};
  int d = open(".", O_RDONLY | O_DIRECTORY);
  close(open("f", O_CREAT | O_RDWR, 0600));
  CHECK(syscall(SYS_openat2, d, "f", &h, 24) >= 0);
  ERR(syscall(SYS_openat2, d, "../etc", &h, 24), EXDEV);
  ERR(syscall(SYS_openat2, d, "f", &h, 8), EINVAL);
}
static sigjmp_buf after_fault;
static void leave_fault(int s) {
  siglongjmp(after_fault, s);
}
// The signal that reading there raises, or 0.
static int fault_at(volatile char* at) {
  int s = sigsetjmp(after_fault, 1);
  if (s)
    return s;
  (void)*at;
  return 0;
}
T(private_mapping_of_a_cut_file) {
  signal(SIGBUS, leave_fault);
  int f = open("f", O_RDWR | O_CREAT, 0600);
  char* data = malloc(5 * 4096);
  memset(data, 'a', 5 * 4096);
  EQ(write(f, data, 5 * 4096), 5 * 4096);
  char* p = mmap(0, 6 * 4096, 3, MAP_PRIVATE, f, 0);
  char* q = mmap(0, 2 * 4096, 1, MAP_PRIVATE, f, 2 * 4096);
  p[0] = p[3 * 4096] = 'w';
  EQ(fault_at(p + 4 * 4096), 0);
  EQ(fault_at(p + 5 * 4096), SIGBUS);
  EQ(ftruncate(f, 2 * 4096), 0);
  for (int i = 0; i < 6; i++)
    EQ(fault_at(p + i * 4096), i < 2 ? 0 : SIGBUS);
  EQ(fault_at(q), SIGBUS);
  EQ(p[0], 'w');
  EQ(p[4096], 'a');
  EQ(truncate("f", 6 * 4096), 0);
  for (int i = 0; i < 6; i++)
    EQ(fault_at(p + i * 4096), 0);
  EQ(p[0], 'w');
  EQ(p[4096], 'a');
  EQ(p[3 * 4096], 0);
  EQ(q[4096], 0);
  p[5 * 4096] = 'x';
  EQ(ftruncate(f, 4096 + 100), 0);
  EQ(p[0], 'w');
  EQ(p[4096 + 99], 'a');
  EQ(fault_at(p + 2 * 4096), SIGBUS);
  EQ(fault_at(q + 4096), SIGBUS);
}
T(process_madvise) {
  int f = syscall(SYS_pidfd_open, getpid(), 0);
  char* p = mmap(0, 8192, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  p[0] = 1;
  struct iovec v = {p, 8192};
  EQ(syscall(SYS_process_madvise, f, &v, 1, MADV_COLD, 0), 8192);
}
T(userfaultfd_make) {
  int f = syscall(SYS_userfaultfd, O_CLOEXEC);
  if (f < 0)
    FAIL("userfaultfd");
}
T(getrandom) {
  char b[32];
  EQ(syscall(SYS_getrandom, b, 32, 0), 32);
  ERR(syscall(SYS_getrandom, b, 32, 0xff00), EINVAL);
  ERR(syscall(SYS_getrandom, (void*)-1, 32, 0), EFAULT);
}
T(rseq_sys) {
  ERR(syscall(SYS_rseq, 0x1000, 32, 0, 0), EINVAL);
}
T(set_robust) {
  struct {
    void* n;
  } h;
  void* hp;
  size_t l;
  EQ(syscall(SYS_get_robust_list, 0, &hp, &l), 0);
  EQ(l, 24);
  ERR(syscall(SYS_set_robust_list, hp, 5), EINVAL);
}
T(pkey) {
  int k = syscall(SYS_pkey_alloc, 0, 0);
  printf("%d %d\n", k < 0, k < 0 ? errno : 0);
}
T(pkey_mprotect_without_key) {
  char* p = mmap(0, 4096, 1, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EQ(syscall(SYS_pkey_mprotect, p, 4096, 3, -1), 0);
  *p = 1;
  ERR(syscall(SYS_pkey_mprotect, p + 1, 4096, 3, -1), EINVAL);
  ERR(syscall(SYS_pkey_mprotect, p, 4096, 3, 77), EINVAL);
}
T(get_robust_list_of_others) {
  void* hp;
  size_t l = 0;
  pid_t p = fork();
  if (!p) {
    pause();
    _exit(0);
  }
  EQ(syscall(SYS_get_robust_list, p, &hp, &l), 0);
  EQ(l, 24);
  kill(p, SIGKILL);
  reap(p);
  ERR(syscall(SYS_get_robust_list, p, &hp, &l), ESRCH);
  ERR(syscall(SYS_get_robust_list, 0, 0, &l), EFAULT);
  ERR(syscall(SYS_get_robust_list, 0, &hp, 0), EFAULT);
  p = fork();
  if (!p) {
    setuid(65534);
    ERR(syscall(SYS_get_robust_list, 1, &hp, &l), EPERM);
    _exit(0);
  }
  child_ok(p);
}
T(getdents_half_mapped) {
  char* p = mmap(0, 8192, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  munmap(p + 4096, 4096);
  for (int i = 0; i < 100; i++) {
    char name[16];
    sprintf(name, "file%d", i);
    close(open(name, O_CREAT | O_RDWR, 0600));
  }
  int d = open(".", O_RDONLY | O_DIRECTORY);
  long n = syscall(SYS_getdents64, d, p + 4096 - 1000, 5000);
  CHECK(n > 900 && n <= 1000);
  int seen = 0;
  for (; n > 0; n = syscall(SYS_getdents64, d, p, 4096)) {
    struct dirent64* e;
    char* end = p + (seen ? 0 : 4096 - 1000) + n;
    for (char* at = end - n; at < end; at += e->d_reclen, seen++)
      e = (struct dirent64*)at;
  }
  EQ(seen, 102);
  lseek(d, 0, SEEK_SET);
  ERR(syscall(SYS_getdents64, d, p + 4096 - 10, 5000), EFAULT);
  ERR(syscall(SYS_getdents64, d, p, 10), EINVAL);
}
T(arch_prctl) {
  unsigned long v;
  EQ(syscall(SYS_arch_prctl, 0x1003, &v), 0);
  CHECK(v);
  EQ(syscall(SYS_arch_prctl, 0x1001, 0x1234), 0);
  EQ(syscall(SYS_arch_prctl, 0x1004, &v), 0);
  EQ(v, 0x1234);
  ERR(syscall(SYS_arch_prctl, 0x9999, &v), EINVAL);
}
T(modify_ldt) {
  char b[64];
  long r = syscall(SYS_modify_ldt, 0, b, 64);
  EQ(r, 0);
}
T(ioperm) {
  long r = syscall(SYS_ioperm, 0x80, 1, 1);
  printf("%ld %d\n", r, r ? errno : 0);
}
T(get_mempolicy) {
  int m;
  long r = syscall(SYS_get_mempolicy, &m, 0, 0, 0, 0);
  printf("%ld %d\n", r, r ? errno : 0);
}
T(futex_waitv) {
  struct {
    uint64_t v, a;
    uint32_t f, r;
  } w[1];
  uint32_t x = 1;
  w[0].v = 0;
  w[0].a = (uintptr_t)&x;
  w[0].f = 2;
  w[0].r = 0;
  ERR(syscall(449, w, 1, 0, 0, 0), EAGAIN);
}
T(futex_new) {
  uint32_t x = 1;
  ERR(syscall(455, &x, 0, ~0u, 2, 0, 0), EAGAIN);
  EQ(syscall(454, &x, ~0u, 1, 2), 0);
}
T(lsm_list) {
  uint64_t ids[16];
  uint32_t s = sizeof ids;
  long r = syscall(461, ids, &s, 0);
  printf("%ld\n", r);
  CHECK(r >= 0 || errno == ENOSYS || errno == EOPNOTSUPP);
}
T(mseal) {
  char* p = mmap(0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EQ(syscall(462, p, 4096, 0), 0);
  ERR(munmap(p, 4096), EPERM);
}
T(xattrat) {
  close(open("f", O_CREAT | O_RDWR, 0600));
  struct {
    uint64_t v;
    uint32_t s, f;
  } a = {(uintptr_t) "val", 3, 0};
  if (syscall(463, AT_FDCWD, "f", 0, "user.x", &a, sizeof a)) {
    CHECK(errno == EOPNOTSUPP);
    return;
  }
  char b[16];
  a.v = (uintptr_t)b;
  a.s = 16;
  EQ(syscall(464, AT_FDCWD, "f", 0, "user.x", &a, sizeof a), 3);
}
T(sysfs_call) {
  long r = syscall(139, 3);
  printf("%ld\n", r);
}
T(remap_file_pages) {
  int f = open("f", O_CREAT | O_RDWR, 0600);
  ftruncate(f, 16384);
  pwrite(f, "P0", 2, 0);
  pwrite(f, "P1", 2, 4096);
  char* p = mmap(0, 16384, 3, MAP_SHARED, f, 0);
  CHECK(p != MAP_FAILED);
  EQ(remap_file_pages(p, 4096, 0, 1, 0), 0);
  EQ(p[1], '1');
}
T(move_pages_q) {
  char* p = mmap(0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  p[0] = 1;
  void* v[1] = {p};
  int s[1] = {-99};
  long r = syscall(SYS_move_pages, 0, 1, v, 0, s, 0);
  printf("%ld %d\n", r, s[0] >= 0);
}
T(bpf_map) {
  union {
    struct {
      uint32_t t, k, v, n;
    } c;
    char z[72];
  } a = {};
  a.c.t = 2;
  a.c.k = 4;
  a.c.v = 4;
  a.c.n = 1;
  long r = syscall(SYS_bpf, 0, &a, sizeof a);
  printf("%d\n", r >= 0);
}
T(perf_open) {
  char a[128] = {};
  *(uint32_t*)a = 1;
  *(uint32_t*)(a + 4) = 112;
  *(uint64_t*)(a + 8) = 1;
  long r = syscall(SYS_perf_event_open, a, 0, -1, -1, 0);
  printf("%d\n", r >= 0);
}
T(io_uring) {
  char p[120] = {};
  long r = syscall(425, 4, p);
  printf("%d\n", r >= 0);
}
T(memfd_secret) {
  long r = syscall(447, 0);
  printf("%d\n", r >= 0);
}
T(times_call) {
  struct tms t;
  clock_t a = times(&t);
  nap(100);
  clock_t b = times(&t);
  CHECK(b - a >= 9 && b - a < 100);
  ERR(syscall(SYS_times, (void*)-1), EFAULT);
}
T(clocks) {
  int c[] = {0, 1, 2, 3, 4, 5, 6, 7, 11};
  for (int i = 0; i < 9; i++) {
    struct timespec t, r;
    EQ(clock_gettime(c[i], &t), 0);
    EQ(clock_getres(c[i], &r), 0);
  }
  struct timespec t;
  ERR(clock_gettime(99, &t), EINVAL);
  ERR(syscall(SYS_clock_gettime, 1, (void*)-1), EFAULT);
  ERR(syscall(SYS_clock_getres, 99, 0), EINVAL);
  EQ(clock_getres(1, 0), 0);
  ERR(clock_settime(1, &t), EINVAL);
  struct timespec s = {0, 1000000000};
  EQ(clock_nanosleep(1, 0, &s, 0), EINVAL);
  EQ(clock_nanosleep(77, 0, &s, 0), EINVAL);
  EQ(clock_nanosleep(3, 0, &s, 0), EINVAL);
  clockid_t k;
  EQ(clock_getcpuclockid(0, &k), 0);
  EQ(clock_gettime(k, &t), 0);
  pthread_getcpuclockid(pthread_self(), &k);
  EQ(clock_gettime(k, &t), 0);
}
T(sysinfo_uname) {
  struct sysinfo s;
  EQ(sysinfo(&s), 0);
  CHECK(s.uptime > 0);
  struct utsname u;
  EQ(uname(&u), 0);
  char h[65];
  gethostname(h, 65);
  EQ(strcmp(h, u.nodename), 0);
  EQ(personality(PER_LINUX | 0x0020000), personality(0xffffffff) & 0 ? 0 : 0);
}
T(getcpu_affinity_thread) {
  cpu_set_t s;
  CPU_ZERO(&s);
  CPU_SET(1, &s);
  int r = sched_setaffinity(0, sizeof s, &s);
  if (r)
    return;
  nap(10);
  EQ(sched_getcpu(), 1);
}
static char* pattern(size_t n) {
  char* data = malloc(n);
  CHECK(data);
  for (size_t i = 0; i < n; i++)
    data[i] = i * 2654435761u >> 13;
  return data;
}
// Everything in `in`, which must be what comes next of `data`.
static size_t drain(int in, const char* data) {
  static char part[1 << 16];
  size_t at = 0;
  ssize_t n;
  while ((n = read(in, part, sizeof part)) > 0) {
    CHECK(!memcmp(part, data + at, n));
    at += n;
  }
  return at;
}
// A large write that does not wait takes what there is room for, by whatever call.
static ssize_t put(int how, int fd, char* data, size_t n) {
  struct iovec v[3] = {{data, n < 5 ? n : 5}, {data + 5, 0}, {data + 5, n < 5 ? 0 : n - 5}};
  struct msghdr h = {.msg_iov = v, .msg_iovlen = 3};
  switch (how) {
    case 0:
      return write(fd, data, n);
    case 1:
      return writev(fd, v, 3);
    case 2:
      return send(fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    default:
      return sendmsg(fd, &h, MSG_DONTWAIT);
  }
}
T(large_writes_in_parts) {
  const size_t size = 5000050;
  char* data = pattern(size);
  ssize_t first = 0;
  for (int how = 0; how < 4; how++) {
    int s[2];
    EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s), 0);
    ssize_t n = put(how, s[0], data, size);
    CHECK(n > 0 && n < size);
    first = first ? first : n;
    EQ(n, first);
    ERR(put(how, s[0], data, size), EAGAIN);
    EQ(drain(s[1], data), n);
    int large = 8 << 20;
    EQ(setsockopt(s[0], SOL_SOCKET, SO_SNDBUFFORCE, &large, sizeof large), 0);
    EQ(put(how, s[0], data, size), size);
    EQ(drain(s[1], data), size);
    close(s[1]);
    signal(SIGPIPE, SIG_IGN);
    ERR(put(how, s[0], data, size), EPIPE);
    close(s[0]);
  }
  // As above, but no message is ever cut.
  int s[2];
  EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, s), 0);
  ERR(write(s[0], data, size), EMSGSIZE);
  int large = 8 << 20;
  EQ(setsockopt(s[0], SOL_SOCKET, SO_SNDBUFFORCE, &large, sizeof large), 0);
  EQ(write(s[0], data, 1000000), 1000000);
  char* back = malloc(size);
  EQ(read(s[1], back, size), 1000000);
  CHECK(!memcmp(back, data, 1000000));
}
T(large_writes_to_pipe) {
  const size_t size = 5000050;
  char* data = pattern(size);
  for (int how = 0; how < 2; how++) {
    int p[2];
    EQ(pipe2(p, O_NONBLOCK), 0);
    EQ(put(how, p[1], data, size), 65536);
    ERR(put(how, p[1], data, size), EAGAIN);
    EQ(drain(p[0], data), 65536);
    // What is beyond whole pages goes where the last page has room.
    EQ(write(p[1], data, 100), 100);
    EQ(put(how, p[1], data + 100, size), size % 4096 + 15 * 4096);
    EQ(drain(p[0], data), 100 + size % 4096 + 15 * 4096);
    EQ(fcntl(p[1], F_SETPIPE_SZ, 1 << 20), 1 << 20);
    EQ(put(how, p[1], data, size), 1 << 20);
    EQ(drain(p[0], data), 1 << 20);
    EQ(put(how, p[1], data, 700000), 700000);
    EQ(drain(p[0], data), 700000);
    // A bad page ends it where the kernel comes to it.
    char* half = mmap(0, 1 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(half + (512 << 10), 512 << 10);
    EQ(put(how, p[1], half, 1 << 20), 512 << 10);
    munmap(half, 512 << 10);
  }
  int p[2];
  EQ(pipe2(p, O_NONBLOCK | O_DIRECT), 0);
  EQ(write(p[1], data, size), 65536);
  for (int i = 0; i < 16; i++)
    EQ(read(p[0], data, size), 4096);
}
static void tcp_pair(int s[2]) {
  int l = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t n = sizeof a;
  EQ(bind(l, (void*)&a, n), 0);
  EQ(listen(l, 1), 0);
  EQ(getsockname(l, (void*)&a, &n), 0);
  s[0] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  connect(s[0], (void*)&a, n);
  s[1] = accept(l, 0, 0);
  CHECK(s[1] >= 0);
  close(l);
}
// Who waits for an edge after a short write gets it.
T(large_writes_and_edges) {
  const size_t size = 24 << 20;
  char* data = pattern(size);
  for (int tcp = 0; tcp < 2; tcp++) {
    int s[2];
    if (tcp)
      tcp_pair(s);
    else
      EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s), 0);
    pid_t p = fork();
    if (!p) {
      close(s[0]);
      fcntl(s[1], F_SETFL, 0);
      EQ(drain(s[1], data), size);
      _exit(0);
    }
    close(s[1]);
    int e = epoll_create1(0);
    struct epoll_event v = {.events = EPOLLOUT | EPOLLET};
    EQ(epoll_ctl(e, EPOLL_CTL_ADD, s[0], &v), 0);
    for (size_t at = 0; at < size;) {
      EQ(epoll_wait(e, &v, 1, -1), 1);
      ssize_t n = write(s[0], data + at, size - at);
      CHECK(n > 0 || errno == EAGAIN);
      at += n > 0 ? n : 0;
    }
    close(s[0]);
    child_ok(p);
  }
}
T(random_bytes_ended_by_a_handler) {
  const long size = 64 << 20;
  char* bytes = malloc(size);
  const int fd = open("/dev/urandom", O_RDONLY);
  on(SIGALRM, SA_RESTART);
  for (int i = 0; i < 2; i++) {
    const struct itimerval soon = {{0, 0}, {0, 30000}};
    EQ(setitimer(ITIMER_REAL, &soon, 0), 0);
    const long got = i ? read(fd, bytes, size) : syscall(SYS_getrandom, bytes, size, 0);
    if (got <= 0 || got >= size || got % 4096)
      FAIL("%ld bytes", got);
    EQ(handled[SIGALRM], i + 1);
  }
}
// Kernels older than 6.13 have no guard pages: C libraries use mprotect then.
T(guard_pages_or_none) {
  char* pages = mmap(0, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const int guard = madvise(pages + 4096, 4096, 102);
  if (guard)
    EQ(errno, EINVAL);
  if (guard)
    EQ(mprotect(pages + 4096, 4096, PROT_NONE), 0);
  unsigned action = SECCOMP_RET_KILL_PROCESS;  // where guards cannot go
  EQ(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action), 0);
  pages[0] = pages[8192] = 1;
  const pid_t child = fork();
  if (!child) {
    pages[4096] = 1;
    _exit(0);
  }
  EQ(reap(child) & 0x7f, SIGSEGV);
}
