# Installs the named Debian packages, each of which brings the command of its name, where one is
# missing. Their services do not start.
set -eu
missing=
for name in "$@"; do
  command -v "$name" >/dev/null || missing="$missing $name"
done
[ -n "$missing" ] || exit 0
fail() {
  echo "the tests need these Debian packages; as root: apt-get install$missing" >&2
  exit 1
}
command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || fail
policy=/usr/sbin/policy-rc.d # is asked before a package starts its service
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  trap 'exit 1' HUP INT TERM
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
echo "installing$missing ..."
apt-get update -qq &&
  apt-get install -qq -y -o DPkg::Lock::Timeout=120 --no-install-recommends $missing >/dev/null || fail
