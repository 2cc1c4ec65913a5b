#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/cgroup.h"
#include "sys/credentials.h"
#include "sys/files.h"
#include "sys/mapping.h"
#include "sys/mounts.h"
#include "sys/process.h"
#include "sys/signals.h"
#include "sys/unix_socket.h"

namespace tess::sys {
namespace {

class Files : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/tess-sys-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
  }
  void TearDown() override { EXPECT_TRUE(remove_tree(directory_)); }
  std::string at(const std::string& name) const { return directory_ + "/" + name; }

  std::string directory_;
};

TEST_F(Files, WriteReadCopyRemove) {
  ASSERT_TRUE(make_directories(at("a/b/c")));
  ASSERT_TRUE(make_directories(at("a/b/c")));
  const std::string big(300'000, 'z');
  ASSERT_TRUE(write_file(at("a/b/big"), big, 0700));
  ASSERT_TRUE(copy_file(at("a/b/big"), at("a/copy")));
  EXPECT_EQ(*read_file(at("a/copy")), big);
  struct stat status {};
  ASSERT_EQ(::stat(at("a/copy").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700U);
  ASSERT_TRUE(replace_file(at("a/copy"), "new"));
  EXPECT_EQ(*read_file(at("a/copy")), "new");
  ASSERT_EQ(::symlink("/", at("a/link").c_str()), 0);  // must be removed, not followed
  ASSERT_TRUE(remove_tree(at("a")));
  EXPECT_NE(::access(at("a").c_str(), F_OK), 0);
  EXPECT_TRUE(remove_tree(at("a")));
}

TEST_F(Files, RefusesWhatIsTooLargeOrMissing) {
  ASSERT_TRUE(write_file(at("x"), "12345"));
  EXPECT_EQ(read_file(at("x"), 4).error().kind(), ErrorKind::kBadInput);
  EXPECT_TRUE(read_file(at("x"), 5));
  EXPECT_EQ(read_file(at("y")).error().sys_errno(), ENOENT);
  EXPECT_FALSE(write_control(at("y"), "1"));
  EXPECT_NE(::access(at("y").c_str(), F_OK), 0) << "write_control must never create";
}

TEST_F(Files, RemoveTreeStopsAtAMount) {
  if (!is_root()) {
    GTEST_SKIP() << "needs root: mounts a file system";
  }
  ASSERT_TRUE(make_directories(at("tree/mnt")));
  auto child = Process::fork({}, [&] {
    const bool mounted = unshare_namespaces(CLONE_NEWNS) && isolate_mounts() &&
                         mount_filesystem("tmpfs", at("tree/mnt"), 0) &&
                         write_file(at("tree/mnt/kept"), "x");
    return mounted && !remove_tree(at("tree")) && read_file(at("tree/mnt/kept")) ? 0 : 1;
  });
  EXPECT_TRUE(child->wait()->success());
  EXPECT_EQ(read_file(at("tree/mnt/kept")).error().sys_errno(), ENOENT) << "a mount leaked out";
}

TEST_F(Files, PivotLeavesOnlyTheNewRoot) {
  if (!is_root()) {
    GTEST_SKIP() << "needs root: makes a mount namespace";
  }
  auto child = Process::fork({}, [&] {
    if (!unshare_namespaces(CLONE_NEWNS) || !isolate_mounts() ||
        !mount_filesystem("tmpfs", directory_, 0) || !write_file(at("only"), "x") ||
        !pivot_to(directory_)) {
      return 1;
    }
    return read_file("/only") && ::access("/usr", F_OK) != 0 ? 0 : 2;
  });
  EXPECT_EQ(child->wait()->value, 0);
}

TEST_F(Files, UnixSocketsAndPassedDescriptors) {
  EXPECT_EQ(connect_unix(at("s")).error().kind(), ErrorKind::kRetry);
  auto listener = listen_unix(at("s"), 0600);
  ASSERT_TRUE(listener) << listener.error().message();
  struct stat status {};
  ASSERT_EQ(::stat(at("s").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  auto client = connect_unix(at("s"));
  ASSERT_TRUE(client);
  const Fd server(::accept4(listener->get(), nullptr, nullptr, SOCK_CLOEXEC));
  auto peer = peer_credentials(server);
  EXPECT_EQ(peer->pid, ::getpid());
  EXPECT_EQ(peer->uid, ::geteuid());

  auto pipe = make_pipe();
  const int fds[] = {pipe->write.get()};
  ASSERT_TRUE(send_message(*client, std::as_bytes(std::span("hello", 5)), fds));
  auto message = receive_message(server);
  ASSERT_TRUE(message);
  ASSERT_EQ(message->data.size(), 5U);
  ASSERT_EQ(message->fds.size(), 1U);
  EXPECT_NE(::fcntl(message->fds[0].get(), F_GETFD) & FD_CLOEXEC, 0);
  ASSERT_TRUE(write_all(message->fds[0], std::as_bytes(std::span("y", 1))));
  char byte = 0;
  ASSERT_TRUE(read_all(pipe->read, std::as_writable_bytes(std::span(&byte, 1))));
  EXPECT_EQ(byte, 'y');
  client->reset();
  EXPECT_TRUE(receive_message(server)->data.empty());
  EXPECT_FALSE(listen_unix(std::string(200, 'x')));
  // A new listener takes over the file that a dead one left.
  listener->reset();
  EXPECT_TRUE(listen_unix(at("s")));
}

TEST(UnixSocket, CutMessageIsRefusedAndClosedPeerIsNoSignal) {
  auto pair = make_socket_pair(SOCK_SEQPACKET);
  const std::vector<std::byte> data(100);
  ASSERT_TRUE(send_message(pair->first, data));
  EXPECT_EQ(receive_message(pair->second, 50).error().kind(), ErrorKind::kBadInput);
  pair->second.reset();
  EXPECT_EQ(send_message(pair->first, data).error().kind(), ErrorKind::kDisconnected);
}

TEST(SignalFd, ReadsBlockedSignalsAndRestoresTheMask) {
  {
    auto signals = SignalFd::block({SIGUSR2});
    ASSERT_TRUE(signals);
    EXPECT_FALSE(signals->next()->has_value());
    ASSERT_EQ(::kill(::getpid(), SIGUSR2), 0);
    ASSERT_TRUE(*wait_readable(signals->fd(), 5000));
    auto received = signals->next();
    ASSERT_TRUE(received && received->has_value());
    EXPECT_EQ((*received)->number, SIGUSR2);
    EXPECT_EQ((*received)->sender, ::getpid());
  }
  sigset_t mask;
  ::pthread_sigmask(SIG_BLOCK, nullptr, &mask);
  EXPECT_FALSE(sigismember(&mask, SIGUSR2));
}

TEST(Mapping, OwnsItsRange) {
  auto mapping = Mapping::anonymous(1 << 20);
  ASSERT_TRUE(mapping);
  mapping->data()[12345] = std::byte{7};
  const uint64_t address = mapping->address();
  EXPECT_EQ(Mapping::anonymous_at(address, 4096, PROT_READ).error().sys_errno(), EEXIST);
  Mapping moved = std::move(*mapping);
  EXPECT_FALSE(mapping->valid());
  EXPECT_EQ(moved.data()[12345], std::byte{7});
  ASSERT_TRUE(moved.protect(PROT_READ));
  EXPECT_DEATH(moved.data()[0] = std::byte{1}, "");
  moved.reset();
  auto again = Mapping::anonymous_at(address, 4096, PROT_READ);
  EXPECT_TRUE(again) << "the range was not unmapped";
}

TEST(WaitReadable, TimesOutAndSeesEndOfFile) {
  auto pipe = make_pipe();
  EXPECT_FALSE(*wait_readable(pipe->read, 20));
  pipe->write.reset();
  EXPECT_TRUE(*wait_readable(pipe->read, -1));
}

TEST(Credentials, CapabilitiesAndGroups) {
  if (is_root()) {
    EXPECT_TRUE(has_capability(CAP_SYS_ADMIN));
  } else {
    EXPECT_FALSE(has_capability(CAP_SYS_ADMIN));
  }
  EXPECT_EQ(*group_id("root"), 0U);
  EXPECT_FALSE(group_id("no-such-group"));
  auto groups = groups_of_user(0);
  ASSERT_TRUE(groups);
  EXPECT_EQ(groups->front(), 0U);
}

TEST(Cgroup, LimitsMemoryAndCpu) {
  if (!is_root()) {
    GTEST_SKIP() << "needs root: makes a cgroup";
  }
  const std::string name = fmt::format("tess-sys-test-{}", ::getpid());
  auto group = Cgroup::make(name, {.cpus = 0.2, .memory_bytes = 64 << 20});
  if (!group) {
    GTEST_SKIP() << "this machine cannot: " << group.error().message();
  }
  ASSERT_FALSE(group->paths().empty());
  auto hog = Process::fork({}, [&] {
    if (!group->join()) {
      return 1;
    }
    auto memory = Mapping::anonymous(256 << 20);
    for (size_t i = 0; i < memory->size(); i += 4096) {
      memory->data()[i] = std::byte{1};
    }
    return 0;
  });
  auto status = hog->wait();
  EXPECT_EQ(status->kind, ExitStatus::kSignaled) << "256 MiB fitted into 64";

  auto spinner = Process::fork({}, [&] {
    if (!group->join()) {
      return -1;
    }
    // However much else the machine has to do: until it has got some.
    const auto begin = std::chrono::steady_clock::now();
    std::chrono::duration<double> taken{};
    timespec used{};
    do {
      taken = std::chrono::steady_clock::now() - begin;
      ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    } while (taken < std::chrono::seconds(1) || (used.tv_sec == 0 && used.tv_nsec < 50'000'000));
    const double seconds =
        static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
    return static_cast<int>(100 * seconds / taken.count());
  });
  status = spinner->wait();
  EXPECT_EQ(status->kind, ExitStatus::kExited);
  EXPECT_LT(status->value, 45) << "per cent of a CPU, with a limit of 20";
  EXPECT_TRUE(group->remove(std::chrono::seconds(60)));
  for (const std::string& path : group->paths()) {
    EXPECT_NE(::access(path.c_str(), F_OK), 0);
  }
  EXPECT_TRUE(group->remove(std::chrono::seconds(0)));
}

}  // namespace
}  // namespace tess::sys
