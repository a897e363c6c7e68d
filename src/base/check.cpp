#include "base/check.h"

#include <stdexcept>

namespace switchyard::detail {

void assertion_failed(const char* condition, const char* file, int line) {
  throw std::logic_error(fmt::format("switchyard: {} does not hold at {}:{}: please report this",
                                     condition, file, line));
}

}  // namespace switchyard::detail
