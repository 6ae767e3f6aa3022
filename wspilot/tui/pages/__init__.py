"""What the detail pane says of a selection, one file a kind of page. Pure: from model to text."""
