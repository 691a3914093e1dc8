#!/bin/sh
# Build the container image without a container engine: Debian's buildah with chroot isolation.
# When no registry answers for the base image, mmdebstrap makes it from Debian's packages and it is imported under the
# very name the Dockerfile uses. IMAGE_TAG names the result (default localhost/cvm:dev).
set -eu
cd "$(dirname "$0")/.."
tag=${IMAGE_TAG:-localhost/cvm:dev}
base=docker.io/library/debian:trixie-slim
state=$PWD/.cache/container
export BUILDAH_ISOLATION=chroot
mkdir -p "$state"

say() { echo "container: $*" >&2; }
store() { buildah --root "$state/storage" --runroot "$state/run" --storage-driver vfs "$@"; }

if ! command -v buildah >/dev/null 2>&1 || ! command -v mmdebstrap >/dev/null 2>&1; then
  say "installing buildah and mmdebstrap"
  sudo=""
  [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -qq
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends buildah mmdebstrap >/dev/null
fi

if ! store inspect --type image "$base" >/dev/null 2>&1; then
  if timeout 120 buildah --root "$state/storage" --runroot "$state/run" --storage-driver vfs pull -q "$base" \
      >/dev/null 2>&1; then
    say "base image pulled from its registry"
  else
    say "no registry answered; making the base image from Debian packages"
    mmdebstrap --quiet --variant=minbase --include=ca-certificates trixie "$state/base.tar"
    container=$(store from scratch)
    store add -q "$container" "$state/base.tar" / >/dev/null
    store commit -q --rm "$container" "$base" >/dev/null
    rm -f "$state/base.tar"
  fi
fi

# The host's certificate bundle is lent to the build (never copied into the image), as pip brings its own otherwise.
set --
if [ -r /etc/ssl/certs/ca-certificates.crt ]; then
  set -- --volume /etc/ssl/certs/ca-certificates.crt:/run/host-ca.crt:ro --build-arg PIP_CERT=/run/host-ca.crt
fi

say "building $tag (log in .cache/container/build.log)"
store bud --pull=false --layers "$@" --tag "$tag" --file Dockerfile . >"$state/build.log" 2>&1 || {
  tail -n 30 "$state/build.log" >&2
  exit 1
}

say "trying it: attest --help, cvm --help and the unprivileged user"
container=$(store from --pull=false "$tag")
store run "$container" -- attest --help >/dev/null
store run "$container" -- cvm --help >/dev/null
user=$(store run "$container" -- id -un)
store rm "$container" >/dev/null
[ "$user" = attest ] || { say "the image runs as $user, want attest"; exit 1; }
store images --filter "reference=$tag"
