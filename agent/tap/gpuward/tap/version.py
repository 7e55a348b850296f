"""Version of the tap, as its files carry it."""

VERSION = "0.1.0"
