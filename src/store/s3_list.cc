#include "store/s3_list.h"

#include <cstdlib>
#include <cstring>
#include <pugixml.hpp>

#include "base/clock.h"

namespace headrace::store {

Result<S3Listing> ParseS3Listing(const std::string& xml, std::string_view prefix) {
  pugi::xml_document document;
  if (!document.load_string(xml.c_str())) return Status::Io("the store's listing is no XML");
  const auto root = document.child("ListBucketResult");
  if (!root) return Status::Io("the store's answer to a listing is none");
  S3Listing listing;
  for (const auto& entry : root.children("Contents")) {
    const std::string key = entry.child_value("Key");
    if (key.size() < prefix.size()) continue;
    ObjectInfo info;
    info.key = key.substr(prefix.size());
    info.size = std::strtoll(entry.child_value("Size"), nullptr, 10);
    const auto modified = ParseMicros(entry.child_value("LastModified"));
    if (modified.ok()) info.modified_us = *modified;
    listing.objects.push_back(std::move(info));
  }
  if (std::strcmp(root.child_value("IsTruncated"), "true") == 0) {
    listing.next_token = root.child_value("NextContinuationToken");
    if (listing.next_token.empty())
      return Status::Io("the store cut a listing short, and does not say how to go on");
  }
  return listing;
}

}  // namespace headrace::store
