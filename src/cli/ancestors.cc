#include "cli/ancestors.h"

#include <algorithm>
#include <map>

namespace tess::cli {
namespace {

using Words = std::vector<std::string>;

tl::unexpected<Error> no(const std::string& what, const std::string& why) {
  return fail(ErrorKind::kNotPossible, "{}: {}", what, why);
}

bool is_number(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

bool is_address(const std::string& text) {
  return std::count(text.begin(), text.end(), '.') == 3 &&
         text.find_first_not_of("0123456789.") == std::string::npos;
}

constexpr const char* kNumbers =
    "nodes have names here, not numbers: `tess nodes` lists them, -rNAME takes one";
constexpr const char* kTime = "the queue does not ask how long a job will take";
constexpr const char* kPriority =
    "`tess batch submit --priority` is the other way round: a higher one goes first";
constexpr const char* kProcesses = "how many processes it will be is asked of queued jobs: -q";
constexpr const char* kCheckpoints = "there are no checkpoints in files";
constexpr const char* kSpeed = "a node's speed is measured, nobody sets it";
constexpr const char* kDecay =
    "there is no decay to choose: the whole life of a process counts, and its last seconds";
constexpr const char* kDiscovery =
    "nodes find each other: `tess init`, then tessera.toml(5) where a router lies between";

// ---- mosrun ----

// Options of mosrun without a counterpart, by their letter.
const std::map<char, const char*>& meaningless() {
  static const std::map<char, const char*> reasons = {
      {'j', "the cluster chooses among its nodes; `tess run --avoid NODE` excludes some"},
      {'e',
       "no system call is an error away from home: those that cannot be carried take the "
       "process home first"},
      {'w', "no system call is an error away from home, so there is nothing to warn of"},
      {'u', "no system call is an error away from home, so nobody is killed for one"},
      {'d', kDecay},
      {'t', "a process has one time, that of its home"},
      {'T', "a process has one time, that of its home"},
      {'z', "argv[0] is the command's name: use `exec -a` of a shell"},
      {'J',
       "jobs get their ids by themselves: `tess ps` shows them, `tess kill --job` and `tess "
       "migrate --job` take them"},
      {'q', kPriority},
      {'Q', kPriority},
      {'P', kProcesses},
      {'D', kTime},
      {'G', "a node is in one cluster only"},
      {'X', "files stay at home, and are read from there wherever the process runs"},
      {'C', kCheckpoints},
      {'A', kCheckpoints},
      {'N', kCheckpoints},
      {'R', kCheckpoints},
      {'O', kCheckpoints},
      {'I', kCheckpoints}};
  return reasons;
}

// -S{maxjobs} FILE: each line a command, so many at once.
Result<Translation> many_jobs(const std::string& most, const Words& rest) {
  if (!is_number(most) || most == "0" || rest.empty()) {
    return no("mosrun -S", "a number of jobs and a file are wanted: -S8 FILE");
  }
  if (rest.size() > 1 || rest[0].find(',') != std::string::npos) {
    return no("mosrun -S", "a file for what failed cannot be named; the exit status tells");
  }
  Translation translation;
  translation.program = true;
  translation.words = {"xargs", "-a",   rest[0], "-d", "\\n",     "-P", most,
                       "-I{}",  "tess", "run",   "--", "/bin/sh", "-c", "{}"};
  return translation;
}

class MosrunOptions {
 public:
  explicit MosrunOptions(const Lookup& lookup) : lookup_(lookup) {}

  Result<> take(const std::string& word) {
    const std::string value = word.substr(2);
    const char letter = word[1];
    if (is_number(word.substr(1))) {
      return no("mosrun " + word, kNumbers);
    }
    if (is_address(word.substr(1))) {
      TESS_TRY_ASSIGN(node_, lookup_.node_at(word.substr(1)));
      return {};
    }
    if (letter == 'r' && !value.empty()) {
      node_ = value;
      if (is_address(value)) {
        TESS_TRY_ASSIGN(node_, lookup_.node_at(value));
      }
      return is_number(node_) ? no("mosrun " + word, kNumbers) : Result<>();
    }
    if (letter == 'm' && is_number(value)) {
      options_.push_back("--memory=" + value + "M");
      return {};
    }
    if (letter == 'P' && is_number(value)) {
      cpus_ = value;
      return {};
    }
    if (value.empty() && take_flag(letter)) {
      return {};
    }
    const auto reason = meaningless().find(letter);
    return reason != meaningless().end() ? no("mosrun " + word, reason->second)
                                         : no("mosrun " + word, "there is no such option");
  }

  // The command of tess, and what it is to know.
  Result<Words> words() const {
    if (!cpus_.empty() && !queued_) {
      return no("mosrun -P" + cpus_, kProcesses);
    }
    Words all = queued_ ? Words{"batch", "submit"} : Words{"run"};
    if (queued_ && waits_) {
      all.emplace_back("--wait");
    }
    if (!cpus_.empty()) {
      all.push_back("--cpu=" + cpus_);
    }
    all.insert(all.end(), options_.begin(), options_.end());
    if (!node_.empty()) {
      bool up = true;
      if (anyway_) {
        TESS_TRY_ASSIGN(up, lookup_.is_up(node_));
      }
      if (up) {
        all.push_back("--on=" + node_);
      }
    }
    return all;
  }

 private:
  bool take_flag(char letter) {
    switch (letter) {
      case 'h':
        options_.emplace_back("--home");
        return true;
      case 'L':
      case 'k':
        options_.emplace_back("--stay");
        return true;
      case 'c':
        options_.emplace_back("--cpu-bound");
        return true;
      case 'F':
        anyway_ = true;
        return true;
      case 'q':  // in the queue, and it is waited for
      case 'Q':
        queued_ = true;
        waits_ = true;
        return true;
      case 'E':  // a batch job that stays at home
        options_.emplace_back("--home");
        queued_ = true;
        return true;
      case 'M':  // a batch job
        queued_ = true;
        return true;
      case 'b':  // where it runs best: without any option
      case 'l':  // it may be moved: so may all
      case 'n':
      case 'i':  // its system calls count: so do all
        return true;
      default:
        return false;
    }
  }

  const Lookup& lookup_;
  Words options_;
  std::string node_;
  std::string cpus_;
  bool anyway_ = false;
  bool queued_ = false;
  bool waits_ = false;
};

Result<Translation> mosrun(const Words& arguments, const Lookup& lookup) {
  MosrunOptions options(lookup);
  size_t at = 0;
  for (; at < arguments.size() && arguments[at].size() > 1 && arguments[at][0] == '-'; ++at) {
    if (arguments[at] == "--") {
      ++at;
      break;
    }
    if (arguments[at][1] == 'S') {
      return many_jobs(arguments[at].substr(2),
                       Words(arguments.begin() + static_cast<long>(at) + 1, arguments.end()));
    }
    TESS_TRY(options.take(arguments[at]));
  }
  TESS_TRY_ASSIGN(Words words, options.words());
  words.emplace_back("--");
  words.insert(words.end(), arguments.begin() + static_cast<long>(at), arguments.end());
  return Translation{words, false};
}

// ---- the others ----

Result<Translation> migrate(const Words& arguments, const Lookup& lookup) {
  if (arguments.size() != 2) {
    return no("migrate",
              "what is wanted is: migrate {PID | -jJOB} {NODE | home | out | freeze | "
              "continue}");
  }
  const bool of_job = arguments[0].starts_with("-j");
  std::string where = arguments[1];
  const Words who = of_job ? Words{"--job", arguments[0].substr(2)} : Words{arguments[0]};
  const auto with = [&who](Words words) {
    words.insert(words.end(), who.begin(), who.end());
    return words;
  };
  if (where == "freeze" || where == "continue") {
    return Translation{with({"kill", "-s", where == "freeze" ? "STOP" : "CONT"}), false};
  }
  if (where.starts_with("chk") || where == "checkpoint") {
    return no("migrate " + where, kCheckpoints);
  }
  if (is_number(where)) {
    return no("migrate " + where, "nodes have names here, not numbers: `tess nodes` lists them");
  }
  if (where == "out") {
    TESS_TRY_ASSIGN(where, lookup.best_other());
  } else if (is_address(where)) {
    TESS_TRY_ASSIGN(where, lookup.node_at(where));
  }
  Words words = with({"migrate"});
  words.push_back(where);
  return Translation{words, false};
}

// Questions of mosctl about one node or all, and the fields that answer them.
const std::map<std::string, std::string>& questions() {
  static const std::map<std::string, std::string> fields = {
      {"getload", "load"},         {"getspeed", "speed"},      {"status", "state"},
      {"isup", "state"},           {"getmem", "memory_bytes"}, {"getfree", "memory_free_bytes"},
      {"getutil", "cpu_pressure"}, {"whois", "address"}};
  return fields;
}

Result<Translation> mosctl(const Words& arguments, const Lookup& lookup) {
  if (arguments.empty()) {
    return no("mosctl", "what is wanted? `tess --help` lists what there is");
  }
  const std::string& what = arguments[0];
  static const std::map<std::string, Words> same = {{"stay", {"set", "balance", "off"}},
                                                    {"nostay", {"set", "balance", "on"}},
                                                    {"noblock", {"node", "undrain"}},
                                                    {"bring", {"bring-home"}}};
  if (const auto found = same.find(what); found != same.end()) {
    return Translation{found->second, false};
  }
  if (const auto found = questions().find(what); found != questions().end()) {
    Words words = {"nodes", "--field", found->second};
    words.insert(words.end(), arguments.begin() + 1, arguments.end());
    return Translation{words, false};
  }
  if (what == "expel") {
    TESS_TRY_ASSIGN(const std::string node, lookup.this_node());
    return Translation{{"migrate", "--all-from", node}, false};
  }
  static const std::map<std::string, std::string> reasons = {
      {"nolstay",
       "guests and own processes are not told apart: `tess set balance on` lets both go"},
      {"lstay", "guests and own processes are not told apart: `tess set balance off` holds both"},
      {"block", "who takes no guests sends away those it has, too: `tess node drain`"},
      {"quiet", "a node always tells the others how it is: placement needs it"},
      {"noquiet", "a node always tells the others how it is"},
      {"setyard", kSpeed},
      {"setspeed", kSpeed},
      {"getyard", kSpeed},
      {"setdecay", kDecay},
      {"getdecay", kDecay}};
  const auto reason = reasons.find(what);
  return no("mosctl " + what,
            reason != reasons.end() ? reason->second : "there is no such command");
}

Result<Translation> killall(const Words& arguments) {
  Words words = {"kill"};
  bool job = false;
  for (const std::string& word : arguments) {
    if (word.starts_with("-j") || word.starts_with("-J")) {
      words.insert(words.end(), {"--job", word.substr(2)});
      job = true;
    } else if (word.starts_with('-') && word.size() > 1) {
      words.insert(words.end(), {"-s", word.substr(1)});
    } else {
      return no("moskillall " + word, "what is wanted is: moskillall [-SIGNAL] -jJOB");
    }
  }
  if (!job) {
    return no("moskillall", "name a job: -jJOB, by the id that `tess ps` shows");
  }
  return Translation{words, false};
}

// A name that only adds options to `run`.
Result<Translation> run_with(Words words, const Words& arguments) {
  words.insert(words.begin(), "run");
  words.emplace_back("--");
  words.insert(words.end(), arguments.begin(), arguments.end());
  return Translation{words, false};
}

// A name that stands for a tess command and takes no options.
Result<Translation> plain(const std::string& name, Words words, const Words& arguments) {
  if (!arguments.empty()) {
    std::string command = "tess";
    for (const std::string& word : words) {
      command += " " + word;
    }
    return no(name + " " + arguments[0],
              "it takes nothing under this name; `" + command + " --help` tells what there is");
  }
  return Translation{std::move(words), false};
}

using Translate =
    std::function<Result<Translation>(const std::string&, const Words&, const Lookup&)>;

Translate plainly(const Words& words) {
  return [words](const std::string& name, const Words& arguments, const Lookup&) {
    return plain(name, words, arguments);
  };
}

Translate running(const Words& options) {
  return [options](const std::string&, const Words& arguments, const Lookup&) {
    return run_with(options, arguments);
  };
}

Translate refusing(const char* why) {
  return [why](const std::string& name, const Words&, const Lookup&) -> Result<Translation> {
    return no(name, why);
  };
}

Result<Translation> runon(const std::string&, const Words& arguments, const Lookup&) {
  if (arguments.size() < 2) {
    return no("runon", "what is wanted is: runon NODE COMMAND");
  }
  if (is_number(arguments[0])) {
    return no("runon " + arguments[0],
              "nodes have names here, not numbers: `tess nodes` lists them");
  }
  return run_with({"--on=" + arguments[0]}, Words(arguments.begin() + 1, arguments.end()));
}

Result<Translation> natively(const std::string&, const Words& arguments, const Lookup&) {
  if (arguments.empty()) {
    return no("mosnative", "the command is missing");
  }
  return Translation{arguments, true};
}

const std::map<std::string, Translate>& translations() {
  static const Translate run = [](const auto&, const Words& arguments, const Lookup& lookup) {
    return mosrun(arguments, lookup);
  };
  static const Translate move = [](const auto&, const Words& arguments, const Lookup& lookup) {
    return migrate(arguments, lookup);
  };
  static const std::map<std::string, Translate> all = {
      {"mosrun", run},
      {"mosenv", run},
      {"migrate", move},
      {"mosmigrate", move},
      {"mosctl", [](const auto&, const Words& arguments,
                    const Lookup& lookup) { return mosctl(arguments, lookup); }},
      {"moskillall",
       [](const auto&, const Words& arguments, const Lookup&) { return killall(arguments); }},
      {"mosnative", natively},
      {"mosmon", plainly({"top"})},
      {"mtop", plainly({"top"})},
      {"mosps", plainly({"ps"})},
      {"mps", plainly({"ps"})},
      {"mosbestnode", plainly({"best", "--first"})},
      {"showmap", plainly({"nodes"})},
      {"setpe", refusing(kDiscovery)},
      {"mossetpe", refusing(kDiscovery)},
      {"runon", runon},
      {"runhome", running({"--home"})},
      {"nomig", running({"--stay"})},
      {"cpujob", running({"--cpu-bound"})},
      {"iojob", running({})},
      {"omdiscd", refusing(kDiscovery)},
      {"mosconf", refusing(kDiscovery)},
      {"mos_autoconf", refusing(kDiscovery)},
      {"mos_checkconf", refusing(kDiscovery)},
      {"mostestload", refusing("any program that computes is a load: `tess run` starts it")},
      {"mostimeof", refusing("`tess ps` shows the CPU time of each process, home and away")},
      {"mospipe",
       refusing("start the pipe with a shell, `tess run sh -c 'a | b'`: its programs are "
                "placed one by one")},
      {"mos_in_job", refusing("all that a job starts belongs to it: `tess ps` shows its id")},
      {"nodecay", refusing(kDecay)},
      {"slowdecay", refusing(kDecay)},
      {"fastdecay", refusing(kDecay)}};
  return all;
}

}  // namespace

const std::vector<std::string>& ancestor_names() {
  static const Words names = [] {
    Words list;
    for (const auto& [name, translate] : translations()) {
      list.push_back(name);
    }
    return list;
  }();
  return names;
}

bool is_ancestor(const std::string& name) {
  return translations().contains(name);
}

Result<Translation> translate_ancestor(const std::string& name, const Words& arguments,
                                       const Lookup& lookup) {
  return translations().at(name)(name, arguments, lookup);
}

}  // namespace tess::cli
