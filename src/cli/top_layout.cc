#include "cli/top_layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "cli/table.h"

namespace tess::cli::top {
namespace {

struct Cell {
  std::string text;
  Style style = Style::kPlain;
  double bar = -1;  // filled by that share, with the text at its end
};

struct Row {
  std::vector<Cell> cells;
  bool selected = false;
};

size_t code_points(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

std::string padded(const std::string& text, size_t width, bool right) {
  const std::string shown = cut(text, width);
  const std::string pad(width - std::min(width, code_points(shown)), ' ');
  return right ? pad + shown : shown + pad;
}

// "[||||    1.50]"
std::string bar_text(const Cell& cell, size_t width) {
  if (width < code_points(cell.text) + 3) {
    return padded(cell.text, width, true);
  }
  const size_t inside = width - 2;
  const auto filled = static_cast<size_t>(
      std::lround(std::clamp(cell.bar, 0.0, 1.0) * static_cast<double>(inside)));
  std::string text = std::string(filled, '|') + std::string(inside - filled, ' ');
  text.replace(inside - cell.text.size(), cell.text.size(), cell.text);
  return "[" + text + "]";
}

std::string cell_text(const Cell& cell, const Column& column, size_t width) {
  return cell.bar >= 0 ? bar_text(cell, width) : padded(cell.text, width, column.right);
}

void add_table(std::vector<Line>& lines, const std::vector<Column>& columns, size_t sorted,
               const std::vector<Row>& rows, size_t width) {
  std::vector<size_t> widest(columns.size());
  for (const Row& row : rows) {
    for (size_t i = 0; i < columns.size(); ++i) {
      widest[i] = std::max(widest[i], code_points(row.cells[i].text));
    }
  }
  const auto widths = fit_columns(columns, widest, width);
  const auto add = [&](const Row& row) {
    Line line;
    line.selected = row.selected;
    for (size_t i = 0; i < columns.size(); ++i) {
      if (widths[i] == 0) {
        continue;
      }
      if (!line.pieces.empty()) {
        line.pieces.push_back({" ", Style::kPlain});
      }
      line.pieces.push_back({cell_text(row.cells[i], columns[i], widths[i]), row.cells[i].style});
    }
    lines.push_back(std::move(line));
  };
  Row titles;
  for (size_t i = 0; i < columns.size(); ++i) {
    titles.cells.push_back({columns[i].title, i == sorted ? Style::kSorted : Style::kTitle});
  }
  add(titles);
  for (const Row& row : rows) {
    add(row);
  }
}

Style style_of_state(const std::string& state) {
  if (state == "alive" || state == "up") {
    return Style::kGood;
  }
  return state == "draining" || state == "suspect" || state == "no answer" ? Style::kWarn
                                                                           : Style::kBad;
}

const std::vector<Column>& node_columns() {
  static const std::vector<Column> columns = {{"NODE", 4, 0, 20, 0},
                                              {"STATE", 5, 0, 9, 0},
                                              {"CORES", 5, 0, 0, 3, true},
                                              {"SPEED", 5, 0, 0, 2, true},
                                              {"LOAD", 9, 2, 44, 0, true, true},
                                              {"MEMORY USED", 13, 2, 44, 1, true, true},
                                              {"FREE", 6, 0, 0, 4, true},
                                              {"GUESTS", 6, 0, 0, 0, true},
                                              {"AGE", 5, 0, 0, 5, true},
                                              {"ADDRESS", 9, 0, 21, 7},
                                              {"KERNEL", 8, 0, 20, 8}};
  return columns;
}

Row node_row(const NodeRow& node) {
  const std::string state = node.state;
  if (!node.has_load) {
    return {{{printable(node.name), Style::kStrong},
             {state, style_of_state(state)},
             {"-"},
             {"-"},
             {"-", Style::kDim, 0},
             {"-", Style::kDim, 0},
             {"-"},
             {"-"},
             {"-"},
             {printable(node.address)},
             {""}}};
  }
  const double per_core = node.load / std::max(1, node.cores);
  const double used = node.memory == 0 ? 0
                                       : 1 - static_cast<double>(node.memory_free) /
                                                 static_cast<double>(node.memory);
  const Style load_style = per_core > 2 ? Style::kBad : per_core > 1 ? Style::kWarn : Style::kGood;
  const Style memory_style = used > 0.9 ? Style::kBad : used > 0.75 ? Style::kWarn : Style::kGood;
  return {{{printable(node.name), Style::kStrong},
           {state, style_of_state(state)},
           {std::to_string(node.cores)},
           {node.speed > 0 ? fmt::format("{:.2f}", node.speed) : "-"},
           {fmt::format("{:.2f}", node.load), load_style, per_core},
           {fmt::format("{:.0f}% of {}", 100 * used, bytes_text(node.memory)), memory_style, used},
           {bytes_text(node.memory_free)},
           {std::to_string(node.guests)},
           {fmt::format("{:.1f}s", node.age)},
           {printable(node.address)},
           {printable(node.kernel), Style::kDim}}};
}

const std::vector<Column>& process_columns() {
  static const std::vector<Column> columns = {
      {"PID", 5, 0, 0, 0, true},   {"USER", 6, 0, 12, 5},      {"COMMAND", 12, 2, 60, 0},
      {"HOME", 4, 0, 16, 0},       {"WHERE", 5, 0, 16, 0},     {"STATE", 6, 0, 0, 2},
      {"%CPU", 5, 0, 0, 0, true},  {"TIME", 6, 0, 0, 4, true}, {"MEM", 5, 0, 0, 0, true},
      {"MOVES", 5, 0, 0, 0, true}, {"THR", 3, 0, 0, 7, true},  {"JOB", 8, 0, 8, 6},
      {"WHY", 14, 3, 0, 1}};
  return columns;
}

size_t column_of(Sort sort) {
  switch (sort) {
    case Sort::kPid:
      return 0;
    case Sort::kCommand:
      return 2;
    case Sort::kHome:
      return 3;
    case Sort::kWhere:
      return 4;
    case Sort::kCpu:
      return 6;
    case Sort::kTime:
      return 7;
    case Sort::kMemory:
      return 8;
    case Sort::kMoves:
      return 9;
    case Sort::kCount:
      break;
  }
  return SIZE_MAX;
}

std::string why_text(const ProcessRow& process) {
  if (process.cause.empty()) {
    return process.node == process.home ? "at home" : "";
  }
  return process.why.empty() ? process.cause : process.cause + ": " + process.why;
}

// Without the folder of the program: the name is what people look for.
std::string command_text(const std::string& command) {
  const size_t slash = command.rfind('/', command.find(' '));
  return printable(slash == std::string::npos ? command : command.substr(slash + 1));
}

Row process_row(const ProcessRow& process) {
  const bool away = process.node != process.home;
  const std::string job =
      process.job.size() > 8 ? process.job.substr(process.job.size() - 8) : process.job;
  return {{{std::to_string(process.pid)},
           {printable(process.user)},
           {command_text(process.command), Style::kStrong},
           {printable(process.home)},
           {printable(process.node), away ? Style::kGood : Style::kPlain},
           {process.state, process.state == "moving" ? Style::kWarn : Style::kPlain},
           {fmt::format("{:.{}f}", 100 * process.cpu, process.cpu < 9.995 ? 1 : 0)},
           {seconds_text(process.cpu_seconds)},
           {bytes_text(process.memory)},
           {std::to_string(process.moves)},
           {std::to_string(process.threads)},
           {job, Style::kDim},
           {printable(why_text(process)), Style::kDim}}};
}

Line plain_line(const std::string& text, Style style, size_t width) {
  return {{{padded(text, width, false), style}}};
}

Line title_line(const Picture& picture, const Notice& notice, size_t width) {
  const Totals totals = totals_of(picture);
  return plain_line(
      fmt::format("Tessera {}  {}  {} of {} nodes up  {} processes, {} away  load {:.1f} of {}",
                  printable(picture.node), notice.time, totals.usable, totals.nodes,
                  totals.processes, totals.away, totals.load, totals.cores),
      Style::kStrong, width);
}

Line processes_line(const Picture& picture, const View& view, size_t shown, size_t width) {
  std::string text =
      fmt::format("Processes by {}{}", to_text(view.sort), view.reversed ? ", reversed" : "");
  if (!view.filter.empty()) {
    text += fmt::format(", with '{}' ({} of {})", printable(view.filter), shown,
                        picture.processes.size());
  }
  return plain_line(text, Style::kDim, width);
}

Line notice_line(const Notice& notice, size_t width) {
  if (!notice.prompt.empty()) {
    return plain_line(printable(notice.prompt), Style::kStrong, width);
  }
  return plain_line(printable(notice.message), notice.bad ? Style::kBad : Style::kGood, width);
}

constexpr const char* kKeys =
    "q quit  h help  Tab nodes  s sort  / filter  m move  k kill  w why  d,u drain";

}  // namespace

std::string Line::text() const {
  std::string all;
  for (const Piece& piece : pieces) {
    all += piece.text;
  }
  all.erase(all.find_last_not_of(' ') + 1);
  return all;
}

size_t Line::width() const {
  size_t width = 0;
  for (const Piece& piece : pieces) {
    width += code_points(piece.text);
  }
  return width;
}

std::vector<size_t> fit_columns(const std::vector<Column>& columns,
                                const std::vector<size_t>& widest, size_t width) {
  std::vector<size_t> widths(columns.size());
  for (size_t i = 0; i < columns.size(); ++i) {
    const Column& column = columns[i];
    const size_t natural = std::max({column.least, code_points(column.title), widest[i]});
    widths[i] = column.weight != 0 ? std::max(column.least, code_points(column.title))
                : column.most != 0 ? std::min(natural, column.most)
                                   : natural;
  }
  const auto total = [&] {
    size_t sum = 0;
    for (const size_t one : widths) {
      sum += one == 0 ? 0 : one + 1;
    }
    return sum == 0 ? 0 : sum - 1;
  };
  while (total() > width) {
    size_t last = columns.size();
    for (size_t i = 0; i < columns.size(); ++i) {
      if (widths[i] != 0 && columns[i].rank > 0 &&
          (last == columns.size() || columns[i].rank > columns[last].rank)) {
        last = i;
      }
    }
    if (last == columns.size()) {
      break;  // narrower than any table can be: lines are cut
    }
    widths[last] = 0;
  }
  // One cell at a time, to the one that has the least for its weight.
  for (size_t left = width > total() ? width - total() : 0; left > 0; --left) {
    size_t best = columns.size();
    for (size_t i = 0; i < columns.size(); ++i) {
      const Column& column = columns[i];
      const bool grows = widths[i] != 0 && column.weight != 0 &&
                         (column.most == 0 || widths[i] < column.most) &&
                         (column.bar || widths[i] < widest[i]);
      if (grows && (best == columns.size() ||
                    widths[i] * columns[best].weight < widths[best] * column.weight)) {
        best = i;
      }
    }
    if (best == columns.size()) {
      break;
    }
    ++widths[best];
  }
  return widths;
}

std::vector<Line> lay_out(const Picture& picture, View& view, const Notice& notice, size_t width,
                          size_t height) {
  constexpr size_t kOtherLines = 6;  // title, two of columns, processes, notice, keys
  const auto shown = shown_processes(picture, view);
  const size_t room = height > kOtherLines ? height - kOtherLines : height == 0 ? SIZE_MAX : 0;
  const size_t for_nodes =
      view.panel == Panel::kNodes ? room / 3 * 2 : std::max<size_t>(2, room / 3);
  const size_t node_rows = std::min({picture.nodes.size(), for_nodes, room});
  const size_t process_rows = height == 0 ? shown.size() : room - node_rows;
  const size_t node_at = selected_node(picture, view);
  const size_t process_at = selected_process(picture, shown, view);
  view.first_node = scroll(view.first_node, node_at, picture.nodes.size(), node_rows);
  view.first_process = scroll(view.first_process, process_at, shown.size(), process_rows);

  std::vector<Line> lines = {title_line(picture, notice, width)};
  std::vector<Row> rows;
  for (size_t i = view.first_node; i < std::min(view.first_node + node_rows, picture.nodes.size());
       ++i) {
    rows.push_back(node_row(picture.nodes[i]));
    rows.back().selected = height != 0 && view.panel == Panel::kNodes && i == node_at;
  }
  std::vector<Column> columns = node_columns();
  if (node_rows < picture.nodes.size()) {
    columns[0].title = fmt::format("NODE {}-{}", view.first_node + 1, view.first_node + node_rows);
  }
  add_table(lines, columns, SIZE_MAX, rows, width);
  lines.push_back(processes_line(picture, view, shown.size(), width));
  rows.clear();
  for (size_t i = view.first_process; i < std::min(view.first_process + process_rows, shown.size());
       ++i) {
    rows.push_back(process_row(picture.processes[shown[i]]));
    rows.back().selected = height != 0 && view.panel == Panel::kProcesses && i == process_at;
  }
  add_table(lines, process_columns(), column_of(view.sort), rows, width);
  if (height == 0) {
    return lines;
  }
  lines.resize(height < 2 ? height : height - 2, plain_line("", Style::kPlain, width));
  if (height >= 2) {
    lines.push_back(notice_line(notice, width));
    lines.push_back(plain_line(kKeys, Style::kTitle, width));
  }
  return lines;
}

std::vector<Line> lay_out_page(const std::string& title, const std::vector<std::string>& text,
                               size_t first, size_t width, size_t height) {
  std::vector<Line> lines = {plain_line(printable(title), Style::kStrong, width)};
  std::vector<std::string> broken;
  for (const std::string& whole : text) {
    std::string rest = printable(whole);
    while (code_points(rest) > width && width > 8) {
      // At the last space that fits; a word that is longer is cut where it is.
      size_t bytes = cut(rest, width).size() - std::string("…").size();
      const size_t space = rest.rfind(' ', bytes);
      bytes = space != std::string::npos && space > 4 ? space : bytes;
      broken.push_back(rest.substr(0, bytes));
      rest = "    " + rest.substr(rest.find_first_not_of(' ', bytes));
    }
    broken.push_back(rest);
  }
  const size_t room = height > 2 ? height - 2 : 0;
  first = std::min(first, broken.size() > room ? broken.size() - room : 0);
  for (size_t i = first; i < std::min(broken.size(), first + room); ++i) {
    lines.push_back(plain_line(broken[i], Style::kPlain, width));
  }
  lines.resize(std::max<size_t>(height, 2) - 1, plain_line("", Style::kPlain, width));
  lines.push_back(plain_line("q back  arrows scroll", Style::kTitle, width));
  return lines;
}

const std::vector<std::string>& help_text() {
  static const std::vector<std::string> text = {
      "Keys",
      "  arrows, PgUp, PgDn, Home, End   select a row",
      "  Tab      from the processes to the nodes, and back",
      "  s, S     order by the next, the previous column; r the other way round",
      "  /        show only rows with a text; empty: all (Esc leaves it as it was)",
      "  m        migrate the selected process: to a node, or home",
      "  k        send the selected process a signal (TERM unless told)",
      "  w, Enter why the selected process is where it is, and what would move it",
      "  d, u     drain, undrain the selected node: its guests leave, and come again",
      "  Space    look again at once",
      "  q        quit",
      "",
      "Nodes",
      "  STATE    alive; suspect (silent, not given up); draining; dead; left; expelled; no answer",
      "  SPEED    of a core, the reference machine being 1",
      "  LOAD     threads that run or want to; the bar is full when each core has one",
      "  GUESTS   processes of other nodes; AGE how old the figures are",
      "",
      "Processes",
      "  HOME     where it was started; WHERE it runs now",
      "  STATE    native (at home, untouched), deputy (runs elsewhere), moving, guest",
      "  %CPU     of one core; TIME all it has used; MOVES how often it has moved",
      "  WHY      what it was moved for last, and the figures of that decision",
      "",
      "Processes of other homes can be migrated and killed by root only.",
  };
  return text;
}

}  // namespace tess::cli::top
