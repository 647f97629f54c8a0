"""Annotation files become records; no media is opened here."""
