"""The driver's display: restored or camera picture, in a window, on topics and on a page."""
