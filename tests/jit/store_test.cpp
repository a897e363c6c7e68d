#include "jit/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/jit/support.h"

namespace switchyard::jit {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class StoreTest : public testing::Test {
 protected:
  void SetUp() override { store_.write(kKey, program_, made_up(program_, "13.0")); }

  fs::path entry() const { return folder_.path() / to_string(kKey) / "nvrtc-13.0"; }

  /// The damaged entry is not served, with one line; the next write heals it.
  void expect_rebuilt(std::string_view reason) {
    EXPECT_FALSE(store_.read(kKey, program_, "13.0"));
    ASSERT_EQ(lines_.get().size(), 1U);
    EXPECT_THAT(lines_.get()[0], HasSubstr("damaged cache entry"));
    EXPECT_THAT(lines_.get()[0], HasSubstr(std::string(reason)));
    store_.write(kKey, program_, made_up(program_, "13.0"));
    const std::optional<Binary> healed = store_.read(kKey, program_, "13.0");
    ASSERT_TRUE(healed);
    EXPECT_EQ(healed->cubin, made_up(program_, "13.0").cubin);
    EXPECT_EQ(lines_.get().size(), 1U);
  }

  static constexpr Digest kKey = {.high = 7, .low = 9};
  const Program program_ = scale_program();
  TemporaryFolder folder_;
  Lines lines_;
  Store store_{folder_.path(), lines_.log()};
};

TEST_F(StoreTest, TruncatedCubin) {
  fs::resize_file(entry() / "kernel.cubin", 10);
  expect_rebuilt("digest");
}

TEST_F(StoreTest, OneFlippedBit) {
  std::string bytes = slurp(entry() / "kernel.cubin");
  bytes[5] = static_cast<char>(bytes[5] ^ 1);
  spill(entry() / "kernel.cubin", bytes);
  expect_rebuilt("digest");
}

TEST_F(StoreTest, MissingCubin) {
  fs::remove(entry() / "kernel.cubin");
  expect_rebuilt("kernel.cubin is missing");
}

TEST_F(StoreTest, EveryTruncationOfTheEntry) {
  const std::string whole = slurp(entry() / "entry.json");
  for (std::size_t size = 0; size + 2 < whole.size(); size += 7) {
    spill(entry() / "entry.json", whole.substr(0, size));
    EXPECT_FALSE(store_.read(kKey, program_, "13.0")) << size;
  }
}

TEST_F(StoreTest, AlteredEntry) {
  std::string text = slurp(entry() / "entry.json");
  text.replace(text.find("42"), 2, "43");
  spill(entry() / "entry.json", text);
  expect_rebuilt("digest");
}

TEST_F(StoreTest, OtherTypesInTheEntry) {
  spill(entry() / "entry.json", R"({"digest": 1, "entry": {"format": 1, "file": 3}})");
  expect_rebuilt("type");
}

TEST_F(StoreTest, AnIntactEntryIsNotReplaced) {
  Binary late = made_up(program_, "13.0");
  late.cubin += ", compiled by a process that came second";
  store_.write(kKey, program_, late);
  EXPECT_EQ(store_.read(kKey, program_, "13.0")->cubin, made_up(program_, "13.0").cubin);
  EXPECT_EQ(lines_.get().size(), 0U);
}

TEST_F(StoreTest, AnEntryOfAnotherArchitecture) {
  const Program other = scale_program(256, "sm_100a");
  store_.write(kKey, other, made_up(other, "13.0"));
  expect_rebuilt("for sm_100a");
}

TEST_F(StoreTest, AFileWhereTheEntryBelongs) {
  fs::remove_all(entry());
  spill(entry(), "not a folder");
  expect_rebuilt("entry.json is missing");
}

TEST_F(StoreTest, ListsWhatIsIntact) {
  const Program other = scale_program(512);
  store_.write({.high = 1, .low = 1}, other, made_up(other, "13.0"));
  store_.write({.high = 2, .low = 2}, other, made_up(other, "12.9"));
  fs::resize_file(folder_.path() / to_string(Digest{2, 2}) / "nvrtc-12.9" / "kernel.cubin", 1);
  fs::create_directories(folder_.path() / ".aside-1-0");
  const std::vector<StoredKernel> all = store_.list();
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].program, program_);
  EXPECT_EQ(all[1].program, other);
  EXPECT_EQ(all[1].compiler, "13.0");
  EXPECT_EQ(all[1].resources.registers, 42);
  EXPECT_GT(all[1].bytes, 0);
  EXPECT_GE(all[1].age.count(), 0);
  EXPECT_LT(all[1].age.count(), 60);
}

TEST_F(StoreTest, ClearRemovesEntriesAndLeftovers) {
  fs::create_directories(folder_.path() / ".aside-1-0");
  EXPECT_EQ(store_.clear(), 1U);
  EXPECT_TRUE(fs::is_empty(folder_.path()));
  EXPECT_FALSE(store_.read(kKey, program_, "13.0"));
  EXPECT_EQ(store_.clear(), 0U);
  EXPECT_TRUE(Store("/nonexistent", lines_.log()).list().empty());
  EXPECT_EQ(lines_.get().size(), 0U);
}

}  // namespace
}  // namespace switchyard::jit
