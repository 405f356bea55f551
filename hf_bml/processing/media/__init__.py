"""Reading sound, images and video."""
