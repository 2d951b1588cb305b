#pragma once

// Which request goes where: paths and methods to handlers, and what is not there (404, 405, OPTIONS). Handlers run on
// the server's I/O threads; those that generate only hand over to the engine. Const after construction, any thread.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/http_message.h"
#include "server/metrics.h"
#include "server/service.h"

namespace ds4 {

class Routes {
 public:
  // The generator must outlive the routes and every request that they started.
  explicit Routes(Generator& generator, std::shared_ptr<Metrics> metrics = std::make_shared<Metrics>());

  // Off: browsers get the line of text at /, too. Before the first request.
  void set_web_page(bool on) { service_.has_web_page = on; }

  void handle(HttpRequest request, const std::shared_ptr<Responder>& responder) const;

  // From now on what would generate is refused with 503, and /ready says so. What runs goes on.
  void drain() { service_.draining = true; }

 private:
  struct Route {
    std::string_view path;    // one that ends in '/' (but "/") stands for everything below it
    std::string_view method;  // GET also answers HEAD
    Handler handler;
    bool generates = false;  // refused while the server drains
  };

  const Route* find(const HttpRequest& request, std::string& allowed) const;
  void refuse(const HttpRequest& request, const std::string& allowed, Responder& responder) const;

  mutable Service service_;
  std::vector<Route> routes_;
};

// Let pages of one origin, or of any ("*"), use the server.
std::vector<HttpHeader> cors_headers(std::string origin = "*");

}  // namespace ds4
