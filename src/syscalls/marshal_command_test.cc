// Calls whose arguments depend on a command, and the many small structs.
#include <linux/capability.h>
#include <linux/fs.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/utsname.h>
#include <termios.h>
#include <unistd.h>

#include <csignal>
#include <ctime>
#include <vector>

#include "syscalls/marshal_test_util.h"

namespace tess::syscalls {
namespace {

TEST(MarshalCommand, terminal) {
  expect_same([](const Caller& call, Trace& trace) {
    int controller;
    int terminal;
    ASSERT_EQ(::openpty(&controller, &terminal, nullptr, nullptr, nullptr), 0);
    char settings[44];
    std::memset(settings, 0x44, sizeof(settings));
    trace.result("TCGETS", call(SYS_ioctl, terminal, TCGETS, settings));
    trace.memory("settings", settings, sizeof(settings));
    settings[0] = static_cast<char>(settings[0] ^ 1);
    trace.result("TCSETS", call(SYS_ioctl, terminal, TCSETS, settings));
    trace.result("TCGETS", call(SYS_ioctl, terminal, TCGETS, settings));
    trace.memory("settings", settings, sizeof(settings));
    winsize size = {24, 80, 0, 0};
    trace.result("TIOCSWINSZ", call(SYS_ioctl, terminal, TIOCSWINSZ, &size));
    size = {};
    trace.result("TIOCGWINSZ", call(SYS_ioctl, controller, TIOCGWINSZ, &size));
    trace.memory("size", &size, sizeof(size));
    ASSERT_EQ(::write(controller, "line\n", 5), 5);
    pollfd line{terminal, POLLIN, 0};  // a work queue of the kernel carries it across
    ASSERT_EQ(::poll(&line, 1, 10'000), 1);
    int pending = -1;
    trace.result("FIONREAD", call(SYS_ioctl, terminal, FIONREAD, &pending));
    trace.result("pending", pending);
    trace.result("TCFLSH", call(SYS_ioctl, terminal, TCFLSH, TCIOFLUSH));
    unsigned number = 0;
    trace.result("TIOCGPTN", call(SYS_ioctl, controller, TIOCGPTN, &number));
    trace.result("bad", call(SYS_ioctl, terminal, TCGETS, kNowhere));
    trace.result("bad fd", call(SYS_ioctl, -1, TCGETS, settings));
    int on = 1;
    trace.result("FIONBIO", call(SYS_ioctl, terminal, FIONBIO, &on));
    trace.result("FIOCLEX", call(SYS_ioctl, terminal, FIOCLEX));
    trace.result("flags", call(SYS_fcntl, terminal, F_GETFL) & O_NONBLOCK);
    trace.result("SIG", call(SYS_ioctl, controller, TIOCSIG, 999));
    ::close(controller);
    ::close(terminal);
  });
}

TEST(MarshalCommand, an_ioctl_that_tells_nothing_is_refused) {
  const OwnedFd fd(temporary_file());
  int value = 5;
  EXPECT_EQ(Caller(true)(SYS_ioctl, int{fd}, 0x9977, &value), -ENOTTY);
  EXPECT_EQ(Caller(true)(SYS_ioctl, int{fd}, 0xc0104111 /* ALSA */, &value), -ENOTTY);
  EXPECT_FALSE(carry(SYS_ioctl, {static_cast<uint64_t>(int{fd}), 0x2285, 16}).asked_home);
}

TEST(MarshalCommand, file_attributes_of_four_bytes) {
  expect_same([](const Caller& call, Trace& trace) {
    char path[] = "/tmp/tess_attributes_XXXXXX";
    const OwnedFd fd(::mkstemp(path));
    ::unlink(path);
    uint64_t flags = ~uint64_t{0};  // the kernel writes an int, whatever the number says
    trace.result("FS_IOC_GETFLAGS", call(SYS_ioctl, int{fd}, FS_IOC_GETFLAGS, &flags));
    trace.result("high half", static_cast<int64_t>(flags >> 32));
    int block = 0;
    trace.result("FIGETBSZ", call(SYS_ioctl, int{fd}, FIGETBSZ, &block));
    trace.result("block", block);
  });
}

TEST(MarshalCommand, locks_and_owners) {
  expect_same([](const Caller& call, Trace& trace) {
    const OwnedFd fd(temporary_file());
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_len = 10;
    trace.result("F_OFD_SETLK", call(SYS_fcntl, int{fd}, F_OFD_SETLK, &lock));
    trace.result("F_SETLK", call(SYS_fcntl, int{fd}, F_SETLK, &lock));
    lock.l_type = F_WRLCK;
    trace.result("F_GETLK", call(SYS_fcntl, int{fd}, F_GETLK, &lock));
    trace.memory("lock", &lock, sizeof(lock));
    struct f_owner_ex owner = {F_OWNER_PID, ::getpid()};
    trace.result("F_SETOWN_EX", call(SYS_fcntl, int{fd}, F_SETOWN_EX, &owner));
    owner = {};
    trace.result("F_GETOWN_EX", call(SYS_fcntl, int{fd}, F_GETOWN_EX, &owner));
    trace.memory("owner", &owner, sizeof(owner));
    trace.result("bad", call(SYS_fcntl, int{fd}, F_GETLK, kNowhere));
    trace.result("F_ADD_SEALS", call(SYS_fcntl, int{fd}, F_ADD_SEALS, 1));
    trace.result("F_GETFD", call(SYS_fcntl, int{fd}, F_GETFD));
    trace.result("unknown", call(SYS_fcntl, int{fd}, 4242, kNowhere));
  });
}

TEST(MarshalCommand, process_control) {
  expect_same([](const Caller& call, Trace& trace) {
    int value = -1;
    trace.result("PR_SET_PDEATHSIG", call(SYS_prctl, PR_SET_PDEATHSIG, 0));
    trace.result("PR_GET_PDEATHSIG", call(SYS_prctl, PR_GET_PDEATHSIG, &value));
    trace.result("value", value);
    char name[17] = "________________";
    trace.result("PR_SET_NAME", call(SYS_prctl, PR_SET_NAME, "marshal-test"));
    trace.result("PR_GET_NAME", call(SYS_prctl, PR_GET_NAME, name));
    trace.memory("name", name, sizeof(name));
    trace.result("PR_GET_DUMPABLE", call(SYS_prctl, PR_GET_DUMPABLE));
    trace.result("bad", call(SYS_prctl, PR_GET_NAME, kNowhere));
    trace.result("unknown", call(SYS_prctl, 9999, 1, 2, 3, 4));
    trace.result("PR_CAPBSET_READ", call(SYS_prctl, PR_CAPBSET_READ, 1));
  });
}

TEST(MarshalCommand, small_structs) {
  expect_same([](const Caller& call, Trace& trace) {
    utsname names;
    std::memset(&names, 0x66, sizeof(names));
    trace.result("uname", call(SYS_uname, &names));
    trace.memory("names", &names, sizeof(names));
    rlimit limit{};
    trace.result("prlimit", call(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit));
    trace.memory("limit", &limit, sizeof(limit));
    trace.result("prlimit", call(SYS_prlimit64, 0, RLIMIT_NOFILE, &limit, nullptr));
    trace.result("bad", call(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, kNowhere));
    uid_t ids[3] = {99, 99, 99};
    trace.result("getresuid", call(SYS_getresuid, ids, ids + 1, ids + 2));
    trace.memory("ids", ids, sizeof(ids));
    struct sysinfo info {};
    trace.result("sysinfo", call(SYS_sysinfo, &info));
    trace.result("memory", static_cast<int64_t>(info.totalram));
    tms used{};
    trace.result("times", call(SYS_times, &used) > 0);
    trace.result("times NULL", call(SYS_times, nullptr) > 0);
    uint64_t mask = 0;
    trace.result("rt_sigprocmask", call(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, &mask, 8));
    trace.memory("mask", &mask, 8);
    trace.result("bad size", call(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, &mask, 4));
    trace.result("rt_sigpending", call(SYS_rt_sigpending, &mask, 8));
    unsigned char cpus[128];
    std::memset(cpus, 0x88, sizeof(cpus));
    trace.result("sched_getaffinity", call(SYS_sched_getaffinity, 0, sizeof(cpus), cpus));
    trace.memory("cpus", cpus, sizeof(cpus));
    trace.result("sched_setaffinity", call(SYS_sched_setaffinity, 0, sizeof(cpus), cpus));
    struct {
      uint32_t size, policy;
      uint64_t rest[6];
    } attributes{};
    trace.result("sched_getattr", call(SYS_sched_getattr, 0, &attributes, 56, 0));
    trace.memory("attributes", &attributes, sizeof(attributes));
    attributes.size = 48;
    trace.result("sched_setattr", call(SYS_sched_setattr, 0, &attributes, 0));
    attributes.size = 20;
    trace.result("sched_setattr short", call(SYS_sched_setattr, 0, &attributes, 0));
    trace.result("wanted", attributes.size);
  });
}

TEST(MarshalCommand, groups_and_capabilities) {
  expect_same([](const Caller& call, Trace& trace) {
    const int64_t count = call(SYS_getgroups, 0, nullptr);
    trace.result("count", count);
    std::vector<gid_t> groups(32, 4711);
    trace.result("getgroups", call(SYS_getgroups, 32, groups.data()));
    trace.memory("groups", groups.data(), groups.size() * 4);
    trace.result("negative", call(SYS_getgroups, -1, groups.data()));
    trace.result("huge", call(SYS_setgroups, 1 << 20, groups.data()));
    __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2] = {};
    trace.result("capget", call(SYS_capget, &header, data));
    trace.memory("data", data, sizeof(data));
    trace.result("capset", call(SYS_capset, &header, data));
    header.version = 1;
    trace.result("version", call(SYS_capget, &header, nullptr));
    trace.memory("header", &header, sizeof(header));
  });
}

TEST(MarshalCommand, timers) {
  expect_same([](const Caller& call, Trace& trace) {
    const int64_t fd = call(SYS_timerfd_create, CLOCK_MONOTONIC, TFD_CLOEXEC);
    itimerspec when = {{0, 0}, {1000, 0}};
    itimerspec old{};
    trace.result("timerfd_settime", call(SYS_timerfd_settime, fd, 0, &when, nullptr));
    trace.result("timerfd_gettime", call(SYS_timerfd_gettime, fd, &old));
    trace.result("about", old.it_value.tv_sec / 10);
    call(SYS_close, fd);
    sigevent event{};
    event.sigev_notify = SIGEV_NONE;
    int id = -1;
    trace.result("timer_create", call(SYS_timer_create, CLOCK_MONOTONIC, &event, &id));
    trace.result("timer_settime", call(SYS_timer_settime, id, 0, &when, &old));
    trace.result("timer_gettime", call(SYS_timer_gettime, id, &old));
    trace.result("about", old.it_value.tv_sec / 10);
    trace.result("timer_delete", call(SYS_timer_delete, id));
    itimerval interval{};
    trace.result("setitimer", call(SYS_setitimer, ITIMER_REAL, &interval, nullptr));
    trace.result("getitimer", call(SYS_getitimer, ITIMER_REAL, &interval));
    const uint64_t mask = uint64_t{1} << (SIGUSR1 - 1);
    const int64_t signals = call(SYS_signalfd4, -1, &mask, 8, SFD_CLOEXEC | SFD_NONBLOCK);
    char record[128];
    trace.result("signalfd", call(SYS_read, signals, record, sizeof(record)));
    call(SYS_close, signals);
    const timespec none = {0, 0};
    trace.result("rt_sigtimedwait", call(SYS_rt_sigtimedwait, &mask, nullptr, &none, 8));
  });
}

TEST(MarshalCommand, signals_with_values) {
  expect_same([](const Caller& call, Trace& trace) {
    const uint64_t mask = uint64_t{1} << (SIGRTMIN + 3 - 1);
    uint64_t old = 0;
    call(SYS_rt_sigprocmask, SIG_BLOCK, &mask, &old, 8);
    siginfo_t info{};
    info.si_signo = SIGRTMIN + 3;
    info.si_code = SI_QUEUE;
    info.si_value.sival_int = 4242;
    trace.result("rt_sigqueueinfo", call(SYS_rt_sigqueueinfo, ::getpid(), SIGRTMIN + 3, &info));
    siginfo_t got{};
    const timespec wait = {1, 0};
    trace.result("rt_sigtimedwait", call(SYS_rt_sigtimedwait, &mask, &got, &wait, 8));
    trace.result("value", got.si_value.sival_int);
    call(SYS_rt_sigprocmask, SIG_SETMASK, &old, nullptr, 8);
  });
}

TEST(MarshalCommand, system_v_messages_and_semaphores) {
  expect_same([](const Caller& call, Trace& trace) {
    const int64_t queue = call(SYS_msgget, IPC_PRIVATE, 0600);
    struct {
      long type;
      char text[32];
    } message = {3, "system five"};
    trace.result("msgsnd", call(SYS_msgsnd, queue, &message, 12, 0));
    std::memset(&message, 0x2e, sizeof(message));
    trace.result("msgrcv", call(SYS_msgrcv, queue, &message, 32, 0, 0));
    trace.memory("message", &message, sizeof(message));
    trace.result("msgrcv none", call(SYS_msgrcv, queue, &message, 32, 0, IPC_NOWAIT));
    trace.memory("message", &message, sizeof(message));
    msqid_ds status{};
    trace.result("IPC_STAT", call(SYS_msgctl, queue, IPC_STAT, &status));
    trace.result("mode", status.msg_perm.mode);
    trace.result("IPC_RMID", call(SYS_msgctl, queue, IPC_RMID, nullptr));
    const int64_t set = call(SYS_semget, IPC_PRIVATE, 3, 0600);
    const std::vector<unsigned short> values = {4, 5, 6};
    std::vector<unsigned short> back(5, 0x7777);
    trace.result("SETALL", call(SYS_semctl, set, 0, SETALL, values.data()));
    sembuf operations[2] = {{0, -1, 0}, {2, 3, 0}};
    trace.result("semop", call(SYS_semop, set, operations, 2));
    trace.result("GETALL", call(SYS_semctl, set, 0, GETALL, back.data()));
    trace.memory("values", back.data(), 10);
    trace.result("GETVAL", call(SYS_semctl, set, 1, GETVAL, 0));
    const timespec none = {0, 1000};
    sembuf waiting = {0, -100, 0};
    trace.result("semtimedop", call(SYS_semtimedop, set, &waiting, 1, &none));
    trace.result("IPC_RMID", call(SYS_semctl, set, 0, IPC_RMID, 0));
  });
}

TEST(MarshalCommand, copies_between_files) {
  expect_same([](const Caller& call, Trace& trace) {
    const OwnedFd from(temporary_file());
    const OwnedFd to(temporary_file());
    ASSERT_EQ(::write(from, "0123456789", 10), 10);
    int64_t offset = 2;
    trace.result("sendfile", call(SYS_sendfile, int{to}, int{from}, &offset, 3));
    trace.result("offset", offset);
    int64_t out = 5;
    trace.result("copy_file_range",
                 call(SYS_copy_file_range, int{from}, &offset, int{to}, &out, 4, 0));
    trace.result("offsets", offset * 100 + out);
    int pipes[2];
    trace.result("pipe", call(SYS_pipe, pipes));
    offset = 1;
    trace.result("splice", call(SYS_splice, int{from}, &offset, pipes[1], nullptr, 6, 0));
    trace.result("offset", offset);
    char text[16] = {};
    trace.result("read", call(SYS_read, pipes[0], text, sizeof(text)));
    trace.memory("text", text, sizeof(text));
    trace.result("pread", call(SYS_pread64, int{to}, text, sizeof(text), 0));
    trace.memory("text", text, sizeof(text));
    ::close(pipes[0]);
    ::close(pipes[1]);
  });
}

TEST(MarshalCommand, file_handles) {
  expect_same([](const Caller& call, Trace& trace) {
    struct {
      uint32_t bytes;
      int type;
      unsigned char handle[128];
    } handle{};
    int mount = -1;
    trace.result("size", call(SYS_name_to_handle_at, AT_FDCWD, "/tmp", &handle, &mount, 0));
    trace.result("bytes", handle.bytes);
    trace.result("handle", call(SYS_name_to_handle_at, AT_FDCWD, "/tmp", &handle, &mount, 0));
    trace.memory("handle", &handle, 8 + 32);
    trace.result("mount", mount);
  });
}

TEST(MarshalCommand, message_queues) {
  expect_same([](const Caller& call, Trace& trace) {
    struct {
      long flags, most, size, now, reserved[4];
    } attributes = {0, 4, 64, 0, {}};
    const int64_t queue =
        call(SYS_mq_open, "tess_marshal_test", O_CREAT | O_RDWR | O_NONBLOCK, 0600, &attributes);
    trace.result("mq_open", queue < 0 ? queue : 0);
    trace.result("unlink", call(SYS_mq_unlink, "tess_marshal_test"));
    trace.result("send", call(SYS_mq_timedsend, queue, "posix", 5, 7, nullptr));
    char text[64];
    std::memset(text, 0x3c, sizeof(text));
    unsigned priority = 0;
    trace.result("receive", call(SYS_mq_timedreceive, queue, text, 64, &priority, nullptr));
    trace.memory("text", text, sizeof(text));
    trace.result("priority", priority);
    trace.result("short", call(SYS_mq_timedreceive, queue, text, 10, &priority, nullptr));
    trace.result("attributes", call(SYS_mq_getsetattr, queue, nullptr, &attributes));
    trace.memory("attributes", &attributes, sizeof(attributes));
    call(SYS_close, queue);
  });
}

}  // namespace
}  // namespace tess::syscalls
