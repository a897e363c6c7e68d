// What the GPU's dense GEMMs serve, and how: no GPU needed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "formats/minifloat.cuh"
#include "moe/gpu_programs.h"
#include "ops/dense_moe/plan.h"
#include "ops/dense_moe/schedule.cuh"
#include "switchyard/dense.h"
#include "switchyard/error.h"

namespace switchyard::dense_moe {
namespace {

const cuda::DeviceInfo kH200 = moe::h200();

GpuProblem fc1(int tokens, int experts, int hidden, int intermediate, Out out = Out::fp4) {
  return {.phase = Phase::fc1,
          .tokens = tokens,
          .experts = experts,
          .hidden = hidden,
          .intermediate = intermediate,
          .out = out};
}
GpuProblem fc2(int tokens, int experts, int hidden, int intermediate) {
  return {.phase = Phase::fc2,
          .tokens = tokens,
          .experts = experts,
          .hidden = hidden,
          .intermediate = intermediate};
}

TEST(DensePlan, EveryLegalShapeHasTacticsThatFit) {
  for (const int tokens : {0, 1, 8, 9, 31, 127, 128, 129, 256, 4096})
    for (const int experts : {1, 3, 8, 257})
      for (const int size : {16, 80, 256, 7168})
        for (const GpuProblem& p :
             {fc1(tokens, experts, size, 80), fc2(tokens, experts, size, 48)}) {
          ASSERT_FALSE(declines(p, kH200));
          const std::vector<Tactic> all = tactics(p, kH200);
          ASSERT_FALSE(all.empty());
          std::set<std::string> names;
          for (const Tactic& t : all) {
            EXPECT_FALSE(declines(p, t, kH200)) << to_string(t);
            EXPECT_TRUE(names.insert(to_string(t)).second) << to_string(t);
            EXPECT_LE(t.config.smem_bytes() + 1024, (kH200.smem_per_block + 1024) / t.config.ctas);
            const Blocks blocks = blocks_of(tokens, t.config);
            EXPECT_EQ(blocks.rows % 8, 0);
            EXPECT_LE(blocks.rows, t.config.columns);
            EXPECT_GE(blocks.count * blocks.rows, tokens);
          }
        }
}

TEST(DensePlan, SaysWhyNotForProgramsAndPeople) {
  const auto reason = [](const GpuProblem& p, const cuda::DeviceInfo& device) {
    const auto decline = declines(p, device);
    EXPECT_TRUE(tactics(p, device).empty());
    return decline ? name(decline->reason) : "";
  };
  cuda::DeviceInfo older = kH200;
  older.sm = 80;
  EXPECT_EQ(reason(fc2(1, 1, 128, 64), older), "SM_UNSUPPORTED");
  EXPECT_EQ(reason(fc1(1, 1, 128, 72), kH200), "SHAPE_UNALIGNED");
  EXPECT_EQ(reason(fc2(1, 1, 120, 64), kH200), "SHAPE_UNALIGNED");
  GpuProblem quantised = fc2(1, 1, 128, 64);
  quantised.out = Out::fp4;
  EXPECT_EQ(reason(quantised, kH200), "DTYPE_UNSUPPORTED");
  EXPECT_EQ(reason(fc2(1 << 20, 4096, 128, 1024), kH200), "SHAPE_TOO_LARGE");
  EXPECT_NE(declines(fc1(1, 1, 128, 72), kH200)->text.find("i % 16 == 0, got i=72"),
            std::string::npos);
}

TEST(DensePlan, PartsOfASumAreWholeExperts) {
  const auto splits = [](const GpuProblem& p) {
    std::set<int> all;
    for (const Tactic& t : tactics(p, kH200)) all.insert(t.split);
    return all;
  };
  EXPECT_EQ(splits(fc2(32, 256, 7168, 256)), (std::set<int>{0, 1, 2, 4}));
  EXPECT_EQ(splits(fc2(32, 6, 7168, 256)), (std::set<int>{0, 1, 2}));
  EXPECT_EQ(splits(fc2(32, 5, 7168, 256)), (std::set<int>{0, 1}));
  EXPECT_EQ(splits(fc1(32, 256, 7168, 256)), (std::set<int>{1}));
  Tactic tactic = tactics(fc2(32, 6, 7168, 256), kH200).front();
  for (const int split : {3, 4, 8, -1}) {
    tactic.split = split;
    EXPECT_TRUE(declines(fc2(32, 6, 7168, 256), tactic, kH200)) << split;
  }
}

TEST(DensePlan, HasTacticsWithEitherOperandAsA) {
  for (const GpuProblem& p : {fc1(32, 8, 256, 256), fc2(32, 8, 256, 256)}) {
    std::set<bool> swaps;
    for (const Tactic& t : tactics(p, kH200)) swaps.insert(t.config.swap);
    EXPECT_EQ(swaps.size(), 2U);
  }
}

/// Every switch that the kernel is compiled for is in what names it.
TEST(DensePlan, AKernelsKeyHoldsEverySwitch) {
  const Config base = tactics(fc1(32, 8, 256, 256), kH200).front().config;
  std::vector<Config> others(11, base);
  others[0].phase = Phase::fc2, others[1].out = Out::f32, others[2].columns += 8;
  others[3].groups += 2, others[4].depth += 1, others[5].stages += 1, others[6].ctas += 1;
  others[7].cluster += 1, others[8].wide = !base.wide, others[9].swap = !base.swap;
  others[10].post = !base.post;
  std::set<std::string> instances = {program(base, 90).instance};
  for (const Config& c : others) instances.insert(program(c, 90).instance);
  EXPECT_EQ(instances.size(), others.size() + 1);
  EXPECT_EQ(program(base, 90).arch, "sm_90a");
}

TEST(DensePlan, AlphaIsAPowerOfTwoTimesARest) {
  for (const float alpha : {1.0F, -1.0F, 0.3F, 3e-9F, -7e12F, 1e-37F, 3e38F, 1e-44F}) {
    const AlphaParts parts = split_alpha(alpha);
    EXPECT_EQ(static_cast<double>(parts.power) * static_cast<double>(parts.rest),
              static_cast<double>(alpha));
    EXPECT_EQ(std::log2(parts.power), std::round(std::log2(parts.power)));
    if (std::abs(alpha) >= 0x1p-100F && std::abs(alpha) < 0x1p101F) {
      EXPECT_GE(std::abs(parts.rest), 1.0F);
      EXPECT_LT(std::abs(parts.rest), 2.0F);
    }
  }
  EXPECT_EQ(split_alpha(0).power, 0);
  EXPECT_EQ(split_alpha(-0.0F).rest, 1);
  EXPECT_TRUE(std::isnan(split_alpha(NAN).rest));
  EXPECT_TRUE(std::isinf(split_alpha(INFINITY).rest));
}

TEST(DensePublic, RefusesOtherOutputTypes) {
  dense::Problem p = {.phase = dense::Phase::fc2,
                      .tokens = 1,
                      .experts = 1,
                      .hidden = 64,
                      .intermediate = 64,
                      .out = DType::i32};
  EXPECT_THROW(dense::Gemm(p, {}), InvalidArgument);
  EXPECT_THROW(dense::tactics(p), InvalidArgument);
  EXPECT_THROW(dense::declines(p), InvalidArgument);
  p.out = DType::bf16;
  EXPECT_THROW(dense::Gemm(p, {}, Device::cpu()), InvalidArgument);
}

/// One CTA of a grid that there is not.
struct HostCta {
  static int grid, own;
  static int ctas() { return grid; }
  static int cta() { return own; }
};
int HostCta::grid = 0;
int HostCta::own = 0;

constexpr Config kAnyConfig = {.phase = Phase::fc2,
                               .out = Out::bf16,
                               .columns = 16,
                               .groups = 4,
                               .depth = 2,
                               .stages = 4,
                               .ctas = 1,
                               .cluster = 2,
                               .wide = true,
                               .swap = true,
                               .post = false};
constexpr Config with(Phase phase, int cluster) {
  Config c = kAnyConfig;
  c.phase = phase, c.cluster = cluster;
  return c;
}

/// Every unit of every tile is somebody's, once; one CTA finishes a tile, and the slots that it
/// adds are those of the others, in the order of units.
template <Config kConfig>
void expect_whole(const Args& args, int ctas) {
  struct Part {
    int begin, end, slot;
    bool finishes;
    int others;
  };
  std::map<std::tuple<int, int, int>, std::vector<Part>> tiles;  // expert, wide, block
  HostCta::grid = ctas;
  for (HostCta::own = 0; HostCta::own < ctas; ++HostCta::own) {
    Schedule<kConfig, HostCta> schedule(args);
    for (Segment s; schedule.take(s);)
      tiles[{s.expert, s.wide, s.block}].push_back({s.begin, s.end, s.slot, s.finishes, s.others});
  }
  const bool first = kConfig.phase == Phase::fc1;
  const int experts = args.experts_listed ? *args.experts_listed : args.experts;
  const int per_cluster = kConfig.row_tiles() * kConfig.cluster;
  const int wides = (args.row_tiles + per_cluster - 1) / per_cluster * kConfig.cluster;
  EXPECT_EQ(tiles.size(), static_cast<std::size_t>(wides * args.x.blocks * (first ? experts : 1)));
  std::set<int> handed_over;
  for (auto& [tile, parts] : tiles) {
    std::sort(parts.begin(), parts.end(),
              [](const Part& a, const Part& b) { return a.slot < b.slot; });
    ASSERT_EQ(parts.front().begin, 0);
    EXPECT_EQ(parts.back().end, first ? 1 : experts);
    EXPECT_EQ(parts.front().others, static_cast<int>(parts.size()) - 1);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      EXPECT_EQ(parts[i].finishes, i == 0);
      EXPECT_EQ(parts[i].slot, parts[0].slot + static_cast<int>(i) * kConfig.cluster);
      if (i > 0) {
        EXPECT_EQ(parts[i].begin, parts[i - 1].end);
        EXPECT_TRUE(handed_over.insert(parts[i].slot).second) << "a slot is used twice";
      }
    }
  }
}

TEST(DenseSchedule, GivesEveryUnitToOneCta) {
  const int listed[] = {3, 0, 2, 6}, none[] = {0};
  for (const int row_tiles : {1, 2, 3, 56})
    for (const int blocks : {1, 3})
      for (const int experts : {1, 7, 256})
        for (const int split : {0, 1, 2, 4})
          for (const int ctas : {2, 10, 132})
            for (const int* list : {static_cast<const int*>(nullptr), listed, none}) {
              if (list && experts < 7) continue;
              Args args = {};
              args.row_tiles = row_tiles, args.experts = experts, args.split = split;
              args.x.blocks = blocks, args.experts_listed = list;
              SCOPED_TRACE(::testing::Message()
                           << row_tiles << " row tiles, " << blocks << " blocks, " << experts
                           << " experts, split " << split << ", " << ctas << " CTAs");
              expect_whole<with(Phase::fc2, 1)>(args, ctas);
              expect_whole<with(Phase::fc2, 2)>(args, ctas);
              args.split = 1;
              if (list == none) continue;
              expect_whole<with(Phase::fc1, 1)>(args, ctas);
              expect_whole<with(Phase::fc1, 2)>(args, ctas);
            }
}

/// The reference systems' shape: as many tokens as a tile has, weights once.
TEST(DensePlan, ExpectsWhatMemoryAndTensorCoresAllow) {
  double before = 0;
  for (const int tokens : {1, 8, 16, 32, 64, 128, 256}) {
    const GpuProblem p = fc2(tokens, 256, 7168, 256);
    const Tactic best = tactics(p, kH200).front();
    const double us = expected_us(p, best, kH200);
    EXPECT_GT(us, 57) << to_string(best);  // 264 MB at 4.63 TB/s
    EXPECT_GE(us, before);
    EXPECT_EQ(best.split, 0);
    before = us;
  }
  EXPECT_LT(before, 500);
}

}  // namespace
}  // namespace switchyard::dense_moe
