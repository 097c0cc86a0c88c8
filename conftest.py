"""Fixtures for the project's own tests: ``pytester`` runs the plugin inside a test."""

pytest_plugins = ["pytester"]
