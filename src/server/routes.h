#pragma once

// Which request goes where: paths and methods to handlers, and what is not there (404, 405, OPTIONS). Handlers run on
// the server's I/O threads; those that generate only hand over to the engine. Const after construction, any thread.

#include <memory>
#include <string_view>
#include <vector>

#include "server/http_message.h"
#include "server/service.h"

namespace ds4 {

class Routes {
 public:
  // The generator must outlive the routes and every request that they started.
  explicit Routes(Generator& generator);

  void handle(HttpRequest request, const std::shared_ptr<Responder>& responder) const;

 private:
  struct Route {
    std::string_view path;    // one that ends in '/' (but "/") stands for everything below it
    std::string_view method;  // GET also answers HEAD
    Handler handler;
  };

  mutable Service service_;
  std::vector<Route> routes_;
};

// For HttpServerOptions::headers: lets pages of any origin use the server.
std::vector<HttpHeader> cors_headers();

}  // namespace ds4
