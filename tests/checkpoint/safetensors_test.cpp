#include "checkpoint/safetensors.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "switchyard/checkpoint.h"
#include "tests/checkpoint/files.h"

namespace switchyard::checkpoint {
namespace {

using switchyard::testing::complaint;
using switchyard::testing::TemporaryDirectory;
using switchyard::testing::write_file;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

Header parse(std::string json, std::int64_t data_bytes) {
  const std::size_t size = json.size();
  json.append(kJsonPadding, '\0');
  return parse_header(std::string_view(json).substr(0, size), data_bytes, "a.safetensors");
}

TEST(Safetensors, ReadsNamesTypesShapesAndPlaces) {
  const std::string json =
      R"({"__metadata__":{"format":"pt"},"a\u0062":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},)"
      R"("s":{"data_offsets":[12,16],"shape":[],"dtype":"F32"},)"
      R"("f4":{"dtype":"F4","shape":[4],"data_offsets":[16,18]},"e":{"dtype":"U16","shape":[0],"data_offsets":[18,18]}}   )";
  const Header header = parse(json, 18);
  ASSERT_EQ(header.tensors.size(), 4U);
  EXPECT_EQ(header.tensors[0].name, "ab");
  EXPECT_EQ(header.tensors[0].type, StoredType::BF16);
  EXPECT_EQ(header.tensors[0].shape, (Shape{2, 3}));
  EXPECT_EQ(header.tensors[1].begin, 8 + static_cast<std::int64_t>(json.size()) + 12);
  EXPECT_EQ(header.tensors[1].shape, Shape{});
  EXPECT_EQ(header.tensors[2].bytes, 2);
  EXPECT_EQ(header.metadata.at("format"), "pt");
}

struct Lie {
  std::string_view name, json, complaint;
};

class LyingHeader : public ::testing::TestWithParam<Lie> {};

TEST_P(LyingHeader, IsRefusedWithASentence) {
  const std::string text = complaint([] { parse(std::string(GetParam().json), 8); });
  EXPECT_THAT(text, AllOf(StartsWith("[checkpoint] a.safetensors: "),
                          HasSubstr(std::string(GetParam().complaint))));
}

// Every header below claims to describe 8 bytes of data.
INSTANTIATE_TEST_SUITE_P(
    All, LyingHeader,
    ::testing::Values(
        Lie{"empty", "", "expected a JSON object"}, Lie{"array", "[]", "expected a JSON object"},
        Lie{"truncated", R"({"a":{"dtype":"F32","shape":[2],"data_off)", "in JSON"},
        Lie{"trailing", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}x)", "in JSON"},
        Lie{"not_utf8", "{\"a\xff\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
            "in JSON"},
        Lie{"not_an_object", R"({"a":7})", "in JSON"},
        Lie{"dtype", R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})",
            "tensor 'a': expected a dtype of the safetensors format, got 'F31'"},
        Lie{"missing_shape", R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", "got fewer"},
        Lie{"negative_extent", R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})",
            "expected counts in shape"},
        Lie{"fraction", R"({"a":{"dtype":"F32","shape":[2.5],"data_offsets":[0,8]}})",
            "expected counts in shape"},
        Lie{"rank", R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,2],"data_offsets":[0,8]}})",
            "at most 6 extents"},
        Lie{"overflow",
            R"({"a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,8]}})",
            "at most 2^50 elements"},
        Lie{"backwards", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})",
            "expected begin <= end in data_offsets, got [8, 0]"},
        Lie{"outside", R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}})",
            "inside the file's 8 bytes of data, got [0, 12]"},
        Lie{"size", R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})",
            "expected 12 bytes for F32 [3], got data_offsets of 8"},
        Lie{"half_byte", R"({"a":{"dtype":"F4","shape":[15],"data_offsets":[0,8]}})",
            "expected 8 bytes for F4 [15]"},
        Lie{"three_offsets", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]}})",
            "expected 2 data_offsets, got 3"},
        Lie{"twice",
            R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
            "tensor 'a': appears twice"},
        Lie{"overlap",
            R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
            "tensor 'b': expected no overlap, got data_offsets from 4 inside 'a'"},
        Lie{"hole", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", "hole"},
        Lie{"tail", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
            "expected the tensors to cover 8 bytes of data, got 4"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(Safetensors, RefusesTruncatedFiles) {
  const TemporaryDirectory directory;
  const std::filesystem::path file = directory / "t.safetensors";
  const std::string json = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  const std::uint64_t length = json.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  bytes += json + std::string(8, 'x');
  for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
    write_file(file, std::string_view(bytes).substr(0, cut));
    EXPECT_THAT(complaint([&] { read_header(file); }), StartsWith("[checkpoint] t.safetensors: "))
        << cut;
  }
  write_file(file, bytes);
  EXPECT_EQ(read_header(file).tensors.size(), 1U);
  const std::uint64_t huge = ~std::uint64_t{0};
  std::memcpy(bytes.data(), &huge, 8);
  write_file(file, bytes);
  EXPECT_THAT(complaint([&] { read_header(file); }), HasSubstr("header of at most 100000000"));
  EXPECT_THAT(complaint([&] { read_header(directory / "none"); }), HasSubstr("no such file"));
  EXPECT_THAT(complaint([&] { read_header(directory.path()); }), HasSubstr("regular file"));
}

TEST(Safetensors, WhatIsWrittenIsRead) {
  const TemporaryDirectory directory;
  const std::filesystem::path file = directory / "w.safetensors";
  TensorFile out;
  out.metadata["made by"] = "a \"test\"";
  for (int i = 0; i <= static_cast<int>(DType::boolean); ++i) {
    const auto type = static_cast<DType>(i);
    if (type == DType::u4) continue;
    Tensor tensor = Tensor::zeros(type, {3, 2});
    for (std::int64_t b = 0; b < tensor.bytes(); ++b)
      tensor.as<std::uint8_t>()[b] = static_cast<std::uint8_t>(i + b);
    out.tensors.emplace(name(type), std::move(tensor));
  }
  out.tensors.emplace("empty", Tensor(DType::f32, {0, 7}));
  write_tensors(file, out);
  const TensorFile in = read_tensors(file);
  EXPECT_EQ(in.metadata, out.metadata);
  ASSERT_EQ(in.tensors.size(), out.tensors.size());
  for (const auto& [name, tensor] : out.tensors) {
    const Tensor& read = in.tensors.at(name);
    EXPECT_EQ(read.dtype(), tensor.dtype()) << name;
    EXPECT_EQ(read.shape(), tensor.shape()) << name;
    EXPECT_EQ(std::memcmp(read.data(), tensor.data(), static_cast<std::size_t>(tensor.bytes())), 0)
        << name;
  }
  int files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory.path()))
    ++files;
  EXPECT_EQ(files, 1) << "a temporary file was left behind";
}

}  // namespace
}  // namespace switchyard::checkpoint
