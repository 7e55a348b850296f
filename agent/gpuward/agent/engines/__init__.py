"""What inference engines call the figures on their metrics pages, and how such a page is read."""
