#include "cli/top_control.h"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>

#include "cli/table.h"
#include "cli/users.h"

namespace tess::cli::top {
namespace {

using nlohmann::json;

constexpr size_t kInputMost = 200;
constexpr long kFar = 1 << 30;

void drop_last_character(std::string& text) {
  while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0xc0) == 0x80) {
    text.pop_back();
  }
  if (!text.empty()) {
    text.pop_back();
  }
}

void add_lines(std::vector<std::string>& text, const char* title, const json& answer,
               const char* key) {
  const auto found = answer.find(key);
  if (found == answer.end() || !found->is_array() || found->empty()) {
    return;
  }
  text.emplace_back(title);
  for (const json& line : *found) {
    text.push_back("  - " + (line.is_string() ? line.get<std::string>() : line.dump()));
  }
}

std::vector<std::string> why_page(const json& answer) {
  std::vector<std::string> text;
  if (answer.value("can_move", false)) {
    text.emplace_back("It can move.");
  } else {
    add_lines(text, "It cannot move:", answer, "reasons");
  }
  add_lines(text, "Why it is where it is:", answer, "why_here");
  add_lines(text, "What would move it:", answer, "would_move");
  add_lines(text, "Its last moves:", answer, "last_moves");
  return text;
}

// "4711 (python3)"
std::string name_of(const ProcessRow& row) {
  const std::string word = row.command.substr(0, row.command.find(' '));
  return fmt::format("{} ({})", row.pid, cut(word.substr(word.rfind('/') + 1), 20));
}

}  // namespace

std::string Wish::text() const {
  switch (kind) {
    case Kind::kMigrate:
      return fmt::format("move {} to {}", process.pid, node);
    case Kind::kKill:
      return fmt::format("send {} to {}", signal_name(signal), process.pid);
    case Kind::kWhy:
      return fmt::format("why {}", process.pid);
    case Kind::kDrain:
      return "drain " + node;
    case Kind::kUndrain:
      return "undrain " + node;
  }
  return {};
}

json request_of(const Wish& wish) {
  switch (wish.kind) {
    case Wish::Kind::kMigrate:
      return {{"op", "migrate"},
              {"at", wish.process.home},
              {"pid", wish.process.pid},
              {"node", wish.node}};
    case Wish::Kind::kKill:
      return {{"op", "kill"},
              {"at", wish.process.home},
              {"pid", wish.process.pid},
              {"signal", wish.signal}};
    case Wish::Kind::kWhy:
      return {{"op", "why"}, {"at", wish.process.home}, {"pid", wish.process.pid}, {"node", ""}};
    case Wish::Kind::kDrain:
    case Wish::Kind::kUndrain:
      break;
  }
  return {{"op", "drain"}, {"node", wish.node}, {"on", wish.kind == Wish::Kind::kDrain}};
}

std::string suggest_node(const Picture& picture, const ProcessRow& process) {
  const NodeRow* best = nullptr;
  const auto speed = [](const NodeRow& node) {
    return std::max(node.speed, 0.01) * std::max(1, node.cores) / (node.load + 1);
  };
  for (const NodeRow& node : picture.nodes) {
    if (node.usable && node.state == "alive" && node.name != process.node &&
        (best == nullptr || speed(node) > speed(*best))) {
      best = &node;
    }
  }
  return best != nullptr ? best->name : "home";
}

const ProcessRow* Control::process(const Picture& picture) const {
  const auto shown = shown_processes(picture, view_);
  return shown.empty() ? nullptr
                       : &picture.processes[shown[selected_process(picture, shown, view_)]];
}

void Control::say(std::string message, bool bad) {
  message_ = std::move(message);
  bad_ = bad;
}

void Control::begin_prompt(Mode mode, std::string question, std::string suggestion) {
  mode_ = mode;
  question_ = std::move(question);
  suggestion_ = std::move(suggestion);
  input_.clear();
  say("", false);
}

void Control::show_page(std::string title, std::vector<std::string> text) {
  mode_ = Mode::kPage;
  page_title_ = std::move(title);
  page_ = std::move(text);
  page_first_ = 0;
}

void Control::press(const Press& press, const Picture& picture) {
  switch (mode_) {
    case Mode::kTable:
      press_in_table(press, picture);
      break;
    case Mode::kPage:
      press_in_page(press);
      break;
    default:
      press_in_prompt(press);
      break;
  }
}

long Control::rows_of(Key key) const {
  const long page = std::max(1L, static_cast<long>(height_) / 2);
  switch (key) {
    case Key::kUp:
      return -1;
    case Key::kDown:
      return 1;
    case Key::kPageUp:
      return -page;
    case Key::kPageDown:
      return page;
    case Key::kHome:
      return -kFar;
    case Key::kEnd:
      return kFar;
    default:
      return 0;
  }
}

void Control::press_in_table(const Press& press, const Picture& picture) {
  if (const long rows = rows_of(press.key); rows != 0) {
    select_by(picture, view_, rows);
  } else if (press.key == Key::kTab) {
    view_.panel = view_.panel == Panel::kNodes ? Panel::kProcesses : Panel::kNodes;
  } else if (press.key == Key::kEnter) {
    press_command('w', picture);
  } else if (press.key == Key::kEscape) {
    say("", false);
  } else if (press.key == Key::kText && press.text.size() == 1) {
    if (!press_command(press.text[0], picture)) {
      say(fmt::format("no command '{}': h tells which there are", press.text), true);
    }
  }
}

bool Control::press_command(char command, const Picture& picture) {
  constexpr int kSorts = static_cast<int>(Sort::kCount);
  const ProcessRow* row = process(picture);
  switch (command) {
    case 'q':
      quit_ = true;
      return true;
    case ' ':
      refresh_ = true;
      return true;
    case 'h':
    case '?':
      show_page("tess top", help_text());
      return true;
    case 's':
      view_.sort = static_cast<Sort>((static_cast<int>(view_.sort) + 1) % kSorts);
      return true;
    case 'S':
      view_.sort = static_cast<Sort>((static_cast<int>(view_.sort) + kSorts - 1) % kSorts);
      return true;
    case 'r':
      view_.reversed = !view_.reversed;
      return true;
    case '/':
      filter_before_ = view_.filter;
      begin_prompt(Mode::kFilter, "Show rows with: ", "");
      input_ = view_.filter;
      return true;
    case 'd':
    case 'u':
      if (!picture.nodes.empty()) {
        pending_ = {};
        pending_.kind = command == 'd' ? Wish::Kind::kDrain : Wish::Kind::kUndrain;
        pending_.node = picture.nodes[selected_node(picture, view_)].name;
        if (view_.panel == Panel::kProcesses) {
          begin_prompt(Mode::kNode, command == 'd' ? "Drain node" : "Undrain node",
                       row != nullptr ? row->node : pending_.node);
        } else {
          begin_prompt(Mode::kConfirm, fmt::format("{}: sure (y/n)? ", pending_.text()), "");
        }
      }
      return true;
    case 'm':
    case 'k':
    case 'w':
      break;
    default:
      return false;
  }
  if (row == nullptr) {
    say("no process is selected", true);
    return true;
  }
  pending_ = {};
  pending_.process = {row->home, row->pid};
  const std::string name = name_of(*row);
  if (command == 'w') {
    wishes_.push_back(pending_);
    say(fmt::format("asking about {}…", row->pid), false);
  } else if (command == 'm') {
    pending_.kind = Wish::Kind::kMigrate;
    begin_prompt(Mode::kNode, fmt::format("Move {} to node", name), suggest_node(picture, *row));
  } else {
    pending_.kind = Wish::Kind::kKill;
    begin_prompt(Mode::kSignal, fmt::format("Signal for {}", name), "TERM");
  }
  return true;
}

void Control::press_in_page(const Press& press) {
  const bool back = press.key == Key::kEscape || press.key == Key::kEnter ||
                    (press.key == Key::kText && (press.text == "q" || press.text == "h"));
  if (back) {
    mode_ = Mode::kTable;
    return;
  }
  const long last = static_cast<long>(page_.size());
  page_first_ = static_cast<size_t>(
      std::clamp(static_cast<long>(page_first_) + rows_of(press.key), 0L, last));
}

void Control::press_in_prompt(const Press& press) {
  if (press.key == Key::kText && mode_ == Mode::kConfirm) {
    mode_ = Mode::kTable;
    if (press.text == "y" || press.text == "Y") {
      wishes_.push_back(pending_);
      say(pending_.text() + "…", false);
    }
    return;
  }
  switch (press.key) {
    case Key::kText:
      if (input_.size() < kInputMost) {
        input_ += press.text;
      }
      break;
    case Key::kBackspace:
      drop_last_character(input_);
      break;
    case Key::kClear:
      input_.clear();
      break;
    case Key::kEscape:
      if (mode_ == Mode::kFilter) {
        view_.filter = filter_before_;
      }
      mode_ = Mode::kTable;
      return;
    case Key::kEnter:
      enter();
      return;
    default:
      break;
  }
  if (mode_ == Mode::kFilter) {
    view_.filter = input_;
  }
}

void Control::enter() {
  const Mode mode = std::exchange(mode_, Mode::kTable);
  const std::string answer = input_.empty() ? suggestion_ : input_;
  if (mode == Mode::kFilter) {
    view_.filter = input_;
    return;
  }
  if (mode == Mode::kConfirm) {
    return;  // Enter is not a yes
  }
  if (mode == Mode::kSignal) {
    pending_.signal = signal_number(answer);
    if (pending_.signal < 0) {
      say(fmt::format("there is no signal '{}'", answer), true);
      return;
    }
  } else {
    pending_.node = answer;
  }
  wishes_.push_back(pending_);
  say(pending_.text() + "…", false);
}

std::optional<Wish> Control::next_wish() {
  if (wishes_.empty()) {
    return std::nullopt;
  }
  Wish wish = wishes_.front();
  wishes_.pop_front();
  return wish;
}

void Control::answered(const Wish& wish, const json& answer) {
  if (!answer.value("ok", false)) {
    say(fmt::format("{}: {}", wish.text(), answer.value("error", "tessd gives no reason")), true);
    return;
  }
  refresh_ = true;
  if (wish.kind == Wish::Kind::kWhy) {
    say("", false);
    if (mode_ == Mode::kTable) {
      show_page(fmt::format("Process {} of {}", wish.process.pid, wish.process.home),
                why_page(answer));
    }
    return;
  }
  say(wish.text() + ": done", false);
}

std::vector<Line> Control::lines(const Picture& picture, Notice notice, size_t width,
                                 size_t height) {
  height_ = height;
  if (mode_ == Mode::kPage) {
    return lay_out_page(page_title_, page_, page_first_, width, height);
  }
  if (notice.message.empty()) {
    notice.message = message_;
    notice.bad = bad_;
  }
  if (mode_ != Mode::kTable) {
    notice.prompt = suggestion_.empty()
                        ? question_ + input_
                        : fmt::format("{} [{}]: {}", question_, suggestion_, input_);
    notice.prompt += "_";
  }
  return lay_out(picture, view_, notice, width, height);
}

}  // namespace tess::cli::top
