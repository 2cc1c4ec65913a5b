// BatchService: one task, from its start to its end.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "base/log.h"
#include "batch/keeper.h"
#include "node/batch_service.h"
#include "sys/files.h"

namespace tess::node {

using batch::TaskId;
using batch::TaskRecord;
using batch::TaskState;
using batch::Time;

namespace {

constexpr Time kTryAgain{5000};
constexpr Time kTryAgainSoon{500};

// The program and its argument that a script names in its first line, as the kernel would read it.
// (Not left to the kernel: /run is often mounted so that nothing there can be executed.)
std::vector<std::string> interpreter_of(const std::string& script) {
  const std::string line = script.substr(2, script.find('\n') - 2);
  const auto is_blank = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  size_t at = 0;
  while (at < line.size() && is_blank(line[at])) {
    ++at;
  }
  size_t end = at;
  while (end < line.size() && !is_blank(line[end])) {
    ++end;
  }
  std::vector<std::string> words = {line.substr(at, end - at)};
  while (end < line.size() && is_blank(line[end])) {
    ++end;
  }
  std::string rest = line.substr(end);
  while (!rest.empty() && is_blank(rest.back())) {
    rest.pop_back();
  }
  if (!rest.empty()) {
    words.push_back(rest);
  }
  return words;
}

Result<sys::Fd> file_with(const std::string& text) {
  sys::Fd file(::memfd_create("order", MFD_CLOEXEC));
  if (!file.valid()) {
    return fail_errno("make a memory file");
  }
  TESS_TRY(sys::write_all(file, std::as_bytes(std::span(text))));
  TESS_TRY(sys::rewind_file(file));
  return file;
}

}  // namespace

batch::PatternValues pattern_values(const batch::Job& job, uint32_t task) {
  return {job.id, task, job.spec.name, job.spec.uid};
}

std::vector<std::string> task_environment(const batch::Job& job, uint32_t task,
                                          const std::string& node) {
  std::vector<std::string> environment;
  for (const std::string& entry : job.spec.environment) {
    if (!entry.starts_with("TESS_JOB_") && !entry.starts_with("TESS_TASK_")) {
      environment.push_back(entry);
    }
  }
  const auto set = [&](const char* name, const auto& value) {
    environment.push_back(fmt::format("{}={}", name, value));
  };
  set("TESS_JOB_ID", job.id);
  set("TESS_JOB_NAME", job.spec.name);
  set("TESS_JOB_HOME", node);
  set("TESS_JOB_CPUS", job.spec.cpus);
  set("TESS_JOB_MEMORY", job.spec.memory_bytes);
  set("TESS_JOB_DIRECTORY", job.spec.directory);
  set("TESS_TASK_ID", task);
  set("TESS_TASK_COUNT", job.tasks.size());
  set("TESS_TASK_FIRST", job.tasks.front());
  set("TESS_TASK_LAST", job.tasks.back());
  const auto info = job.info.find(task);
  set("TESS_TASK_ATTEMPT", info == job.info.end() ? 1 : info->second.attempt);
  return environment;
}

std::string BatchService::record_path(const TaskId& id) const {
  const auto& info = queue_.find(id.job)->info.at(id.task);
  return fmt::format("{}/batch/tasks/{}.{}.{}", options_.state_dir, id.job, id.task, info.attempt);
}

std::string BatchService::script_path(uint64_t job) const {
  return fmt::format("{}/batch/job-{}", options_.run_dir, job);
}

void BatchService::start_task(const TaskId& id) {
  queue_.starting(id, now());
  persist(id, [this, id](const Result<>& written) {
    if (!written) {
      queue_.not_started(id, now() + kTryAgain, written.error().message());
    } else {
      spawn(id);
    }
  });
}

void BatchService::spawn(const TaskId& id) {
  const auto& info = queue_.find(id.job)->info.at(id.task);
  if (info.cancelling) {
    close(id, TaskState::kCancelled, -1, "cancelled");
    return;
  }
  if (stopping_) {
    try_again(id, Time(0), "tessd was stopping");
    return;
  }
  if (const auto spawned = spawn_keeper(id); !spawned) {
    log::error("node", "event=batch_start_failed task={}.{} reason=\"{}\"", id.job, id.task,
               spawned.error().message());
    if (spawned.error().kind() == ErrorKind::kBadInput) {
      close(id, TaskState::kFailed, 125, spawned.error().message());
    } else {
      try_again(id, kTryAgain, spawned.error().message());
    }
  }
}

Result<std::vector<std::string>> BatchService::command_of(const batch::Job& job,
                                                          uint32_t task) const {
  const batch::JobSpec& spec = job.spec;
  (void)task;
  if (spec.script.empty()) {
    return spec.command;
  }
  const std::string path = script_path(job.id);
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    // Whole, and the owner's, from the moment it has its name.
    const std::string part = path + ".new";
    TESS_TRY(sys::write_file(part, spec.script, 0400));
    if (::chown(part.c_str(), spec.uid, spec.gid) != 0 ||
        ::rename(part.c_str(), path.c_str()) != 0) {
      return fail_errno("make {}", path);
    }
  }
  auto words = interpreter_of(spec.script);
  words.push_back(path);
  words.insert(words.end(), spec.command.begin(), spec.command.end());
  return words;
}

// With nothing left to expand.
Result<batch::JobSpec> BatchService::final_spec(const TaskId& id) const {
  const batch::Job& job = *queue_.find(id.job);
  batch::JobSpec spec = job.spec;
  const auto values = pattern_values(job, id.task);
  const auto expand = [&](const std::string& pattern) -> Result<std::string> {
    auto path = batch::expand_pattern(pattern, values);
    if (path && !path->empty() && !path->starts_with("/")) {
      path->insert(0, spec.directory + "/");
    }
    return path;
  };
  TESS_TRY_ASSIGN(spec.command, command_of(job, id.task));
  TESS_TRY_ASSIGN(spec.output, expand(batch::output_pattern(job.spec)));
  TESS_TRY_ASSIGN(spec.error, expand(job.spec.error));
  TESS_TRY_ASSIGN(spec.input, expand(job.spec.input));
  spec.environment = task_environment(job, id.task, options_.node_name);
  spec.script.clear();
  return spec;
}

Result<> BatchService::spawn_keeper(const TaskId& id) {
  batch::Order order;
  TESS_TRY_ASSIGN(order.spec, final_spec(id));
  order.control_socket = options_.run_dir + "/control.sock";
  // The paths may hold percent signs now; the keeper expands nothing, but checks all.
  TESS_TRY_ASSIGN(const sys::Fd order_file, file_with(batch::encode_order(order)));
  const std::string path = record_path(id);
  TESS_TRY_ASSIGN(const sys::Fd record, batch::make_record(path));
  const sys::Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  sys::SpawnOptions options;
  options.argv = {options_.agent_binary, "task"};
  options.fds = {{null.get(), 0},
                 {null.get(), 1},
                 {2, 2},
                 {record.get(), batch::kRecordFd},
                 {order_file.get(), batch::kOrderFd}};
  options.directory = std::string("/");
  options.new_session = true;
  auto keeper = sys::Process::spawn(options);
  if (!keeper) {
    ::unlink(path.c_str());
    return fail_with(std::move(keeper.error()), "start the keeper of task {}.{}", id.job, id.task);
  }
  Kept& kept = kept_[id];
  kept.keeper = std::move(*keeper);
  kept.exit = std::make_unique<net::FdWatch>(
      loop_, kept.keeper.pidfd().get(), [this, id] { on_keeper_exit(id); }, nullptr);
  kept.exit->want_read(true);
  return {};
}

void BatchService::on_keeper_exit(const TaskId& id) {
  Kept& kept = kept_.at(id);
  (void)kept.keeper.wait(sys::after(std::chrono::milliseconds(0)));
  // From now on it is like one of an earlier tessd: looked at until its record tells all.
  kept.exit.reset();
  kept.keeper = sys::Process();
  settle(id);
}

// Believes a task's record.
void BatchService::settle(const TaskId& id) {
  const auto found = batch::read_record(record_path(id));
  if (!found) {
    log::warn("node", "event=batch_record task={}.{} reason=\"{}\"", id.job, id.task,
              found.error().message());
    return;
  }
  const batch::TaskInfo& info = queue_.find(id.job)->info.at(id.task);
  if (!*found) {
    if (info.state == TaskState::kStarting) {
      try_again(id, Time(0), "tessd ended before it was started");
    } else {
      close(id, TaskState::kLost, -1, "its record is gone: how it ended is not known");
    }
    return;
  }
  const TaskRecord& record = (*found)->record;
  if (record.running && !record.not_started && info.state == TaskState::kStarting) {
    queue_.running(id, record.running->pid);
    persist(id);
  } else if (record.running && info.pid == 0) {
    queue_.set_pid(id, record.running->pid);
  }
  if ((*found)->keeper == batch::Keeper::kGone) {
    settle_gone(id, record);
  }
}

void BatchService::settle_gone(const TaskId& id, const TaskRecord& record) {
  if (record.ended) {
    const auto& status = *record.ended;
    close(id, status.success() ? TaskState::kDone : TaskState::kFailed, status.shell_code(),
          status.text());
  } else if (record.not_started) {
    const auto& what = *record.not_started;
    if (what.for_good) {
      close(id, TaskState::kFailed, what.exit_code, what.why);
    } else {
      try_again(id, kTryAgain, what.why);
    }
  } else if (!record.running) {
    try_again(id, kTryAgainSoon, "its keeper was killed before it began");
  } else if (!sys::open_if_same(record.running->pid, record.running->start_time)) {
    close(id, TaskState::kLost, -1,
          fmt::format("process {} ran when its keeper was killed or the machine stopped: how it "
                      "ended is not known",
                      record.running->pid));
  }
  // Else it goes on without its keeper, and is looked at again.
}

// The record goes when what it says is in the registry.
void BatchService::close(const TaskId& id, TaskState state, int exit_code,
                         const std::string& outcome) {
  kept_.erase(id);
  const std::string record = record_path(id);
  const bool again = queue_.ended(id, state, exit_code, outcome, now());
  log::info("node", "event=batch_task_ended task={}.{} state={} how=\"{}\"", id.job, id.task,
            again ? "queued" : to_text(queue_.state(id)), outcome);
  persist(id, [record](const Result<>& written) {
    if (written) {
      ::unlink(record.c_str());
    }
  });
  if (queue_.find(id.job)->over()) {
    ::unlink(script_path(id.job).c_str());
    check_waiters();
  }
  plan_soon();
}

void BatchService::try_again(const TaskId& id, Time pause, const std::string& why) {
  if (queue_.find(id.job)->info.at(id.task).cancelling) {
    close(id, TaskState::kCancelled, -1, "cancelled");
    return;
  }
  kept_.erase(id);
  const std::string record = record_path(id);
  queue_.not_started(id, now() + pause, why);
  persist(id, [record](const Result<>& written) {
    if (written) {
      ::unlink(record.c_str());
    }
  });
  plan_soon();
}

// The keeper ends it; where that is gone, this does.
void BatchService::end_task(const TaskId& id) {
  const auto found = batch::read_record(record_path(id));
  if (!found || !*found) {
    return;  // it has not begun, or is over
  }
  const auto& [keeper, record] = **found;
  if (keeper == batch::Keeper::kAlive) {
    const auto kept = kept_.find(id);
    if (kept != kept_.end() && kept->second.keeper.valid()) {
      (void)kept->second.keeper.signal(SIGTERM);
    } else if (const auto process = sys::Process::open(record.keeper); process) {
      (void)process->signal(SIGTERM);
    }
  } else if (record.running && sys::open_if_same(record.running->pid, record.running->start_time)) {
    (void)batch::signal_session(record.running->pid, SIGKILL);
  }
}

}  // namespace tess::node
