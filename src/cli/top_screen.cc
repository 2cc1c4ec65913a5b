#include "cli/top_screen.h"

#include <langinfo.h>
#include <poll.h>
#include <unistd.h>

#include <clocale>
#include <cstring>
#include <ctime>
#include <list>
#include <nlohmann/json.hpp>

#include "cli/client.h"
#include "cli/top_control.h"
#include "cli/top_feed.h"
// Last: it defines macros.
#define NCURSES_NOMACROS
#include <curses.h>

namespace tess::cli::top {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

// A request under way on a connection of its own: moves may take long.
struct Errand {
  Wish wish;
  Client client;
};

class Terminal {
 public:
  static Result<Terminal> open();
  Terminal(Terminal&& other) noexcept : screen_(std::exchange(other.screen_, nullptr)) {}
  Terminal& operator=(Terminal&&) = delete;
  ~Terminal() {
    if (screen_ != nullptr) {
      ::endwin();
      ::delscreen(screen_);
    }
  }

  static size_t width() { return static_cast<size_t>(std::max(1, getmaxx(stdscr))); }
  static size_t height() { return static_cast<size_t>(std::max(1, getmaxy(stdscr))); }
  void show(const std::vector<Line>& lines) const;
  enum class Got : uint8_t { kNothing, kPress, kResized, kOther };
  static Got next(Press& press);

 private:
  explicit Terminal(SCREEN* screen) : screen_(screen) {}
  static attr_t attributes(Style style);
  SCREEN* screen_;
};

enum Color : short { kGreen = 1, kYellow, kRed, kCyan };

Result<Terminal> Terminal::open() {
  std::setlocale(LC_ALL, "");
  if (std::strcmp(::nl_langinfo(CODESET), "UTF-8") != 0) {
    std::setlocale(LC_CTYPE, "C.UTF-8");
  }
  if (::isatty(STDIN_FILENO) == 0 || ::isatty(STDOUT_FILENO) == 0) {
    return fail(ErrorKind::kNotPossible,
                "top needs a terminal; --once prints one picture, --json the figures");
  }
  SCREEN* screen = ::newterm(nullptr, stdout, stdin);
  if (screen == nullptr) {
    const char* name = std::getenv("TERM");
    return fail(ErrorKind::kNotPossible,
                "the terminal '{}' is unknown here (set TERM); --once prints one picture",
                name != nullptr ? name : "");
  }
  ::set_escdelay(25);
  ::cbreak();
  ::noecho();
  ::nonl();
  ::keypad(stdscr, TRUE);
  ::nodelay(stdscr, TRUE);
  ::curs_set(0);
  if (::has_colors()) {
    ::start_color();
    ::use_default_colors();
    ::init_pair(kGreen, COLOR_GREEN, -1);
    ::init_pair(kYellow, COLOR_YELLOW, -1);
    ::init_pair(kRed, COLOR_RED, -1);
    ::init_pair(kCyan, COLOR_CYAN, -1);
  }
  return Terminal(screen);
}

attr_t Terminal::attributes(Style style) {
  switch (style) {
    case Style::kPlain:
      return A_NORMAL;
    case Style::kStrong:
      return A_BOLD;
    case Style::kDim:
      return A_DIM;
    case Style::kTitle:
      return static_cast<attr_t>(COLOR_PAIR(kCyan));
    case Style::kSorted:
      return static_cast<attr_t>(COLOR_PAIR(kCyan)) | A_BOLD | A_UNDERLINE;
    case Style::kGood:
      return static_cast<attr_t>(COLOR_PAIR(kGreen));
    case Style::kWarn:
      return static_cast<attr_t>(COLOR_PAIR(kYellow));
    case Style::kBad:
      return static_cast<attr_t>(COLOR_PAIR(kRed)) | A_BOLD;
  }
  return A_NORMAL;
}

void Terminal::show(const std::vector<Line>& lines) const {
  ::erase();
  const int rows = static_cast<int>(height());
  const int columns = static_cast<int>(width());
  for (int y = 0; y < rows && y < static_cast<int>(lines.size()); ++y) {
    const Line& line = lines[static_cast<size_t>(y)];
    int x = 0;
    // Each piece at its own column: a wide character shifts nothing but its own cell.
    for (const Piece& piece : line.pieces) {
      if (x >= columns) {
        break;
      }
      ::attrset(static_cast<int>(line.selected ? A_REVERSE : attributes(piece.style)));
      ::mvaddstr(y, x, piece.text.c_str());
      x += static_cast<int>(Line{{piece}}.width());
    }
    if (line.selected && x < columns) {
      ::mvaddstr(y, x, std::string(static_cast<size_t>(columns - x), ' ').c_str());
    }
  }
  ::refresh();
}

Terminal::Got Terminal::next(Press& press) {
  wint_t code = 0;
  const int kind = ::wget_wch(stdscr, &code);
  if (kind == ERR) {
    return Got::kNothing;
  }
  if (kind == KEY_CODE_YES) {
    static const std::pair<int, Key> keys[] = {
        {KEY_UP, Key::kUp},          {KEY_DOWN, Key::kDown}, {KEY_PPAGE, Key::kPageUp},
        {KEY_NPAGE, Key::kPageDown}, {KEY_HOME, Key::kHome}, {KEY_END, Key::kEnd},
        {KEY_ENTER, Key::kEnter},    {KEY_BTAB, Key::kTab},  {KEY_BACKSPACE, Key::kBackspace}};
    for (const auto& [number, key] : keys) {
      if (static_cast<int>(code) == number) {
        press = {key, {}};
        return Got::kPress;
      }
    }
    return code == KEY_RESIZE ? Got::kResized : Got::kOther;
  }
  static const std::pair<wint_t, Key> controls[] = {
      {'\r', Key::kEnter},     {'\n', Key::kEnter},     {'\t', Key::kTab},  {0x1b, Key::kEscape},
      {0x7f, Key::kBackspace}, {0x08, Key::kBackspace}, {0x15, Key::kClear}};
  for (const auto& [character, key] : controls) {
    if (code == character) {
      press = {key, {}};
      return Got::kPress;
    }
  }
  if (code < 0x20) {
    return Got::kOther;
  }
  char bytes[16] = "";
  const int size = std::wctomb(bytes, static_cast<wchar_t>(code));
  if (size <= 0) {
    return Got::kOther;
  }
  press = {Key::kText, std::string(bytes, static_cast<size_t>(size))};
  return Got::kPress;
}

class Loop {
 public:
  Loop(Terminal& terminal, Sort sort, const std::string& filter, std::chrono::milliseconds interval)
      : terminal_(terminal), control_(sort, filter), feed_(interval) {}

  void run() {
    bool dirty = true;
    while (!control_.quit() && !gone_) {
      dirty |= feed_.turn(Clock::now());
      dirty |= keys();
      dirty |= errands();
      if (control_.take_refresh()) {
        feed_.hurry();
        continue;
      }
      if (std::exchange(dirty, false)) {
        draw();
      }
      if (!control_.quit()) {
        wait();
      }
    }
  }

 private:
  bool keys() {
    Press press;
    bool any = false;
    for (auto got = Terminal::next(press); got != Terminal::Got::kNothing;
         got = Terminal::next(press)) {
      any = true;
      if (got == Terminal::Got::kPress) {
        control_.press(press, feed_.picture());
      }
    }
    while (auto wish = control_.next_wish()) {
      begin(*wish);
    }
    return any;
  }

  void begin(const Wish& wish) {
    auto client = Client::connect();
    const Result<> sent =
        client ? client->send(request_of(wish)) : Result<>(tl::unexpected(client.error()));
    if (!sent) {
      control_.answered(wish, {{"ok", false}, {"error", sent.error().message()}});
      return;
    }
    errands_.push_back({wish, std::move(*client)});
  }

  bool errands() {
    bool any = false;
    for (auto errand = errands_.begin(); errand != errands_.end();) {
      auto line = errand->client.receive_now();
      if (line && !line->has_value()) {
        ++errand;
        continue;
      }
      any = true;
      if (!line) {
        control_.answered(errand->wish, {{"ok", false}, {"error", line.error().message()}});
      } else if ((*line)->contains("event")) {
        continue;  // progress: the final answer comes after it
      } else {
        control_.answered(errand->wish, **line);
      }
      errand = errands_.erase(errand);
    }
    return any;
  }

  void draw() {
    Notice notice;
    const std::time_t now = std::time(nullptr);
    char clock[16] = "";
    std::tm parts{};
    std::strftime(clock, sizeof(clock), "%H:%M:%S", ::localtime_r(&now, &parts));
    notice.time = clock;
    if (!feed_.trouble().empty()) {
      notice.message = feed_.trouble() + (feed_.has_picture() ? " (what is shown is old)" : "");
      notice.bad = true;
    }
    terminal_.show(control_.lines(feed_.picture(), notice, Terminal::width(), Terminal::height()));
  }

  void wait() {
    std::vector<pollfd> fds = {{STDIN_FILENO, POLLIN, 0}};
    if (feed_.fd() >= 0) {
      fds.push_back({feed_.fd(), POLLIN, 0});
    }
    for (const Errand& errand : errands_) {
      fds.push_back({errand.client.fd(), POLLIN, 0});
    }
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(feed_.due() - Clock::now());
    // A change of size interrupts it; while an answer is awaited its deadline is looked at once a
    // second.
    (void)::poll(fds.data(), fds.size(),
                 static_cast<int>(std::clamp<long>(left.count() + 1, 1, 1000)));
    if ((fds[0].revents & (POLLHUP | POLLERR)) != 0) {
      gone_ = true;  // the terminal has gone
    }
  }

  Terminal& terminal_;
  Control control_;
  Feed feed_;
  std::list<Errand> errands_;
  bool gone_ = false;
};

}  // namespace

Result<> run_screen(Sort sort, const std::string& filter, std::chrono::milliseconds interval) {
  TESS_TRY_ASSIGN(Terminal terminal, Terminal::open());
  Loop(terminal, sort, filter, interval).run();
  return {};
}

}  // namespace tess::cli::top
