"""Go's text/template in pure Python: lexer, parser, and execution by compiled closures.

The language is that of Go 1.26 (package documentation of text/template), with bounds on steps,
depth and output. Data are Python values: dict, list, str, int, float, bool, None, `values.Struct`.
"""
