// The screen of `tess top` as lines of pieces of text with a meaning for each, for a width and a
// height: pure. Which columns are shown and how wide they are follows from the width: the least
// important go first, commands and reasons take what is left.
#pragma once

#include <string>
#include <vector>

#include "cli/top_model.h"

namespace tess::cli::top {

enum class Style : uint8_t {
  kPlain,
  kStrong,
  kDim,
  kTitle,   // of columns
  kSorted,  // the title of the column that orders
  kGood,
  kWarn,
  kBad,
};

struct Piece {
  std::string text;  // no control characters
  Style style = Style::kPlain;
};

struct Line {
  std::vector<Piece> pieces;
  bool selected = false;  // the cursor is on it

  std::string text() const;
  size_t width() const;  // in code points
};

// What is said besides the picture.
struct Notice {
  std::string time;     // of the day
  std::string message;  // the line above the keys: what was done, or went wrong
  bool bad = false;
  std::string prompt;  // in its place, if there is a question
};

// height 0: as many lines as it takes, and none for keys (for `--once`). With a height the view's
// first rows are set so that the selected ones are seen.
std::vector<Line> lay_out(const Picture& picture, View& view, const Notice& notice, size_t width,
                          size_t height);

// A page of text in place of the screen: help, the reasons of one process. Long lines are broken.
std::vector<Line> lay_out_page(const std::string& title, const std::vector<std::string>& text,
                               size_t first, size_t width, size_t height);
const std::vector<std::string>& help_text();

// Columns of a table, for tests of its rules.
struct Column {
  std::string title;
  size_t least = 0;   // never narrower, if shown
  size_t weight = 0;  // 0: as wide as its cells; else a share of what is left
  size_t most = 0;    // 0: no limit
  int rank = 0;       // those of the highest rank are left out first; 0: never
  bool right = false;
  bool bar = false;  // uses all the width it gets; others no more than their cells
};
// One width for each column; 0: left out. `widest`: of the cells.
std::vector<size_t> fit_columns(const std::vector<Column>& columns,
                                const std::vector<size_t>& widest, size_t width);

}  // namespace tess::cli::top
