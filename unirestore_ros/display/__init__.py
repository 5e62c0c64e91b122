"""The driver's display: the restored or the camera's image, on topics and on a web page."""
