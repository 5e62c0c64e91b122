"""Sphinx, for `rosdoc2` and for `sphinx-build -W docs out/docs`."""

project = "unirestore_ros"
author = copyright = "The unirestore_ros developers"

extensions = ["sphinx.ext.autodoc", "myst_parser"]
html_theme = "alabaster"
exclude_patterns = ["_build", "results"]

myst_heading_anchors = 3
# Files of the checkout that are no pages.
suppress_warnings = ["myst.xref_missing"]

autodoc_default_options = {"members": True, "undoc-members": False}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
