#include "cli/ancestors.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "sys/files.h"

namespace tess::cli {
namespace {

using Words = std::vector<std::string>;

Lookup some_cluster() {
  return {[]() -> Result<std::string> { return "n1"; },
          [](const std::string& address) -> Result<std::string> {
            if (address == "10.0.0.2") {
              return "n2";
            }
            return fail(ErrorKind::kNotPossible, "no node has the address {}", address);
          },
          [](const std::string& node) -> Result<bool> { return node != "n4"; },
          []() -> Result<std::string> { return "n3"; }};
}

Words words(const std::string& name, const Words& arguments) {
  const auto translated = translate_ancestor(name, arguments, some_cluster());
  EXPECT_TRUE(translated) << name << ": " << translated.error().message();
  return translated ? translated->words : Words();
}

std::string refusal(const std::string& name, const Words& arguments) {
  const auto translated = translate_ancestor(name, arguments, some_cluster());
  EXPECT_FALSE(translated) << name;
  return translated ? "" : translated.error().message();
}

bool says(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(Ancestors, MosrunSaysWhere) {
  EXPECT_EQ(words("mosrun", {"-rn2", "ls", "-l"}), (Words{"run", "--on=n2", "--", "ls", "-l"}));
  EXPECT_EQ(words("mosrun", {"-10.0.0.2", "ls"}), (Words{"run", "--on=n2", "--", "ls"}));
  EXPECT_EQ(words("mosrun", {"-r10.0.0.2", "ls"}), (Words{"run", "--on=n2", "--", "ls"}));
  EXPECT_EQ(words("mosrun", {"-h", "ls"}), (Words{"run", "--home", "--", "ls"}));
  EXPECT_EQ(words("mosrun", {"-b", "ls"}), (Words{"run", "--", "ls"}));
  EXPECT_EQ(words("mosrun", {"-F", "-rn4", "ls"}), (Words{"run", "--", "ls"})) << "n4 is down";
  EXPECT_EQ(words("mosrun", {"-F", "-rn3", "ls"}), (Words{"run", "--on=n3", "--", "ls"}));
  EXPECT_TRUE(says(refusal("mosrun", {"-10.0.0.9", "ls"}), "no node has the address"));
  EXPECT_TRUE(says(refusal("mosrun", {"-3", "ls"}), "names here, not numbers"));
}

TEST(Ancestors, MosrunSaysHow) {
  EXPECT_EQ(words("mosrun", {"-L", "-m512", "-c", "--", "-odd", "-r"}),
            (Words{"run", "--stay", "--memory=512M", "--cpu-bound", "--", "-odd", "-r"}));
  EXPECT_EQ(words("mosrun", {"-l", "-i", "make", "-j8"}), (Words{"run", "--", "make", "-j8"}))
      << "options of the command are the command's";
}

TEST(Ancestors, WhatHasNoMeaningIsRefusedWithTheReason) {
  for (const char* option : {"-j1-5",  "-e",     "-w",  "-u",  "-d50",   "-t",    "-T",
                             "-z",     "-J7",    "-q7", "-Q5", "-P4",    "-D1:0", "-G2",
                             "-X/tmp", "-Cfile", "-A5", "-N3", "-Rfile", "-O3=x", "-Ifile"}) {
    const std::string why = refusal("mosrun", {option, "ls"});
    EXPECT_TRUE(why.starts_with(std::string("mosrun ") + option + ": ")) << why;
    EXPECT_FALSE(says(why, "no such option")) << why;
  }
  EXPECT_TRUE(says(refusal("mosrun", {"-y", "ls"}), "no such option"));
  EXPECT_TRUE(says(refusal("mosrun", {"-mlots", "ls"}), "no such option"));
}

TEST(Ancestors, TheQueueIsThatOfBatchJobs) {
  EXPECT_EQ(words("mosrun", {"-q", "ls", "-l"}),
            (Words{"batch", "submit", "--wait", "--", "ls", "-l"}));
  EXPECT_EQ(
      words("mosrun", {"-Q", "-P4", "-m512", "-rn2", "ls"}),
      (Words{"batch", "submit", "--wait", "--cpu=4", "--memory=512M", "--on=n2", "--", "ls"}));
  EXPECT_EQ(words("mosrun", {"-E", "ls"}), (Words{"batch", "submit", "--home", "--", "ls"}));
  EXPECT_EQ(words("mosrun", {"-M", "ls"}), (Words{"batch", "submit", "--", "ls"}));
  EXPECT_TRUE(says(refusal("mosrun", {"-P4", "ls"}), "of queued jobs"));
}

TEST(Ancestors, ManyJobsFromAFile) {
  const auto many = translate_ancestor("mosrun", {"-S4", "jobs.txt"}, some_cluster());
  ASSERT_TRUE(many) << many.error().message();
  EXPECT_TRUE(many->program);
  EXPECT_EQ(many->words, (Words{"xargs", "-a", "jobs.txt", "-d", "\\n", "-P", "4", "-I{}", "tess",
                                "run", "--", "/bin/sh", "-c", "{}"}));
  EXPECT_TRUE(says(refusal("mosrun", {"-S", "jobs.txt"}), "-S8 FILE"));
  EXPECT_TRUE(says(refusal("mosrun", {"-S4", "jobs.txt,failed"}), "exit status"));
}

TEST(Ancestors, Migrate) {
  EXPECT_EQ(words("migrate", {"4711", "n2"}), (Words{"migrate", "4711", "n2"}));
  EXPECT_EQ(words("mosmigrate", {"4711", "home"}), (Words{"migrate", "4711", "home"}));
  EXPECT_EQ(words("migrate", {"4711", "out"}), (Words{"migrate", "4711", "n3"}));
  EXPECT_EQ(words("migrate", {"-j5e21", "10.0.0.2"}), (Words{"migrate", "--job", "5e21", "n2"}));
  EXPECT_EQ(words("migrate", {"4711", "freeze"}), (Words{"kill", "-s", "STOP", "4711"}));
  EXPECT_EQ(words("migrate", {"-j5e21", "continue"}),
            (Words{"kill", "-s", "CONT", "--job", "5e21"}));
  EXPECT_TRUE(says(refusal("migrate", {"4711", "chkexit"}), "no checkpoints"));
  EXPECT_TRUE(says(refusal("migrate", {"4711", "3"}), "names here"));
  EXPECT_TRUE(says(refusal("migrate", {"4711"}), "what is wanted"));
}

TEST(Ancestors, Mosctl) {
  EXPECT_EQ(words("mosctl", {"stay"}), (Words{"set", "balance", "off"}));
  EXPECT_EQ(words("mosctl", {"nostay"}), (Words{"set", "balance", "on"}));
  EXPECT_EQ(words("mosctl", {"bring"}), (Words{"bring-home"}));
  EXPECT_EQ(words("mosctl", {"expel"}), (Words{"migrate", "--all-from", "n1"}));
  EXPECT_EQ(words("mosctl", {"getload", "n2"}), (Words{"nodes", "--field", "load", "n2"}));
  EXPECT_EQ(words("mosctl", {"isup", "n2"}), (Words{"nodes", "--field", "state", "n2"}));
  for (const char* what :
       {"lstay", "nolstay", "block", "quiet", "setspeed", "setyard", "getdecay"}) {
    EXPECT_FALSE(says(refusal("mosctl", {what}), "no such command")) << what;
  }
  EXPECT_TRUE(says(refusal("mosctl", {"dance"}), "no such command"));
  EXPECT_FALSE(refusal("mosctl", {}).empty());
}

TEST(Ancestors, TheOtherNames) {
  EXPECT_EQ(words("mosmon", {}), (Words{"top"}));
  EXPECT_EQ(words("mps", {}), (Words{"ps"}));
  EXPECT_EQ(words("mosbestnode", {}), (Words{"best", "--first"}));
  EXPECT_EQ(words("showmap", {}), (Words{"nodes"}));
  EXPECT_EQ(words("runon", {"n2", "ls", "-l"}), (Words{"run", "--on=n2", "--", "ls", "-l"}));
  EXPECT_EQ(words("nomig", {"ls"}), (Words{"run", "--stay", "--", "ls"}));
  EXPECT_EQ(words("moskillall", {"-9", "-j5e21"}), (Words{"kill", "-s", "9", "--job", "5e21"}));
  EXPECT_TRUE(says(refusal("moskillall", {}), "name a job"));
  EXPECT_TRUE(says(refusal("mosps", {"-x"}), "tess ps --help"));
  EXPECT_TRUE(says(refusal("setpe", {"-w", "-f", "map"}), "find each other"));
  const auto native = translate_ancestor("mosnative", {"ls", "-l"}, some_cluster());
  ASSERT_TRUE(native);
  EXPECT_TRUE(native->program);
  EXPECT_EQ(native->words, (Words{"ls", "-l"}));
}

TEST(Ancestors, EveryNameStandsAnEmptyLine) {
  EXPECT_GT(ancestor_names().size(), 20U);
  for (const std::string& name : ancestor_names()) {
    EXPECT_TRUE(is_ancestor(name));
    const auto translated = translate_ancestor(name, {}, some_cluster());
    EXPECT_TRUE(!translated || !translated->words.empty()) << name;
  }
  EXPECT_FALSE(is_ancestor("tess"));
}

TEST(Ancestors, EveryNameIsInTheManPageAndInstalled) {
  const auto page = sys::read_file(TESS_SOURCE_DIR "/docs/man/tess-ancestors.7");
  const auto install = sys::read_file(TESS_SOURCE_DIR "/scripts/install");
  ASSERT_TRUE(page && install);
  const size_t begin = install->find("ancestors=(");
  std::string list = install->substr(begin, install->find(')', begin) - begin) + ' ';
  std::replace(list.begin(), list.end(), '\n', ' ');
  for (const std::string& name : ancestor_names()) {
    EXPECT_TRUE(says(*page, name)) << name;
    EXPECT_TRUE(says(list, "(" + name) || says(list, " " + name + " ")) << name;
  }
}

}  // namespace
}  // namespace tess::cli
