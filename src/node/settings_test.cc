#include "node/settings.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "sys/files.h"

namespace tess::node {
namespace {

class SettingsTest : public ::testing::Test {
 protected:
  SettingsTest() { EXPECT_NE(::mkdtemp(dir_), nullptr); }
  ~SettingsTest() override { std::filesystem::remove_all(dir_); }
  std::string file() const { return std::string(dir_) + "/settings.json"; }

  char dir_[30] = "/tmp/tess-settings-XXXXXX";
};

TEST_F(SettingsTest, NothingIsSetAtFirst) {
  Settings settings(dir_);
  ASSERT_TRUE(settings.load());
  EXPECT_FALSE(settings.balance());
  EXPECT_EQ(settings.policy().residency, placement::Policy().residency);
  EXPECT_GT(settings.numbers().size(), 10U);
  EXPECT_TRUE(settings.chosen().empty());
}

TEST_F(SettingsTest, WhatIsSetHoldsForTheNextOne) {
  {
    Settings settings(dir_);
    ASSERT_TRUE(settings.set("residency", "7.5"));
    ASSERT_TRUE(settings.set("balance", "off"));
    EXPECT_EQ(settings.policy().residency, std::chrono::milliseconds(7500));
  }
  Settings settings(dir_);
  ASSERT_TRUE(settings.load());
  EXPECT_EQ(settings.policy().residency, std::chrono::milliseconds(7500));
  EXPECT_EQ(settings.numbers().at("residency"), 7.5);
  EXPECT_EQ(settings.balance(), false);
  ASSERT_TRUE(settings.set("residency", "default"));
  ASSERT_TRUE(settings.set("balance", "default"));
  EXPECT_FALSE(settings.balance());
  Settings third(dir_);
  ASSERT_TRUE(third.load());
  EXPECT_TRUE(third.chosen().empty());
}

TEST_F(SettingsTest, NonsenseIsRefusedAndChangesNothing) {
  Settings settings(dir_);
  ASSERT_TRUE(settings.set("hysteresis", "0.5"));
  const std::pair<const char*, const char*> bad[] = {
      {"hysteresis", "2"},    {"hysteresis", "-1"}, {"hysteresis", "x"}, {"hysteresis", "nan"},
      {"hysteresis", "0.1x"}, {"hysteresis", ""},   {"colour", "1"},     {"colour", "default"},
      {"balance", "maybe"},   {"balance", "1"}};
  for (const auto& [name, value] : bad) {
    const auto set = settings.set(name, value);
    ASSERT_FALSE(set) << name << "=" << value;
    EXPECT_EQ(set.error().kind(), ErrorKind::kBadInput);
  }
  EXPECT_EQ(settings.policy().hysteresis, 0.5);
}

TEST_F(SettingsTest, AFileThatMakesNoSenseIsToldOfAndKept) {
  for (const char* text : {"", "{", "[1]", R"({"hysteresis": 1})", R"({"hysteresis": "9"})",
                           R"({"balance": "off", "colour": "red"})"}) {
    ASSERT_TRUE(sys::write_file(file(), text));
    Settings settings(dir_);
    const auto loaded = settings.load();
    ASSERT_FALSE(loaded) << text;
    EXPECT_NE(loaded.error().message().find("settings.json"), std::string::npos);
    EXPECT_TRUE(settings.chosen().empty());
    EXPECT_EQ(*sys::read_file(file()), text);
  }
}

TEST_F(SettingsTest, WithoutADiskNothingIsSet) {
  Settings settings(std::string(dir_) + "/missing");
  EXPECT_TRUE(settings.load());
  const auto set = settings.set("hysteresis", "0.5");
  ASSERT_FALSE(set);
  EXPECT_NE(set.error().kind(), ErrorKind::kBadInput);
  EXPECT_EQ(settings.policy().hysteresis, placement::Policy().hysteresis);
}

}  // namespace
}  // namespace tess::node
