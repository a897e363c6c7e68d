#include "moe/gpu_picks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <set>

#include "moe/gpu_programs.h"
#include "switchyard/tuner.h"
#include "tests/jit/support.h"
#include "tune/buckets.h"

namespace switchyard::moe {
namespace {

constexpr const char* kLine = "moe t8 h2048 i768 e128 k8 nvfp4 act=bf16 swiglu softmax_renormalize";

std::vector<GpuExperts> candidates(const GpuShape& shape, int tokens) {
  std::vector<std::string> declined;
  return gpu_candidates(shape, tokens, h200(), declined);
}

/// The shapes of all presets that a GPU serves.
std::vector<GpuShape> preset_shapes() {
  std::vector<GpuShape> shapes;
  for (const std::string& name : preset_names()) {
    const MoeProblem problem = preset(name, 1);
    if (!gpu_declines(problem, 90)) shapes.push_back(gpu_shape(problem));
  }
  return shapes;
}

TEST(Tactic, TellsCandidatesApartAndLeadsBack) {
  for (const GpuShape& shape : preset_shapes())
    for (const int tokens : {1, 8, 9, 16, 17, 24, 33, 100, 128, 129, 300, 4096}) {
      std::set<std::string> tactics;
      for (const GpuExperts& experts : candidates(shape, tokens)) {
        EXPECT_TRUE(tactics.insert(tactic(experts)).second) << tactic(experts);
        tune::Table table(place_of(h200()), {});
        table.add({.place = table.place(),
                   .problem = *pick_key(shape, tokens),
                   .config = tactic(experts),
                   .costs = {tune::Cost{1, 0}, tune::Cost{1, 0}, tune::Cost{1, 0}}});
        const auto found = picked(table, shape, tokens, h200());
        ASSERT_TRUE(found);
        EXPECT_EQ(to_string(*found), to_string(experts));
      }
      EXPECT_GT(tactics.size(), 3U);
    }
}

class Picks : public testing::Test {
 protected:
  void add(int tokens, std::string config, tune::Place place = place_of(h200())) {
    table_.add({.place = std::move(place),
                .problem = *pick_key(shape_, tokens),
                .config = std::move(config),
                .costs = {tune::Cost{1, 0}, tune::Cost{1, 0}, tune::Cost{1, 0}}});
  }
  std::string variant(int tokens) const {
    const auto experts = picked(table_, shape_, tokens, h200());
    return experts ? to_string(*experts) : "";
  }

  const GpuShape shape_ = gpu_shape(parse_problem(kLine));
  tune::Table table_{place_of(h200()), {}};
};

TEST_F(Picks, ABatchIsPlannedLikeItsBucket) {
  EXPECT_EQ(variant(8), "");
  add(8, "fused block 8 depth 2 stages 4 ctas 2");
  EXPECT_EQ(variant(8), "fused tokens 8 block 8 depth 2 stages 4 ctas 2 routing");
  EXPECT_EQ(variant(15), "fused tokens 16 block 8 depth 2 stages 4 ctas 2 routing");
  EXPECT_EQ(variant(16), "");
  EXPECT_EQ(variant(7), "");
}

TEST_F(Picks, WhatABatchCannotHaveIsTheBucketAbovesToSay) {
  const std::string grouped = tactic(candidates(shape_, 256).front());
  const auto all = candidates(shape_, 128);
  const auto fused =
      std::find_if(all.begin(), all.end(), [](const GpuExperts& e) { return e.fused.has_value(); });
  ASSERT_NE(fused, all.end());
  add(128, tactic(*fused));
  add(256, grouped);
  EXPECT_THAT(variant(128), testing::HasSubstr("fused"));
  EXPECT_THAT(variant(129), testing::StartsWith(grouped));
  EXPECT_THAT(variant(300), testing::StartsWith(grouped));
}

TEST_F(Picks, OtherKernelsAreNotTrustedAndOtherVersionsAre) {
  tune::Place place = place_of(h200());
  place.kernels = "older";
  add(8, "fused block 8 depth 2 stages 4 ctas 2", place);
  EXPECT_EQ(variant(8), "");
  place = place_of(h200());
  place.versions["driver"] = "570";
  add(8, "fused block 8 depth 4 stages 3 ctas 2", place);
  EXPECT_THAT(variant(8), testing::HasSubstr("depth 4 stages 3"));
}

TEST_F(Picks, AConfigThatIsGoneIsTheCostModels) {
  add(8, "fused block 8 depth 7 stages 4 ctas 2");
  EXPECT_EQ(variant(8), "");
}

TEST(PickKey, ALayerHasTheKeyOfItsProblemLine) {
  for (const char* options : {"", " tp=3/4", " ep=1/8", " bias scaling=2", " shared=1536 tp=1/2"}) {
    const MoeProblem problem = parse_problem(std::string(kLine) + options);
    EXPECT_EQ(pick_key(gpu_shape(problem), 300), tune::key_of([&] {
                MoeProblem at = problem;
                at.tokens = 300;
                return at;
              }()))
        << options;
  }
  GpuShape uneven = gpu_shape(parse_problem(kLine));
  uneven.locals = 100;
  EXPECT_FALSE(pick_key(uneven, 8));
}

/// Environment variables for the time of a test.
class Environment {
 public:
  Environment(const char* name, const std::string& value) : name_(name) {
    setenv(name, value.c_str(), 1);
  }
  ~Environment() { unsetenv(name_); }

 private:
  const char* name_;
};

TEST(Place, CommentsDoNotCountAndCodeDoes) {
  namespace fs = std::filesystem;
  const jit::TemporaryFolder folder;
  for (const char* part : {"device", "ops", "formats"})
    fs::copy(fs::path(SWITCHYARD_SOURCE_DIR) / "src" / part, folder.path() / part,
             fs::copy_options::recursive);
  const std::string shipped = place_of(h200()).kernels;
  const Environment sources("SWITCHYARD_KERNEL_DIR", folder.path().string());
  EXPECT_EQ(place_of(h200()).kernels, shipped);
  const fs::path kernel = folder.path() / "ops/finalize/kernel.cuh";
  const std::string text = jit::slurp(kernel);
  jit::spill(kernel, "// A word more.\n\n" + text + "   // and at the end\n");
  EXPECT_EQ(place_of(h200()).kernels, shipped);
  jit::spill(kernel, text + "struct More {};\n");
  EXPECT_NE(place_of(h200()).kernels, shipped);
}

TEST(TunedPlan, TakesTheUsersPickAndSaysSo) {
  const jit::TemporaryFolder folder;
  const Environment cache("SWITCHYARD_CACHE_DIR", folder.path().string());
  const GpuShape shape = gpu_shape(parse_problem(kLine));
  const auto variant = [&] { return to_string(tuned_plan(shape, 40, h200()).experts); };
  const std::string before = variant(), other = to_string(candidates(shape, 40).back());
  ASSERT_NE(before, other);
  EXPECT_EQ(tuner::file(), folder.path() / "tuning.jsonl");
  tune::append(tuner::file(), {.place = place_of(h200()),
                               .problem = *pick_key(shape, 40),
                               .config = tactic(candidates(shape, 40).back()),
                               .costs = {tune::Cost{1, 0}, tune::Cost{1, 0}, tune::Cost{1, 0}}});
  EXPECT_EQ(variant(), other);
  EXPECT_THAT(tuned_plan(shape, 40, h200()).declined.back(), testing::HasSubstr("measured"));

  // A file that nobody can read is as none.
  std::filesystem::remove(tuner::file());
  std::filesystem::create_directory(tuner::file());
  EXPECT_EQ(variant(), before);
}

}  // namespace
}  // namespace switchyard::moe
