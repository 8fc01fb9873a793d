// page: what the HTML files that the program writes have in common: one file that needs no network, in which
// texts are data, never markup or script.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace headrace::cli {

inline constexpr size_t kMostPageText = 256 << 10;  // bytes

// All up to the body's inner part: its title, a policy that lets nothing in, colours by day and by night.
std::string PageHead(std::string_view title, std::string_view style);
// A script of these parts, behind the functions that every page has: byId, element, parsed, pretty, pairs.
std::string PageScript(std::initializer_list<std::string_view> parts);
// <script type="application/json" id="…">, which a script reads.
std::string DataElement(const std::string& id, const nlohmann::ordered_json& value);
// The same of what holds no "<", such as base64.
std::string TextElement(const std::string& id, std::string_view text);
// At most `most` bytes of it; a longer one says so at its end.
std::string Shortened(std::string text, size_t most = kMostPageText);

}  // namespace headrace::cli
