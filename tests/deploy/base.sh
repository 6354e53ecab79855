# Makes the file system that test images start from, as a tar: Debian with its own Python in /usr.
# As root; the path of the tar is the argument.
set -eu
fail() {
  echo "the tests of images need these Debian packages; as root: apt-get install $*" >&2
  exit 1
}
packages="podman buildah runc mmdebstrap"
missing=
for name in $packages; do
  command -v "$name" >/dev/null || missing="$missing $name"
done
# Compose's services find each other by name with these.
[ -x /usr/lib/cni/dnsname ] || missing="$missing golang-github-containernetworking-plugin-dnsname dnsmasq-base"
if [ -n "$missing" ]; then
  command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || fail $missing
  export DEBIAN_FRONTEND=noninteractive
  echo "installing$missing ..."
  apt-get update -qq &&
    apt-get install -qq -y -o DPkg::Lock::Timeout=120 --no-install-recommends $missing >/dev/null ||
    fail $missing
fi
echo "making $1 ..."
mkdir -p "$(dirname "$1")"
mmdebstrap --quiet --format=tar --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$1.part"
mv "$1.part" "$1"
