#include "checkpoint/safetensors.h"

#include <simdjson.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "base/check.h"
#include "base/file.h"

namespace switchyard::checkpoint {
namespace {

namespace od = simdjson::ondemand;

static_assert(kJsonPadding >= simdjson::SIMDJSON_PADDING);
constexpr std::int64_t kLengthBytes = 8;  // the header's length, u64 little-endian
constexpr std::int64_t kMaxElements = std::int64_t{1} << 50;

/// What the format says about one tensor, before it is believed.
struct Claim {
  std::string_view dtype;
  std::array<std::int64_t, Shape::kMaxRank> extents{};
  std::size_t rank = 0;
  std::int64_t begin = 0, end = 0;
  bool has_dtype = false, has_shape = false, has_offsets = false;
};

class HeaderParser {
 public:
  HeaderParser(std::string_view file, std::int64_t data_bytes)
      : file_(file), data_bytes_(data_bytes), parser_(std::make_shared<od::parser>()) {}

  Header parse(std::string_view text) {
    check(
        !text.empty() && text.front() == '{',
        "header: expected a JSON object, got another first byte. The file is no safetensors file");
    data_begin_ = kLengthBytes + static_cast<std::int64_t>(text.size());
    od::document document;
    json(parser_->iterate(text.data(), text.size(), text.size() + kJsonPadding).get(document));
    od::object root;
    json(document.get_object().get(root));
    Header header;
    for (auto field : root) {
      std::string_view name;
      json(field.unescaped_key().get(name));
      od::object value;
      json(field.value().get_object().get(value));
      if (name == "__metadata__")
        read_metadata(value, header);
      else
        header.tensors.push_back(believe(name, read_claim(name, value)));
    }
    // Nothing but white space may follow: then there is no current location.
    const bool at_end = document.current_location().error() == simdjson::OUT_OF_BOUNDS;
    json(at_end ? simdjson::SUCCESS : simdjson::TAPE_ERROR);
    check_names(header);
    check_coverage(header);
    header.names = parser_;
    return header;
  }

 private:
  template <class... Args>
  void check(bool ok, std::string_view text, Args&&... args) const {
    if (ok) return;
    throw InvalidArgument(
        fmt::format("[checkpoint] {}: {}.", file_,
                    fmt::vformat(text, fmt::make_format_args(std::forward<Args>(args)...))));
  }

  void json(simdjson::error_code error) const {
    check(error == simdjson::SUCCESS,
          "header: expected {{\"name\": {{dtype, shape, data_offsets}}, ...}} in JSON, got: {} The "
          "file is damaged or no safetensors file",
          simdjson::error_message(error));
  }

  void read_metadata(od::object& object, Header& header) const {
    check(header.metadata.empty(), "header: '__metadata__' appears twice. The file is damaged");
    for (auto field : object) {
      std::string_view key, value;
      json(field.unescaped_key().get(key));
      std::string name(key);
      json(field.value().get_string().get(value));
      header.metadata[std::move(name)] = value;
    }
  }

  std::int64_t count(std::string_view tensor, std::string_view what,
                     simdjson::simdjson_result<od::value> value) const {
    std::int64_t number = 0;
    check(value.get_int64().get(number) == simdjson::SUCCESS && number >= 0,
          "tensor '{}': expected counts in {}, got something else. The file is damaged", tensor,
          what);
    return number;
  }

  Claim read_claim(std::string_view tensor, od::object& object) const {
    Claim claim;
    for (auto field : object) {
      std::string_view key;
      json(field.unescaped_key().get(key));
      if (key == "dtype") {
        check(!std::exchange(claim.has_dtype, true), "tensor '{}': dtype appears twice", tensor);
        json(field.value().get_string().get(claim.dtype));
      } else if (key == "shape") {
        check(!std::exchange(claim.has_shape, true), "tensor '{}': shape appears twice", tensor);
        od::array extents;
        json(field.value().get_array().get(extents));
        for (auto extent : extents) {
          check(claim.rank < claim.extents.size(), "tensor '{}': expected at most {} extents",
                tensor, claim.extents.size());
          claim.extents[claim.rank++] = count(tensor, "shape", extent);
        }
      } else if (key == "data_offsets") {
        check(!std::exchange(claim.has_offsets, true), "tensor '{}': data_offsets appear twice",
              tensor);
        read_offsets(tensor, field.value(), claim);
      }
    }
    check(claim.has_dtype && claim.has_shape && claim.has_offsets,
          "tensor '{}': expected dtype, shape and data_offsets, got fewer. The file is damaged",
          tensor);
    return claim;
  }

  void read_offsets(std::string_view tensor, simdjson::simdjson_result<od::value> value,
                    Claim& claim) const {
    od::array offsets;
    json(value.get_array().get(offsets));
    int read = 0;
    for (auto offset : offsets) {
      const std::int64_t number = count(tensor, "data_offsets", offset);
      if (read == 0) claim.begin = number;
      if (read == 1) claim.end = number;
      ++read;
    }
    check(read == 2, "tensor '{}': expected 2 data_offsets, got {}. The file is damaged", tensor,
          read);
  }

  StoredTensor believe(std::string_view tensor, const Claim& claim) const {
    const std::optional<StoredType> type = stored_type_named(claim.dtype);
    check(type.has_value(),
          "tensor '{}': expected a dtype of the safetensors format, got '{}'. Update Switchyard or "
          "convert the file",
          tensor, claim.dtype);
    check(claim.begin <= claim.end,
          "tensor '{}': expected begin <= end in data_offsets, got [{}, {}]. The file is damaged",
          tensor, claim.begin, claim.end);
    check(
        claim.end <= data_bytes_,
        "tensor '{}': expected data_offsets inside the file's {} bytes of data, got [{}, {}]. The "
        "file was cut short: download it again",
        tensor, data_bytes_, claim.begin, claim.end);
    std::int64_t elements = 1;
    for (std::size_t axis = 0; axis < claim.rank; ++axis) {
      const std::int64_t extent = claim.extents[axis];
      check(extent == 0 || elements <= kMaxElements / extent,
            "tensor '{}': expected a shape of at most 2^50 elements, got more. The file is damaged",
            tensor);
      elements *= extent;
    }
    const Shape shape(std::span(claim.extents).first(claim.rank));
    const std::int64_t width = elements * bits(*type), bytes = claim.end - claim.begin;
    if (width % 8 != 0 || width / 8 != bytes)
      check(false,
            "tensor '{}': expected {} bytes for {} {}, got data_offsets of {}. The file is damaged",
            tensor, (width + 7) / 8, claim.dtype, to_string(shape), bytes);
    return {tensor, *type, shape, data_begin_ + claim.begin, bytes};
  }

  /// No name twice. Sorting hashes costs a tenth of sorting names with long common beginnings.
  void check_names(const Header& header) const {
    struct Hashed {
      std::size_t hash, index;
    };
    std::vector<Hashed> all;
    all.reserve(header.tensors.size());
    for (std::size_t i = 0; i < header.tensors.size(); ++i)
      all.push_back({std::hash<std::string_view>{}(header.tensors[i].name), i});
    std::sort(all.begin(), all.end(),
              [](const Hashed& a, const Hashed& b) { return a.hash < b.hash; });
    for (std::size_t i = 1; i < all.size(); ++i)
      for (std::size_t j = i; j-- > 0 && all[j].hash == all[i].hash;)
        check(header.tensors[all[i].index].name != header.tensors[all[j].index].name,
              "tensor '{}': appears twice. The file is damaged", header.tensors[all[i].index].name);
  }

  /// The format lets tensors neither overlap nor leave bytes between them.
  void check_coverage(const Header& header) const {
    std::vector<const StoredTensor*> all;
    all.reserve(header.tensors.size());
    for (const StoredTensor& tensor : header.tensors) all.push_back(&tensor);
    const auto by_place = [](const StoredTensor* a, const StoredTensor* b) {
      return a->begin != b->begin ? a->begin < b->begin : a->bytes < b->bytes;
    };
    if (!std::is_sorted(all.begin(), all.end(), by_place))
      std::sort(all.begin(), all.end(), by_place);
    std::int64_t end = data_begin_;
    std::string_view before = "the header";
    for (const StoredTensor* tensor : all) {
      check(tensor->begin >= end,
            "tensor '{}': expected no overlap, got data_offsets from {} inside '{}', which ends at "
            "{}. The file is damaged",
            tensor->name, tensor->begin - data_begin_, before, end - data_begin_);
      check(tensor->begin == end,
            "tensor '{}': expected data_offsets from {}, where '{}' ends, got {}. The file has a "
            "hole, which the format forbids",
            tensor->name, end - data_begin_, before, tensor->begin - data_begin_);
      end = tensor->begin + tensor->bytes;
      before = tensor->name;
    }
    check(end == data_begin_ + data_bytes_,
          "expected the tensors to cover {} bytes of data, got {}. The file is damaged",
          data_bytes_, end - data_begin_);
  }

  std::string_view file_;
  std::int64_t data_bytes_, data_begin_ = 0;
  std::shared_ptr<od::parser> parser_;
};

}  // namespace

Header parse_header(std::string_view text, std::int64_t data_bytes, std::string_view file) {
  return HeaderParser(file, data_bytes).parse(text);
}

Header read_header(const std::filesystem::path& file) {
  const std::string where = file.filename().string();
  const std::int64_t size = size_of_file(file);
  require(size >= kLengthBytes,
          "[checkpoint] {}: expected at least 8 bytes, got {}. The file is no safetensors file.",
          where, size);
  std::uint64_t length = 0;
  read_bytes(file, 0, std::as_writable_bytes(std::span(&length, 1)));
  require(length <= static_cast<std::uint64_t>(kMaxHeaderBytes),
          "[checkpoint] {}: expected a header of at most {} bytes, got {}. The file is damaged or "
          "no safetensors file.",
          where, kMaxHeaderBytes, length);
  const auto bytes = static_cast<std::int64_t>(length);
  require(bytes <= size - kLengthBytes,
          "[checkpoint] {}: expected the header's {} bytes inside the file's {}. The file was cut "
          "short: download it again.",
          where, bytes, size);
  std::string text(length + kJsonPadding, '\0');
  read_bytes(file, kLengthBytes, std::as_writable_bytes(std::span(text)).first(length));
  return parse_header(std::string_view(text).substr(0, length), size - kLengthBytes - bytes, where);
}

}  // namespace switchyard::checkpoint
