#pragma once

// Tells systemd how the program is doing (Type=notify): one datagram to the socket that NOTIFY_SOCKET names, as the
// sd_notify protocol has it. Without that variable nothing happens. Main thread.

#include <string_view>

namespace ds4 {

// "READY=1", "STOPPING=1"; lines for more than one. False: nobody was told.
bool notify_service_manager(std::string_view state);

}  // namespace ds4
