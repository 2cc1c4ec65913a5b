#include "cli/group.h"

#include <poll.h>

#include <algorithm>
#include <list>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/client.h"

namespace tess::cli {
namespace {

using nlohmann::json;

constexpr size_t kAtOnce = 8;

struct Errand {
  Client client;
  const json* process;
};

std::string name_of(const json& process) {
  return fmt::format("{} of {}", process.value("pid", 0), process.value("home", ""));
}

ExitCode failed(const json& process, const std::string& why, ExitCode code) {
  print_error(name_of(process) + ": " + why);
  return code;
}

// The final answer, if it has come.
std::optional<ExitCode> look(Errand& errand) {
  while (true) {
    auto line = errand.client.receive_now();
    if (!line) {
      return failed(*errand.process, line.error().message(), kNoDaemon);
    }
    if (!line->has_value()) {
      return std::nullopt;
    }
    const json& answer = **line;
    if (answer.contains("event")) {
      continue;
    }
    const ExitCode code = exit_code_for(answer);
    return code == kOk
               ? code
               : failed(*errand.process, answer.value("error", "tessd gives no reason"), code);
  }
}

Result<Client> begin(const json& process, json request) {
  request["pid"] = process.value("pid", 0);
  request["at"] = process.value("home", "");
  TESS_TRY_ASSIGN(Client client, Client::connect());
  TESS_TRY(client.send(request));
  return client;
}

}  // namespace

json all_processes(ExitCode& code) {
  const json answer = ask({{"op", "ps"}, {"all", true}}, code);
  return answer.value("processes", json::array());
}

Result<std::vector<json>> processes_of_job(const json& processes, const std::string& job) {
  std::vector<json> found;
  std::set<std::string> jobs;
  for (const json& process : processes) {
    const std::string id = process.value("job", "");
    if (job.size() >= 4 && id.ends_with(job)) {
      found.push_back(process);
      jobs.insert(id);
    }
  }
  if (jobs.size() > 1) {
    return fail(ErrorKind::kBadInput, "'{}' is the end of {} jobs' ids: give more of it", job,
                jobs.size());
  }
  if (jobs.empty()) {
    return fail(ErrorKind::kBadInput, "there is no job '{}'; `tess ps -a --json` lists them", job);
  }
  return found;
}

std::vector<json> processes_on(const json& processes, const std::string& node) {
  std::vector<json> found;
  for (const json& process : processes) {
    if (process.value("node", "") == node) {
      found.push_back(process);
    }
  }
  return found;
}

ExitCode ask_for_each(const std::vector<json>& processes, const json& request, size_t& done) {
  ExitCode worst = kOk;
  std::list<Errand> errands;
  auto next = processes.begin();
  done = 0;
  while (next != processes.end() || !errands.empty()) {
    while (next != processes.end() && errands.size() < kAtOnce) {
      auto client = begin(*next, request);
      if (!client) {
        print_error(client.error().message());
        return kNoDaemon;
      }
      errands.push_back({std::move(*client), &*next++});
    }
    std::vector<pollfd> fds;
    for (const Errand& errand : errands) {
      fds.push_back({errand.client.fd(), POLLIN, 0});
    }
    (void)::poll(fds.data(), fds.size(), -1);  // a move takes as long as it takes
    for (auto errand = errands.begin(); errand != errands.end();) {
      const auto code = look(*errand);
      if (!code) {
        ++errand;
        continue;
      }
      done += *code == kOk ? 1 : 0;
      worst = *code == kOk ? worst : *code;
      errand = errands.erase(errand);
    }
  }
  return worst;
}

}  // namespace tess::cli
