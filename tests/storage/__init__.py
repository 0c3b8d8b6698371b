"""Tests of cleanup/storage."""
