#pragma once

// Line charts as SVG text: panels below each other, each with one line over its own axis. The colours follow the
// reader's light or dark mode. Pure functions, any thread.

#include <string>
#include <vector>

namespace ds4 {

struct ChartPoint {
  double x = 0;
  double y = 0;
  double low = 0;  // the spread around y
  double high = 0;
};

struct ChartPanel {
  std::string title;    // "decode, tokens/s"
  std::string x_label;  // "context, tokens"
  std::vector<ChartPoint> points;
};

// Panels without points are left out.
std::string svg_chart(const std::string& title, const std::vector<ChartPanel>& panels);

}  // namespace ds4
