#include "tune/buckets.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace switchyard::tune {
namespace {

TEST(Buckets, SmallBatchesThenTheListOfTheDenseGemm) {
  EXPECT_EQ(buckets(512), (std::vector<int>{1,  2,  4,  8,  16,  24,  32,  40,  48,  56,  64,
                                            72, 80, 88, 96, 104, 112, 120, 128, 256, 384, 512}));
  EXPECT_EQ(buckets(100).back(), 96);
  EXPECT_TRUE(buckets(0).empty());
}

TEST(Buckets, LargeBatchesGrowFaster) {
  const std::vector<int> all = buckets(16384);
  EXPECT_EQ(
      std::vector<int>(all.begin() + 21, all.end()),
      (std::vector<int>{512, 768, 1024, 1280, 1536, 1792, 2048, 2560, 3072, 3584, 4096, 8192}));
  EXPECT_EQ(buckets(2147483647).back(), 8192);
}

TEST(Buckets, EveryBatchHasTheBucketBelow) {
  const std::vector<int> all = buckets(10000);
  for (int tokens = 1; tokens <= 10000; ++tokens) {
    int below = 1;
    for (const int bucket : all)
      if (bucket <= tokens) below = bucket;
    ASSERT_EQ(bucket_of(tokens), below) << tokens;
  }
  EXPECT_EQ(bucket_of(0), 1);
  EXPECT_EQ(bucket_of(7), 4);
  EXPECT_EQ(bucket_of(383), 256);
  EXPECT_EQ(bucket_of(10000), 8192);
  EXPECT_EQ(bucket_of(2147483647), 8192);
}

TEST(Buckets, TheOneAbove) {
  for (const int tokens : {0, 1, 3, 8, 127, 128, 500, 4095, 5000}) {
    const std::vector<int> all = buckets(10 * tokens + 10);
    const auto next = std::upper_bound(all.begin(), all.end(), std::max(tokens, 1));
    EXPECT_EQ(bucket_above(tokens), *next) << tokens;
  }
  EXPECT_EQ(bucket_above(2147483647), 0);
}

TEST(Buckets, RanksAndLoadsShareAKey) {
  const auto key = [](std::string_view line) { return key_of(parse_problem(line)); };
  const std::string_view line = "moe t130 h2048 i768 e128 k8 nvfp4 swiglu topk_softmax";
  EXPECT_EQ(parse_problem(key(line)).tokens, 128);
  EXPECT_EQ(key(std::string(line) + " routing_load=zipf"), key(line));
  EXPECT_EQ(key(std::string(line) + " tp=3/8 ep=1/2"), key(std::string(line) + " tp=0/8 ep=0/2"));
  EXPECT_EQ(key(std::string(line) + " tp=0/8"),
            key("moe t130 h2048 i96 e128 k8 nvfp4 swiglu topk_softmax"));
  EXPECT_NE(key(std::string(line) + " ep=0/2"), key(line));
  EXPECT_EQ(key(std::string(line) + " scaling=2.5 limit=7"), key(line));
  EXPECT_NE(key(std::string(line) + " bias"), key(line));
  EXPECT_EQ(key(key(line)), key(line));
}

}  // namespace
}  // namespace switchyard::tune
