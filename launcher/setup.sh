#!/bin/sh
# Everything `make demo` and `make test` need, and nothing when it is there already.
#
#   sh launcher/setup.sh dev     Python packages only (lint, types, unit tests)
#   sh launcher/setup.sh test    and QEMU, firmware, the guest image
#   sh launcher/setup.sh demo    the same
#   sh launcher/setup.sh ceph    as test, and a Ceph cluster and an NFS server (57 MB, 220 MB installed)
#
# System packages come through apt, as root or with sudo; when neither works, the list of what is missing is printed.
# Everything else stays in this folder: .venv (Python packages, hash-locked) and .cache/cvm (QEMU, firmware, images).
set -eu

mode=${1:-dev}
case $mode in demo | test | dev | ceph) ;; *) echo "usage: sh launcher/setup.sh demo|test|dev|ceph" >&2; exit 2 ;; esac

cd "$(dirname "$0")/.."
# Administration tools are not on an ordinary user's PATH in Debian.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 4; }
have() { command -v "$1" >/dev/null 2>&1; }

# ---- system packages -------------------------------------------------------------------------------------------------

# A Python that is new enough and can make virtual environments; empty when there is none. PYTHON names another choice.
find_python() {
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 /usr/bin/python3}; do
    have "$candidate" || continue
    if "$candidate" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      command -v "$candidate"
      return
    fi
  done
}

# Names of Debian packages that are missing, one per word.
missing_packages() {
  [ -x .venv/bin/python ] || [ -n "$(find_python)" ] || printf 'python3 python3-venv '
  [ "$mode" = dev ] && return
  [ "$mode" = demo ] || have tgtd || printf 'tgt '  # an iSCSI server
  if [ "$mode" = ceph ]; then
    have ceph-mon || printf 'ceph-mon '
    have ceph-osd || printf 'ceph-osd '
    have ganesha.nfsd || printf 'nfs-ganesha nfs-ganesha-vfs '
  fi
  have dpkg-deb || printf 'dpkg '
  have cryptsetup || printf 'cryptsetup-bin '
  have mke2fs || printf 'e2fsprogs '
  have swtpm || printf 'swtpm '  # the TPM behind an emulated TD
  have ip || [ -x /usr/sbin/ip ] || printf 'iproute2 '  # taps, bridges and limits of networks
  [ "$mode" = demo ] || have passt || printf 'passt '  # networks without privileges, outside of QEMU
  have swtpm_setup || printf 'swtpm-tools '
  [ "$mode" = demo ] || have cpio || printf 'cpio '  # a second opinion on our archives, for the tests
  [ "$mode" = demo ] || have tpm2_eventlog || printf 'tpm2-tools '  # a second opinion on event logs
  [ "$mode" = demo ] || have softhsm2-util || printf 'softhsm2 '  # a PKCS#11 token, for the tests
  [ "$mode" = demo ] || have haproxy || [ -x /usr/sbin/haproxy ] || printf 'haproxy '  # in front of several replicas
  [ "$mode" = demo ] || have chromium || printf 'chromium '  # looks at the dashboard's pages
  [ "$mode" = demo ] || have chromedriver || printf 'chromium-driver '
  [ "$mode" = demo ] || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || printf 'postgresql '
  [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || [ -e /usr/share/keyrings/debian-archive-keyring.pgp ] ||
    printf 'debian-archive-keyring '
}

install_packages() {
  have apt-get || fail "this is not Debian or Ubuntu (no apt-get). Install by hand what these packages hold: $*"
  if [ "$(id -u)" = 0 ]; then
    sudo=
  elif have sudo && sudo -n true 2>/dev/null; then
    sudo='sudo -n'
  elif have sudo && [ -t 0 ]; then
    say "sudo will ask for your password, to install: $*"
    sudo=sudo
  else
    fail "please run as root:  apt-get install --no-install-recommends $*"
  fi
  say "installing with apt: $*"
  log=$(mktemp)
  for attempt in first second; do
    # Package lists may be missing (containers) or old; then one update helps.
    # shellcheck disable=SC2086  # no word, or words
    if $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >"$log" 2>&1; then
      rm -f "$log"
      return
    fi
    [ $attempt = first ] || break
    say "updating apt's package lists"
    # shellcheck disable=SC2086
    $sudo apt-get update >>"$log" 2>&1 || true
  done
  tail -n 15 "$log" >&2
  rm -f "$log"
  fail "apt could not install: $*"
}

missing=$(missing_packages)
if [ -n "$missing" ]; then
  # shellcheck disable=SC2086  # a list of words
  install_packages $missing
fi

# ---- Python packages -------------------------------------------------------------------------------------------------

# What the environment was made from. The folder counts: an environment does not survive being moved.
fingerprint() { { cat "$1"; echo "$PWD"; } | sha256sum; }
stamped() { [ "$(cat ".venv/stamp-$1" 2>/dev/null || true)" = "$(fingerprint "$1")" ]; }
stamp() { fingerprint "$1" >".venv/stamp-$1"; }

run_pip() {
  # Shows one name after the other; pip's own exit status decides.
  status=.venv/pip-failed
  log=.venv/pip.log
  : >"$status"
  { .venv/bin/python -m pip install --disable-pip-version-check --no-input --progress-bar off "$@" 2>&1 && rm -f "$status"; } |
    tee "$log" | awk '/^ *Collecting / { sub(/==.*/, "", $2); printf "setup:   %s\n", $2 }' >&2
  [ ! -e "$status" ] || { tail -n 15 "$log" >&2; fail "pip could not install the Python packages"; }
}

# Also when the system's Python that the environment points to has gone.
if [ ! -x .venv/bin/python ] || ! stamped requirements-dev.lock; then
  python=$(find_python)
  [ -n "$python" ] || fail "want Python 3.11 or newer with venv (packages python3 and python3-venv)"
  say "Python packages into .venv with $("$python" -V)"
  "$python" -m venv --clear .venv
  # Before Python 3.12 it comes with setuptools, whose hook costs every start of a program a millisecond.
  .venv/bin/python -m pip uninstall --quiet --yes setuptools 2>/dev/null
  run_pip --require-hashes -r requirements-dev.lock
  stamp requirements-dev.lock
fi
if ! stamped pyproject.toml; then
  say "this project into .venv"
  run_pip --no-deps --no-build-isolation -e .
  stamp pyproject.toml
fi

# Also where PYTHONDONTWRITEBYTECODE is set: without bytecode every start compiles, which doubles the time of short verbs.
.venv/bin/python -m compileall -q policy ovmf launcher attest

# ---- QEMU, firmware, guest image -------------------------------------------------------------------------------------

# The tests use network disks too, so they want QEMU's block modules; a demo does not.
case $mode in test | ceph) .venv/bin/cvm image toolchain --storage >/dev/null ;; esac
[ "$mode" = dev ] || .venv/bin/cvm image prepare >/dev/null
