"""The configuration: text in, checked immutable values out, or one line that says what is wrong."""
