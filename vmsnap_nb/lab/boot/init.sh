#!/bin/busybox sh
# First program of a lab guest, in the kernel's initial file system: finds the root disk and hands over to second.sh.
# It writes nothing to the disk; all that it brings along goes to /run, which is memory.
B=/bin/busybox
$B mkdir -p /proc /sys /dev /run /sysroot
$B mount -t proc proc /proc
$B mount -t sysfs sysfs /sys
$B mount -t devtmpfs dev /dev
$B mount -t tmpfs -o mode=755 run /run
for module in /modules/*.ko; do
	$B insmod "$module"
done

tries=0
until [ -b /dev/vda ] || [ $tries -ge 50 ]; do
	$B sleep 0.1
	tries=$((tries + 1))
done
if ! $B mount -t ext4 -o rw /dev/vda /sysroot; then
	echo "vmsnap: no ext4 file system on /dev/vda, so there is nothing to start"
	exec $B sh
fi

$B mkdir -p /run/vmsnap
$B cp -R /bin/busybox /lib/ld-musl-*.so.1 /boot/* /run/vmsnap/
$B mv /run/vmsnap/ld-musl-*.so.1 /run/vmsnap/ld.so
for place in proc sys dev run; do
	$B mount --move "/$place" "/sysroot/$place"
done
# The distribution may have no busybox: so the scripts run by the one brought along, with its own loader.
exec $B switch_root /sysroot /run/vmsnap/ld.so /run/vmsnap/busybox sh /run/vmsnap/second.sh
