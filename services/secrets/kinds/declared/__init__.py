"""One module for each type of secret, with its `DECLARATION`. A module that is put here is found."""
