// The keys of `tess top`: what each does to the view, and what is to be asked of tessd because of
// it. No terminal and no socket: key presses in, lines and wishes out.
#pragma once

#include <deque>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/top_layout.h"
#include "cli/top_model.h"

namespace tess::cli::top {

enum class Key : uint8_t {
  kText,  // see Press::text
  kEnter,
  kEscape,
  kBackspace,
  kClear,  // the whole input
  kTab,
  kUp,
  kDown,
  kPageUp,
  kPageDown,
  kHome,
  kEnd,
};

struct Press {
  Key key = Key::kText;
  std::string text;  // one character, UTF-8
};

// Something to ask tessd for.
struct Wish {
  enum class Kind : uint8_t { kMigrate, kKill, kWhy, kDrain, kUndrain };
  Kind kind = Kind::kWhy;
  ProcessId process;
  std::string node;  // where to; which one is drained
  int signal = 0;

  std::string text() const;  // "move 4711 to n2"
};
nlohmann::json request_of(const Wish& wish);

class Control {
 public:
  Control(Sort sort, std::string filter) {
    view_.sort = sort;
    view_.filter = std::move(filter);
  }

  void press(const Press& press, const Picture& picture);
  // `notice` brings the time, and what the connection has to say.
  std::vector<Line> lines(const Picture& picture, Notice notice, size_t width, size_t height);

  std::optional<Wish> next_wish();
  void answered(const Wish& wish, const nlohmann::json& answer);

  bool quit() const { return quit_; }
  // Asked for a new picture at once; once each time.
  bool take_refresh() { return std::exchange(refresh_, false); }
  const View& view() const { return view_; }

 private:
  enum class Mode : uint8_t { kTable, kPage, kFilter, kNode, kSignal, kConfirm };

  void press_in_table(const Press& press, const Picture& picture);
  bool press_command(char command, const Picture& picture);
  void press_in_page(const Press& press);
  void press_in_prompt(const Press& press);
  void enter();
  long rows_of(Key key) const;
  void begin_prompt(Mode mode, std::string question, std::string suggestion);
  void show_page(std::string title, std::vector<std::string> text);
  const ProcessRow* process(const Picture& picture) const;
  void say(std::string message, bool bad);

  View view_;
  Mode mode_ = Mode::kTable;
  std::string question_;
  std::string suggestion_;  // for an empty input
  std::string input_;
  Wish pending_;  // what the prompt is about
  std::string filter_before_;
  std::string page_title_;
  std::vector<std::string> page_;
  size_t page_first_ = 0;
  size_t height_ = 24;  // of the last screen
  std::deque<Wish> wishes_;
  std::string message_;
  bool bad_ = false;
  bool quit_ = false;
  bool refresh_ = false;
};

// Where a process might go: the node with the most free CPU for one more thread, not where it is.
std::string suggest_node(const Picture& picture, const ProcessRow& process);

}  // namespace tess::cli::top
