// Curves on a terminal, of Braille dots.
#pragma once

#include <string>
#include <vector>

#include "trace/curve.h"

namespace headrace::cli {

struct PlotOptions {
  int width = 60;      // characters, with the labels of the axis
  int height = 8;      // lines, without the line of steps
  bool ascii = false;  // where the terminal has no UTF-8
};

// How many columns of dots a plot of this width has: the curve's pixels.
int PlotPixels(const PlotOptions& options);

// Lines with the values at their left; what is not finite is not drawn. Empty where there is nothing to draw.
std::vector<std::string> Plot(const trace::Curve& curve, const PlotOptions& options);

// A number in at most 10 characters.
std::string ShortNumber(double value);

}  // namespace headrace::cli
