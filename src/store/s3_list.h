// Parses an answer to S3's ListObjectsV2.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "store/object_store.h"

namespace headrace::store {

struct S3Listing {
  std::vector<ObjectInfo> objects;
  std::string next_token;  // for the page after this one; empty: this was the last
};

// `prefix`: the store's own, taken off the keys. Io if the text is no XML.
Result<S3Listing> ParseS3Listing(const std::string& xml, std::string_view prefix);

}  // namespace headrace::store
