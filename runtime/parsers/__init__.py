"""Parsers of what models write: thinking and tool calls, as the text streams in. Pure."""
