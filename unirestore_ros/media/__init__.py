"""Pictures in and out: videos, folders of images, bags; scaling, drawing, figures."""
