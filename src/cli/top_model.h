// What `tess top` shows, apart from how: the picture that tessd gives, as rows; which of them are
// shown, in which order, and which one is selected. Plain values and functions, no terminal, no
// clock.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace tess::cli::top {

struct NodeRow {
  std::string name;
  std::string address;
  std::string state;  // as of `tess nodes`: alive, suspect, dead, left, draining, no answer, down
  bool usable = false;
  bool has_load = false;  // the figures below are known
  int cores = 0;
  double speed = 0;  // of a core, the reference machine being 1
  double load = 0;   // threads that run or want to
  uint64_t memory = 0;
  uint64_t memory_free = 0;
  int guests = 0;
  double age = 0;  // of the figures, seconds
  std::string kernel;
};

struct ProcessRow {
  std::string job;
  int pid = 0;
  std::string user;
  std::string command;
  std::string home;
  std::string node;
  std::string state;
  std::string cause;  // of its last move: balance, drain, person…; empty: it has not moved
  std::string why;    // the same as a sentence
  double cpu = 0;     // CPU seconds a second
  double cpu_seconds = 0;
  uint64_t memory = 0;
  int moves = 0;
  int threads = 0;
};

struct Picture {
  std::string node;  // whose tessd was asked
  std::vector<NodeRow> nodes;
  std::vector<ProcessRow> processes;
};

// From the answers to `nodes` and `ps`; what is missing or of another type is left empty. `user` is
// expected in the processes.
Picture make_picture(const nlohmann::json& nodes, const nlohmann::json& processes);
std::string state_of_node(const nlohmann::json& node);

enum class Sort { kCpu, kMemory, kTime, kPid, kWhere, kHome, kMoves, kCommand, kCount };
const char* to_text(Sort sort);
// By name; kCount if there is none.
Sort sort_of(const std::string& text);

enum class Panel { kProcesses, kNodes };

// A process in the whole cluster.
struct ProcessId {
  std::string home;
  int pid = 0;
  bool operator==(const ProcessId&) const = default;
};

// What the person at the keyboard has chosen.
struct View {
  Panel panel = Panel::kProcesses;
  Sort sort = Sort::kCpu;
  bool reversed = false;
  std::string filter;        // a part of the command, user, node, home, state, job, cause or pid
  ProcessId process;         // selected; the first one if it is not there
  std::string node;          // selected
  size_t first_process = 0;  // of those shown
  size_t first_node = 0;
};

// Indices into picture.processes: those that the filter lets through, in order. Equal ones keep an
// order that does not change from picture to picture.
std::vector<size_t> shown_processes(const Picture& picture, const View& view);

// The selected row among those shown; 0 if what was selected is not there.
size_t selected_process(const Picture& picture, const std::vector<size_t>& shown, const View& view);
size_t selected_node(const Picture& picture, const View& view);
// Moves the selection of the active panel by so many rows, stopping at the ends.
void select_by(const Picture& picture, View& view, long rows);
// The first row to be shown, so that the selected one is seen in a window of `height` rows.
size_t scroll(size_t first, size_t selected, size_t count, size_t height);

// What the whole cluster has and does, for the first line.
struct Totals {
  size_t nodes = 0;
  size_t usable = 0;
  size_t processes = 0;
  size_t away = 0;
  int cores = 0;
  double load = 0;
};
Totals totals_of(const Picture& picture);

}  // namespace tess::cli::top
