#include "checkpoint/matrix_load.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/check.h"
#include "base/math.h"
#include "checkpoint/cells.h"
#include "checkpoint/int4.h"
#include "formats/convert.h"

namespace switchyard::checkpoint {

void MatrixReader::read_zeros() {
  const StoredMatrix& m = first();
  const bool all = m.groups || m.scale_cols == 0;
  const std::int64_t stored_groups = m.scale_cols == 0 ? 1 : m.in / m.scale_cols;
  const std::int64_t col = all ? 0 : s_.col / m.scale_cols;
  const std::int64_t groups = all ? stored_groups : ceil_div(s_.cols, m.scale_cols);
  const bool awq = m.scheme->encoding == Encoding::awq;
  const int plus = m.scheme->encoding == Encoding::gptq && !p_.gptq_v2 ? 1 : 0;
  to_.zeros = Tensor(DType::u8, {s_.experts, out_, groups});
  for (std::int64_t part = 0; part < parts_; ++part)
    for (std::int64_t e = 0; e < s_.experts; ++e) {
      const StoredMatrix& pm = part_rows(part).matrix;
      const Grid grid{pm.zeros, pm.holder, pm.columns, pm.out / 8, stored_groups, 4};
      const Rectangle words = rectangle(part, e, 8, col, groups);
      auto* const base = to_.zeros.as<std::uint8_t>() + (e * out_ + part * s_.rows) * groups;
      auto raw = std::make_shared<std::vector<std::uint32_t>>(
          static_cast<std::size_t>(words.rows * groups));
      read_cells(reads_, grid, words, reinterpret_cast<std::byte*>(raw->data()), groups * 4);
      reads_.finally([=] {
        const auto order = awq ? int4::Order::awq : int4::Order::ascending;
        for (std::int64_t i = 0; i < words.rows * 8; ++i)
          for (std::int64_t g = 0; g < groups; ++g)
            base[i * groups + g] =
                int4::nibble((*raw)[static_cast<std::size_t>(i / 8 * groups + g)],
                             static_cast<int>(i % 8), order, plus);
      });
    }
  if (!to_.format.zero_points) reads_.finally([this] { drop_symmetric_zeros(); });
}

void MatrixReader::drop_symmetric_zeros() {
  const auto* const begin = to_.zeros.as<std::uint8_t>();
  const auto* const end = begin + to_.zeros.shape().elements();
  require(std::all_of(begin, end, [](std::uint8_t zero) { return zero == 8; }),
          "[checkpoint] {}*.qzeros: expected zero points of 8, as \"sym\": true in config.json "
          "promises, got others. Set it to false.",
          p_.layer->prefix);
  to_.zeros = Tensor();
}

void MatrixReader::read_agreeing(const Leaf* StoredMatrix::*which, DType dtype, Tensor& to) {
  to = Tensor(dtype, {s_.experts, s_.cols});
  const std::int64_t bytes = bits((first().*which)->type) / 8;
  const DType stored = *dtype_of((first().*which)->type);
  for (std::int64_t part = 0; part < parts_; ++part)
    for (std::int64_t e = 0; e < s_.experts; ++e) {
      const StoredMatrix& m = part_rows(part).matrix;
      auto raw =
          std::make_shared<std::vector<std::byte>>(static_cast<std::size_t>(s_.cols * bytes));
      const Grid grid{m.*which, m.holder, false, 1, m.in, bytes};
      read_cells(reads_, grid, {.expert = s_.expert + e, .rows = 1, .col = s_.col, .cols = s_.cols},
                 raw->data(), s_.cols * bytes);
      reads_.finally([=, this, &to] {
        Tensor values(dtype, {s_.cols});
        if (dtype == DType::f32)
          formats::load_run<float>(stored, raw->data(), 0, s_.cols, values.as<float>());
        else
          std::memcpy(values.data(), raw->data(), raw->size());
        std::byte* const row = to.as<std::byte>() + e * s_.cols * 4;
        if (part == 0) std::memcpy(row, values.data(), static_cast<std::size_t>(s_.cols * 4));
        if (std::memcmp(row, values.data(), static_cast<std::size_t>(s_.cols * 4)) != 0)
          throw Unsupported(fmt::format(
              "[checkpoint] tensor '{}': expected the values of gate, got others for up of the "
              "same expert. They read one input: quantise them together.",
              p_.layer->full_name((m.*which)->name, (m.*which)->per_expert,
                                  static_cast<int>(s_.expert + e))));
      });
    }
}

void MatrixReader::read_groups() {
  read_agreeing(&StoredMatrix::groups, DType::i32, to_.group_of_column);
  reads_.finally([this] {
    const StoredMatrix& m = first();
    const std::int64_t width = m.scale_cols > 0 ? m.scale_cols : m.in;
    bool ascend = s_.cols == m.in;
    for (std::int64_t i = 0; i < to_.group_of_column.shape().elements(); ++i) {
      const std::int64_t group = to_.group_of_column.as<std::int32_t>()[i];
      if (group < 0 || group >= m.in / width)
        require(false,
                "[checkpoint] tensor '{}': expected groups below {}, got {}. The checkpoint is "
                "damaged.",
                p_.layer->full_name(m.groups->name, m.groups->per_expert, 0), m.in / width, group);
      ascend = ascend && group == i % s_.cols / width;
    }
    if (ascend) to_.group_of_column = Tensor();
  });
}

void MatrixReader::read_bias() {
  to_.bias = Tensor(DType::f32, {s_.experts, out_});
  for (std::int64_t part = 0; part < parts_; ++part)
    for (std::int64_t e = 0; e < s_.experts; ++e) {
      const Leaf& leaf = *p_.bias[part];
      const StoredMatrix& m = part_rows(part).matrix;
      const std::int64_t bytes = bits(leaf.type) / 8;
      auto raw =
          std::make_shared<std::vector<std::byte>>(static_cast<std::size_t>(s_.rows * bytes));
      read_cells(reads_, {&leaf, m.holder, false, m.out, 1, bytes}, rectangle(part, e, 1, 0, 1),
                 raw->data(), bytes);
      reads_.finally([this, raw, type = *dtype_of(leaf.type), at = e * out_ + part * s_.rows] {
        formats::load_run<float>(type, raw->data(), 0, s_.rows, to_.bias.as<float>() + at);
      });
    }
}

}  // namespace switchyard::checkpoint
