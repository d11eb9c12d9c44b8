"""A run for people: on the terminal, as Markdown, as one page with charts."""
