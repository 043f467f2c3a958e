"""What can be wrong with the input of a bundle."""


class BundleError(ValueError):
    """A bundle that cannot be made; the message names the file or option and the reason."""
