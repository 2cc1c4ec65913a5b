#include "cli/top_model.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <tuple>

namespace tess::cli::top {
namespace {

using nlohmann::json;

constexpr std::array<const char*, static_cast<size_t>(Sort::kCount)> kSortNames = {
    "cpu", "mem", "time", "pid", "where", "home", "moves", "command"};

// json::value() throws where the type is another one.
std::string text_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}
double number_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : 0;
}
bool flag_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}
int count_of(const json& object, const char* key) {
  return static_cast<int>(std::clamp(number_of(object, key), 0.0, 2e9));
}
uint64_t size_of(const json& object, const char* key) {
  return static_cast<uint64_t>(std::clamp(number_of(object, key), 0.0, 1e18));
}

NodeRow node_row(const json& node) {
  NodeRow row;
  row.name = text_of(node, "name");
  row.address = text_of(node, "address");
  row.state = state_of_node(node);
  row.usable = flag_of(node, "up");
  row.has_load = row.usable || node.contains("age_s");
  row.cores = count_of(node, "cores");
  row.speed = number_of(node, "speed") / 1000;
  row.load = number_of(node, "load");
  row.memory = size_of(node, "memory_bytes");
  row.memory_free = std::min(row.memory, size_of(node, "memory_free_bytes"));
  row.guests = count_of(node, "guests");
  row.age = number_of(node, "age_s");
  row.kernel = text_of(node, "kernel");
  return row;
}

ProcessRow process_row(const json& process) {
  ProcessRow row;
  row.job = text_of(process, "job");
  row.pid = count_of(process, "pid");
  row.user = text_of(process, "user");
  row.command = text_of(process, "command");
  row.home = text_of(process, "home");
  row.node = text_of(process, "node");
  row.state = text_of(process, "state");
  row.cause = text_of(process, "cause");
  row.why = text_of(process, "why");
  row.cpu = number_of(process, "cpu");
  row.cpu_seconds = number_of(process, "cpu_home_s") + number_of(process, "cpu_away_s");
  row.memory = size_of(process, "memory_bytes");
  row.moves = count_of(process, "moves");
  row.threads = count_of(process, "threads");
  return row;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return c < 0x80 ? static_cast<char>(std::tolower(c)) : c; });
  return text;
}

bool passes(const ProcessRow& row, const std::string& filter) {
  if (filter.empty()) {
    return true;
  }
  const std::string pid = std::to_string(row.pid);
  for (const std::string* text :
       {&row.command, &row.user, &row.node, &row.home, &row.state, &row.job, &row.cause, &pid}) {
    if (lower(*text).find(filter) != std::string::npos) {
      return true;
    }
  }
  return false;
}

// Biggest first for quantities, alphabetical for names.
bool before(const ProcessRow& a, const ProcessRow& b, Sort sort) {
  switch (sort) {
    case Sort::kCpu:
      return a.cpu > b.cpu;
    case Sort::kMemory:
      return a.memory > b.memory;
    case Sort::kTime:
      return a.cpu_seconds > b.cpu_seconds;
    case Sort::kPid:
      return a.pid < b.pid;
    case Sort::kWhere:
      return a.node < b.node;
    case Sort::kHome:
      return a.home < b.home;
    case Sort::kMoves:
      return a.moves > b.moves;
    case Sort::kCommand:
      return a.command < b.command;
    case Sort::kCount:
      break;
  }
  return false;
}

size_t moved(size_t at, size_t count, long rows) {
  const long last = static_cast<long>(count) - 1;
  return static_cast<size_t>(std::clamp(static_cast<long>(at) + rows, 0L, std::max(0L, last)));
}

}  // namespace

std::string state_of_node(const json& node) {
  const std::string state = text_of(node, "state");
  if (flag_of(node, "draining") && state == "alive") {
    return "draining";
  }
  if (state.empty() || state == "unknown") {
    return flag_of(node, "up") ? "up" : "down";
  }
  // Gossip hears it, but it cannot be asked anything.
  return state == "alive" && !flag_of(node, "up") ? "no answer" : state;
}

Picture make_picture(const json& nodes, const json& processes) {
  Picture picture;
  if (nodes.is_object()) {
    picture.node = text_of(nodes, "node");
    if (const auto list = nodes.find("nodes"); list != nodes.end() && list->is_array()) {
      for (const json& node : *list) {
        if (node.is_object()) {
          picture.nodes.push_back(node_row(node));
        }
      }
    }
  }
  if (!processes.is_object()) {
    return picture;
  }
  if (const auto list = processes.find("processes"); list != processes.end() && list->is_array()) {
    for (const json& process : *list) {
      if (process.is_object()) {
        picture.processes.push_back(process_row(process));
      }
    }
  }
  return picture;
}

const char* to_text(Sort sort) {
  return sort == Sort::kCount ? "" : kSortNames[static_cast<size_t>(sort)];
}

Sort sort_of(const std::string& text) {
  const auto found = std::find(kSortNames.begin(), kSortNames.end(), text);
  return static_cast<Sort>(found - kSortNames.begin());
}

std::vector<size_t> shown_processes(const Picture& picture, const View& view) {
  std::vector<size_t> shown;
  const std::string filter = lower(view.filter);
  for (size_t i = 0; i < picture.processes.size(); ++i) {
    if (passes(picture.processes[i], filter)) {
      shown.push_back(i);
    }
  }
  std::sort(shown.begin(), shown.end(), [&](size_t x, size_t y) {
    const ProcessRow& a = picture.processes[x];
    const ProcessRow& b = picture.processes[y];
    if (before(a, b, view.sort) || before(b, a, view.sort)) {
      return before(a, b, view.sort) != view.reversed;
    }
    return std::tie(a.home, a.pid, x) < std::tie(b.home, b.pid, y);
  });
  return shown;
}

size_t selected_process(const Picture& picture, const std::vector<size_t>& shown,
                        const View& view) {
  const auto found = std::find_if(shown.begin(), shown.end(), [&](size_t i) {
    const ProcessRow& row = picture.processes[i];
    return ProcessId{row.home, row.pid} == view.process;
  });
  return found != shown.end() ? static_cast<size_t>(found - shown.begin()) : 0;
}

size_t selected_node(const Picture& picture, const View& view) {
  const auto found = std::find_if(picture.nodes.begin(), picture.nodes.end(),
                                  [&](const NodeRow& row) { return row.name == view.node; });
  return found != picture.nodes.end() ? static_cast<size_t>(found - picture.nodes.begin()) : 0;
}

void select_by(const Picture& picture, View& view, long rows) {
  if (view.panel == Panel::kNodes) {
    if (!picture.nodes.empty()) {
      view.node =
          picture.nodes[moved(selected_node(picture, view), picture.nodes.size(), rows)].name;
    }
    return;
  }
  const auto shown = shown_processes(picture, view);
  if (!shown.empty()) {
    const size_t at = moved(selected_process(picture, shown, view), shown.size(), rows);
    const ProcessRow& row = picture.processes[shown[at]];
    view.process = {row.home, row.pid};
  }
}

size_t scroll(size_t first, size_t selected, size_t count, size_t height) {
  if (height == 0 || count <= height) {
    return 0;
  }
  first = std::min(first, count - height);
  if (selected < first) {
    return selected;
  }
  return selected >= first + height ? selected - height + 1 : first;
}

Totals totals_of(const Picture& picture) {
  Totals totals;
  totals.nodes = picture.nodes.size();
  for (const NodeRow& node : picture.nodes) {
    if (node.usable) {
      ++totals.usable;
      totals.cores += node.cores;
      totals.load += node.load;
    }
  }
  totals.processes = picture.processes.size();
  totals.away = static_cast<size_t>(
      std::count_if(picture.processes.begin(), picture.processes.end(),
                    [](const ProcessRow& row) { return row.node != row.home; }));
  return totals;
}

}  // namespace tess::cli::top
