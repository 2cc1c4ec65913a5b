// For tests: runs `tess-lab` as a user would, and looks at what the machine shows of a lab.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "lab/state.h"
#include "sys/files.h"
#include "sys/namespaces.h"
#include "sys/process.h"
#include "sys/unix_socket.h"

namespace tess::lab {

struct Outcome {
  sys::ExitStatus status;
  std::string output;  // standard output and error
};

inline std::string bin(const std::string& program) {
  return (std::filesystem::read_symlink("/proc/self/exe").parent_path() / program).string();
}

class LabTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root: a lab is made of namespaces, mounts and cgroups";
    }
    name_ = "t" + std::to_string(::getpid());
  }
  void TearDown() override {
    for (const std::string& name : lab_names()) {
      const std::string mine = "t" + std::to_string(::getpid());
      if (name == mine || name == mine + "b") {  // and not that of process 1234, if this is 123
        (void)lab({"down", "--name", name});
      }
    }
  }

  static sys::SpawnOptions command(std::vector<std::string> args) {
    sys::SpawnOptions options;
    options.argv = {bin("tess-lab")};
    options.argv.insert(options.argv.end(), args.begin(), args.end());
    return options;
  }
  static Outcome lab(const std::vector<std::string>& args) {
    auto pipe = sys::make_pipe();
    auto null = sys::make_pipe();
    null->write.reset();
    auto options = command(args);
    options.fds = {{null->read.get(), 0}, {pipe->write.get(), 1}, {pipe->write.get(), 2}};
    auto process = sys::Process::spawn(options);
    pipe->write.reset();
    // End of file only when nobody holds the pipe any more: a lab that kept it would hang here.
    auto output = sys::read_to_end(pipe->read);
    return {*process->wait(), output.value_or("")};
  }
  Outcome up(std::vector<std::string> args) const {
    args.insert(args.begin(), "up");
    args.insert(args.end(), {"--name", name_, "--tessd", bin("lab_test_program")});
    return lab(args);
  }
  Outcome exec(const std::string& node, std::vector<std::string> args) const {
    args.insert(args.begin(), {"exec", "--name", name_, node});
    return lab(args);
  }
  // The test's own program, which is the only one that nodes have (in /usr/bin; the server sees it
  // where it was built).
  Outcome ask(const std::string& node, std::vector<std::string> args) const {
    args.insert(args.begin(), node == "n1" ? bin("lab_test_program") : "lab_test_program");
    return exec(node, args);
  }

  // Held open, or another lab's new namespaces could get the same numbers.
  struct Namespaces {
    std::set<uint64_t> ids;
    std::vector<sys::Fd> held;

    void add(const ProcessName& process, sys::Namespace kind) {
      auto fd = sys::open_namespace(process.pid, kind);
      const auto id = sys::namespace_id(process.pid, kind);
      if (fd && id) {
        held.push_back(std::move(*fd));
        ids.insert(*id);
      }
    }
  };
  static Namespaces namespaces_of(const State& state) {
    Namespaces namespaces;
    for (const NodeState& node : state.nodes) {
      for (const sys::Namespace kind : kKinds) {
        namespaces.add(node.init, kind);
      }
    }
    for (const sys::Namespace kind : {sys::Namespace::kNet, sys::Namespace::kMount}) {
      namespaces.add(state.supervisor, kind);
    }
    return namespaces;
  }

  // Everything on the machine that belongs to the lab of this state.
  static std::vector<std::string> traces(const State& state, const Namespaces& namespaces) {
    std::vector<std::string> found;
    const std::string directory = lab_directory(state.spec.name);
    if (std::filesystem::exists(directory)) {
      found.push_back(directory);
    }
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
      const std::string pid = entry.path().filename();
      if (pid.find_first_not_of("0123456789") != std::string::npos) {
        continue;
      }
      for (const sys::Namespace kind : kKinds) {
        const auto id = sys::namespace_id(std::atoi(pid.c_str()), kind);
        if (id && namespaces.ids.contains(*id)) {
          found.push_back("process " + pid + " in a " + sys::namespace_name(kind) + " namespace");
        }
      }
    }
    std::ifstream mounts("/proc/self/mountinfo");
    for (std::string line; std::getline(mounts, line);) {
      if (line.find(directory + "/") != std::string::npos) {
        found.push_back(line);
      }
    }
    for (const NodeState& node : state.nodes) {
      for (const std::string& path : node.cgroups) {
        if (std::filesystem::exists(path)) {
          found.push_back(path);
        }
      }
    }
    return found;
  }
  // Asks until no trace is left; the last answer.
  static std::vector<std::string> traces_after(const State& state, const Namespaces& namespaces,
                                               std::chrono::seconds time) {
    const auto deadline = sys::after(time);
    auto found = traces(state, namespaces);
    while (!found.empty() && std::chrono::steady_clock::now() < deadline) {
      ::usleep(10'000);
      found = traces(state, namespaces);
    }
    return found;
  }

  static constexpr sys::Namespace kKinds[] = {sys::Namespace::kMount, sys::Namespace::kPid,
                                              sys::Namespace::kNet, sys::Namespace::kUts,
                                              sys::Namespace::kIpc};
  std::string name_;
};

inline std::string join(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) {
    text += line + "\n";
  }
  return text;
}

}  // namespace tess::lab
