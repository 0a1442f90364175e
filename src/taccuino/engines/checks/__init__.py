"""Programs that `image_check` runs inside the image it checks; standard library only."""
