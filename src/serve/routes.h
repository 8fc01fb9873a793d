// Routes: what is served where. One table says it all: dispatch, permission, the methods that 405 names, the
// labels of metrics, the text at / and the paths of the OpenAPI document follow from it (routes_test.cc).
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "serve/ticket.h"

namespace headrace::serve {

// A request on its way to its handler.
struct Asked {
  std::shared_ptr<Ticket> ticket;
  std::string rest;  // what stands where the route's path has a {name}
};

// Where a handler runs: on the network's thread, which it must not block, or on a worker, which reads bodies
// and waits for nothing.
enum class Runs { kInline, kWorker };

struct Route {
  const char* method;
  // "{name}" stands for at least one character: at the end for all that is left, slashes too.
  const char* path;
  // In metrics, rows and the description: the path itself, or the one that this path is another name of.
  const char* name;
  const char* scope;  // that a key needs; "" for none, and for no key
  Runs runs;
  void (*answer)(const Asked& asked);

  bool alias() const { return std::string_view(path) != name; }
};

// The first that matches is meant.
std::span<const Route> Routes();

struct Match {
  const Route* route = nullptr;  // null: nothing takes this method here
  std::string rest;
  // Of the path, whatever the method: a route's name, and the methods that it takes ("GET, DELETE"). There is
  // nothing at the path where `allowed` is empty. Whatever a stranger asks for, `name` is one of a few.
  const char* name = kUnknownRoute;
  std::string allowed;
};
// HEAD finds what GET finds.
Match FindRoute(std::string_view method, std::string_view path);

// The text at /.
std::string RouteText(const Services& services);

}  // namespace headrace::serve
