// docs/formats.md's worked examples, read from the page and compared with the code.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "formats/decode.h"
#include "formats/scale_layout.cuh"
#include "switchyard/weights.h"

namespace switchyard {
namespace {

constexpr std::int64_t kRows = 4, kCols = 32;

struct Example {
  std::map<std::string, std::vector<double>> numbers;      // rows concatenated
  std::map<std::string, std::vector<std::uint8_t>> bytes;  // scales, codes
};

/// The fenced block "```text NAME". Lines are a key, the row for all but single-row keys, values.
Example read_example(const std::string& name) {
  std::ifstream page(std::filesystem::path(SWITCHYARD_SOURCE_DIR) / "docs/formats.md");
  Example example;
  bool inside = false;
  for (std::string line; std::getline(page, line);) {
    if (line == "```text " + name) {
      inside = true;
    } else if (line == "```") {
      inside = false;
    } else if (inside) {
      std::istringstream words(line);
      std::string key, word;
      words >> key;
      if (key == "weights" || key == "scales" || key == "codes" || key == "values") words >> word;
      const bool hex = key == "scales" || key == "codes";
      while (words >> word) {
        if (hex) {
          example.bytes[key].push_back(static_cast<std::uint8_t>(std::stoul(word, nullptr, 16)));
        } else {
          example.numbers[key].push_back(std::stod(word));
        }
      }
    }
  }
  return example;
}

class FormatsPage : public testing::TestWithParam<const char*> {};

TEST_P(FormatsPage, ExampleIsWhatTheCodeMakes) {
  const Example example = read_example(GetParam());
  ASSERT_EQ(example.numbers.at("weights").size(), static_cast<std::size_t>(kRows * kCols));
  Tensor weights(DType::f32, {1, kRows, kCols});
  for (std::size_t i = 0; i < kRows * kCols; ++i)
    weights.as<float>()[i] = static_cast<float>(example.numbers.at("weights")[i]);
  const ExpertMatrix matrix = quantize(weights.view(), weight_format(GetParam()));

  const auto bytes_of = [](const Tensor& tensor) {
    const auto* data = tensor.as<std::uint8_t>();
    return std::vector<std::uint8_t>(data, data + tensor.bytes());
  };
  EXPECT_EQ(bytes_of(matrix.scales), example.bytes.at("scales"));
  EXPECT_EQ(bytes_of(matrix.elements), example.bytes.at("codes"));
  if (matrix.global_scale) {
    EXPECT_EQ(static_cast<double>(matrix.global_scale.as<float>()[0]),
              example.numbers.at("global_scale").at(0));
  }
  const std::vector<double>& values = example.numbers.at("values");
  ASSERT_EQ(values.size(), static_cast<std::size_t>(kRows * kCols));
  for (std::int64_t i = 0; i < kRows * kCols; ++i) {
    const double ours = formats::value(matrix, 0, i / kCols, i % kCols);
    const double theirs = values[static_cast<std::size_t>(i)];
    EXPECT_EQ(ours, theirs) << i;
    EXPECT_EQ(std::signbit(ours), std::signbit(theirs)) << i;
  }
}

TEST_P(FormatsPage, ScalesLieWhereItSays) {
  const Example example = read_example(GetParam());
  const std::int64_t cols = std::ssize(example.bytes.at("scales")) / kRows;
  std::vector<double> offsets_128x4, offsets_8x4;
  for (std::int64_t i = 0; i < kRows * cols; ++i) {
    offsets_128x4.push_back(static_cast<double>(formats::offset_128x4(i / cols, i % cols, cols)));
    offsets_8x4.push_back(static_cast<double>(formats::offset_8x4(i / cols, i % cols, cols)));
  }
  EXPECT_EQ(offsets_128x4, example.numbers.at("offsets_128x4"));
  EXPECT_EQ(offsets_8x4, example.numbers.at("offsets_8x4"));
}

INSTANTIATE_TEST_SUITE_P(Examples, FormatsPage, testing::Values("nvfp4", "mxfp4"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace switchyard
