// Whole host agents in processes of their own; the test plays the home agent.
#include "host/host_agent.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>

#include "base/log.h"
#include "host/sandbox.h"
#include "host/test_home.h"
#include "memory/image_stream.h"
#include "net/certificate.h"
#include "net/tls_stream.h"
#include "sys/files.h"
#include "wire/agent.pb.h"
#include "wire/agent_process.h"
#include "wire/frame.h"
#include "wire/version.h"

namespace tess::host {
namespace {

using wire::LinkMessage;
constexpr wire::Timeout kTimeout{60'000};
constexpr uint64_t kJob = 77;

// Asks for its parent until that is kEndNow, then exits with 7. At each kForkNow it forks; the
// child goes on by the same rules.
void program(std::atomic<int>* started) {
  started->store(1);
  while (true) {
    const long parent = raw_call(SYS_getppid);
    if (parent == kEndNow) {
      break;
    }
    if (parent == kForkNow) {
      raw_call(SYS_fork);
    }
  }
  raw_call(SYS_write, 1, reinterpret_cast<long>("done\n"), 5);
  raw_call(SYS_exit_group, 7);
}

struct Agent {
  std::string node;
  std::string token;
  uint16_t port = 0;
  pid_t pid = -1;
};

// The test's side of the link to one host agent.
class Home {
 public:
  Home(const net::TlsContext& tls, const Agent& agent, unsigned protocol = wire::protocol_version())
      : protocol_(protocol), tls_(tls), agent_(agent) {
    auto stream = connect(wire::AgentHello::LINK, 0, agent.token);
    EXPECT_NE(stream, nullptr);
    link_ = std::move(stream);
  }
  std::unique_ptr<net::TlsStream> connect(wire::AgentHello::Kind kind, uint64_t operation,
                                          const std::string& token) {
    auto stream = net::TlsStream::connect(tls_, "127.0.0.1", agent_.port, kTimeout);
    EXPECT_TRUE(stream) << stream.error().message();
    wire::AgentHello hello;
    hello.set_protocol_version(protocol_);
    hello.set_job(kJob);
    hello.set_token(token);
    hello.set_kind(kind);
    hello.set_operation(operation);
    hello.set_node(tls_.node_name());
    EXPECT_TRUE(wire::write_frame(*stream.value(), hello, kTimeout));
    return std::move(stream.value());
  }
  bool is_turned_away() {
    std::byte byte;
    const auto read = link_->read_exact(std::span(&byte, 1), kTimeout);
    return !read && read.error().kind() == ErrorKind::kDisconnected;
  }
  void send(uint64_t operation, int32_t pid, const std::function<void(LinkMessage&)>& fill) {
    LinkMessage message;
    message.set_operation(operation);
    message.set_pid(pid);
    fill(message);
    auto sent = wire::write_frame(*link_, message, kTimeout);
    EXPECT_TRUE(sent) << sent.error().message();
  }
  // The next message of that kind; others are put by. A Failed where none was wanted fails the
  // test.
  LinkMessage wait(LinkMessage::BodyCase wanted) {
    for (auto at = put_by_.begin(); at != put_by_.end(); ++at) {
      if (at->body_case() == wanted) {
        LinkMessage found = *at;
        put_by_.erase(at);
        return found;
      }
    }
    while (true) {
      LinkMessage message;
      auto read = wire::read_frame(*link_, message, kTimeout);
      if (!read) {
        ADD_FAILURE() << "no message " << wanted << ": " << read.error().message();
        return {};
      }
      if (message.body_case() == wanted) {
        return message;
      }
      if (message.body_case() == LinkMessage::kFailed) {
        ADD_FAILURE() << "failed: " << message.failed().reason();
        return message;
      }
      put_by_.push_back(message);
    }
  }
  bool next(LinkMessage& message) {
    return wire::read_frame(*link_, message, kTimeout).has_value();
  }
  bool saw(LinkMessage::BodyCase kind) const {
    return std::any_of(put_by_.begin(), put_by_.end(),
                       [kind](const auto& m) { return m.body_case() == kind; });
  }
  // A connected channel, and its offer.
  sys::Fd make_channel(uint64_t id, bool reserved) {
    sys::Fd socket = std::move(net::connect_tcp("127.0.0.1", agent_.port, kTimeout).value());
    char preamble[48] = "TESSCHAN";
    std::memcpy(preamble + 8, &kJob, 8);
    std::memcpy(preamble + 16, &id, 8);
    std::memcpy(preamble + 24, agent_.token.data(), 24);
    ::fcntl(socket.get(), F_SETFL, 0);
    EXPECT_TRUE(sys::write_all(socket, std::as_bytes(std::span(preamble))));
    send(0, 0, [&](LinkMessage& m) {
      m.mutable_channel()->set_id(id);
      m.mutable_channel()->set_key_to_home(std::string(16, 'h'));
      m.mutable_channel()->set_key_to_host(std::string(16, 'g'));
      m.mutable_channel()->set_encrypted(false);
      m.mutable_channel()->set_reserved(reserved);
    });
    return socket;
  }
  // Moves the process there; it is ready when this returns.
  void bring(uint64_t operation, const TestProcess& process) {
    wire::ProcessImage image;
    process.fill_image(image, true);
    send(operation, process.pid(), [](LinkMessage& m) { m.mutable_expect(); });
    auto stream = connect(wire::AgentHello::STREAM, operation, agent_.token);
    auto sent = memory::send_image(*stream, process.pid(), image);
    ASSERT_TRUE(sent) << sent.error().message();
    wait(LinkMessage::kReady);
  }
  std::unique_ptr<TestDeputy> run(uint64_t operation, int32_t pid, uint64_t channel) {
    auto deputy = std::make_unique<TestDeputy>(make_channel(channel, true));
    send(operation, pid, [&](LinkMessage& m) {
      m.mutable_assign()->add_tid(pid);
      m.mutable_assign()->add_channel(channel);
    });
    send(operation, pid, [](LinkMessage& m) { m.mutable_commit(); });
    wait(LinkMessage::kRunning);
    return deputy;
  }
  // To and fro over the link: the agent has taken it, and serves it.
  void ask_usage() {
    send(kAsking, 0, [](LinkMessage& m) { m.mutable_ask_usage(); });
    wait(LinkMessage::kUsage);
  }
  void close() { link_->shutdown(); }

 private:
  static constexpr uint64_t kAsking = 1000;  // an operation that no test uses for something else
  unsigned protocol_;
  const net::TlsContext& tls_;
  Agent agent_;
  std::unique_ptr<net::TlsStream> link_;
  std::deque<LinkMessage> put_by_;
};

class HostAgentTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root";
    }
    char dir[] = "/tmp/tess-host-XXXXXX";
    ASSERT_NE(::mkdtemp(dir), nullptr);
    dir_ = dir;
    const auto ca = net::make_ca("test");
    ASSERT_TRUE(ca);
    for (const char* node : {"n1", "n2", "n3", "n4"}) {
      const std::string state = state_dir(node);
      std::filesystem::create_directories(state);
      const auto issued = net::issue_certificate(*ca, node);
      ASSERT_TRUE(issued);
      std::ofstream(state + "/ca.crt") << ca->certificate_pem;
      std::ofstream(state + "/node.crt") << issued->certificate_pem;
      std::ofstream(state + "/node.key") << issued->key_pem;
    }
  }
  void TearDown() override {
    for (const Agent& agent : agents_) {
      ::kill(agent.pid, SIGKILL);
      ::waitpid(agent.pid, nullptr, 0);
    }
    if (!dir_.empty()) {
      std::filesystem::remove_all(dir_);
    }
  }
  std::string state_dir(const std::string& node) const { return dir_ + "/" + node; }
  net::TlsContext tls(const std::string& node) {
    return net::TlsContext::load(state_dir(node)).value();
  }
  Agent start(const std::string& node, const std::string& fault = {}) {
    Agent agent;
    agent.node = node;
    agent.token = std::string(31, 'T') + node.back();
    auto listener = net::listen_tcp("127.0.0.1", 0);
    EXPECT_TRUE(listener);
    agent.port = net::local_endpoint(*listener)->port;
    agent.pid = ::fork();
    if (agent.pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::setenv("TESS_FAULT", fault.c_str(), 1);
      log::start("agent-" + node, dir_ + "/" + node + ".log");
      HostConfig config;
      config.job = kJob;
      config.home_node = "n1";
      config.token = agent.token;
      config.listen_fd = std::move(*listener);
      config.state_dir = state_dir(node);
      config.run_dir = dir_ + "/run-" + node;
      config.cache_dir = dir_ + "/cache-" + node;
      std::filesystem::create_directories(config.run_dir);
      ::_exit(host::run(std::move(config)));
    }
    agents_.push_back(agent);
    return agent;
  }
  // Its exit status; -1 if it does not end.
  int wait_agent(const Agent& agent) {
    const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, agent.pid, 0));
    pollfd wait{pidfd, POLLIN, 0};
    const int ready = ::poll(&wait, 1, 60'000);
    ::close(pidfd);
    int status = -1;
    if (ready != 1) {
      return -1;
    }
    ::waitpid(agent.pid, &status, 0);
    std::erase_if(agents_, [&](const Agent& a) { return a.pid == agent.pid; });
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  // Living processes of a sandbox: their home pid is the second and last number of NSpid. Those of
  // labs may have the same number, but not the name.
  static int count_bodies(int32_t home_pid) {
    int count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const auto status = sys::read_file(entry.path().string() + "/status");
      if (status && status->find(fmt::format("\t{}\n", home_pid)) != std::string::npos &&
          (status->starts_with("Name:\ttest-body\n") ||
           status->starts_with("Name:\ttess-sandbox\n")) &&  // until it has been restored
          status->find("NSpid:") != std::string::npos &&
          status->find("State:\tZ") == std::string::npos) {
        const size_t at = status->find("NSpid:");
        const std::string line = status->substr(at, status->find('\n', at) - at);
        count += std::count(line.begin(), line.end(), '\t') == 2 &&
                         line.ends_with(fmt::format("\t{}", home_pid))
                     ? 1
                     : 0;
      }
    }
    return count;
  }
  // The kernel closes what a process has before it becomes a zombie: a channel's end comes first.
  static bool bodies_end(int32_t home_pid) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (count_bodies(home_pid) != 0 && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
    }
    return count_bodies(home_pid) == 0;
  }
  std::string dir_;
  std::vector<Agent> agents_;
};

TEST_F(HostAgentTest, BringsRunsHopsAndEndsABody) {
  const Agent a = start("n2");
  const Agent b = start("n3");
  TestProcess process(program);
  const net::TlsContext mine = tls("n1");
  Home to_a(mine, a);
  Home to_b(mine, b);
  to_a.bring(1, process);
  auto deputy = to_a.run(1, process.pid(), 10);
  while (deputy->requests() < 50) {
    ::sched_yield();
  }
  // The hop: park, send straight from A to B, run there, forget here.
  to_a.send(2, process.pid(), [](LinkMessage& m) { m.mutable_freeze(); });
  to_a.wait(LinkMessage::kFrozen);
  to_b.send(2, process.pid(),
            [](LinkMessage& m) { m.mutable_expect()->set_token("a token for this move"); });
  to_a.send(2, process.pid(), [&](LinkMessage& m) {
    m.mutable_send_image()->set_address("127.0.0.1");
    m.mutable_send_image()->set_port(b.port);
    m.mutable_send_image()->set_token("a token for this move");
    m.mutable_send_image()->set_node("n3");
  });
  to_b.wait(LinkMessage::kReady);
  to_a.wait(LinkMessage::kDone);
  EXPECT_EQ(count_bodies(process.pid()), 2) << "one parked here, one there";
  to_a.send(2, process.pid(), [](LinkMessage& m) { m.mutable_discard(); });
  to_a.wait(LinkMessage::kDone);
  EXPECT_EQ(count_bodies(process.pid()), 1);
  deputy = to_b.run(2, process.pid(), 11);
  deputy->set_parent(kEndNow);
  ASSERT_TRUE(deputy->wait_end(60));
  EXPECT_EQ(deputy->written(), "done\n");
  EXPECT_EQ(deputy->exit_status(), 7);
  deputy.reset();
  EXPECT_EQ(to_b.wait(LinkMessage::kExited).pid(), process.pid());
  EXPECT_FALSE(to_a.saw(LinkMessage::kExited)) << "a discarded body is no exit";
  to_a.send(0, 0, [](LinkMessage& m) { m.mutable_shutdown(); });
  EXPECT_EQ(wait_agent(a), 0);
  to_b.send(0, 0, [](LinkMessage& m) { m.mutable_shutdown(); });
  EXPECT_EQ(wait_agent(b), 0);
}

TEST_F(HostAgentTest, ReturnsToTheSameHostAtOnce) {
  const Agent a = start("n2");
  TestProcess process(program);
  const net::TlsContext mine = tls("n1");
  Home home(mine, a);
  for (uint64_t i = 1; i <= 5; ++i) {
    home.bring(i, process);
    home.send(i, process.pid(), [](LinkMessage& m) { m.mutable_discard(); });
    home.wait(LinkMessage::kDone);
    EXPECT_FALSE(home.saw(LinkMessage::kExited));
  }
}

TEST_F(HostAgentTest, ThawsAndCountsAndSignals) {
  const Agent a = start("n2");
  TestProcess process(program);
  const net::TlsContext mine = tls("n1");
  Home home(mine, a);
  home.bring(1, process);
  auto deputy = home.run(1, process.pid(), 10);
  home.send(2, process.pid(), [](LinkMessage& m) { m.mutable_freeze(); });
  home.wait(LinkMessage::kFrozen);
  home.send(2, process.pid(), [](LinkMessage& m) { m.mutable_thaw(); });
  home.wait(LinkMessage::kDone);
  const int seen = deputy->requests();
  while (deputy->requests() < seen + 10) {
    ::sched_yield();
  }
  home.send(3, 0, [](LinkMessage& m) { m.mutable_ask_usage(); });
  const LinkMessage usage = home.wait(LinkMessage::kUsage);
  ASSERT_EQ(usage.usage().process_size(), 1);
  EXPECT_EQ(usage.usage().process(0).pid(), process.pid());
  EXPECT_GT(usage.usage().process(0).resident_bytes(), 0u);
  // Stopped: still to be parked and moved, and killed.
  home.send(0, process.pid(), [](LinkMessage& m) { m.mutable_signal()->set_signal(SIGSTOP); });
  home.send(4, process.pid(), [](LinkMessage& m) { m.mutable_freeze(); });
  home.wait(LinkMessage::kFrozen);
  home.send(4, process.pid(), [](LinkMessage& m) { m.mutable_thaw(); });
  home.wait(LinkMessage::kDone);
  home.send(0, process.pid(), [](LinkMessage& m) { m.mutable_signal()->set_signal(SIGKILL); });
  const LinkMessage exited = home.wait(LinkMessage::kExited);
  EXPECT_EQ(WTERMSIG(exited.exited().wait_status()), SIGKILL);
}

TEST_F(HostAgentTest, AForkedChildIsAGuestOfItsOwn) {
  const Agent a = start("n2");
  TestProcess process(program);
  const net::TlsContext mine = tls("n1");
  Home home(mine, a);
  home.bring(1, process);
  auto parent = home.run(1, process.pid(), 10);
  auto child = std::make_unique<TestDeputy>(home.make_channel(20, false));
  constexpr int32_t kChild = 54321;
  parent->set_child(kChild);
  child->set_parent(1);
  parent->set_parent(kForkNow);
  while (child->requests() < 10) {
    ::sched_yield();
  }
  home.send(2, kChild, [](LinkMessage& m) { m.mutable_freeze(); });
  EXPECT_EQ(home.wait(LinkMessage::kFrozen).pid(), kChild);
  home.send(2, kChild, [](LinkMessage& m) { m.mutable_thaw(); });
  home.wait(LinkMessage::kDone);
  child->set_parent(kEndNow);
  ASSERT_TRUE(child->wait_end(60));
  EXPECT_EQ(child->exit_status(), 7);
  child.reset();
  EXPECT_EQ(home.wait(LinkMessage::kExited).pid(), kChild);
  parent->set_parent(kEndNow);
  ASSERT_TRUE(parent->wait_end(60));
  parent.reset();
  EXPECT_EQ(home.wait(LinkMessage::kExited).pid(), process.pid());
}

TEST_F(HostAgentTest, BodiesDieWithTheLink) {
  const Agent a = start("n2");
  TestProcess process(program);
  const net::TlsContext mine = tls("n1");
  Home home(mine, a);
  home.bring(1, process);
  auto deputy = home.run(1, process.pid(), 10);
  EXPECT_EQ(count_bodies(process.pid()), 1);
  home.close();
  EXPECT_EQ(wait_agent(a), 0);
  EXPECT_EQ(count_bodies(process.pid()), 0);
}

TEST_F(HostAgentTest, BodiesDieWithTheAgent) {
  const Agent a = start("n2");
  TestProcess process(program);
  const net::TlsContext mine = tls("n1");
  Home home(mine, a);
  home.bring(1, process);
  auto deputy = home.run(1, process.pid(), 10);
  ::kill(a.pid, SIGKILL);
  EXPECT_EQ(wait_agent(a), -1);
  ASSERT_TRUE(deputy->wait_end(60)) << "its channel closes when the kernel ends the body";
  EXPECT_TRUE(bodies_end(process.pid()));
}

TEST_F(HostAgentTest, ADiscardEndsARestoreInProgress) {
  const Agent a = start("n2");
  TestProcess process(program);
  const net::TlsContext mine = tls("n1");
  Home home(mine, a);
  wire::ProcessImage image;
  process.fill_image(image, true);
  home.send(1, process.pid(), [](LinkMessage& m) { m.mutable_expect(); });
  auto stream = home.connect(wire::AgentHello::STREAM, 1, a.token);
  ASSERT_TRUE(wire::write_frame(*stream, image, kTimeout));
  wire::WantFiles want;
  ASSERT_TRUE(wire::read_frame(*stream, want, kTimeout));
  home.send(1, process.pid(), [](LinkMessage& m) { m.mutable_discard(); });
  home.wait(LinkMessage::kDone);
  EXPECT_EQ(count_bodies(process.pid()), 0);
  home.bring(2, process);
}

TEST_F(HostAgentTest, AHomeAgentOfTheNextVersionIsServedAndOfOneAfterThatNot) {
  const Agent a = start("n2");
  const net::TlsContext mine = tls("n1");
  {
    Home strange(mine, a, wire::protocol_version() + 2);
    EXPECT_TRUE(strange.is_turned_away());
  }
  Home home(mine, a, wire::protocol_version() + 1);
  home.ask_usage();
}

TEST_F(HostAgentTest, OnlyTheHomeAgentComesIn) {
  const Agent a = start("n2");
  const net::TlsContext mine = tls("n1");
  const net::TlsContext stranger = tls("n4");
  Home home(mine, a);
  home.ask_usage();  // this link has come in first, then
  const auto refused = [&](const net::TlsContext& who, wire::AgentHello::Kind kind,
                           const std::string& token, uint64_t operation) {
    Agent to = a;
    auto stream = net::TlsStream::connect(who, "127.0.0.1", to.port, kTimeout);
    if (!stream) {
      ADD_FAILURE() << stream.error().message();
      return false;
    }
    wire::AgentHello hello;
    hello.set_protocol_version(wire::protocol_version());
    hello.set_job(kJob);
    hello.set_token(token);
    hello.set_kind(kind);
    hello.set_operation(operation);
    hello.set_node(who.node_name());
    EXPECT_TRUE(wire::write_frame(**stream, hello, kTimeout));
    std::byte byte;
    auto read = (*stream)->read_exact(std::span(&byte, 1), kTimeout);
    return !read && read.error().kind() == ErrorKind::kDisconnected;
  };
  EXPECT_TRUE(refused(mine, wire::AgentHello::LINK, a.token, 0)) << "a second link";
  EXPECT_TRUE(refused(stranger, wire::AgentHello::LINK, a.token, 0)) << "not the home node";
  EXPECT_TRUE(refused(mine, wire::AgentHello::LINK, std::string(32, 'x'), 0)) << "wrong token";
  home.send(5, 1, [](LinkMessage& m) { m.mutable_expect(); });
  EXPECT_TRUE(refused(mine, wire::AgentHello::STREAM, std::string(32, 'x'), 5)) << "wrong token";
  EXPECT_TRUE(refused(mine, wire::AgentHello::STREAM, a.token, 999)) << "nobody announced it";
  // Raw connections that are no channels, or channels of somebody else.
  for (const std::string& first :
       {std::string("GET / HTTP/1.0\r\n\r\n"), std::string("TESSCHAN") + std::string(40, 'x'),
        std::string("T") + std::string(47, '\0')}) {
    auto socket = net::connect_tcp("127.0.0.1", a.port, kTimeout);
    ASSERT_TRUE(socket);
    ASSERT_TRUE(sys::write_all(*socket, std::as_bytes(std::span(first))));
    pollfd wait{socket->get(), POLLIN, 0};
    ASSERT_EQ(::poll(&wait, 1, 60'000), 1) << first;
    char byte;
    EXPECT_LE(::recv(socket->get(), &byte, 1, 0), 0) << first;
  }
  // The agent has stood it all.
  home.ask_usage();
}

TEST_F(HostAgentTest, EveryFaultIsAnAnswerAndLeavesNothing) {
  const net::TlsContext mine = tls("n1");
  for (const char* point : {"host.before_restore", "host.after_restore"}) {
    const Agent a = start("n2", point);
    TestProcess process(program);
    Home home(mine, a);
    wire::ProcessImage image;
    process.fill_image(image, true);
    home.send(1, process.pid(), [](LinkMessage& m) { m.mutable_expect(); });
    auto stream = home.connect(wire::AgentHello::STREAM, 1, a.token);
    (void)memory::send_image(*stream, process.pid(), image);
    LinkMessage failed;
    do {
      ASSERT_TRUE(home.next(failed)) << point;
    } while (!failed.has_failed());
    EXPECT_EQ(failed.operation(), 1u) << point;
    EXPECT_EQ(count_bodies(process.pid()), 0) << point;
    home.bring(2, process);  // it fires once
    home.close();
    EXPECT_EQ(wait_agent(a), 0);
  }
}

TEST_F(HostAgentTest, TooLittleMemoryIsRefusedBeforeAnythingIsSent) {
  const Agent a = start("n2");
  const net::TlsContext mine = tls("n1");
  TestProcess process(program);
  Home home(mine, a);
  wire::ProcessImage image;
  process.fill_image(image, true);
  image.set_memory_bytes(uint64_t{1} << 50);
  home.send(1, process.pid(), [](LinkMessage& m) { m.mutable_expect(); });
  auto stream = home.connect(wire::AgentHello::STREAM, 1, a.token);
  EXPECT_FALSE(memory::send_image(*stream, process.pid(), image));
  LinkMessage failed;
  ASSERT_TRUE(home.next(failed));
  EXPECT_NE(failed.failed().reason().find("memory"), std::string::npos);
}

}  // namespace
}  // namespace tess::host
