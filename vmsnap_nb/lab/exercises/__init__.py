"""Exercises: each has a starting scenario of real images and guests, a task, and a check of what was made of it."""
