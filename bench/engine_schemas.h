// Twenty JSON schemas as people write them: flat and nested objects, enums, bounded strings and numbers,
// arrays, unions, recursion, formats.
#pragma once

#include <cstddef>

namespace headrace::bench {

struct SchemaCase {
  const char* what;
  const char* schema;
};

inline constexpr SchemaCase
    kSchemas[] =
        {
            {"a person",
             R"({"type":"object","properties":{"name":{"type":"string","maxLength":30},"age":{"type":"integer","minimum":0,"maximum":120}},"required":["name","age"],"additionalProperties":false})"},
            {"a city",
             R"({"type":"object","properties":{"city":{"type":"string","maxLength":20},"country":{"type":"string","maxLength":20},"capital":{"type":"boolean"}},"required":["city","country","capital"],"additionalProperties":false})"},
            {"a sentiment",
             R"({"type":"object","properties":{"sentiment":{"enum":["positive","negative","neutral"]},"sure":{"enum":["low","middle","high"]}},"required":["sentiment","sure"],"additionalProperties":false})"},
            {"a list of colours",
             R"({"type":"array","items":{"enum":["red","green","blue","yellow","black","white"]},"minItems":2,"maxItems":5})"},
            {"an address",
             R"({"type":"object","properties":{"street":{"type":"string","maxLength":30},"number":{"type":"integer","minimum":1,"maximum":999},"code":{"type":"string","pattern":"^[0-9]{5}$"}},"required":["street","number","code"],"additionalProperties":false})"},
            {"a book with its author",
             R"({"type":"object","properties":{"title":{"type":"string","maxLength":40},"author":{"type":"object","properties":{"first":{"type":"string","maxLength":15},"last":{"type":"string","maxLength":15}},"required":["first","last"],"additionalProperties":false},"year":{"type":"integer","minimum":1500,"maximum":2030}},"required":["title","author","year"],"additionalProperties":false})"},
            {"a tree of files",
             R"({"$defs":{"node":{"type":"object","properties":{"name":{"type":"string","maxLength":12},"children":{"type":"array","items":{"$ref":"#/$defs/node"},"maxItems":2}},"required":["name","children"],"additionalProperties":false}},"$ref":"#/$defs/node"})"},
            {"a reading of a sensor",
             R"({"type":"object","properties":{"sensor":{"type":"string","pattern":"^[A-Z]{2}-[0-9]{3}$"},"value":{"type":"number","minimum":-50,"maximum":150},"unit":{"enum":["C","F","K"]}},"required":["sensor","value","unit"],"additionalProperties":false})"},
            {"an answer or an error",
             R"({"anyOf":[{"type":"object","properties":{"answer":{"type":"string","maxLength":40}},"required":["answer"],"additionalProperties":false},{"type":"object","properties":{"error":{"type":"string","maxLength":40},"code":{"type":"integer","minimum":100,"maximum":599}},"required":["error","code"],"additionalProperties":false}]})"},
            {"a call of a function", R"({"type":"object","properties":{"name":{"enum":["get_weather","search","send_mail"]},"arguments":{"type":"object","properties":{"query":{"type":"string","maxLength":30}},"required":["query"],"additionalProperties":false}},"required":["name","arguments"],"additionalProperties":false})"},
            {"a date",
             R"({"type":"object","properties":{"date":{"type":"string","pattern":"^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9])$"}},"required":["date"],"additionalProperties":false})"},
            {"a point",
             R"({"type":"object","properties":{"x":{"type":"integer","minimum":-100,"maximum":100},"y":{"type":"integer","minimum":-100,"maximum":100}},"required":["x","y"],"additionalProperties":false})"},
            {"a shopping list",
             R"({"type":"object","properties":{"items":{"type":"array","minItems":1,"maxItems":4,"items":{"type":"object","properties":{"what":{"type":"string","maxLength":15},"count":{"type":"integer","minimum":1,"maximum":20}},"required":["what","count"],"additionalProperties":false}}},"required":["items"],"additionalProperties":false})"},
            {"entities in a sentence",
             R"({"type":"array","minItems":1,"maxItems":3,"items":{"type":"object","properties":{"text":{"type":"string","maxLength":20},"kind":{"enum":["person","place","organization","date"]}},"required":["text","kind"],"additionalProperties":false}})"},
            {"a nullable field",
             R"({"type":"object","properties":{"nickname":{"type":["string","null"],"maxLength":12},"active":{"type":"boolean"}},"required":["nickname","active"],"additionalProperties":false})"},
            {"a rating",
             R"({"type":"object","properties":{"stars":{"enum":[1,2,3,4,5]},"why":{"type":"string","maxLength":50}},"required":["stars","why"],"additionalProperties":false})"},
            {"a matrix",
             R"({"type":"array","minItems":2,"maxItems":2,"items":{"type":"array","minItems":2,"maxItems":2,"items":{"type":"integer","minimum":0,"maximum":9}}})"},
            {"an expression",
             R"({"$defs":{"e":{"anyOf":[{"type":"integer","minimum":0,"maximum":9},{"type":"object","properties":{"op":{"enum":["+","-","*"]},"a":{"$ref":"#/$defs/e"},"b":{"type":"integer","minimum":0,"maximum":9}},"required":["op","a","b"],"additionalProperties":false}]}},"$ref":"#/$defs/e"})"},
            {"settings",
             R"({"type":"object","properties":{"theme":{"const":"dark"},"size":{"enum":["s","m","l"]},"volume":{"type":"integer","minimum":0,"maximum":10},"wifi":{"type":"boolean"},"tags":{"type":"array","items":{"type":"string","maxLength":8},"maxItems":3}},"required":["theme","size","volume","wifi","tags"],"additionalProperties":false})"},
            {"a flight",
             R"({"type":"object","properties":{"from":{"type":"string","pattern":"^[A-Z]{3}$"},"to":{"type":"string","pattern":"^[A-Z]{3}$"},"minutes":{"type":"integer","minimum":30,"maximum":1200},"class":{"enum":["economy","business"]},"stops":{"type":"array","items":{"type":"string","pattern":"^[A-Z]{3}$"},"maxItems":2}},"required":["from","to","minutes","class","stops"],"additionalProperties":false})"},
};
inline constexpr size_t kSchemaCount = sizeof(kSchemas) / sizeof(kSchemas[0]);

}  // namespace headrace::bench
