#include "stub/proc_text.h"

#include "stub/proc_text_tools.h"

namespace tess::stub {
namespace {

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
  bool sysv = false;  // the inode is the identifier of System V shared memory
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

// A name made by the agents (memory/address_space.h, object_number.h): a file, one that is written
// through, or memory without a name, which home's maps call by the device or key it was made with.
constexpr char kOurs[] = "/memfd:tess:", kOursWritten[] = "/memfd:tess-s:",
               kOursAnonymous[] = "/memfd:tess-a:";

bool skip_prefix(Text& name, const char* prefix) {
  if (!starts_with(name, prefix)) {
    return false;
  }
  while (*prefix != 0) {
    ++prefix;
    ++name.begin;
  }
  return true;
}

bool parse_ours(Text name, MapLine& m) {
  constexpr uint64_t kSysv = uint64_t{1} << 63;
  if (!skip_prefix(name, kOurs) && !skip_prefix(name, kOursWritten) &&
      !skip_prefix(name, kOursAnonymous)) {
    return false;
  }
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
  m.sysv = (m.inode & kSysv) != 0;
  m.inode &= ~kSysv;
  return true;
}

bool is_region(uint64_t address, const ProcFacts& facts) {
  return address - facts.region_base < kRegionSize;
}

// Lines of home's maps. All texts go by address, so that the next search starts where the last has
// ended.
struct HomeMaps {
  Text all;
  Text after_file;     // the last that file() has found, and what follows
  Text after_special;  // the same of special()

  explicit HomeMaps(Text maps) : all(maps), after_file(maps), after_special(maps) {}

  static bool find_in(Text rest, const MapLine& wanted, MapLine& found, Text* behind) {
    Text line;
    while (next_line(rest, line)) {
      if (parse_map(line, found) && found.major == wanted.major && found.minor == wanted.minor &&
          found.inode == wanted.inode && size_of(found.path) != 0 &&
          starts_with(found.path, "/SYSV") == wanted.sysv) {
        behind->begin = line.begin;
        behind->end = rest.end;
        return true;
      }
    }
    return false;
  }
  // The line for the same file.
  bool file(const MapLine& wanted, MapLine& found) {
    return find_in(after_file, wanted, found, &after_file) ||
           find_in(all, wanted, found, &after_file);
  }
  // The name of a special mapping ([vdso] and its like) is home's if home has one at the same
  // place.
  bool special(uint64_t start, Text& name) {
    Text rest = after_special;
    Text line;
    MapLine m;
    while (next_line(rest, line)) {
      if (parse_map(line, m) && m.start >= start) {
        name = m.path;
        after_special = {line.begin, rest.end};
        return m.start == start && size_of(name) != 0 && *name.begin == '[';
      }
    }
    after_special = rest;
    return false;
  }
};

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
  HomeMaps home(home_maps);
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
    } else if (m.inode == 0 && home.special(m.start, special)) {
      m.path = special;
    }
    put_map(sink, m);
  }
}

// numa_maps: "ADDRESS POLICY file=NAME ..." with the names of home's files.
void write_numa_maps(Text host, Text home_maps, const ProcFacts& facts, const TextSink& sink) {
  HomeMaps home(home_maps);
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

bool parse_file_range(Text line, FileRange& range) {
  MapLine m;
  if (!parse_map(line, m) || !starts_with(m.path, kOurs) || !parse_ours(m.path, m)) {
    return false;
  }
  range = {m.start, m.end, m.offset, m.major, m.minor, m.inode, {}};
  for (int i = 0; i < 4; ++i) {
    range.perms[i] = m.perms.begin[i];
  }
  return true;
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
