// Types of text columns, from all of their values: a type is taken only if every value can be written back
// from it with the same digits.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <arrow/type_fwd.h>
#include <arrow/util/decimal.h>

#include "base/status.h"

namespace headrace::ingest {

class ColumnGuess {
 public:
  void Add(const std::string& text);
  // The narrowest type that holds every value seen as it was: bool, int64, uint64, float64, date, timestamp,
  // else text. Null type if there was no value.
  std::shared_ptr<arrow::DataType> Type() const;

 private:
  bool any_ = false;
  bool bool_ = true, int64_ = true, uint64_ = true, double_ = true, date_ = true, naive_ = true,
       aware_ = true;
  bool nanoseconds_ = false;
};

// What is wrong with the text as a value of the type: "" if it is one, digit for digit.
std::string WhyNot(const std::string& text, const arrow::DataType& type);

// The number in units of 10^-scale, if it has no more digits than that.
bool ParseDecimal(std::string_view text, int32_t precision, int32_t scale, arrow::Decimal256* value);

}  // namespace headrace::ingest
