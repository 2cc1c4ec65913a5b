#include "stub/proc_text_tools.h"

namespace tess::stub {
namespace {

void put_kilobytes(const TextSink& sink, Text key, uint64_t value) {
  put(sink, key);
  put_text(sink, "\t");
  put_number(sink, value, 10, 8);
  put_text(sink, " kB\n");
}

uint64_t less(uint64_t a, uint64_t b) {
  return a > b ? a - b : 0;
}

// Stopped and ended are for home to say; the rest happens where the body is.
bool is_homes_state(Text state) {
  return starts_with(state, "T") || starts_with(state, "t") || starts_with(state, "Z") ||
         starts_with(state, "X");
}

// What stands behind the name, which may hold anything; fields are counted from 3 there.
Text behind_name(Text line) {
  const char* at = line.end;
  while (at != line.begin && at[-1] != ')') {
    --at;
  }
  return {at, line.end};
}

// True if it has written the line.
bool write_status_line(Text key, Text home_value, Text host, const ProcFacts& facts,
                       const TextSink& sink) {
  constexpr uint64_t kRegionKb = kRegionSize / 1024;
  Text value;
  constexpr uint64_t kUsualTable = 256, kLargeTable = 4096;
  if (starts_with(key, "FDSize:") && number(home_value) >= kLargeTable) {
    put_text(sink, "FDSize:\t");  // the stub's descriptors have made the table large
    put_number(sink, kUsualTable);
    put_text(sink, "\n");
    return true;
  }
  if (starts_with(key, "TracerPid:")) {
    put_text(sink, "TracerPid:\t0\n");  // our agent's tracing is none
    return true;
  }
  if (!find_key(host, key, value)) {
    return false;
  }
  if (starts_with(key, "VmSize:") || starts_with(key, "VmPeak:")) {
    put_kilobytes(sink, key, less(number(value), kRegionKb));
    return true;
  }
  if (starts_with(key, "VmData:")) {
    put_kilobytes(sink, key, less(number(value), facts.region_data_kb));
    return true;
  }
  if (starts_with(key, "VmLck:") && facts.all_locked) {
    Text size = value;
    const char name[] = "VmSize:";
    find_key(host, {name, name + sizeof(name) - 1}, size);
    put_kilobytes(sink, key, less(number(size), kRegionKb));
    return true;
  }
  if (starts_with(key, "State:")) {
    Text word = home_value;
    while (word.begin != word.end && *word.begin == '\t') {
      ++word.begin;
    }
    put(sink, key);
    if (starts_with(word, "t")) {
      put_text(sink, "\tT (stopped)");  // our agent holds what a signal has stopped
    } else if (!is_homes_state(word) && facts.call_state != 0) {
      put_text(sink, facts.call_state == 'S' ? "\tS (sleeping)" : "\tR (running)");
    } else {
      put(sink, is_homes_state(word) ? home_value : value);
    }
    put_text(sink, "\n");
    return true;
  }
  const bool hosts = starts_with(key, "Vm") || starts_with(key, "Rss") ||
                     starts_with(key, "Threads:") || starts_with(key, "Hugetlb") ||
                     starts_with(key, "voluntary_") || starts_with(key, "nonvoluntary_");
  if (!hosts) {
    return false;
  }
  put(sink, key);
  put(sink, value);
  put_text(sink, "\n");
  return true;
}

}  // namespace

void write_status(Text host, Text home, const ProcFacts& facts, const TextSink& sink) {
  Text line;
  while (next_line(home, line)) {
    const Text key = key_of(line);
    if (size_of(key) == 0 || !write_status_line(key, {key.end, line.end}, host, facts, sink)) {
      put(sink, line);
      put_text(sink, "\n");
    }
  }
}

void write_stat(Text host, Text home, const ProcFacts& facts, const TextSink& sink) {
  Text home_rest = behind_name(home);
  Text host_rest = behind_name(host);
  put(sink, {home.begin, home_rest.begin});
  for (int field = 3;; ++field) {
    const Text at_home = next_word(home_rest);
    const Text at_host = next_word(host_rest);
    if (size_of(at_home) == 0) {
      return;
    }
    put_text(sink, " ");
    switch (field) {
      case 3: {  // state
        if (*at_home.begin == 't') {
          put_text(sink, "T");
        } else if (!is_homes_state(at_home) && facts.call_state != 0) {
          put_text(sink, facts.call_state == 'S' ? "S" : "R");
        } else {
          put(sink, is_homes_state(at_home) ? at_home : at_host);
        }
        break;
      }
      case 14: {  // utime
        const int64_t ticks = (int64_t)number(at_host) + facts.cpu_ticks;
        put_number(sink, ticks > 0 ? (uint64_t)ticks : 0);
        break;
      }
      case 16:  // cutime
        put_number(sink, number(at_home) + facts.children_ticks_user);
        break;
      case 17:
        put_number(sink, number(at_home) + facts.children_ticks_system);
        break;
      case 23:
        put_number(sink, less(number(at_host), kRegionSize));
        break;
      case 10:  // minor and major faults, threads, resident pages, last processor
      case 12:
      case 15:
      case 20:
      case 24:
      case 39:
        put(sink, at_host);
        break;
      default:
        put(sink, at_home);
        break;
    }
  }
}

void write_statm(Text host, const ProcFacts& facts, const TextSink& sink) {
  Text rest = host;
  for (int field = 0; field < 7; ++field) {
    const Text word = next_word(rest);
    uint64_t value = number(word);
    if (field == 0) {
      value = less(value, kRegionSize / 4096);
    } else if (field == 5) {
      value = less(value, facts.region_data_kb / 4);
    }
    put_text(sink, field == 0 ? "" : " ");
    put_number(sink, value);
  }
  put_text(sink, "\n");
}

}  // namespace tess::stub
