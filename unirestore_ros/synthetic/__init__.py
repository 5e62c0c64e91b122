"""The package's own synthetic drive, and what degrades images: all of it seeded."""
