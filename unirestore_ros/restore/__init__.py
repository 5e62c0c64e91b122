"""Image files, folders of images and videos restored offline."""
