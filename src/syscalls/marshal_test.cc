// Files, buffers, iovecs, polling and exec: what a carried call does is what a direct one does.
#include "stub/marshal.h"

#include <linux/openat2.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>

#include "syscalls/marshal_test_util.h"

namespace tess::syscalls {
namespace {

TEST(Marshal, plain_values) {
  expect_same([](const Caller& call, Trace& trace) {
    trace.result("getppid", call(SYS_getppid));
    trace.result("close", call(SYS_close, -1));
    trace.result("lseek", call(SYS_lseek, -1, 0, SEEK_SET));
    trace.result("getpgid", call(SYS_getpgid, 0));
  });
}

TEST(Marshal, reads_and_writes) {
  expect_same([](const Caller& call, Trace& trace) {
    const OwnedFd fd(temporary_file());
    char buffer[32] = "unchanged content";
    trace.result("write", call(SYS_write, int{fd}, "hello world", 11));
    trace.result("pread", call(SYS_pread64, int{fd}, buffer, sizeof(buffer), 6));
    trace.memory("buffer", buffer, sizeof(buffer));
    trace.result("read at end", call(SYS_read, int{fd}, buffer, sizeof(buffer)));
    trace.result("read nothing", call(SYS_read, int{fd}, nullptr, 0));
    trace.result("write nothing", call(SYS_write, int{fd}, kNowhere, 0));
    trace.result("read NULL", call(SYS_pread64, int{fd}, nullptr, 4, 0));
    trace.result("read nowhere", call(SYS_pread64, int{fd}, kNowhere, 4, 0));
    trace.result("write nowhere", call(SYS_write, int{fd}, kNowhere, 4));
    trace.result("bad fd before bad buffer", call(SYS_write, 9999, kNowhere, 4));
    trace.result("negative size", call(SYS_read, int{fd}, buffer, -1));
    trace.result("read-only memory", call(SYS_pread64, int{fd}, "constant", 4, 0));
  });
}

TEST(Marshal, only_what_was_read_comes_back) {
  const OwnedFd fd(temporary_file());
  ASSERT_EQ(::write(fd, "abc", 3), 3);
  std::vector<char> buffer(1 << 20);
  const Carried carried =
      carry(SYS_pread64, {static_cast<uint64_t>(int{fd}), reinterpret_cast<uint64_t>(buffer.data()),
                          buffer.size(), 0});
  EXPECT_EQ(carried.result, 3);
  EXPECT_LT(carried.request_bytes, 256U);
  EXPECT_LT(carried.reply_bytes, 128U);
}

TEST(Marshal, large_transfers_are_whole) {
  std::string data(3 << 20, 'x');
  for (size_t i = 0; i < data.size(); ++i) {
    data[i] = static_cast<char>(i * 2654435761U >> 13);
  }
  const OwnedFd fd(temporary_file());
  const Caller call(true);
  EXPECT_EQ(call(SYS_write, int{fd}, data.data(), data.size()), int64_t(data.size()));
  std::string back(data.size(), '\0');
  EXPECT_EQ(call(SYS_pread64, int{fd}, back.data(), back.size(), 0), int64_t(back.size()));
  EXPECT_EQ(back, data);
}

// What a request carries of one long write.
std::string carried_part(uint64_t number, const Args& args, const stub::Part& part) {
  auto plan = std::make_unique<stub::Plan>();
  EXPECT_EQ(stub::plan_part(*plan, *syscall_info(number), args.data(), part), 0);
  std::string bytes;
  const auto append = [](void* context, const void* from, size_t n) {
    static_cast<std::string*>(context)->append(static_cast<const char*>(from), n);
    return true;
  };
  const auto append_app = [](void* context, uint64_t from, size_t n) {
    static_cast<std::string*>(context)->append(reinterpret_cast<const char*>(from), n);
    return true;
  };
  EXPECT_TRUE(stub::write_request(*plan, {&bytes, append, append_app}));
  const uint32_t size = plan->segments[plan->request.segment_count - 1].in_size;
  return bytes.substr(bytes.size() - (size + 7) / 8 * 8, size);
}

TEST(Marshal, a_write_goes_in_parts) {
  char text[] = "abcdefghijklmnop";
  iovec vector[3] = {{text, 3}, {nullptr, 0}, {text + 3, 13}};
  msghdr message{};
  message.msg_iov = vector;
  message.msg_iovlen = 3;
  const Args write = {1, reinterpret_cast<uint64_t>(text), 16};
  const Args writev = {1, reinterpret_cast<uint64_t>(vector), 3};
  const Args sendmsg = {1, reinterpret_cast<uint64_t>(&message)};
  for (const auto& [number, args] :
       {std::pair(SYS_write, write), {SYS_writev, writev}, {SYS_sendmsg, sendmsg}}) {
    EXPECT_EQ(carried_part(number, args, {0, 2}), "ab") << number;
    EXPECT_EQ(carried_part(number, args, {2, 4}), "cdef") << number;
    EXPECT_EQ(carried_part(number, args, {5, 100}), "fghijklmnop") << number;
  }
}

TEST(Marshal, the_rest_of_a_receive_goes_behind_what_is_there) {
  const std::string data = "abcdefghijklmnop";
  for (const int64_t number : {SYS_recvfrom, SYS_recvmsg}) {
    std::string buffer = "01234567........";
    iovec vector[2] = {{buffer.data(), 3}, {buffer.data() + 3, 13}};
    msghdr message{};
    message.msg_iov = vector;
    message.msg_iovlen = 2;
    const Args args =
        number == SYS_recvmsg
            ? Args{1, reinterpret_cast<uint64_t>(&message), MSG_WAITALL}
            : Args{1, reinterpret_cast<uint64_t>(buffer.data()), buffer.size(), MSG_WAITALL};
    auto plan = std::make_unique<stub::Plan>();
    EXPECT_EQ(stub::plan_part(*plan, *syscall_info(static_cast<uint64_t>(number)), args.data(),
                              {8, stub::kTransferMax}),
              0);
    uint32_t wanted = 0;
    for (uint32_t i = 0; i < plan->request.segment_count; ++i) {
      const stub::Segment& segment = plan->segments[i];
      wanted = segment.trim == stub::kTrimResult ? segment.out_size : wanted;
    }
    EXPECT_EQ(wanted, 8u) << number;
  }
}

TEST(Marshal, buffers_that_end_at_a_bad_page_are_shortened_as_by_the_kernel) {
  expect_same([](const Caller& call, Trace& trace) {
    const GuardedPages pages;
    std::memset(pages.begin(), 'p', 8192);
    const OwnedFd file(temporary_file());
    trace.result("write", call(SYS_write, int{file}, pages.end() - 100, 300));
    trace.result("pwrite", call(SYS_pwrite64, int{file}, pages.end() - 5000, 9000, 200));
    trace.result("size", call(SYS_lseek, int{file}, 0, SEEK_END));
    call(SYS_lseek, int{file}, 0, SEEK_SET);
    std::memset(pages.begin(), 0, 8192);
    trace.result("read", call(SYS_read, int{file}, pages.end() - 50, 100));
    trace.result("pread", call(SYS_pread64, int{file}, pages.end() - 4200, 5000, 10));
    trace.result("position", call(SYS_lseek, int{file}, 0, SEEK_CUR));
    trace.memory("pages", pages.end() - 4300, 4300);
    int pipe_fds[2];
    trace.result("pipe", call(SYS_pipe2, pipe_fds, O_NONBLOCK));
    trace.result("pipe write", call(SYS_write, pipe_fds[1], pages.end() - 10, 20));
    trace.result("pipe read", call(SYS_read, pipe_fds[0], pages.begin(), 100));
    ::close(pipe_fds[0]);
    ::close(pipe_fds[1]);
  });
}

TEST(Marshal, iovecs) {
  expect_same([](const Caller& call, Trace& trace) {
    const GuardedPages pages;
    const OwnedFd fd(temporary_file());
    std::memcpy(pages.end() - 4100, "crossing a page", 15);
    iovec out[4] = {
        {pages.end() - 4100, 4096}, {nullptr, 0}, {pages.begin(), 3}, {pages.end() - 4, 4}};
    trace.result("writev", call(SYS_writev, int{fd}, out, 4));
    trace.result("pwritev", call(SYS_pwritev, int{fd}, out, 2, 100, 0));
    trace.result("pwritev2", call(SYS_pwritev2, int{fd}, out, 2, -1, -1, 0));
    std::memset(pages.begin(), 0, 8192);
    iovec in[3] = {{pages.begin() + 4090, 10}, {pages.begin(), 7}, {pages.begin() + 100, 8000}};
    trace.result("preadv", call(SYS_preadv, int{fd}, in, 3, 0, 0));
    call(SYS_lseek, int{fd}, 3, SEEK_SET);
    trace.result("readv", call(SYS_readv, int{fd}, in, 2));
    trace.memory("pages", pages.begin(), 8192);
    trace.result("none", call(SYS_writev, int{fd}, kNowhere, 0));
    trace.result("vector nowhere", call(SYS_writev, int{fd}, kNowhere, 1));
    trace.result("too many", call(SYS_writev, int{fd}, out, 1025));
    iovec negative[2] = {{pages.begin(), 4}, {pages.begin(), size_t(-5)}};
    trace.result("negative", call(SYS_writev, int{fd}, negative, 2));
    iovec bad[2] = {{pages.begin(), 10}, {kNowhere, 10}};
    trace.result("second bad, write", call(SYS_writev, int{fd}, bad, 2));
    call(SYS_lseek, int{fd}, 0, SEEK_SET);
    trace.result("second bad, read", call(SYS_readv, int{fd}, bad, 2));
    iovec first_bad[2] = {{kNowhere, 10}, {pages.begin(), 10}};
    trace.result("first bad", call(SYS_writev, int{fd}, first_bad, 2));
    trace.result("size", call(SYS_lseek, int{fd}, 0, SEEK_END));
  });
}

TEST(Marshal, a_thousand_pieces) {
  const OwnedFd fd(temporary_file());
  std::string text(1024 * 3, ' ');
  std::vector<iovec> pieces;
  for (size_t i = 0; i < 1024; ++i) {
    std::memcpy(&text[i * 3], "ab", 2);
    pieces.push_back({&text[i * 3], i % 2 ? 2U : 1U});
  }
  const Caller call(true);
  EXPECT_EQ(call(SYS_writev, int{fd}, pieces.data(), pieces.size()), 1536);
  std::string again = text;
  EXPECT_EQ(call(SYS_preadv, int{fd}, pieces.data(), pieces.size(), 0, 0), 1536);
  EXPECT_EQ(again, text);
}

TEST(Marshal, paths_and_metadata) {
  char directory[] = "/tmp/tess_marshal_XXXXXX";
  ASSERT_NE(::mkdtemp(directory), nullptr);
  const std::string dir = directory;
  expect_same([&](const Caller& call, Trace& trace) {
    const auto path = [&](const char* name) { return dir + "/" + name; };
    trace.result("mkdir", call(SYS_mkdir, path("d").c_str(), 0700));
    const int64_t fd = call(SYS_openat, AT_FDCWD, path("d/f").c_str(), O_CREAT | O_RDWR, 0600);
    trace.result("open", fd < 0 ? fd : 0);
    trace.result("close", call(SYS_close, fd));
    trace.result("symlink", call(SYS_symlink, "d/f", path("link").c_str()));
    char text[100] = {};
    trace.result("readlink", call(SYS_readlink, path("link").c_str(), text, 100));
    trace.result("readlink 2", call(SYS_readlink, path("link").c_str(), text + 50, 2));
    trace.result("readlink 0", call(SYS_readlink, path("link").c_str(), text + 50, 0));
    trace.result("readlink -1", call(SYS_readlink, path("link").c_str(), text + 50, -1));
    trace.memory("text", text, 100);
    struct stat status {};
    trace.result("stat", call(SYS_stat, path("d/f").c_str(), &status));
    trace.result("mode", status.st_mode);
    trace.result("lstat", call(SYS_lstat, path("link").c_str(), &status));
    trace.result("mode", status.st_mode);
    trace.result("newfstatat", call(SYS_newfstatat, AT_FDCWD, path("d").c_str(), &status, 0));
    struct statx more {};
    trace.result("statx", call(SYS_statx, AT_FDCWD, path("d/f").c_str(), 0, STATX_ALL, &more));
    trace.result("mode", more.stx_mode);
    struct statfs fs {};
    trace.result("statfs", call(SYS_statfs, dir.c_str(), &fs));
    trace.result("type", static_cast<int64_t>(fs.f_type));
    const timespec times[2] = {{1000, 5}, {2000, 7}};
    trace.result("utimensat", call(SYS_utimensat, AT_FDCWD, path("d/f").c_str(), times, 0));
    trace.result("stat", call(SYS_stat, path("d/f").c_str(), &status));
    trace.memory("mtime", &status.st_mtim, 16);
    open_how how{.flags = O_RDONLY, .mode = 0, .resolve = RESOLVE_NO_SYMLINKS};
    trace.result("openat2", call(SYS_openat2, AT_FDCWD, path("link").c_str(), &how, sizeof(how)));
    trace.result("setxattr", call(SYS_setxattr, path("d/f").c_str(), "user.t", "value", 5, 0));
    trace.result("xattr size", call(SYS_getxattr, path("d/f").c_str(), "user.t", nullptr, 0));
    trace.result("getxattr", call(SYS_getxattr, path("d/f").c_str(), "user.t", text, 100));
    trace.result("range", call(SYS_getxattr, path("d/f").c_str(), "user.t", text, 2));
    trace.result("listxattr", call(SYS_listxattr, path("d/f").c_str(), text, 100));
    trace.memory("text", text, 100);
    trace.result("rename", call(SYS_renameat2, AT_FDCWD, path("d/f").c_str(), AT_FDCWD,
                                path("g").c_str(), 0));
    trace.result("rmdir", call(SYS_rmdir, path("d").c_str()));
    trace.result("unlink", call(SYS_unlink, path("g").c_str()));
    trace.result("unlink", call(SYS_unlink, path("link").c_str()));
  });
  ::rmdir(directory);
}

TEST(Marshal, path_errors_come_in_the_kernels_order) {
  expect_same([](const Caller& call, Trace& trace) {
    struct stat status {};
    trace.result("nowhere", call(SYS_stat, kNowhere, &status));
    trace.result("NULL", call(SYS_stat, nullptr, &status));
    trace.result("empty", call(SYS_stat, "", &status));
    trace.result("missing, bad buffer", call(SYS_stat, "/no/such", kNowhere));
    trace.result("there, bad buffer", call(SYS_stat, "/", kNowhere));
    const std::string long_path(5000, 'a');
    const std::string limit(4096, 'a');
    const std::string just_fits(4095, 'a');
    trace.result("too long", call(SYS_stat, long_path.c_str(), &status));
    trace.result("limit", call(SYS_stat, limit.c_str(), &status));
    trace.result("one name too long", call(SYS_stat, just_fits.c_str(), &status));
    const GuardedPages pages;
    std::memset(pages.begin(), '/', 8192);
    trace.result("no end", call(SYS_stat, pages.end() - 10, &status));
    pages.end()[-1] = 0;
    trace.result("ends in time", call(SYS_stat, pages.end() - 10, &status));
    trace.result("bad flags first", call(SYS_newfstatat, AT_FDCWD, kNowhere, &status, 0x8000000));
    trace.result("getcwd short", call(SYS_getcwd, pages.begin(), 0));
    trace.result("getcwd bad", call(SYS_getcwd, kNowhere, 4096));
  });
}

// The kernel leaves the padding after a name as it finds it; nobody reads it.
void clear_padding(std::vector<char>& entries, int64_t size) {
  for (int64_t at = 0; at < size;) {
    uint16_t length;
    std::memcpy(&length, &entries[static_cast<size_t>(at) + 16], sizeof(length));
    char* name = &entries[static_cast<size_t>(at) + 19];
    char* const end = &entries[static_cast<size_t>(at)] + length;
    std::fill(name + std::strlen(name), end, '\0');
    at += length;
  }
}

TEST(Marshal, directories_and_working_directory) {
  expect_same([](const Caller& call, Trace& trace) {
    const OwnedFd fd(::open("/usr/include/linux", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    std::vector<char> buffer(16384);
    int64_t got = 0;
    std::fill(buffer.begin(), buffer.end(), 'z');
    while ((got = call(SYS_getdents64, int{fd}, buffer.data(), buffer.size())) > 0) {
      trace.result("getdents64", got);
      clear_padding(buffer, got);
      trace.memory("entries", buffer.data(), buffer.size());
    }
    trace.result("end", got);
    trace.result("bad", call(SYS_getdents64, int{fd}, buffer.data(), 3));
    char cwd[4096] = {};
    trace.result("getcwd", call(SYS_getcwd, cwd, sizeof(cwd)));
    trace.memory("cwd", cwd, 100);
  });
}

TEST(Marshal, poll_writes_revents_only) {
  expect_same([](const Caller& call, Trace& trace) {
    const OwnedFd ready(::eventfd(1, EFD_CLOEXEC));
    const OwnedFd idle(::eventfd(0, EFD_CLOEXEC));
    pollfd fds[3] = {{ready, POLLIN, 77}, {idle, POLLIN, 77}, {-1, POLLIN, 77}};
    trace.result("poll", call(SYS_poll, fds, 3, 0));
    trace.memory("revents", &fds[0].revents, 2);
    trace.memory("revents", &fds[1].revents, 2);
    trace.memory("revents", &fds[2].revents, 2);
    timespec timeout = {0, 1000};
    trace.result("ppoll", call(SYS_ppoll, fds + 1, 1, &timeout, nullptr, 8));
    trace.result("timeout left", timeout.tv_sec * 1000000000 + timeout.tv_nsec);
    static const timespec constant = {0, 1000};
    trace.result("ppoll, constant", call(SYS_ppoll, fds + 1, 1, &constant, nullptr, 8));
    trace.result("nowhere", call(SYS_poll, kNowhere, 1, 0));
    trace.result("none", call(SYS_poll, nullptr, 0, 0));
    trace.result("far too many", call(SYS_poll, fds, 1 << 30, 0));
  });
}

TEST(Marshal, poll_leaves_a_pollfd_to_the_thread_that_changes_it) {
  const OwnedFd event(::eventfd(0, EFD_CLOEXEC));
  pollfd fds[2] = {{event, POLLIN, 0}, {-1, POLLIN, 0}};
  const std::string path = fmt::format("/proc/self/task/{}/syscall", ::gettid());
  std::thread other([&] {
    std::string number;
    while (number != fmt::format("{}", SYS_poll)) {  // until the caller waits
      std::ifstream(path) >> number;
    }
    std::atomic_ref(fds[1].events).store(POLLOUT);
    const uint64_t one = 1;
    EXPECT_EQ(::write(event, &one, sizeof(one)), 8);
  });
  EXPECT_EQ(Caller(true)(SYS_poll, fds, 2, -1), 1);
  other.join();
  EXPECT_EQ(fds[1].events, POLLOUT);
}

TEST(Marshal, select_in_its_two_forms) {
  expect_same([](const Caller& call, Trace& trace) {
    const OwnedFd ready(::fcntl(OwnedFd(::eventfd(1, EFD_CLOEXEC)), F_DUPFD_CLOEXEC, 300));
    const OwnedFd idle(::fcntl(OwnedFd(::eventfd(0, EFD_CLOEXEC)), F_DUPFD_CLOEXEC, 301));
    fd_set read_set;
    fd_set write_set;
    const auto prepare = [&] {
      FD_ZERO(&read_set);
      FD_ZERO(&write_set);
      FD_SET(ready, &read_set);
      FD_SET(idle, &read_set);
      FD_SET(idle, &write_set);
    };
    prepare();
    timeval timeout = {0, 500};
    trace.result("select", call(SYS_select, 302, &read_set, &write_set, nullptr, &timeout));
    trace.memory("read", &read_set, sizeof(read_set));
    trace.memory("write", &write_set, sizeof(write_set));
    prepare();
    FD_CLR(ready, &read_set);
    timespec wait = {0, 1000};
    uint64_t mask = 0;
    const uint64_t pair[2] = {reinterpret_cast<uint64_t>(&mask), 8};
    trace.result("pselect6", call(SYS_pselect6, 302, &read_set, nullptr, nullptr, &wait, pair));
    trace.memory("read", &read_set, sizeof(read_set));
    trace.memory("left", &wait, sizeof(wait));
    const uint64_t bad_pair[2] = {16, 8};
    trace.result("bad mask", call(SYS_pselect6, 0, nullptr, nullptr, nullptr, &wait, bad_pair));
    const uint64_t bad_size[2] = {reinterpret_cast<uint64_t>(&mask), 4};
    trace.result("bad size", call(SYS_pselect6, 0, nullptr, nullptr, nullptr, &wait, bad_size));
    trace.result("bad pair", call(SYS_pselect6, 0, nullptr, nullptr, nullptr, &wait, kNowhere));
    trace.result("negative", call(SYS_select, -1, &read_set, nullptr, nullptr, &timeout));
    trace.result("nowhere", call(SYS_select, 5, kNowhere, nullptr, nullptr, &timeout));
  });
}

TEST(Marshal, epoll) {
  expect_same([](const Caller& call, Trace& trace) {
    const OwnedFd ready(::eventfd(1, EFD_CLOEXEC));
    const OwnedFd epoll(::epoll_create1(EPOLL_CLOEXEC));
    epoll_event event{.events = EPOLLIN, .data = {.u64 = 0x1122334455667788}};
    trace.result("add", call(SYS_epoll_ctl, int{epoll}, EPOLL_CTL_ADD, int{ready}, &event));
    trace.result("again", call(SYS_epoll_ctl, int{epoll}, EPOLL_CTL_ADD, int{ready}, &event));
    trace.result("bad", call(SYS_epoll_ctl, int{epoll}, EPOLL_CTL_ADD, int{ready}, kNowhere));
    epoll_event got[4] = {};
    trace.result("wait", call(SYS_epoll_wait, int{epoll}, got, 4, 0));
    trace.memory("events", got, sizeof(got));
    std::memset(got, 0, sizeof(got));
    trace.result("pwait", call(SYS_epoll_pwait, int{epoll}, got, 1, 0, nullptr, 8));
    const timespec none = {0, 0};
    trace.result("pwait2", call(SYS_epoll_pwait2, int{epoll}, got + 1, 1, &none, nullptr, 8));
    trace.memory("events", got, sizeof(got));
    trace.result("no room", call(SYS_epoll_wait, int{epoll}, got, 0, 0));
    trace.result("negative", call(SYS_epoll_wait, int{epoll}, got, -1, 0));
    trace.result("delete", call(SYS_epoll_ctl, int{epoll}, EPOLL_CTL_DEL, int{ready}, nullptr));
    trace.result("wait", call(SYS_epoll_wait, int{epoll}, got, 4, 0));
  });
}

TEST(Marshal, children) {
  expect_same([](const Caller& call, Trace& trace) {
    int status = 0x55;
    rusage usage;
    trace.result("none", call(SYS_wait4, -1, &status, 0, &usage));
    const pid_t child = ::fork();
    if (child == 0) {
      ::pause();
      ::_exit(0);
    }
    trace.result("running", call(SYS_wait4, child, &status, WNOHANG, nullptr));
    trace.result("untouched", status);
    siginfo_t info;
    std::memset(&info, 0x33, sizeof(info));
    trace.result("waitid running",
                 call(SYS_waitid, P_PID, child, &info, WEXITED | WNOHANG, nullptr));
    trace.memory("siginfo", &info, 16);
    trace.memory("beyond", reinterpret_cast<char*>(&info) + 28, 100);
    ::kill(child, SIGKILL);
    trace.result("waitid", call(SYS_waitid, P_PID, child, &info, WEXITED | WNOWAIT, &usage));
    trace.result("code", info.si_code * 1000 + info.si_status);
    trace.result("wait4", call(SYS_wait4, child, &status, 0, &usage) == child);
    trace.result("status", status);
  });
}

TEST(Marshal, exec) {
  expect_same([](const Caller& call, Trace& trace) {
    int out[2];
    ASSERT_EQ(::pipe2(out, O_CLOEXEC), 0);
    const std::string big(100000, 'B');
    const char* argv[] = {"sh",        "-c",   "echo \"$0:$1:${#2}:$V:$#\"; exit 7", "zero", "",
                          big.c_str(), nullptr};
    const char* envp[] = {"V=value", "W=", nullptr};
    const pid_t child = ::fork();
    if (child == 0) {
      ::dup2(out[1], 1);
      call(SYS_execve, "/bin/sh", argv, envp);
      ::_exit(1);
    }
    ::close(out[1]);
    char text[200] = {};
    trace.result("output", ::read(out[0], text, sizeof(text)));
    ::close(out[0]);
    trace.memory("text", text, sizeof(text));
    int status = 0;
    ::waitpid(child, &status, 0);
    trace.result("status", status);
    trace.result("missing", call(SYS_execve, "/no/such", argv, envp));
    trace.result("missing, bad argv", call(SYS_execve, "/no/such", kNowhere, envp));
    const char* bad[] = {"true", kNowhere, nullptr};
    trace.result("bad string", call(SYS_execve, "/bin/true", bad, envp));
    const std::string too_long(200000, 'l');
    const char* long_argv[] = {"true", too_long.c_str(), nullptr};
    trace.result("too long", call(SYS_execve, "/bin/true", long_argv, envp));
  });
}

TEST(Marshal, exec_of_fifty_thousand_arguments) {
  std::vector<std::string> names;
  for (int i = 0; i < 50000; ++i) {
    names.push_back(fmt::format("f{}", i));
  }
  std::vector<const char*> argv = {"/bin/sh", "-c", "test $# = 50000 && test $1 = f0", "sh"};
  for (const auto& name : names) {
    argv.push_back(name.c_str());
  }
  argv.push_back(nullptr);
  const char* envp[] = {nullptr};
  const pid_t child = ::fork();
  if (child == 0) {
    Caller(true)(SYS_execveat, AT_FDCWD, "/bin/sh", argv.data(), envp, 0);
    ::_exit(99);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(Marshal, a_reply_that_does_not_fit_the_plan_is_refused) {
  auto plan = std::make_unique<stub::Plan>();
  char buffer[16] = {};
  const uint64_t args[6] = {0, reinterpret_cast<uint64_t>(buffer), 16, 0, 0, 0};
  ASSERT_EQ(stub::plan_call(*plan, *syscall_info(SYS_read), args), 0);
  uint32_t header[2] = {17, 0};  // one byte more than asked for
  int64_t result = 17;
  const stub::ReplyReader reader = {header,
                                    [](void* context, void* to, size_t n) {
                                      std::memcpy(to, context, std::min<size_t>(n, 8));
                                      return n <= 8;
                                    },
                                    [](void*, uint64_t, size_t, size_t*) { return false; }};
  EXPECT_FALSE(stub::finish_call(*plan, &result, reader));
}

}  // namespace
}  // namespace tess::syscalls
