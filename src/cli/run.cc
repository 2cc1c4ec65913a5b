#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/size.h"
#include "cli/client.h"
#include "cli/commands.h"

namespace tess::cli {
namespace {

constexpr const char* kHelp =
    "Start a command as a job, here or on a node\n"
    "Usage: tess run [OPTION]... [--] COMMAND [ARGUMENT]...\n\n"
    "This very process becomes the command, so exit status, signals, terminal, job control,\n"
    "environment and directory are its own: `tess run` can stand in front of anything. The "
    "command's\n"
    "files and terminal stay those of this node wherever it runs.\n\n"
    "Options:\n"
    "  -n,--on NODE     Start it on that node, to stay there; without: where it runs best, to be\n"
    "                   moved by the cluster when that changes\n"
    "  --home           It runs here\n"
    "  --stay           Where it is when it starts, it stays\n"
    "  --avoid NODE     Not there (may be given several times)\n"
    "  --cpu-bound      It computes: system calls do not count where it is placed\n"
    "  --memory SIZE    It will need so much, for example 2G\n"
    "  -h,--help        This text\n\n"
    "Exit status: that of the command; 125 if Tessera could not start it (the reason is printed "
    "and\n"
    "nothing was started), 126 if the command cannot be executed, 127 if it is not found.\n\n"
    "Examples:\n"
    "  tess run --on n2 xz -9 big.tar\n"
    "  tess run make -j8\n"
    "  tess run --on n3 -- sh -c 'echo $PPID'\n";

// The next element of arguments is an option's value.
bool take_value(const std::vector<std::string>& arguments, size_t& at, const char* long_name,
                const char* short_name, std::string& value) {
  const std::string& word = arguments[at];
  const std::string with_value = std::string(long_name).append("=");
  if (word.starts_with(with_value)) {
    value = word.substr(with_value.size());
    return true;
  }
  if ((word == long_name || word == short_name) && at + 1 < arguments.size()) {
    value = arguments[++at];
    return true;
  }
  return false;
}

// Replaces this process; returns the exit status for the failure.
int become(const std::vector<std::string>& command) {
  std::vector<char*> argv;
  argv.reserve(command.size() + 1);
  for (const std::string& word : command) {
    argv.push_back(const_cast<char*>(word.c_str()));
  }
  argv.push_back(nullptr);
  ::execvp(argv[0], argv.data());
  const int error = errno;
  const bool missing = error == ENOENT || error == ENOTDIR;
  print_error(command[0] + ": " + (missing ? "command not found" : std::strerror(error)));
  return missing ? kNotFound : kNotExecutable;
}

// Would execvp find it? Asked before a job is made, so that a misspelt name costs nothing.
int check_command(const std::string& name) {
  int worst = ENOENT;
  const auto look = [&](const std::string& path) {
    if (::access(path.c_str(), X_OK) == 0) {
      return true;
    }
    if (errno == EACCES) {
      worst = EACCES;
    }
    return false;
  };
  if (name.find('/') != std::string::npos) {
    if (look(name)) {
      return kOk;
    }
  } else {
    const char* search = ::getenv("PATH");
    std::string path = search != nullptr ? search : "/bin:/usr/bin";
    for (size_t start = 0; start <= path.size();) {
      const size_t end = std::min(path.find(':', start), path.size());
      const std::string dir = path.substr(start, end - start);
      if (look(dir.empty() ? name : dir + "/" + name)) {
        return kOk;
      }
      start = end + 1;
    }
  }
  const bool missing = worst == ENOENT;
  print_error(name + ": " + (missing ? "command not found" : std::strerror(worst)));
  return missing ? kNotFound : kNotExecutable;
}

struct Wish {
  std::string node;
  nlohmann::json wishes = nlohmann::json::object();
};

// Takes the option at `at`, if it is one of ours.
bool take_option(const std::vector<std::string>& arguments, size_t& at, Wish& wish) {
  const std::string& word = arguments[at];
  std::string value;
  for (const char* flag : {"--home", "--stay", "--cpu-bound"}) {
    if (word == flag) {
      std::string key = word.substr(2);
      std::replace(key.begin(), key.end(), '-', '_');
      wish.wishes[key] = true;
      return true;
    }
  }
  if (take_value(arguments, at, "--on", "-n", wish.node)) {
    return true;
  }
  if (take_value(arguments, at, "--avoid", "--avoid", value)) {
    wish.wishes["avoid"].push_back(value);
    return true;
  }
  if (take_value(arguments, at, "--memory", "--memory", value)) {
    const uint64_t bytes = parse_size(value);
    wish.wishes["memory_bytes"] = bytes;
    return bytes != 0;
  }
  return false;
}

// Has tessd attach a home agent to this process.
bool attach(const Wish& wish) {
  auto client = Client::connect();
  if (!client) {
    print_error(client.error().message());
    return false;
  }
  const auto sent = client->send({{"op", "run"}, {"node", wish.node}, {"wishes", wish.wishes}});
  auto answer = sent ? client->receive() : Result<nlohmann::json>(tl::unexpected(sent.error()));
  if (!answer) {
    print_error(answer.error().message());
    return false;
  }
  if (exit_code_for(*answer) != kOk) {
    print_error(answer->value("error", "tessd gives no reason"));
    return false;
  }
  return true;
}

}  // namespace

int run_command(std::vector<std::string> arguments) {
  Wish wish;
  size_t at = 0;
  for (; at < arguments.size(); ++at) {
    const std::string& word = arguments[at];
    if (word == "--help" || word == "-h") {
      std::fputs(kHelp, stdout);
      return kOk;
    }
    if (word == "--") {
      ++at;
      break;
    }
    if (word.empty() || word[0] != '-') {
      break;
    }
    if (!take_option(arguments, at, wish)) {
      print_error("run: unknown or incomplete option '" + word + "'; see `tess run --help`");
      return kRunFailed;
    }
  }
  const std::vector<std::string> command(arguments.begin() + static_cast<long>(at),
                                         arguments.end());
  if (command.empty()) {
    print_error("run: the command is missing; see `tess run --help`");
    return kRunFailed;
  }
  if (const int status = check_command(command[0]); status != kOk) {
    return status;
  }
  if (!attach(wish)) {
    return kRunFailed;
  }
  return become(command);
}

void add_run(CLI::App& app) {
  app.add_subcommand("run", "Start a command as a job, here or on a node (tess run --help)")
      ->allow_extras();
}

}  // namespace tess::cli
