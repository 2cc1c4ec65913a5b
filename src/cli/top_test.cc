// tess top without a terminal: rows, order, filter, columns, keys.
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>

#include "cli/top_control.h"
#include "cli/top_layout.h"
#include "cli/top_model.h"

namespace tess::cli::top {
namespace {

using nlohmann::json;

json node(const std::string& name, double load, const std::string& state = "alive") {
  return {{"name", name},
          {"address", "10.0.0.1:7117"},
          {"up", state == "alive"},
          {"state", state},
          {"cores", 2},
          {"speed", 1500},
          {"load", load},
          {"memory_bytes", uint64_t{8} << 30},
          {"memory_free_bytes", uint64_t{2} << 30},
          {"guests", 3},
          {"age_s", 0.4},
          {"kernel", "6.1.0-18-amd64"}};
}

json process(int pid, const std::string& command, double cpu, const std::string& where = "n1") {
  return {{"job", "00000000deadbeef"},
          {"pid", pid},
          {"user", "ada"},
          {"command", command},
          {"home", "n1"},
          {"node", where},
          {"state", where == "n1" ? "native" : "deputy"},
          {"cause", where == "n1" ? "" : "balance"},
          {"why", where == "n1" ? "" : "n1 to " + where + ": runs at speed 1.00 there"},
          {"cpu", cpu},
          {"cpu_home_s", 1.0},
          {"cpu_away_s", 2.5},
          {"memory_bytes", pid * 1000000},
          {"moves", where == "n1" ? 0 : 1},
          {"threads", 1}};
}

Picture picture_of(int nodes = 4) {
  json list = json::array();
  for (int i = 1; i <= nodes; ++i) {
    list.push_back(node("n" + std::to_string(i), i));
  }
  return make_picture({{"node", "n1"}, {"nodes", list}},
                      {{"processes",
                        {process(30, "/usr/bin/python3 -c x", 0.5, "n2"), process(4, "make -j8", 0),
                         process(500, "cc1plus a.cc", 1.25, "n3"), process(77, "idle", 0, "n2")}}});
}

std::vector<int> pids(const Picture& picture, const View& view) {
  std::vector<int> list;
  for (const size_t i : shown_processes(picture, view)) {
    list.push_back(picture.processes[i].pid);
  }
  return list;
}

bool on_screen(const std::vector<Line>& lines, const std::string& text) {
  return std::any_of(lines.begin(), lines.end(),
                     [&](const Line& line) { return line.text().find(text) != std::string::npos; });
}

class Keys {
 public:
  explicit Keys(Picture picture) : picture_(std::move(picture)) {}
  void type(const std::string& text) {
    for (const char c : text) {
      press({Key::kText, std::string(1, c)});
    }
  }
  void press(Key key) { press({key, {}}); }
  void press(const Press& one) { control.press(one, picture_); }
  std::vector<Line> lines(size_t width = 80, size_t height = 24) {
    return control.lines(picture_, {}, width, height);
  }

  Control control{Sort::kPid, ""};

 private:
  Picture picture_;
};

TEST(TopModel, APictureIsReadAndWhatIsMissingIsEmpty) {
  const Picture picture = picture_of();
  ASSERT_EQ(picture.nodes.size(), 4U);
  EXPECT_EQ(picture.nodes[1].name, "n2");
  EXPECT_EQ(picture.nodes[1].state, "alive");
  EXPECT_DOUBLE_EQ(picture.nodes[1].speed, 1.5);
  EXPECT_DOUBLE_EQ(picture.nodes[1].load, 2);
  ASSERT_EQ(picture.processes.size(), 4U);
  EXPECT_EQ(picture.processes[0].cause, "balance");
  EXPECT_DOUBLE_EQ(picture.processes[0].cpu_seconds, 3.5);
  const Picture odd = make_picture({{"node", 7}, {"nodes", {{{"name", 3}, {"cores", "many"}}, 5}}},
                                   {{"processes", {{{"pid", -4}, {"cpu", nullptr}}}}});
  ASSERT_EQ(odd.nodes.size(), 1U);
  EXPECT_EQ(odd.nodes[0].state, "down");
  EXPECT_EQ(odd.nodes[0].cores, 0);
  ASSERT_EQ(odd.processes.size(), 1U);
  EXPECT_EQ(odd.processes[0].pid, 0);
  EXPECT_TRUE(make_picture(json(), json(3)).nodes.empty());
}

TEST(TopModel, StatesOfNodes) {
  json draining = node("n1", 1);
  draining["draining"] = true;
  EXPECT_EQ(state_of_node(draining), "draining");
  json silent = node("n1", 1);
  silent["up"] = false;
  EXPECT_EQ(state_of_node(silent), "no answer");
  EXPECT_EQ(state_of_node(node("n1", 1, "dead")), "dead");
  EXPECT_EQ(state_of_node({{"up", true}, {"state", "unknown"}}), "up");
}

TEST(TopModel, OrdersByEachColumnAndBackwards) {
  const Picture picture = picture_of();
  View view;
  EXPECT_EQ(pids(picture, view), (std::vector<int>{500, 30, 4, 77})) << "equal ones by pid";
  view.reversed = true;
  EXPECT_EQ(pids(picture, view), (std::vector<int>{4, 77, 30, 500}));
  view.reversed = false;
  view.sort = Sort::kPid;
  EXPECT_EQ(pids(picture, view), (std::vector<int>{4, 30, 77, 500}));
  view.sort = Sort::kMemory;
  EXPECT_EQ(pids(picture, view), (std::vector<int>{500, 77, 30, 4}));
  view.sort = Sort::kWhere;
  EXPECT_EQ(pids(picture, view), (std::vector<int>{4, 30, 77, 500}));
  view.sort = Sort::kCommand;
  EXPECT_EQ(pids(picture, view).front(), 30);
  for (int i = 0; i < static_cast<int>(Sort::kCount); ++i) {
    EXPECT_EQ(sort_of(to_text(static_cast<Sort>(i))), static_cast<Sort>(i));
  }
  EXPECT_EQ(sort_of("colour"), Sort::kCount);
}

TEST(TopModel, FilterLooksAtEveryText) {
  const Picture picture = picture_of();
  View view;
  view.sort = Sort::kPid;
  view.filter = "PYTHON";
  EXPECT_EQ(pids(picture, view), (std::vector<int>{30}));
  view.filter = "n2";
  EXPECT_EQ(pids(picture, view), (std::vector<int>{30, 77}));
  view.filter = "500";
  EXPECT_EQ(pids(picture, view), (std::vector<int>{500}));
  view.filter = "nothing like it";
  EXPECT_TRUE(pids(picture, view).empty());
}

TEST(TopModel, TheSelectionStaysWithItsProcess) {
  Picture picture = picture_of();
  View view;
  view.sort = Sort::kPid;
  select_by(picture, view, 2);
  EXPECT_EQ(view.process, (ProcessId{"n1", 77}));
  view.reversed = true;
  EXPECT_EQ(selected_process(picture, shown_processes(picture, view), view), 1U);
  select_by(picture, view, 100);
  EXPECT_EQ(view.process.pid, 4);
  std::erase_if(picture.processes, [](const ProcessRow& row) { return row.pid == 4; });
  EXPECT_EQ(selected_process(picture, shown_processes(picture, view), view), 0U);
  view.panel = Panel::kNodes;
  select_by(picture, view, 1);
  EXPECT_EQ(view.node, "n2");
  select_by(picture, view, -5);
  EXPECT_EQ(view.node, "n1");
}

TEST(TopModel, ScrollKeepsTheSelectedRowInTheWindow) {
  EXPECT_EQ(scroll(0, 3, 10, 5), 0U);
  EXPECT_EQ(scroll(0, 7, 10, 5), 3U);
  EXPECT_EQ(scroll(4, 2, 10, 5), 2U);
  EXPECT_EQ(scroll(9, 9, 10, 5), 5U);
  EXPECT_EQ(scroll(3, 1, 4, 9), 0U);
  EXPECT_EQ(scroll(3, 1, 4, 0), 0U);
}

TEST(TopLayout, EveryLineFitsEveryScreen) {
  const Picture picture = picture_of(30);
  for (const size_t width : {20, 40, 60, 80, 100, 132, 200, 400}) {
    for (const size_t height : {1, 2, 5, 8, 24, 50, 100}) {
      for (const Panel panel : {Panel::kProcesses, Panel::kNodes}) {
        View view;
        view.panel = panel;
        view.node = "n30";
        const auto lines = lay_out(picture, view, {}, width, height);
        EXPECT_EQ(lines.size(), height) << width;
        for (const Line& line : lines) {
          EXPECT_TRUE(width < 60 || line.width() <= width) << width << ": " << line.text();
        }
      }
    }
  }
}

TEST(TopLayout, AtEightyColumnsWhatMattersIsThere) {
  const Picture picture = picture_of();
  View view;
  const auto lines = lay_out(picture, view, {"12:34:56", "", false, ""}, 80, 24);
  for (const char* text : {"4 of 4 nodes up", "12:34:56", "LOAD", "GUESTS", "alive", "COMMAND",
                           "WHERE", "%CPU", "MEM", "WHY", "cc1plus", "balance", "at home", "125.0",
                           "q quit", "d,u drain", " python3 -c x", "75% of 8.0G"}) {
    EXPECT_TRUE(on_screen(lines, text)) << text;
  }
  EXPECT_EQ(std::count_if(lines.begin(), lines.end(), [](const Line& l) { return l.selected; }), 1);
  EXPECT_FALSE(on_screen(lines, "KERNEL"));
}

TEST(TopLayout, AtTwoHundredColumnsThereIsMore) {
  const Picture picture = picture_of();
  View view;
  const auto lines = lay_out(picture, view, {}, 200, 50);
  for (const char* text : {"KERNEL", "10.0.0.1:7117", "USER", "ada", "JOB", "deadbeef", "TIME",
                           "0:03.5", "balance: n1 to n3: runs at speed 1.00 there"}) {
    EXPECT_TRUE(on_screen(lines, text)) << text;
  }
}

TEST(TopLayout, OncePrintsEveryRowAndNoKeys) {
  const Picture picture = picture_of(40);
  View view;
  const auto lines = lay_out(picture, view, {}, 80, 0);
  EXPECT_EQ(lines.size(), 1 + 1 + 40 + 1 + 1 + 4U);
  EXPECT_FALSE(on_screen(lines, "q quit"));
  EXPECT_TRUE(on_screen(lines, "n40"));
}

TEST(TopLayout, ANameCannotPlayWithTheTerminal) {
  Picture picture = picture_of();
  picture.processes[0].command = "\x1b[2Jevil\n";
  View view;
  for (const Line& line : lay_out(picture, view, {}, 80, 24)) {
    for (const char c : line.text()) {
      EXPECT_GE(static_cast<unsigned char>(c), 0x20);
    }
  }
}

TEST(TopLayout, ColumnsGoByRankAndTheRestIsShared) {
  const std::vector<Column> columns = {
      {"A", 4, 0, 0, 0}, {"B", 10, 1, 0, 0}, {"C", 6, 0, 0, 2}, {"D", 6, 0, 0, 1}};
  EXPECT_EQ(fit_columns(columns, {4, 50, 6, 6}, 40), (std::vector<size_t>{4, 21, 6, 6}));
  EXPECT_EQ(fit_columns(columns, {4, 12, 6, 6}, 40), (std::vector<size_t>{4, 12, 6, 6}));
  EXPECT_EQ(fit_columns(columns, {4, 50, 6, 6}, 25), (std::vector<size_t>{4, 13, 0, 6}));
  EXPECT_EQ(fit_columns(columns, {4, 50, 6, 6}, 16), (std::vector<size_t>{4, 11, 0, 0}));
  EXPECT_EQ(fit_columns(columns, {4, 50, 6, 6}, 3), (std::vector<size_t>{4, 10, 0, 0}));
}

TEST(TopLayout, APageBreaksLongLinesAndScrolls) {
  const std::vector<std::string> text = {"one two three four five six seven", "end"};
  const auto lines = lay_out_page("Title", text, 0, 20, 10);
  ASSERT_EQ(lines.size(), 10U);
  EXPECT_EQ(lines[1].text(), "one two three four");
  EXPECT_EQ(lines[2].text(), "    five six seven");
  EXPECT_EQ(lines[3].text(), "end");
  EXPECT_TRUE(on_screen(lay_out_page("Title", text, 99, 20, 3), "end"));
}

TEST(TopControl, MigrateAsksForTheNodeAndSuggestsOne) {
  Keys keys(picture_of());
  keys.press(Key::kDown);  // 30, on n2
  keys.type("m");
  EXPECT_TRUE(on_screen(keys.lines(), "Move 30 (python3) to node [n1]: _"));
  keys.type("n4x");
  keys.press(Key::kBackspace);
  keys.press(Key::kEnter);
  const auto wish = keys.control.next_wish();
  ASSERT_TRUE(wish);
  EXPECT_EQ(request_of(*wish),
            (json{{"op", "migrate"}, {"at", "n1"}, {"pid", 30}, {"node", "n4"}}));
  EXPECT_FALSE(keys.control.next_wish());
  keys.control.answered(*wish, {{"ok", false}, {"error", "n4 is full"}});
  EXPECT_TRUE(on_screen(keys.lines(), "move 30 to n4: n4 is full"));
  keys.control.answered(*wish, {{"ok", true}});
  EXPECT_TRUE(on_screen(keys.lines(), "move 30 to n4: done"));
  EXPECT_TRUE(keys.control.take_refresh());
  EXPECT_FALSE(keys.control.take_refresh());
}

TEST(TopControl, KillAsksForTheSignal) {
  Keys keys(picture_of());
  keys.type("k");
  keys.press(Key::kEnter);
  EXPECT_EQ(request_of(*keys.control.next_wish())["signal"], SIGTERM);
  keys.type("kkill");
  keys.press(Key::kEnter);
  EXPECT_EQ(request_of(*keys.control.next_wish()),
            (json{{"op", "kill"}, {"at", "n1"}, {"pid", 4}, {"signal", SIGKILL}}));
  keys.type("kgently");
  keys.press(Key::kEnter);
  EXPECT_FALSE(keys.control.next_wish());
  EXPECT_TRUE(on_screen(keys.lines(), "no signal 'gently'"));
  keys.type("k9");
  keys.press(Key::kEscape);
  EXPECT_FALSE(keys.control.next_wish());
}

TEST(TopControl, NodesAreDrainedOnlyAfterAYes) {
  Keys keys(picture_of());
  keys.press(Key::kTab);
  keys.press(Key::kDown);
  keys.press(Key::kDown);
  keys.type("dn");
  EXPECT_FALSE(keys.control.next_wish());
  keys.type("d");
  keys.press(Key::kEnter);
  EXPECT_FALSE(keys.control.next_wish());
  keys.type("dy");
  EXPECT_EQ(request_of(*keys.control.next_wish()),
            (json{{"op", "drain"}, {"node", "n3"}, {"on", true}}));
  keys.type("uy");
  EXPECT_EQ(request_of(*keys.control.next_wish())["on"], false);
}

TEST(TopControl, FilterWorksWhileItIsTypedAndEscapeTakesItBack) {
  Keys keys(picture_of());
  keys.type("/make");
  EXPECT_EQ(keys.control.view().filter, "make");
  EXPECT_TRUE(on_screen(keys.lines(), "with 'make' (1 of 4)"));
  keys.press(Key::kEnter);
  keys.type("/x");
  EXPECT_EQ(keys.control.view().filter, "makex");
  keys.press(Key::kEscape);
  EXPECT_EQ(keys.control.view().filter, "make");
  keys.type("/");
  keys.press(Key::kClear);
  keys.press({Key::kText, "é"});
  keys.press(Key::kBackspace);
  keys.press(Key::kEnter);
  EXPECT_EQ(keys.control.view().filter, "");
}

TEST(TopControl, WhyAndHelpArePagesAndQEndsThemFirst) {
  Keys keys(picture_of());
  keys.type("w");
  const auto wish = keys.control.next_wish();
  ASSERT_TRUE(wish);
  keys.control.answered(*wish, {{"ok", true},
                                {"can_move", false},
                                {"reasons", {"it holds a device"}},
                                {"why_here", {"it started here"}}});
  EXPECT_TRUE(on_screen(keys.lines(), "it holds a device"));
  EXPECT_TRUE(on_screen(keys.lines(), "it started here"));
  keys.type("q");
  EXPECT_FALSE(keys.control.quit());
  keys.type("h");
  EXPECT_TRUE(on_screen(keys.lines(80, 60), "migrate the selected process"));
  keys.type("hq");
  EXPECT_TRUE(keys.control.quit());
}

TEST(TopControl, OrderIsChosenAndAnUnknownKeyIsToldOf) {
  Keys keys(picture_of());
  keys.type("sr");
  EXPECT_EQ(keys.control.view().sort, Sort::kWhere);
  EXPECT_TRUE(keys.control.view().reversed);
  keys.type("SS");
  EXPECT_EQ(keys.control.view().sort, Sort::kTime);
  keys.type("Z");
  EXPECT_TRUE(on_screen(keys.lines(), "no command 'Z'"));
}

TEST(TopControl, WithoutProcessesKeysSayThatThereAreNone) {
  Keys keys(make_picture(json::object(), json::object()));
  for (const char* key : {"m", "k", "w"}) {
    keys.type(key);
    EXPECT_FALSE(keys.control.next_wish());
    EXPECT_TRUE(on_screen(keys.lines(), "no process is selected"));
  }
  keys.press(Key::kDown);
  keys.type("d");
  EXPECT_FALSE(keys.control.next_wish());
}

}  // namespace
}  // namespace tess::cli::top
