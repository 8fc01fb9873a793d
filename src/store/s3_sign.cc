#include "store/s3_sign.h"

#include <openssl/hmac.h>

#include <algorithm>
#include <ctime>

#include "base/digest.h"

namespace headrace::store {
namespace {

std::string Hmac(std::string_view key, std::string_view text) {
  unsigned char out[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), out, &size);
  return {reinterpret_cast<const char*>(out), size};
}

std::string SignedHeaders(const SignInput& input) {
  std::string names;
  for (const auto& [name, value] : input.headers) names += (names.empty() ? "" : ";") + name;
  return names;
}

}  // namespace

std::string AmzDate(int64_t micros) {
  const std::time_t seconds = micros / 1'000'000;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char stamp[32];
  std::strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &utc);
  return stamp;
}

std::string UriEncode(std::string_view text, bool keep_slash) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
                       (byte >= '0' && byte <= '9') || c == '-' || c == '.' || c == '_' || c == '~' ||
                       (keep_slash && c == '/');
    if (plain) {
      out += c;
    } else {
      out += '%';
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    }
  }
  return out;
}

std::string CanonicalQuery(std::vector<std::pair<std::string, std::string>> query) {
  for (auto& [name, value] : query) {
    name = UriEncode(name, false);
    value = UriEncode(value, false);
  }
  std::sort(query.begin(), query.end());
  std::string out;
  for (const auto& [name, value] : query) {
    out.append(out.empty() ? "" : "&").append(name).append("=").append(value);
  }
  return out;
}

std::string CanonicalRequest(const SignInput& input) {
  std::string out = input.method + "\n" + input.path + "\n" + CanonicalQuery(input.query) + "\n";
  for (const auto& [name, value] : input.headers) out.append(name).append(":").append(value).append("\n");
  return out + "\n" + SignedHeaders(input) + "\n" + input.payload_hash;
}

std::string Authorization(const SignInput& input, const S3Credentials& credentials) {
  const std::string day = input.amz_date.substr(0, 8);
  const std::string scope = day + "/" + input.region + "/" + input.service + "/aws4_request";
  const std::string text =
      "AWS4-HMAC-SHA256\n" + input.amz_date + "\n" + scope + "\n" + Sha256Hex(CanonicalRequest(input));
  std::string key = Hmac("AWS4" + credentials.secret_key, day);
  key = Hmac(key, input.region);
  key = Hmac(key, input.service);
  key = Hmac(key, "aws4_request");
  return "AWS4-HMAC-SHA256 Credential=" + credentials.access_key + "/" + scope +
         ", SignedHeaders=" + SignedHeaders(input) + ", Signature=" + Hex(Hmac(key, text));
}

}  // namespace headrace::store
