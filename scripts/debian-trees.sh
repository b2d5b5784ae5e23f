# shellcheck shell=bash
# Trees of fresh Debian systems to run commands in: made, lent the machine's network, mounted. To be sourced.
#
# The trees and what they download are kept outside the checkout, in $cache. `mounts` and `as` work on the tree that
# $tree names; whoever calls them is in a mount namespace of its own (unshare --mount), so that nothing stays mounted.

cache=${VMSNAP_FRESH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vmsnap_nb/fresh}
declare -A suite=([12]=bookworm [13]=trixie)

die() { echo "${0##*/}: $*" >&2; exit 1; }

needs_root_and_debootstrap() {
  [[ $EUID -eq 0 ]] || die "needs root: sudo make $1"
  command -v debootstrap >/dev/null || die "needs debootstrap: apt-get install --no-install-recommends debootstrap"
}

# recipe FUNCTION...: names the way in which trees are made: those functions and the mirror.
recipe() { { declare -f "$@"; mirror; } | sha256sum | cut -d ' ' -f 1; }

# The mirror that this machine uses, if it is a Debian; else debootstrap knows one.
mirror() {
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 2>/dev/null | head -n 1 || true
}

make_tree() {
  local release=$1 tree=$cache/debian-$1
  [[ "$(cat "$tree.done" 2>/dev/null)" != "$(recipe make_tree)" ]] || return 0
  echo "making a fresh Debian $release in $tree"
  rm -rf --one-file-system "$tree" "$tree.done"
  mkdir -p "$cache"
  # A person needs git and make to get and to start this project; sudo and certificates belong to an ordinary system.
  # shellcheck disable=SC2046
  debootstrap --variant=minbase --include=ca-certificates,git,make,sudo "${suite[$release]}" "$tree" $(mirror) >"$cache/debian-$release.log" 2>&1 ||
    die "debootstrap failed, see $cache/debian-$release.log"
  printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d"  # services do not start in a tree
  chmod +x "$tree/usr/sbin/policy-rc.d"
  chroot "$tree" useradd --create-home --shell /bin/bash --uid 1000 user
  echo 'user ALL=(ALL) NOPASSWD: ALL' >"$tree/etc/sudoers.d/user"
  recipe make_tree >"$tree.done"
}

# How this machine reaches the network, the tree does: names, certificates, proxies, pip's settings.
lend_network() {
  local tree=$1 file certificates=/usr/local/share/ca-certificates
  cp -L /etc/resolv.conf "$tree/etc/resolv.conf"
  printf '127.0.0.1 localhost %s\n' "$(hostname)" >"$tree/etc/hosts"
  if compgen -G "$certificates/*.crt" >/dev/null && ! diff -rq "$certificates" "$tree$certificates" >/dev/null; then
    cp "$certificates"/*.crt "$tree$certificates/"
    chroot "$tree" update-ca-certificates >/dev/null 2>&1
  fi
  apt-config dump 2>/dev/null | grep -Ei '^Acquire::[a-z]+::Proxy ' >"$tree/etc/apt/apt.conf.d/90proxy" || true
  for file in /etc/pip.conf "${XDG_CONFIG_HOME:-$HOME/.config}/pip/pip.conf"; do
    [[ ! -e $file ]] || cp "$file" "$tree/etc/pip.conf"
  done
}

mounts() {
  local tree=$1 release=$2
  mount --bind "$tree" "$tree"  # libvirt wants the root to be a mount point
  mount -t proc proc "$tree/proc"
  mount --rbind /sys "$tree/sys"
  mount --bind /dev "$tree/dev"
  mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=666 devpts "$tree/dev/pts"
  mount -t tmpfs -o mode=1777 tmpfs "$tree/dev/shm"
  mount -t tmpfs -o mode=755 tmpfs "$tree/run"
  mkdir -m 1777 "$tree/run/lock"  # libvirt locks the ports of guests there
  mkdir -p "$cache/apt-$release/partial" "$cache/pip-$release/"{root,user} "$tree/var/cache/pip"
  chown 1000:1000 "$cache/pip-$release/user"
  mount --bind "$cache/apt-$release" "$tree/var/cache/apt/archives"
  mount --bind "$cache/pip-$release" "$tree/var/cache/pip"
}

# as USER COMMAND: run the shell command in the checkout of that user, with a login's plain environment.
as() {
  local user=$1 home=/home/$1 name pass=()
  [[ $user != root ]] || home=/root
  for name in http_proxy https_proxy no_proxy PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST PIP_CERT PIP_DEFAULT_TIMEOUT \
    SSL_CERT_FILE REQUESTS_CA_BUNDLE VMSNAP_ACCEL; do
    [[ -z ${!name-} ]] || pass+=("$name=${!name}")
  done
  # A chroot alone would not do: libvirt enters the mount namespace of a guest, and by that it would leave the chroot.
  "${wrap[@]}" unshare --mount sh -c 'cd "$1" && pivot_root . . && umount -l . && shift && exec chroot "$@"' sh "$tree" \
    --userspec="$user:" / /usr/bin/env -i HOME="$home" USER="$user" LOGNAME="$user" SHELL=/bin/bash LANG=C.UTF-8 \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PIP_CACHE_DIR="/var/cache/pip/$user" "${pass[@]}" \
    /bin/bash -c "cd ~/vmsnap_nb 2>/dev/null || cd; $2" </dev/null
}
wrap=()
