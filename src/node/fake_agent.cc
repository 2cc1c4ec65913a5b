// A stand-in for tess-agent in the tests of tessd and tess: it registers, lists its process, and
// answers by rote. What it does with a request depends on the name of the node asked for and on
// FAKE_AGENT_* variables; it touches no process.
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>

#include "batch/keeper.h"
#include "net/tcp.h"
#include "sys/files.h"
#include "sys/process.h"
#include "sys/unix_socket.h"
#include "wire/agent_process.h"
#include "wire/frame.h"
#include "wire/node.pb.h"

namespace {

using namespace tess;
using namespace std::chrono_literals;

struct Options {
  bool home = false;
  uint64_t job = 0;
  int pid = 0;
  bool run = false;
  std::string node;
  std::string home_node;
  int listen_fd = -1;
};

bool enabled(const char* variable) {
  return std::getenv(variable) != nullptr;
}

std::string command_of(int pid) {
  auto text = sys::read_file(fmt::format("/proc/{}/cmdline", pid));
  if (!text) {
    return "";
  }
  for (char& c : *text) {
    c = c == '\0' ? ' ' : c;
  }
  while (!text->empty() && text->back() == ' ') {
    text->pop_back();
  }
  return *text;
}

class FakeAgent {
 public:
  explicit FakeAgent(Options options) : options_(std::move(options)) {}

  int run() {
    if (enabled("FAKE_AGENT_DIES")) {
      std::fputs("fake agent: this agent dies at once\n", stderr);
      return 3;
    }
    while (true) {
      auto fd = sys::connect_unix(wire::agents_socket());
      if (fd) {
        wire::FdStream stream(std::move(*fd));
        serve(stream);
      }
      if (finished_) {
        return 0;
      }
      ::usleep(50000);  // the pause before an agent connects again
    }
  }

 private:
  void send(wire::FdStream& stream, const wire::AgentUp& message) {
    (void)wire::write_frame(stream, message, 5s);
  }

  void send_status(wire::FdStream& stream) {
    wire::AgentUp up;
    wire::JobStatus& status = *up.mutable_job_status();
    status.set_job(options_.job);
    status.set_finished(finished_);
    if (!finished_) {
      wire::JobProcess& process = *status.add_process();
      process.set_pid(options_.home ? options_.pid : 1);
      process.set_command(options_.home ? command_of(options_.pid) : "guest");
      process.set_node(where_);
      process.set_parent_pid(1);
      process.set_moves(moves_);
      process.set_cpu_home_ns(1500000000);
      process.set_state(where_.empty() ? "native" : "deputy");
    }
    send(stream, up);
  }

  void say(wire::FdStream& stream, const std::string& text) {
    wire::AgentUp up;
    up.mutable_job_log()->set_pid(options_.pid);
    up.mutable_job_log()->set_text(text);
    send(stream, up);
  }

  void answer(wire::FdStream& stream, uint64_t request, bool ok, const std::string& message) {
    wire::AgentUp up;
    up.set_request(request);
    up.mutable_answer()->set_ok(ok);
    up.mutable_answer()->set_message(message);
    send(stream, up);
  }

  void serve(wire::FdStream& stream) {
    wire::AgentUp up;
    wire::Register& hello = *up.mutable_register_();
    hello.set_job(options_.job);
    hello.set_role(options_.home ? wire::Register::HOME : wire::Register::HOST);
    hello.set_agent_pid(::getpid());
    hello.set_home_node(options_.home_node);
    send(stream, up);
    if (options_.run && enabled("FAKE_AGENT_REFUSES")) {
      say(stream, "cannot take hold of it: the test says so");
      finished_ = true;
      send_status(stream);
      return;
    }
    const char* held_back = std::getenv("FAKE_AGENT_HELD_BACK");
    while (options_.run && held_back != nullptr && std::filesystem::exists(held_back)) {
      ::usleep(20000);  // one whose start takes as long as the test wants
    }
    if (!options_.home || options_.run || moves_ > 0) {
      send_status(stream);
    }
    wire::AgentDown down;
    while (!finished_ && wire::read_frame(stream, down, wire::kNoTimeout)) {
      on_request(stream, down);
    }
  }

  void on_request(wire::FdStream& stream, const wire::AgentDown& down) {
    if (down.has_migrate()) {
      on_migrate(stream, down);
    } else if (down.has_host_prepared()) {
      on_host(stream, down.host_prepared());
    } else if (down.has_why_request()) {
      wire::AgentUp up;
      up.set_request(down.request());
      up.mutable_why();
      if (enabled("FAKE_AGENT_REASON")) {
        up.mutable_why()->add_reason(std::getenv("FAKE_AGENT_REASON"));
      }
      send(stream, up);
    } else if (down.has_bring_home() || down.has_recall()) {
      where_.clear();
      finished_ = !options_.home;
      send_status(stream);
      answer(stream, down.request(), true, "");
    }
  }

  void on_migrate(wire::FdStream& stream, const wire::AgentDown& down) {
    if (moves_ > 0 && enabled("FAKE_AGENT_ENDS")) {
      finished_ = true;  // as one that was just about to end when it was asked
      return;
    }
    if (enabled("FAKE_AGENT_CRASHES")) {
      std::fputs("fake agent: crashes in the middle\n", stderr);
      ::_exit(4);
    }
    pending_ = down.request();
    target_ = down.migrate().node();
    if (down.migrate().home()) {
      where_.clear();
      ++moves_;
      send_status(stream);
      answer(stream, pending_, true, "");
      return;
    }
    wire::AgentUp up;
    up.set_request(uint64_t{1} << 63 | 1);
    up.mutable_need_host()->set_node(target_);
    const char* memory = std::getenv("FAKE_AGENT_MEMORY");
    up.mutable_need_host()->set_memory_bytes(memory != nullptr ? std::strtoull(memory, nullptr, 10)
                                                               : 0);
    send(stream, up);
  }

  void on_host(wire::FdStream& stream, const wire::HostPrepared& host) {
    if (!host.ok()) {
      answer(stream, pending_, false, host.message());
      return;
    }
    // The host agent's socket listens and is reachable at the address that PREPARE gave.
    const auto connected = net::connect_tcp(host.address(), static_cast<uint16_t>(host.port()), 2s);
    if (!connected) {
      answer(stream, pending_, false, connected.error().message());
      return;
    }
    say(stream, fmt::format("moving to {} with a token of {} bytes{}", target_, host.token().size(),
                            host.encrypt_channels() ? ", encrypted" : ""));
    where_ = target_;
    ++moves_;
    send_status(stream);
    answer(stream, pending_, true, fmt::format("now on {} port {}", target_, host.port()));
  }

  Options options_;
  std::string where_;
  std::string target_;
  uint32_t moves_ = 0;
  uint64_t pending_ = 0;
  bool finished_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"fake tess-agent"};
  Options options;
  CLI::App* home = app.add_subcommand("home");
  home->add_option("--job", options.job)->required();
  home->add_option("--pid", options.pid)->required();
  home->add_flag("--run", options.run);
  home->add_flag("--place");
  home->add_option("--node", options.node);
  std::string note;
  home->add_option("--note", note);
  CLI::App* host = app.add_subcommand("host");
  host->add_option("--job", options.job)->required();
  host->add_option("--home-node", options.home_node)->required();
  host->add_option("--listen-fd", options.listen_fd)->required();
  // The keeper of a batch task is the real one: it needs no stand-in.
  CLI::App* task = app.add_subcommand("task");
  app.require_subcommand(1);
  CLI11_PARSE(app, argc, argv);
  if (task->parsed()) {
    return batch::keep_task();
  }
  options.home = home->parsed();
  return FakeAgent(options).run();
}
