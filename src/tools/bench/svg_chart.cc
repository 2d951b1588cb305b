#include "tools/bench/svg_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace ds4 {

namespace {

constexpr double kWidth = 760;
constexpr double kPanelHeight = 250;
constexpr double kTop = 44;  // the title
constexpr double kLeft = 70;
constexpr double kRight = 24;
constexpr double kPanelTop = 34;
constexpr double kPanelBottom = 46;
constexpr int kTicks = 5;

constexpr const char* kStyle =
    "<style>svg{background:#fff;font:13px system-ui,sans-serif}text{fill:#222}.t{font-size:16px;font-weight:600}"
    ".g{stroke:#ddd;fill:none}.a{stroke:#888;fill:none}.l{stroke:#0b62c4;stroke-width:2;fill:none}.p{fill:#0b62c4}"
    ".s{stroke:#0b62c4;stroke-opacity:.5;fill:none}"
    "@media(prefers-color-scheme:dark){svg{background:#15181c}text{fill:#e4e6e8}.g{stroke:#343a40}.a{stroke:#8a929a}"
    ".l,.s{stroke:#6cb2ff}.p{fill:#6cb2ff}}</style>\n";

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      default: out += c;
    }
  }
  return out;
}

// 1, 2 or 5 times a power of ten, so that kTicks steps cover `most`.
double tick_step(double most) {
  const double raw = std::max(most, 1e-9) / kTicks;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (raw <= factor * power) return factor * power;
  }
  return 10.0 * power;
}

std::string text_at(double x, double y, const char* anchor, const std::string& text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", x, y, anchor, escaped(text));
}

std::string line(double x1, double y1, double x2, double y2, const char* style) {
  return fmt::format("<path class=\"{}\" d=\"M{:.1f} {:.1f}L{:.1f} {:.1f}\"/>\n", style, x1, y1, x2, y2);
}

class PanelDrawing {
 public:
  PanelDrawing(const ChartPanel& panel, double top) : panel_(panel), top_(top + kPanelTop) {
    double most = 0;
    for (const ChartPoint& point : panel.points) most = std::max({most, point.y, point.high});
    y_step_ = tick_step(most);
    y_most_ = std::max(y_step_ * std::ceil(most / y_step_), y_step_);
    x_least_ = panel.points.front().x;
    x_most_ = panel.points.back().x;
  }

  std::string draw() const {
    const double bottom = y(0);
    std::string out = text_at(kLeft, top_ - 12, "start", panel_.title);
    for (double value = 0; value <= y_most_ + y_step_ / 2; value += y_step_) {
      out += line(kLeft, y(value), kWidth - kRight, y(value), value == 0 ? "a" : "g");
      out += text_at(kLeft - 8, y(value) + 4, "end", fmt::format("{:g}", value));
    }
    out += draw_x_labels(bottom);
    out += text_at((kLeft + kWidth - kRight) / 2, bottom + 36, "middle", panel_.x_label);
    std::string path;
    for (const ChartPoint& point : panel_.points) {
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x(point.x), y(point.y));
      if (point.high > point.low) out += line(x(point.x), y(point.low), x(point.x), y(point.high), "s");
      out +=
          fmt::format("<circle class=\"p\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\"><title>{:g}: {:.2f}</title></circle>\n",
                      x(point.x), y(point.y), point.x, point.y);
    }
    return out + fmt::format("<path class=\"l\" d=\"{}\"/>\n", path);
  }

 private:
  double x(double value) const {
    const double width = kWidth - kLeft - kRight;
    if (x_most_ <= x_least_) return kLeft + width / 2;
    return kLeft + width * (value - x_least_) / (x_most_ - x_least_);
  }
  double y(double value) const {
    const double height = kPanelHeight - kPanelTop - kPanelBottom;
    return top_ + height * (1 - value / y_most_);
  }

  // Measured points carry their own labels; those that would touch are left out.
  std::string draw_x_labels(double bottom) const {
    constexpr double kLabelWidth = 52;
    std::string out;
    double last = -kLabelWidth;
    for (const ChartPoint& point : panel_.points) {
      if (x(point.x) - last < kLabelWidth) continue;
      last = x(point.x);
      out += line(last, bottom, last, bottom + 4, "a");
      out += text_at(last, bottom + 18, "middle", fmt::format("{:g}", point.x));
    }
    return out;
  }

  const ChartPanel& panel_;
  double top_;
  double y_step_ = 1;
  double y_most_ = 1;
  double x_least_ = 0;
  double x_most_ = 1;
};

}  // namespace

std::string svg_chart(const std::string& title, const std::vector<ChartPanel>& panels) {
  std::string body;
  double top = kTop;
  for (const ChartPanel& panel : panels) {
    if (panel.points.empty()) continue;
    body += PanelDrawing(panel, top).draw();
    top += kPanelHeight;
  }
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:g} {1:g}\" width=\"{0:g}\" "
             "height=\"{1:g}\">\n",
             kWidth, top) +
         kStyle + fmt::format("<text class=\"t\" x=\"{:g}\" y=\"28\">{}</text>\n", kLeft, escaped(title)) + body +
         "</svg>\n";
}

}  // namespace ds4
