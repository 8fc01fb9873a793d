// picture: an image on a terminal that can show one.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace headrace::cli {

enum class Pictures {
  kNone,
  kKitty,   // kitty's graphics protocol: kitty, Ghostty, WezTerm, Konsole
  kIterm2,  // inline images: iTerm2, VS Code
  kSixel,   // foot, mlterm, xterm -ti vt340, Windows Terminal
};

// What the terminal says of itself: by its variables, else by its answer to a question (primary device
// attributes), for which it has half a second.
Pictures PicturesOfTerminal();
// "kitty", "iterm2", "sixel", "none", or "auto" for PicturesOfTerminal.
Result<Pictures> ParsePictures(const std::string& word);

// The image (a JPEG, PNG or WebP) as what to write to the terminal, no larger than `width` × `height` pixels.
// Unsupported for other files, Corrupt for damaged ones.
Result<std::string> DrawPicture(Pictures how, std::string_view bytes, int width, int height);

}  // namespace headrace::cli
