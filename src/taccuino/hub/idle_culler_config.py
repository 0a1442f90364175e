"""The configuration of the idle culler that the hub runs."""
