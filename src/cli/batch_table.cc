#include "cli/batch_table.h"

#include <fmt/format.h>
#include <pwd.h>

#include <ctime>
#include <nlohmann/json.hpp>

#include "cli/table.h"

namespace tess::cli {
namespace {

using nlohmann::json;

constexpr size_t kNameWidth = 24;
constexpr size_t kReasonWidth = 48;

std::string user_name(uid_t uid) {
  const passwd* entry = ::getpwuid(uid);
  return entry == nullptr ? std::to_string(uid) : entry->pw_name;
}

std::string time_text(const json& time) {
  if (!time.is_number()) {
    return "-";
  }
  const auto seconds = static_cast<time_t>(time.get<double>());
  std::tm parts{};
  ::localtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &parts);
  return text;
}

size_t number(const json& job, const char* key) {
  return job.value(key, size_t{0});
}

std::string progress(const json& job) {
  std::string text = fmt::format("{}/{}", number(job, "done"), number(job, "tasks"));
  for (const char* key : {"failed", "cancelled", "lost"}) {
    if (number(job, key) > 0) {
      text += fmt::format(" {} {}", number(job, key), key);
    }
  }
  return text;
}

std::string task_how(const json& task) {
  const std::string outcome = printable(task.value("outcome", ""));
  const std::string node = task.value("node", "");
  if (task.value("state", "") == "running") {
    const auto pid = task.find("pid");
    return pid != task.end() && pid->is_number()
               ? fmt::format("process {}{}", pid->get<int64_t>(), node.empty() ? "" : " on " + node)
               : "";
  }
  return outcome;
}

}  // namespace

std::string batch_table(const json& jobs) {
  using Align = Table::Align;
  Table table({{"JOB", Align::kRight},
               {"NAME", Align::kLeft, kNameWidth},
               {"USER"},
               {"STATE"},
               {"RUNNING", Align::kRight},
               {"QUEUED", Align::kRight},
               {"DONE"},
               {"WAITS BECAUSE", Align::kLeft, kReasonWidth}});
  for (const json& job : jobs) {
    table.add({std::to_string(job.value("job", uint64_t{0})), printable(job.value("name", "")),
               user_name(job.value("uid", uid_t{0})), job.value("state", ""),
               std::to_string(number(job, "running")), std::to_string(number(job, "queued")),
               progress(job), job.value("waits_for", "")});
  }
  return table.text();
}

std::string batch_details(const json& job) {
  std::string text;
  const auto line = [&](const char* key, const std::string& value) {
    text += fmt::format("{:<11}{}\n", std::string(key) + ":", value);
  };
  line("job",
       fmt::format("{} {}", job.value("job", uint64_t{0}), printable(job.value("name", ""))));
  line("user", user_name(job.value("uid", uid_t{0})));
  line("state", job.value("state", ""));
  if (const std::string why = job.value("waits_for", ""); !why.empty()) {
    line("waits", why);
  }
  line("command", printable(job.value("command", "")));
  line("directory", printable(job.value("directory", "")));
  const auto memory = job.value("memory_bytes", uint64_t{0});
  line("needs", fmt::format("{:g} CPUs{}", job.value("cpus", 1.0),
                            memory == 0 ? "" : ", " + bytes_text(memory)));
  line("submitted", time_text(job.value("submitted", json())));
  line("ended", time_text(job.value("ended", json())));
  line("done", progress(job));
  text += "\n";
  Table table({{"TASK", Table::Align::kRight},
               {"STATE"},
               {"TRIES", Table::Align::kRight},
               {"STARTED"},
               {"ENDED"},
               {"HOW"}});
  for (const json& task : job.value("task_list", json::array())) {
    table.add({std::to_string(task.value("task", 0U)), task.value("state", ""),
               std::to_string(task.value("attempt", 0U)), time_text(task.value("started", json())),
               time_text(task.value("ended", json())), task_how(task)});
  }
  return text + table.text();
}

}  // namespace tess::cli
