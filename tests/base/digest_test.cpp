#include "base/digest.h"

#include <gtest/gtest.h>

#include <vector>

namespace switchyard {
namespace {

Digest of(std::vector<std::string_view> parts) {
  return digest(parts);
}

TEST(Digest, TellsSequencesApart) {
  EXPECT_EQ(of({"ab", "c"}), of({"ab", "c"}));
  EXPECT_NE(of({"ab", "c"}), of({"a", "bc"}));
  EXPECT_NE(of({"ab"}), of({"ab", ""}));
  EXPECT_NE(of({"a", "b"}), of({"b", "a"}));
  EXPECT_NE(of({}), of({""}));
}

TEST(Digest, IsStableAcrossBuilds) {
  EXPECT_EQ(to_string(of({})), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(to_string(Digest{.high = 1, .low = 2}).size(), 32U);
}

}  // namespace
}  // namespace switchyard
