// Reading and writing text in pieces, without a C library: for proc_text*.cc.
#pragma once

#include "stub/proc_text.h"

namespace tess::stub {

inline size_t size_of(Text t) {
  return (size_t)(t.end - t.begin);
}

inline bool starts_with(Text t, const char* word) {
  for (; *word != 0; ++word, ++t.begin) {
    if (t.begin == t.end || *t.begin != *word) {
      return false;
    }
  }
  return true;
}

inline bool same(Text a, Text b) {
  if (size_of(a) != size_of(b)) {
    return false;
  }
  for (; a.begin != a.end; ++a.begin, ++b.begin) {
    if (*a.begin != *b.begin) {
      return false;
    }
  }
  return true;
}

// The next line without its newline; false at the end.
inline bool next_line(Text& rest, Text& line) {
  if (rest.begin == rest.end) {
    return false;
  }
  line.begin = rest.begin;
  while (rest.begin != rest.end && *rest.begin != '\n') {
    ++rest.begin;
  }
  line.end = rest.begin;
  if (rest.begin != rest.end) {
    ++rest.begin;
  }
  return true;
}

// The next word; empty at the end.
inline Text next_word(Text& rest) {
  while (rest.begin != rest.end && *rest.begin == ' ') {
    ++rest.begin;
  }
  Text word{rest.begin, rest.begin};
  while (rest.begin != rest.end && *rest.begin != ' ') {
    ++rest.begin;
  }
  word.end = rest.begin;
  return word;
}

inline uint64_t take_number(Text& t, uint32_t base) {
  uint64_t value = 0;
  for (; t.begin != t.end; ++t.begin) {
    const char c = *t.begin;
    uint32_t digit = 99;
    if (c >= '0' && c <= '9') {
      digit = (uint32_t)(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      digit = (uint32_t)(c - 'a') + 10;
    }
    if (digit >= base) {
      break;
    }
    value = value * base + digit;
  }
  return value;
}

inline uint64_t number(Text t) {
  while (t.begin != t.end && (*t.begin == ' ' || *t.begin == '\t')) {
    ++t.begin;
  }
  return take_number(t, 10);
}

inline void put(const TextSink& sink, Text t) {
  sink.write(sink.context, t.begin, size_of(t));
}

inline void put_text(const TextSink& sink, const char* text) {
  size_t n = 0;
  while (text[n] != 0) {
    ++n;
  }
  sink.write(sink.context, text, n);
}

inline void put_spaces(const TextSink& sink, size_t n) {
  const char space = ' ';
  for (size_t i = 0; i < n; ++i) {
    sink.write(sink.context, &space, 1);
  }
}

// Right-aligned in `width`, filled with `fill`. Returns the characters written.
inline size_t put_number(const TextSink& sink, uint64_t value, uint32_t base = 10, size_t width = 0,
                         char fill = ' ') {
  char digits[24];
  size_t n = 0;
  do {
    digits[n++] = "0123456789abcdef"[value % base];
    value /= base;
  } while (value != 0);
  for (size_t i = n; i < width; ++i) {
    sink.write(sink.context, &fill, 1);
  }
  const size_t written = n > width ? n : width;
  while (n > 0) {
    sink.write(sink.context, &digits[--n], 1);
  }
  return written;
}

// Key of a "Key:  value" line, colon included; empty if it is none.
inline Text key_of(Text line) {
  Text key{line.begin, line.begin};
  while (key.end != line.end && *key.end != ':' && *key.end != ' ') {
    ++key.end;
  }
  if (key.end == line.end || *key.end != ':') {
    key.end = key.begin;
    return key;
  }
  ++key.end;
  return key;
}

inline bool find_key(Text all, Text key, Text& value) {
  Text line;
  while (next_line(all, line)) {
    if (same(key_of(line), key)) {
      value = {key_of(line).end, line.end};
      return true;
    }
  }
  return false;
}

// Of proc_text_status.cc; what they get is as for write_proc_text.
void write_status(Text host, Text home, const ProcFacts& facts, const TextSink& sink);
void write_stat(Text host, Text home, const ProcFacts& facts, const TextSink& sink);
void write_statm(Text host, const ProcFacts& facts, const TextSink& sink);

}  // namespace tess::stub
