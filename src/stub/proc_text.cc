#include "stub/proc_text.h"

namespace tess::stub {
namespace {

// ---- small text tools ----

size_t size_of(Text t) {
  return (size_t)(t.end - t.begin);
}

bool starts_with(Text t, const char* word) {
  for (; *word != 0; ++word, ++t.begin) {
    if (t.begin == t.end || *t.begin != *word) {
      return false;
    }
  }
  return true;
}

bool same(Text a, Text b) {
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
bool next_line(Text& rest, Text& line) {
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
Text next_word(Text& rest) {
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

uint64_t take_number(Text& t, uint32_t base) {
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

uint64_t number(Text t) {
  while (t.begin != t.end && (*t.begin == ' ' || *t.begin == '\t')) {
    ++t.begin;
  }
  return take_number(t, 10);
}

void put(const TextSink& sink, Text t) {
  sink.write(sink.context, t.begin, size_of(t));
}

void put_text(const TextSink& sink, const char* text) {
  size_t n = 0;
  while (text[n] != 0) {
    ++n;
  }
  sink.write(sink.context, text, n);
}

void put_spaces(const TextSink& sink, size_t n) {
  const char space = ' ';
  for (size_t i = 0; i < n; ++i) {
    sink.write(sink.context, &space, 1);
  }
}

// Right-aligned in `width`, filled with `fill`. Returns the characters written.
size_t put_number(const TextSink& sink, uint64_t value, uint32_t base = 10, size_t width = 0,
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

// ---- one line of maps ----

struct MapLine {
  uint64_t start = 0;
  uint64_t end = 0;
  Text perms{};
  uint64_t offset = 0;
  uint64_t major = 0;
  uint64_t minor = 0;
  uint64_t inode = 0;
  Text path{};
};

// False if it is none (a line of numbers in smaps, say).
bool parse_map(Text line, MapLine& m) {
  Text rest = line;
  m.start = take_number(rest, 16);
  if (rest.begin == rest.end || *rest.begin != '-' || rest.begin == line.begin) {
    return false;
  }
  ++rest.begin;
  m.end = take_number(rest, 16);
  m.perms = next_word(rest);
  if (size_of(m.perms) != 4) {
    return false;
  }
  Text offset = next_word(rest);
  m.offset = take_number(offset, 16);
  Text device = next_word(rest);
  m.major = take_number(device, 16);
  if (device.begin == device.end || *device.begin != ':') {
    return false;
  }
  ++device.begin;
  m.minor = take_number(device, 16);
  m.inode = number(next_word(rest));
  while (rest.begin != rest.end && *rest.begin == ' ') {
    ++rest.begin;
  }
  m.path = rest;
  return true;
}

// A name made by the agents: "/memfd:tess:<major>:<minor>:<inode>".
constexpr char kOurs[] = "/memfd:tess:";

bool parse_ours(Text name, MapLine& m) {
  if (!starts_with(name, kOurs)) {
    return false;
  }
  name.begin += sizeof(kOurs) - 1;
  m.major = take_number(name, 16);
  if (name.begin == name.end || *name.begin != ':') {
    return false;
  }
  ++name.begin;
  m.minor = take_number(name, 16);
  if (name.begin == name.end || *name.begin != ':') {
    return false;
  }
  ++name.begin;
  m.inode = take_number(name, 10);
  return true;
}

bool is_region(uint64_t address, const ProcFacts& facts) {
  return address - facts.region_base < kRegionSize;
}

// Line of home's maps for the same file, or for a special mapping at the same place. Both texts go
// by address, so that the next search starts where the last has ended.
struct HomeMaps {
  Text all;
  Text from;

  bool find_in(Text rest, const MapLine& wanted, MapLine& found, Text* behind) const {
    Text line;
    while (next_line(rest, line)) {
      if (parse_map(line, found) && found.major == wanted.major && found.minor == wanted.minor &&
          found.inode == wanted.inode && size_of(found.path) != 0) {
        behind->begin = line.begin;
        behind->end = rest.end;
        return true;
      }
    }
    return false;
  }
  bool file(const MapLine& wanted, MapLine& found) {
    return find_in(from, wanted, found, &from) || find_in(all, wanted, found, &from);
  }
};

// The name of a special mapping ([vdso] and its like) is home's if home has one at the same place.
bool special_at(Text home, uint64_t start, Text& name) {
  Text line;
  MapLine m;
  while (next_line(home, line)) {
    if (parse_map(line, m) && m.start == start) {
      name = m.path;
      return size_of(name) != 0 && *name.begin == '[';
    }
  }
  return false;
}

void put_map(const TextSink& sink, const MapLine& m) {
  constexpr size_t kPathColumn = 73;
  size_t column = put_number(sink, m.start, 16, 8, '0');
  put_text(sink, "-");
  column += put_number(sink, m.end, 16, 8, '0') + 1;
  put_text(sink, " ");
  put(sink, m.perms);
  put_text(sink, " ");
  column += 6 + put_number(sink, m.offset, 16, 8, '0');
  put_text(sink, " ");
  column += 1 + put_number(sink, m.major, 16, 2, '0');
  put_text(sink, ":");
  column += 1 + put_number(sink, m.minor, 16, 2, '0');
  put_text(sink, " ");
  column += 1 + put_number(sink, m.inode);
  put_text(sink, " ");
  ++column;
  if (size_of(m.path) != 0) {
    put_spaces(sink, column < kPathColumn ? kPathColumn - column : 0);
    put(sink, m.path);
  }
  put_text(sink, "\n");
}

// maps and smaps: the lines between two mappings belong to the first.
void write_maps(Text host, Text home_maps, const ProcFacts& facts, const TextSink& sink) {
  HomeMaps home{home_maps, home_maps};
  Text line;
  bool shown = true;
  while (next_line(host, line)) {
    MapLine m;
    if (!parse_map(line, m)) {
      if (shown) {
        put(sink, line);
        put_text(sink, "\n");
      }
      continue;
    }
    shown = !is_region(m.start, facts);
    if (!shown) {
      continue;
    }
    MapLine at_home;
    Text special;
    if (parse_ours(m.path, m)) {
      m.path = home.file(m, at_home) ? at_home.path : Text{};
    } else if (m.inode == 0 && special_at(home_maps, m.start, special)) {
      m.path = special;
    }
    put_map(sink, m);
  }
}

// numa_maps: "ADDRESS POLICY file=NAME ..." with the names of home's files.
void write_numa_maps(Text host, Text home_maps, const ProcFacts& facts, const TextSink& sink) {
  HomeMaps home{home_maps, home_maps};
  Text line;
  while (next_line(host, line)) {
    Text address = line;
    if (is_region(take_number(address, 16), facts)) {
      continue;
    }
    Text rest = line;
    bool first = true;
    while (true) {
      const Text word = next_word(rest);
      if (size_of(word) == 0) {
        break;
      }
      put_text(sink, first ? "" : " ");
      first = false;
      MapLine m, at_home;
      const Text name{word.begin + 5, word.end};
      if (starts_with(word, "file=") && parse_ours(name, m)) {
        put_text(sink, "file=");
        if (home.file(m, at_home)) {
          put(sink, at_home.path);
        }
        continue;
      }
      put(sink, word);
    }
    put_text(sink, "\n");
  }
}

// Key of a "Key:  value" line, colon included; empty if it is none.
Text key_of(Text line) {
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

bool find_key(Text all, Text key, Text& value) {
  Text line;
  while (next_line(all, line)) {
    if (same(key_of(line), key)) {
      value = {key_of(line).end, line.end};
      return true;
    }
  }
  return false;
}

// Sums of all mappings but the region's, in home's order of keys. The parts of Pss by kind are not
// in smaps: a mapping counts as what it is.
uint64_t sum_key(Text smaps, Text key, const ProcFacts& facts) {
  const bool anon = starts_with(key, "Pss_Anon:");
  const bool file = starts_with(key, "Pss_File:");
  const bool shmem = starts_with(key, "Pss_Shmem:");
  Text line;
  uint64_t sum = 0;
  bool counted = true;
  while (next_line(smaps, line)) {
    MapLine m;
    if (parse_map(line, m)) {
      const bool of_file = m.inode != 0;
      counted = !is_region(m.start, facts) && !(anon && of_file) && !(file && !of_file) && !shmem;
      continue;
    }
    const Text here = key_of(line);
    const bool wanted = anon || file ? starts_with(here, "Pss:") : same(here, key);
    if (counted && wanted) {
      sum += number({here.end, line.end});
    }
  }
  return sum;
}

void write_rollup(Text host, Text home, const ProcFacts& facts, const TextSink& sink) {
  Text line;
  while (next_line(home, line)) {
    const Text key = key_of(line);
    if (size_of(key) == 0) {
      put(sink, line);  // the heading: from the lowest address to the highest, "[rollup]"
      put_text(sink, "\n");
      continue;
    }
    put(sink, key);
    put_spaces(sink, size_of(key) < 16 ? 16 - size_of(key) : 0);
    put_number(sink, sum_key(host, key, facts), 10, 8);
    put_text(sink, " kB\n");
  }
}

// ---- status ----

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

// ---- stat, statm ----

// What stands behind the name, which may hold anything; fields are counted from 3 there.
Text behind_name(Text line) {
  const char* at = line.end;
  while (at != line.begin && at[-1] != ')') {
    --at;
  }
  return {at, line.end};
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

// ---- paths ----

Text last_component(Text& path) {
  const char* at = path.end;
  while (at != path.begin && at[-1] != '/') {
    --at;
  }
  const Text component{at, path.end};
  path.end = at != path.begin ? at - 1 : at;
  return component;
}

int32_t as_id(Text component) {
  Text rest = component;
  const uint64_t value = take_number(rest, 10);
  return rest.begin == rest.end && size_of(component) != 0 && value < 0x7fffffff ? (int32_t)value
                                                                                 : 0;
}

struct NamedFile {
  char name[14];
  uint8_t file;
};
constexpr NamedFile kNames[] = {
    {"maps", kProcMaps},
    {"smaps", kProcSmaps},
    {"smaps_rollup", kProcSmapsRollup},
    {"numa_maps", kProcNumaMaps},
    {"stat", kProcStat},
    {"statm", kProcStatm},
    {"status", kProcStatus},
    {"cmdline", kProcCmdline},
    {"environ", kProcEnviron},
    {"schedstat", kProcSchedstat},
    {"mem", kProcMem},
    {"pagemap", kProcPagemap},
    {"clear_refs", kProcClearRefs},
    {"fd", kProcFdDir},
    {"fdinfo", kProcFdDir},
    {"task", kProcTaskDir},
};

}  // namespace

ProcPath parse_proc_path(Text path) {
  ProcPath result;
  const Text name = last_component(path);
  const int32_t id = as_id(last_component(path));
  if (id == 0) {
    return result;
  }
  for (const NamedFile& named : kNames) {
    Text wanted{named.name, named.name};
    while (*wanted.end != 0) {
      ++wanted.end;
    }
    if (same(name, wanted)) {
      result.file = (ProcFile)named.file;
    }
  }
  Text above = path;
  const char task[] = "task";
  if (same(last_component(above), {task, task + 4})) {
    result.pid = as_id(last_component(above));
    result.tid = id;
  } else {
    result.pid = id;
  }
  if (result.pid == 0) {
    result.file = kProcNone;
  }
  return result;
}

void write_proc_text(ProcFile file, Text host, Text home, Text home_maps, const ProcFacts& facts,
                     const TextSink& sink) {
  switch (file) {
    case kProcMaps:
    case kProcSmaps:
      write_maps(host, home_maps, facts, sink);
      break;
    case kProcSmapsRollup:
      write_rollup(host, home, facts, sink);
      break;
    case kProcNumaMaps:
      write_numa_maps(host, home_maps, facts, sink);
      break;
    case kProcStatus:
      write_status(host, home, facts, sink);
      break;
    case kProcStat:
      write_stat(host, home, facts, sink);
      break;
    case kProcStatm:
      write_statm(host, facts, sink);
      break;
    default:
      put(sink, host);
      break;
  }
}

}  // namespace tess::stub
