"""A view that draws its own lines and scrolls over them."""

from __future__ import annotations

from textual.scroll_view import ScrollView


class Scrolled(ScrollView, can_focus=True):
    """A scroll view whose bar tells the truth from its first frame on."""

    def watch_show_vertical_scrollbar(self, shown: bool) -> None:
        """Textual moves the bar when the view scrolls, but only a bar that is there already."""
        if shown:
            self.vertical_scrollbar.position = self.scroll_y
