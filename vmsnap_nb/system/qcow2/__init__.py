"""The qcow2 format: header, snapshot table, feature bits."""
