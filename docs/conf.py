"""How the documentation is built: `sphinx-build -W docs docs/_build`."""

project = "bayes_pricing"
author = "bayes_pricing maintainers"
extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "alabaster"
