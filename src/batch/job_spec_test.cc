#include "batch/job_spec.h"

#include <gtest/gtest.h>

namespace tess::batch {
namespace {

using Words = std::vector<std::string>;

std::string mistake(const Result<JobSpec>& spec) {
  return spec ? "no mistake" : spec.error().message();
}

TEST(JobSpec, CommandLine) {
  const auto parsed =
      parse_options({"-a", "1-10%2", "--cpu=2.5", "-m", "2G", "--after", "3,4", "--after-any", "9",
                     "--hold", "--avoid", "n2", "--", "ls", "--cpu"});
  ASSERT_TRUE(parsed) << parsed.error().message();
  const JobSpec& spec = parsed->spec;
  EXPECT_EQ(spec.array, "1-10%2");
  EXPECT_EQ(spec.cpus, 2.5);
  EXPECT_EQ(spec.memory_bytes, 2ULL << 30);
  EXPECT_EQ(spec.after, (std::vector<After>{{3, false}, {4, false}, {9, true}}));
  EXPECT_TRUE(spec.held);
  EXPECT_EQ(spec.avoid, Words({"n2"}));
  EXPECT_TRUE(parsed->command_follows);
  EXPECT_EQ(parsed->rest, Words({"ls", "--cpu"})) << "what follows -- is the command's";
}

TEST(JobSpec, WrongOptions) {
  for (const Words& words :
       {Words{"--nonsense"}, Words{"--cpu", "0"}, Words{"--cpu", "2x"}, Words{"--memory", "much"},
        Words{"--array", "5-1"}, Words{"--after", "0"}, Words{"--after", "1,"}, Words{"--cpu"},
        Words{"--priority", "high"}}) {
    EXPECT_FALSE(parse_options(words)) << words[0];
  }
}

TEST(JobSpec, JobFile) {
  const std::string text =
      "#!/bin/sh\n# a comment\n#TESS --array 1-4 --output 'my file.%a'\n"
      "#TESS --cpu 2   # two\n#TESSERA is another word? no: refused below\n";
  EXPECT_EQ(mistake(parse_job_file(text, "job.sh", {})),
            "job.sh:5: after #TESS comes a space and then options");
  const std::string good = text.substr(0, text.find("#TESSERA")) + "echo hello\n";
  const auto spec = parse_job_file(good, "dir/job.sh", {"--cpu", "3"});
  ASSERT_TRUE(spec) << mistake(spec);
  EXPECT_EQ(spec->array, "1-4");
  EXPECT_EQ(spec->output, "my file.%a");
  EXPECT_EQ(spec->cpus, 3) << "the command line wins";
  EXPECT_EQ(spec->name, "job.sh");
  EXPECT_EQ(spec->script, good);
}

TEST(JobSpec, MistakesInJobFilesNameTheLine) {
  const auto at = [](const std::string& line) {
    return mistake(parse_job_file("#!/bin/sh\n\n" + line + "\n", "j", {}));
  };
  EXPECT_EQ(at("#TESS --frob"), "j:3: unknown option '--frob'");
  EXPECT_EQ(at("#TESS --cpu many"), "j:3: --cpu is a number of CPUs, not 'many'");
  EXPECT_EQ(at("#TESS --array 1-x"),
            "j:3: --array '1-x': '1-x' is not a task number or a range like 1-10 or 1-10:2");
  EXPECT_EQ(at("#TESS --output 'open"), "j:3: the quote ' is not closed");
  EXPECT_EQ(at("#TESS echo"),
            "j:3: 'echo' is not an option; a job file's #TESS lines have options only");
  EXPECT_EQ(at("#TESS --memory"), "j:3: option --memory needs a value");
  EXPECT_TRUE(mistake(parse_job_file("echo hello\n", "j", {})).starts_with("j:1: a job file is"));
}

JobSpec full() {
  JobSpec spec;
  spec.name = "a name";
  spec.command = {"printf", "%s\xff", ""};
  spec.script = "#!/bin/sh\nbytes \xfe";
  spec.array = "1-3";
  spec.cpus = 0.5;
  spec.memory_bytes = 1ULL << 40;
  spec.after = {{7, true}};
  spec.priority = -5;
  spec.held = spec.requeue = spec.home = spec.cpu_bound = spec.append = true;
  spec.avoid = {"n1"};
  spec.input = "in";
  spec.output = "out.%a";
  spec.environment = {"A=1", "B=\xff"};
  spec.directory = "/tmp";
  spec.umask = 077;
  spec.uid = 1000;
  spec.gid = 100;
  spec.groups = {4, 27};
  spec.limits = {{1, 2}, {UINT64_MAX, UINT64_MAX}};
  return spec;
}

TEST(JobSpec, SurvivesItsCode) {
  const JobSpec spec = full();
  const auto back = decode(encode(spec));
  ASSERT_TRUE(back) << mistake(back);
  EXPECT_EQ(encode(*back), encode(spec));
  EXPECT_EQ(back->command, spec.command) << "an empty last word is kept";
  EXPECT_EQ(back->environment, spec.environment);
  EXPECT_EQ(back->limits, spec.limits);
  EXPECT_EQ(back->after, spec.after);
  EXPECT_EQ(back->umask, 077U);
  EXPECT_TRUE(check(*back));
}

TEST(JobSpec, NonsenseIsRefused) {
  for (const char* text : {"", "[]", "{\"cpus\": \"2\"}", "{\"command\": \"xyz\"}",
                           "{\"command\": \"6c73\"}", "{\"avoid\": [1]}", "{\"after\": [{}]}",
                           "{\"memory_bytes\": -1}", "{\"limits\": [[1]]}", "{\"held\": 1}"}) {
    EXPECT_FALSE(decode(text)) << text;
  }
  const auto wrong = [](auto change) {
    JobSpec spec = full();
    change(spec);
    return !check(spec);
  };
  EXPECT_TRUE(wrong([](JobSpec& s) { s.name.clear(); }));
  EXPECT_TRUE(wrong([](JobSpec& s) { s.directory = "here"; }));
  EXPECT_TRUE(wrong([](JobSpec& s) { s.cpus = -1; }));
  EXPECT_TRUE(wrong([](JobSpec& s) { s.output = "%x"; }));
  EXPECT_TRUE(wrong([](JobSpec& s) { s.array = "3-1"; }));
  EXPECT_TRUE(wrong([](JobSpec& s) { s.node = "n2"; })) << "with --home";
  EXPECT_TRUE(wrong([](JobSpec& s) { s.environment.push_back(std::string("A=\0", 3)); }));
  EXPECT_TRUE(wrong([](JobSpec& s) {
    s.command.clear();
    s.script.clear();
  }));
}

TEST(JobSpec, Patterns) {
  const PatternValues values{12, 7, "a/b", 1000};
  EXPECT_EQ(*expand_pattern("%n-%j.%a.%u%%", values), "a_b-12.7.1000%");
  EXPECT_FALSE(expand_pattern("x%", values));
  EXPECT_FALSE(expand_pattern("%q", values));
  JobSpec spec;
  EXPECT_EQ(output_pattern(spec), "tess-%j.out");
  spec.array = "1-2";
  EXPECT_EQ(output_pattern(spec), "tess-%j.%a.out");
}

}  // namespace
}  // namespace tess::batch
