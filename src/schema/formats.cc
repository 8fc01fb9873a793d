#include "schema/formats.h"

#include <map>
#include <string>

namespace headrace::schema {
namespace {

// RFC 3339. A leap second would need a look at the calendar: it is left out.
const std::string kYear = "(?:000[1-9]|00[1-9]\\d|0[1-9]\\d\\d|[1-9]\\d{3})";
const std::string kLeapYear =
    "(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)";
const std::string kDate = "(?:" + kYear +
                          "-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|"
                          "30)|02-(?:0[1-9]|1\\d|2[0-"
                          "8]))|" +
                          kLeapYear + "-02-29)";
const std::string kHour = "(?:[01]\\d|2[0-3])";
const std::string kTime = kHour + ":[0-5]\\d:[0-5]\\d(?:\\.\\d{1,6})?(?:Z|[+-]" + kHour + ":[0-5]\\d)";

const std::string kLabel = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
const std::string kHost = kLabel + "(?:\\." + kLabel + "){0,3}";  // at most 255 characters in all
const std::string kAtom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}";
const std::string kByte = "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
const std::string kIpv4 = kByte + "(?:\\." + kByte + "){3}";

std::string Ipv6() {
  const std::string group = "[0-9A-Fa-f]{1,4}";
  std::string choices = "(?:" + group + ":){7}" + group;
  for (int before = 0; before <= 7; ++before) {  // "::" stands for the rest
    const int after = 7 - before;
    const std::string head =
        before == 0 ? ""
                    : group + (before > 1 ? "(?::" + group + "){" + std::to_string(before - 1) + "}" : "");
    std::string tail;
    if (after > 0)
      tail =
          "(?:" + group + (after > 1 ? "(?::" + group + "){0," + std::to_string(after - 1) + "}" : "") + ")?";
    choices += "|" + head + "::" + tail;
  }
  return "(?:" + choices + ")";
}

// RFC 3986, without IP literals.
const std::string kUnreserved = "A-Za-z0-9._~\\-";
const std::string kHex = "%[0-9A-Fa-f]{2}";
const std::string kPathChar = "(?:[" + kUnreserved + "!$&'()*+,;=:@]|" + kHex + ")";
const std::string kPath = "(?:/" + kPathChar + "*)*";
const std::string kAuthority = "(?:(?:[" + kUnreserved + "!$&'()*+,;=:]|" + kHex + ")*@)?(?:[" + kUnreserved +
                               "!$&'()*+,;=]|" + kHex + ")*(?::\\d{0,5})?";
const std::string kTail = "(?:\\?(?:" + kPathChar + "|[/?])*)?(?:#(?:" + kPathChar + "|[/?])*)?";
const std::string kUri =
    "[A-Za-z][A-Za-z0-9+.-]*:(?://" + kAuthority + kPath + "|/?" + kPathChar + "+" + kPath + "|)" + kTail;
const std::string kReference = "(?:" + kUri + "|" + kPath + kTail + ")";

std::string Duration() {
  const std::string time = "T(?:\\d+H(?:\\d+M(?:\\d+S)?)?|\\d+M(?:\\d+S)?|\\d+S)";
  const std::string days = "(?:\\d+Y(?:\\d+M(?:\\d+D)?)?|\\d+M(?:\\d+D)?|\\d+D)";
  return "P(?:\\d+W|" + time + "|" + days + "(?:" + time + ")?)";
}

std::map<std::string, std::string, std::less<>> All() {
  std::map<std::string, std::string, std::less<>> all = {
      {"date", kDate},
      {"time", kTime},
      {"date-time", kDate + "T" + kTime},
      {"duration", Duration()},
      {"email", kAtom + "(?:\\." + kAtom + "){0,2}@" + kHost},
      {"hostname", kHost},
      {"ipv4", kIpv4},
      {"ipv6", Ipv6()},
      {"uuid", "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"},
      {"uri", kUri},
      {"uri-reference", kReference},
      {"json-pointer", "(?:/(?:[^~/]|~[01])*)*"},
      {"relative-json-pointer", "(?:0|[1-9]\\d*)(?:#|(?:/(?:[^~/]|~[01])*)*)"},
  };
  all["idn-email"] = all["email"];
  all["idn-hostname"] = all["hostname"];
  all["iri"] = all["uri"];
  all["iri-reference"] = all["uri-reference"];
  for (auto& [name, pattern] : all) pattern = "^(?:" + pattern + ")$";
  return all;
}

}  // namespace

std::string_view FormatPattern(std::string_view format) {
  static const std::map<std::string, std::string, std::less<>> patterns = All();
  const auto found = patterns.find(format);
  return found == patterns.end() ? std::string_view() : std::string_view(found->second);
}

}  // namespace headrace::schema
