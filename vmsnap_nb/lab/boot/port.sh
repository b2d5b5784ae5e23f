# Waits for the virtio serial port on which the host sends commands: its device is $port then. $B is the busybox.
port=
until [ "$port" ]; do
	for name in /sys/class/virtio-ports/*/name; do
		[ -r "$name" ] && read -r text <"$name" && [ "$text" = org.vmsnap_nb.0 ] || continue
		port=${name%/name}
		port=/dev/${port##*/}
	done
	[ "$port" ] || $B sleep 0.1
done
