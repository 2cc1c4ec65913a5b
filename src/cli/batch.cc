// tess batch: the queue of jobs of this node (submit is in batch_submit.cc).
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/batch_table.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "sys/fd.h"

namespace tess::cli {
namespace {

using nlohmann::json;

// "12" or "12.7".
struct JobName {
  uint64_t job = 0;
  std::optional<uint32_t> task;
};

template <typename T>
bool whole_number(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return !text.empty() && error == std::errc() && end == text.data() + text.size();
}

std::optional<JobName> parse_name(const std::string& text) {
  JobName name;
  const size_t dot = text.find('.');
  if (!whole_number(std::string_view(text).substr(0, dot), name.job) || name.job == 0) {
    return std::nullopt;
  }
  if (dot != std::string::npos) {
    name.task.emplace(0);
    if (!whole_number(std::string_view(text).substr(dot + 1), *name.task)) {
      return std::nullopt;
    }
  }
  return name;
}

std::string check_name(const std::string& text) {
  return parse_name(text) ? std::string()
                          : "'" + text + "' is not a job (like 12) or a task (like 12.7)";
}

struct Arguments {
  std::vector<std::string> names;
  bool as_json = false;
  bool all = false;
  bool error = false;
};
using ArgumentsPtr = std::shared_ptr<Arguments>;

json about(const char* op, const std::string& text) {
  const JobName name = parse_name(text).value_or(JobName());
  json request = {{"op", op}, {"job", name.job}};
  if (name.task) {
    request["task"] = *name.task;
  }
  return request;
}

// The same for each job that was named; the worst exit code counts.
void for_each(const ArgumentsPtr& arguments, const char* op, const char* done, int& exit_code) {
  json answers = json::array();
  for (const std::string& name : arguments->names) {
    ExitCode code = kOk;
    json answer = ask(about(op, name), code);
    if (code != kOk) {
      exit_code = code;
    } else if (arguments->as_json) {
      answers.push_back(std::move(answer));
    } else {
      std::printf("%s: %s\n", name.c_str(), done);
    }
  }
  if (arguments->as_json) {
    print_json({{"jobs", std::move(answers)}});
  }
}

void list(const ArgumentsPtr& arguments, int& exit_code) {
  ExitCode code = kOk;
  const json answer = ask({{"op", "batch_list"}, {"all", arguments->all}}, code);
  exit_code = code;
  if (code == kOk) {
    arguments->as_json ? print_json(answer)
                       : void(std::fputs(batch_table(answer["jobs"]).c_str(), stdout));
  }
}

void show(const ArgumentsPtr& arguments, int& exit_code) {
  ExitCode code = kOk;
  const json answer = ask(about("batch_show", arguments->names[0]), code);
  exit_code = code;
  if (code == kOk) {
    arguments->as_json ? print_json(answer)
                       : void(std::fputs(batch_details(answer).c_str(), stdout));
  }
}

void wait_for(const ArgumentsPtr& arguments, int& exit_code) {
  json jobs = json::array();
  for (const std::string& text : arguments->names) {
    const JobName name = parse_name(text).value_or(JobName());
    jobs.push_back(name.job);
  }
  ExitCode code = kOk;
  const json answer = ask({{"op", "batch_wait"}, {"jobs", std::move(jobs)}}, code);
  exit_code = code;
  if (code != kOk) {
    return;
  }
  for (const json& job : answer["jobs"]) {
    if (job.value("state", "") != "done") {
      exit_code = kFailed;
    }
  }
  if (arguments->as_json) {
    print_json(answer);
  }
}

// The file itself, read with the caller's own rights.
bool print_file(const std::string& path) {
  const sys::Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) {
    print_error(path + ": " + std::strerror(errno));
    return false;
  }
  char piece[64 << 10];
  ssize_t n = 0;
  while ((n = ::read(file.get(), piece, sizeof(piece))) > 0) {
    std::fwrite(piece, 1, static_cast<size_t>(n), stdout);
  }
  return n == 0;
}

void print_log(const ArgumentsPtr& arguments, int& exit_code) {
  ExitCode code = kOk;
  const json answer = ask(about("batch_show", arguments->names[0]), code);
  exit_code = code;
  if (code != kOk) {
    return;
  }
  json paths = json::array();
  for (const json& task : answer["task_list"]) {
    if (task.value("attempt", 0) > 0) {
      paths.push_back(task.value(arguments->error ? "error" : "output", ""));
    }
  }
  if (arguments->as_json) {
    print_json({{"files", std::move(paths)}});
    return;
  }
  if (paths.empty()) {
    print_error(arguments->names[0] + " has not begun");
    exit_code = kRefused;
  }
  for (const json& path : paths) {
    if (!print_file(path.get<std::string>())) {
      exit_code = kFailed;
    }
  }
}

using Action = std::function<void(const ArgumentsPtr&, int&)>;

CLI::App* add_one(CLI::App& batch, const char* name, const char* help, bool many, int& exit_code,
                  Action action) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* command = batch.add_subcommand(name, help);
  CLI::Option* names = command->add_option("job", arguments->names, "A job (12) or task (12.7)")
                           ->required()
                           ->check(check_name);
  if (!many) {
    names->expected(1);
  }
  command->add_flag("--json", arguments->as_json, "Print JSON");
  if (std::strcmp(name, "log") == 0) {
    command->add_flag("-e,--error", arguments->error, "What it wrote to standard error apart");
  }
  command->callback([arguments, action, &exit_code] { action(arguments, exit_code); });
  return command;
}

}  // namespace

void add_batch(CLI::App& app, int& exit_code) {
  CLI::App* batch = app.add_subcommand("batch", "Jobs that wait for room in the cluster");
  batch->require_subcommand(1);
  batch->add_subcommand("submit", "Put a job into the queue (tess batch submit --help)")
      ->allow_extras();
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* all = batch->add_subcommand("list", "List the jobs that are not over");
  all->add_flag("-a,--all", arguments->all, "Also those that ended in the last week");
  all->add_flag("--json", arguments->as_json, "Print JSON");
  all->callback([arguments, &exit_code] { list(arguments, exit_code); });
  add_one(*batch, "show", "Tell all about a job and its tasks", false, exit_code, show);
  add_one(*batch, "log", "Print what a job's tasks have written", false, exit_code, print_log);
  add_one(*batch, "wait", "Wait until jobs are over; 0: all went well", true, exit_code, wait_for);
  const auto each = [&](const char* name, const char* help, const char* op, const char* done) {
    add_one(*batch, name, help, true, exit_code,
            [op, done](const ArgumentsPtr& given, int& code) { for_each(given, op, done, code); });
  };
  each("cancel", "End jobs or tasks: SIGTERM, after 10 s SIGKILL", "batch_cancel", "cancelled");
  each("hold", "Start no more of a job's tasks", "batch_hold", "held");
  each("release", "Start them again", "batch_release", "released");
}

}  // namespace tess::cli
