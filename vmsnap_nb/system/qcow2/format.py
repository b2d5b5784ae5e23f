"""The layout of a qcow2 image, and the limits that QEMU sets to its fields. All numbers are big-endian.

Source: QEMU, docs/interop/qcow2.rst (https://www.qemu.org/docs/master/interop/qcow2.html); the limits that it does not
name are those with which QEMU's block/qcow2.h and block/qcow2.c refuse an image.
"""

from __future__ import annotations

from struct import Struct

MAGIC = b"QFI\xfb"

HEADER = Struct(">4sIQIQIIQQIIQQQQIIB")
"""magic, version, backing_file_offset, cluster_bits, size, crypt_method, l1_size, l1_table_offset,
refcount_table_offset, refcount_table_clusters, nb_snapshots, snapshots_offset; from version 3 on also
incompatible_features, compatible_features, autoclear_features, refcount_order, header_length, compression_type.
After the first 16 bytes the four of backing_file_size are left out."""
BACKING = Struct(">8xQI")
"""backing_file_offset, backing_file_size."""

VERSION_2_LENGTH = 72
VERSION_2_REFCOUNT_ORDER = 4
VERSION_3_LENGTH = 104

CLUSTER_BITS = range(9, 22)
MOST_BACKING_NAME = 1023
MOST_BACKING_FORMAT = 15
MOST_L1_ENTRIES = 4 << 20
MOST_REFCOUNT_TABLE_BYTES = 8 << 20
MOST_REFCOUNT_ORDER = 6
MOST_EXTENSIONS = 1024
"""Our own limit: QEMU writes five at most, and a cluster has room for 262,144 empty ones."""

# incompatible features
DIRTY = 1 << 0
CORRUPT = 1 << 1
DATA_FILE = 1 << 2
COMPRESSION = 1 << 3
EXTENDED_L2 = 1 << 4
MERGED = 1 << 63
"""Our own mark (qcow2_mark.py), which QEMU does not know, and therefore obeys."""
KNOWN_INCOMPATIBLE = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2 | MERGED
# compatible features
LAZY_REFCOUNTS = 1 << 0
# autoclear features
BITMAPS_VALID = 1 << 0
"""Without it a program that does not know bitmaps has written to the image since, and QEMU ignores them."""
DATA_FILE_RAW = 1 << 1

ENCRYPTION = {1: "aes", 2: "luks"}
COMPRESSION_TYPES = {0: "zlib", 1: "zstd"}

# header extensions
EXTENSION = Struct(">II")
END = 0
BACKING_FORMAT = 0xE2792ACA
DATA_FILE_NAME = 0x44415441
BITMAPS = 0x23852875
BITMAPS_HEADER = Struct(">IIQQ")
"""nb_bitmaps, reserved, bitmap_directory_size, bitmap_directory_offset."""

SNAPSHOT = Struct(">QIHHIIQII")
"""l1_table_offset, l1_size, id_str_size, name_size, date_sec, date_nsec, vm_clock_nsec, vm_state_size,
extra_data_size; then the extra data, the ID and the name, and padding to a multiple of 8 bytes."""
SNAPSHOT_EXTRA = Struct(">QQ")
"""vm_state_size in 64 bits, virtual disk size."""
MOST_SNAPSHOTS = 65536
MOST_SNAPSHOT_BYTES = 64 << 20
MOST_SNAPSHOT_EXTRA = 1024

BITMAP = Struct(">QIIBBHI")
"""bitmap_table_offset, bitmap_table_size, flags, type, granularity_bits, name_size, extra_data_size; then the extra
data and the name, and padding to a multiple of 8 bytes."""
BITMAP_FLAGS = ((1 << 0, "in-use"), (1 << 1, "auto"))
BITMAP_FLAGS_KNOWN = 1 << 0 | 1 << 1 | 1 << 2
BITMAP_TYPE = 1
BITMAP_GRANULARITY_BITS = range(9, 32)
MOST_BITMAPS = 65535
MOST_BITMAP_DIRECTORY_BYTES = 64 << 20
MOST_BITMAP_NAME = 1023
MOST_BITMAP_TABLE_ENTRIES = 128 << 20
