"""The web page at `/`: ES modules as package data, served as they are. No build step (docs/adr/0012-the-page.md)."""
