#include "cli/test_node.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "node/identity.h"
#include "sys/files.h"
#include "sys/unix_socket.h"

namespace tess::cli {
namespace {

using namespace std::chrono_literals;

std::vector<std::string> merged_environment(const std::vector<std::string>& more) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (!text.starts_with("TESS_")) {
      result.push_back(text);
    }
  }
  result.insert(result.end(), more.begin(), more.end());
  return result;
}

std::string temporary_directory() {
  std::string path = "/tmp/tess-node-XXXXXX";
  EXPECT_NE(::mkdtemp(path.data()), nullptr);
  ::chmod(path.c_str(), 0755);
  return path;
}

}  // namespace

bool enter_test_network() {
  if (::geteuid() != 0 || ::unshare(CLONE_NEWNET) != 0) {
    std::fprintf(stderr, "needs root and network namespaces\n");
    return false;
  }
  const sys::Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::snprintf(request.ifr_name, sizeof(request.ifr_name), "lo");
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  return ::ioctl(fd.get(), SIOCSIFFLAGS, &request) == 0;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

bool eventually(const std::function<bool()>& condition, std::chrono::seconds patience) {
  const auto deadline = sys::after(patience);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) {
      return false;
    }
    ::usleep(20000);  // between two looks
  }
  return true;
}

std::string build_program(const std::string& name) {
  return (std::filesystem::read_symlink("/proc/self/exe").parent_path() / name).string();
}

Output run_program(std::vector<std::string> argv,
                   const std::vector<std::string>& more_environment) {
  const std::string dir = temporary_directory();
  const sys::Fd out(::open((dir + "/out").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
  const sys::Fd err(::open((dir + "/err").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
  sys::SpawnOptions options;
  options.argv = std::move(argv);
  options.env = merged_environment(more_environment);
  options.fds = {{out.get(), 1}, {err.get(), 2}};
  Output output;
  auto process = sys::Process::spawn(options);
  EXPECT_TRUE(process) << process.error().message();
  if (process) {
    auto status = process->wait(sys::after(kPatience));
    if (!status) {
      ADD_FAILURE() << options.argv[0] << " hangs: " << status.error().message();
      (void)process->signal(SIGKILL);
      status = process->wait();
    }
    output.status = *status;
  }
  output.out = *sys::read_file(dir + "/out");
  output.err = *sys::read_file(dir + "/err");
  std::filesystem::remove_all(dir);
  return output;
}

TestCa::TestCa() : dir_(temporary_directory()) {
  EXPECT_TRUE(node::make_cluster_ca(dir_));
}
TestCa::~TestCa() {
  std::filesystem::remove_all(dir_);
}

TestNode::TestNode(const TestCa& ca, std::string name, std::string address,
                   std::map<std::string, std::string> others)
    : name_(std::move(name)), address_(std::move(address)), dir_(temporary_directory()) {
  EXPECT_TRUE(node::issue_node_certificate(ca.dir(), name_, dir_ + "/state"));
  write_config(others);
}

TestNode::TestNode(std::string name, std::string address)
    : name_(std::move(name)), address_(std::move(address)), dir_(temporary_directory()) {}

TestNode::~TestNode() {
  kill_daemon();
  for (const pid_t pid : processes_of_this_node()) {
    if (const auto process = sys::Process::open(pid)) {
      (void)process->signal(SIGKILL);
      (void)process->wait_gone(sys::after(kPatience));
    }
  }
  if (::testing::Test::HasFailure()) {
    std::fprintf(stderr, "--- log of tessd on %s ---\n%s", name_.c_str(), log().c_str());
  }
  std::filesystem::remove_all(dir_);
}

void TestNode::write_config(const std::map<std::string, std::string>& others) {
  std::string text =
      fmt::format("name = \"{}\"\nlisten = \"{}:7117\"\nbalance = false\n", name_, address_);
  for (const auto& [name, address] : others) {
    text += fmt::format("[[node]]\nname = \"{}\"\naddress = \"{}:7117\"\n", name, address);
  }
  EXPECT_TRUE(sys::replace_file(dir_ + "/tessera.toml", text));
}

std::vector<std::string> TestNode::environment() const {
  return {"TESS_STATE_DIR=" + dir_ + "/state", "TESS_RUN_DIR=" + dir_ + "/run",
          "TESS_CONFIG=" + dir_ + "/tessera.toml",
          "TESS_AGENT_BINARY=" + build_program("tess-agent-fake")};
}

void TestNode::start(const std::vector<std::string>& more_environment) {
  const sys::Fd log_file(
      ::open((dir_ + "/tessd.log").c_str(), O_CREAT | O_APPEND | O_WRONLY | O_CLOEXEC, 0644));
  sys::SpawnOptions options;
  options.argv = {build_program("tessd")};
  auto variables = environment();
  variables.insert(variables.end(), more_environment.begin(), more_environment.end());
  options.env = merged_environment(variables);
  options.fds = {{log_file.get(), 1}, {log_file.get(), 2}};
  auto process = sys::Process::spawn(options);
  ASSERT_TRUE(process) << process.error().message();
  daemon_ = std::move(*process);
  const std::string socket = dir_ + "/run/control.sock";
  ASSERT_TRUE(eventually([&] {
    struct stat info {};
    // Its mode comes last: a test may change it from now on.
    const bool open = ::stat(socket.c_str(), &info) == 0 && (info.st_mode & 0777) == 0660;
    return (open && sys::connect_unix(socket).has_value()) || !daemon_.running();
  }));
  ASSERT_TRUE(daemon_.running()) << log();
}

Output TestNode::start_expecting_failure() {
  return run_program({build_program("tessd")}, environment());
}

void TestNode::kill_daemon() {
  if (daemon_.valid()) {
    (void)daemon_.signal(SIGKILL);
    (void)daemon_.wait();
    daemon_ = sys::Process();
  }
}

std::string TestNode::log() const {
  auto text = sys::read_file(dir_ + "/tessd.log");
  return text ? *text : "";
}

Output TestNode::tess(std::vector<std::string> arguments, bool as_nobody) const {
  arguments.insert(arguments.begin(), build_program("tess"));
  if (as_nobody) {
    arguments.insert(arguments.begin(),
                     {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"});
  }
  return run_program(std::move(arguments), environment());
}

nlohmann::json TestNode::tess_json(std::vector<std::string> arguments) const {
  const Output output = tess(std::move(arguments));
  return nlohmann::json::parse(output.out, nullptr, false);
}

std::vector<pid_t> TestNode::processes_of_this_node() const {
  std::vector<pid_t> found;
  const std::string mark = "TESS_RUN_DIR=" + dir_ + "/run";
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) {
      continue;
    }
    const auto environment = sys::read_file(entry.path() / "environ");
    if (environment && environment->find(mark) != std::string::npos) {
      found.push_back(std::stoi(name));
    }
  }
  return found;
}

std::vector<pid_t> TestNode::agents(const std::string& role) const {
  std::vector<pid_t> found;
  for (const pid_t pid : processes_of_this_node()) {
    const auto command = sys::read_file(fmt::format("/proc/{}/cmdline", pid));
    if (command && command->find("tess-agent-fake") != std::string::npos &&
        command->find(std::string(1, '\0') + role + '\0') != std::string::npos) {
      found.push_back(pid);
    }
  }
  return found;
}

bool TestNode::sees(const std::string& other) const {
  const auto answer = tess_json({"nodes", "--json"});
  if (!answer.is_object()) {
    return false;
  }
  for (const auto& node : answer.value("nodes", nlohmann::json::array())) {
    if (node.value("name", "") == other) {
      return node.value("up", false);
    }
  }
  return false;
}

}  // namespace tess::cli
