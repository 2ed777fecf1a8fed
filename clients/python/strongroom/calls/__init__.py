"""The methods of `strongroom.Client`, by subject."""
