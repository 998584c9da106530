"""The stubs of November 2026, as its clients have them."""
