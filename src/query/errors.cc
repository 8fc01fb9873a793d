#include "query/errors.h"

#include <algorithm>
#include <cctype>

namespace headrace::query {
namespace {

std::string Lower(std::string text) {
  for (char& c : text) c = static_cast<char>(tolower(static_cast<unsigned char>(c)));
  return text;
}

bool WordChar(char c) { return isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.'; }

// photos@v2 as it stands in `sql` outside quotes; "" if there is none.
std::string VersionIn(const std::string& sql) {
  char quote = 0;
  for (size_t at = 0; at < sql.size(); ++at) {
    const char c = sql[at];
    if (quote != 0) {
      if (c == quote) quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (c == '@' && at > 0 && WordChar(sql[at - 1]) && at + 1 < sql.size() && WordChar(sql[at + 1])) {
      size_t begin = at;
      while (begin > 0 && WordChar(sql[begin - 1])) --begin;
      size_t end = at + 1;
      while (end < sql.size() && WordChar(sql[end])) ++end;
      return sql.substr(begin, end - begin);
    }
  }
  return "";
}

// What to write instead, where a statement cannot be parsed because of a table's name.
std::string Quoting(const std::string& text, const Session& session, const std::string& sql) {
  if (const std::string version = VersionIn(sql); !version.empty())
    return "; a version of a table is written in double quotes: \"" + version + "\"";
  const size_t near = text.find("at or near \"");
  if (near == std::string::npos) return "";
  const size_t begin = near + 12;
  const std::string word = text.substr(begin, text.find('"', begin) - begin);
  const auto names = session.catalog()->TableNames();
  if (!names.ok()) return "";
  for (const auto& name : *names) {
    if (Lower(name) == Lower(word))
      return "; '" + name + "' is a word of SQL: write the table in double quotes, \"" + name + "\"";
  }
  return "";
}

// What to write instead, where a function of vectors got lists.
std::string OfVectors(const std::string& text) {
  const size_t begin = text.find("'array_");
  const size_t end = text.find('(', begin);
  if (begin == std::string::npos || end == std::string::npos || text.find("[]", end) == std::string::npos)
    return "";
  const std::string name = text.substr(begin + 7, end - begin - 7);
  return "\nA list has any length: list_" + name + "(…) takes lists, and array_" + name +
         "(…) vectors of one length. A list becomes a vector by a cast, vec::FLOAT[384], for good with\n"
         "select * replace (vec::FLOAT[384] as vec) from …  --into a new table";
}

}  // namespace

Status FromDuckDb(const duckdb::ErrorData& error, const Session& session, const std::string& sql) {
  const std::string& text = error.RawMessage();
  if (error.Type() == duckdb::ExceptionType::INTERRUPT) return Status::Cancelled();
  if (const Status ours = session.FailureIn(text); !ours.ok()) return ours;
  switch (error.Type()) {
    case duckdb::ExceptionType::OUT_OF_MEMORY:
      return Status::Limit(text);
    case duckdb::ExceptionType::PERMISSION:
      return Status::Permission(
          "a statement reaches no files but the catalog's, unless they are opened to it: --allow-files "
          "(in Python, allow_files=True): " +
          text);
    case duckdb::ExceptionType::IO:
      return Status::Io(text);
    case duckdb::ExceptionType::NOT_IMPLEMENTED:
      return Status::Unsupported(text);
    case duckdb::ExceptionType::PARSER:
    case duckdb::ExceptionType::SYNTAX:
      return Status::Invalid(text + Quoting(text, session, sql));
    case duckdb::ExceptionType::BINDER:
      return Status::Invalid(text + OfVectors(text));
    default:
      return Status::Invalid(text);
  }
}

}  // namespace headrace::query
