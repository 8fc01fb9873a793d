// Where Arrow's errors, streams and files meet ours.
#pragma once

#include <memory>

#include <arrow/buffer.h>
#include <arrow/io/interfaces.h>
#include <arrow/result.h>
#include <arrow/status.h>

#include "base/status.h"
#include "store/object_store.h"

namespace headrace::table {

Status FromArrow(const arrow::Status& status);
arrow::Status ToArrow(const Status& status);

// A store's bytes as an Arrow buffer, without a copy.
std::shared_ptr<arrow::Buffer> ToBuffer(store::Bytes bytes);

// Reads an object the way Arrow's readers ask for it.
std::shared_ptr<arrow::io::RandomAccessFile> ToRandomAccessFile(std::shared_ptr<store::ObjectReader> reader);

// Writes into an upload; Close does not commit it.
std::shared_ptr<arrow::io::OutputStream> ToOutputStream(store::Upload* upload);

// The array with the type that equals its own but for the metadata of nested fields.
std::shared_ptr<arrow::Array> WithType(const std::shared_ptr<arrow::Array>& array,
                                       const std::shared_ptr<arrow::DataType>& type);

}  // namespace headrace::table

#define HEADRACE_ARROW_TRY(expr) HEADRACE_TRY(::headrace::table::FromArrow(expr))
#define HEADRACE_ARROW_ASSIGN(lhs, expr) \
  HEADRACE_ARROW_ASSIGN_INNER(HEADRACE_CONCAT(headrace_arrow_, __LINE__), lhs, expr)
#define HEADRACE_ARROW_ASSIGN_INNER(result, lhs, expr)                    \
  auto result = (expr);                                                   \
  if (!result.ok()) return ::headrace::table::FromArrow(result.status()); \
  lhs = std::move(result).ValueUnsafe()
