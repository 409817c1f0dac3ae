"""The names of flags."""


def flag_name(field: str) -> str:
    """The flag of a field of the configuration: "--alpha-lr" for "alpha_lr"."""
    return "--" + field.replace("_", "-")
