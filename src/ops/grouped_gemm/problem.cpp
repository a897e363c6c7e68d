#include "ops/grouped_gemm/problem.h"

#include "base/words.h"

namespace switchyard::grouped_gemm {
namespace {

template <class P, class Line>
void fields(P& p, Line& line) {
  line.count("e", p.experts, 1);
  line.count("r", p.rows, 0);
  line.count("n", p.out, 1);
  line.count("k", p.in, 1);
  line.word(p.weights);
}

}  // namespace

std::string to_string(const Problem& problem) {
  LinePrinter line("grouped_gemm");
  fields(problem, line);
  return line.text();
}

Problem parse(std::string_view text) {
  Problem problem;
  LineParser line("grouped_gemm", text);
  fields(problem, line);
  line.finish();
  return problem;
}

}  // namespace switchyard::grouped_gemm
