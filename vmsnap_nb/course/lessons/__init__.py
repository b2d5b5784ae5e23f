"""The texts of the questions, one file for each lesson."""
