#!/bin/busybox sh
# First program of a lab guest, in the kernel's initial file system: finds the root disk and hands over to second.sh.
# It writes nothing to the disk; all that it brings along goes to /run, which is memory.
B=/bin/busybox
$B mkdir -p /proc /sys /dev /run /sysroot
$B mount -t proc proc /proc
$B mount -t sysfs sysfs /sys
$B mount -t devtmpfs dev /dev
$B mount -t tmpfs -o mode=755 run /run
$B mkdir -p /run/vmsnap
$B cp -R /bin/busybox /lib/ld-musl-*.so.1 /boot/* /run/vmsnap/
$B mv /run/vmsnap/ld-musl-*.so.1 /run/vmsnap/ld.so
for module in /modules/*.ko; do
	case $module in
	*virtio_blk*) ;;
	*) $B insmod "$module" ;;
	esac
done

# The host may keep the memory as it is here, and start guests from it: so far the kernel knows no disk. What has changed
# meanwhile is in the third word of its greeting: the time, the host name, and random bytes. Any other line ends the
# wait as well, without an answer: then whoever should have sent the greeting has ended.
greet() {
	. /run/vmsnap/port.sh
	exec 3<>"$port"
	echo "vmsnap: waiting for the host" >/dev/console
	id=
	until [ "$id" ]; do
		read -r id seconds text <&3 || $B sleep 0.1
	done
	case $id in
	greet*)
		echo "$text" | $B base64 -d >/run/vmsnap/news
		{
			read -r now
			read -r name
			read -r seed
		} </run/vmsnap/news
		$B date -u -s "@$now" >/dev/null
		[ -z "$name" ] || $B hostname "$name"
		echo "$seed" >/dev/urandom
		echo "@$id end 0 0" >&3
		;;
	esac
	exec 3>&-
}
case " $($B cat /proc/cmdline) " in
*" vmsnap.wait "*) [ ! -e /modules/*virtio_blk.ko ] || greet ;; # a kernel with the driver built in knows its disk
esac

$B insmod /modules/*virtio_blk.ko
tries=0
until [ -b /dev/vda ] || [ $tries -ge 50 ]; do
	$B sleep 0.1
	tries=$((tries + 1))
done
if ! $B mount -t ext4 -o rw /dev/vda /sysroot; then
	echo "vmsnap: no ext4 file system on /dev/vda, so there is nothing to start"
	exec $B sh
fi

for place in proc sys dev run; do
	$B mount --move "/$place" "/sysroot/$place"
done
# The distribution may have no busybox: so the scripts run by the one brought along, with its own loader.
exec $B switch_root /sysroot /run/vmsnap/ld.so /run/vmsnap/busybox sh /run/vmsnap/second.sh
