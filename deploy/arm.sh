#!/bin/bash
# Does everything install on 64-bit Arm, and do the pure parts compute the same there?   arm.sh PYTHON
#
# 1. Resolves every wheel, extras included, for aarch64 on Python 3.11 and 3.13. Nothing may need a compiler.
# 2. Unpacks a Debian arm64 root and runs the pure and the golden tests in it under qemu. Needs root, debootstrap and
#    qemu-user-static; where one is missing, says so and ends well. No timings: an emulator's mean nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$1
place=$(mktemp -d -t fieldgate-arm-XXXXXX)
trap 'rm -rf "$place"' EXIT

release=bookworm
root_python=3.11 # what that release has
test_needs=(hypothesis pytest pytest-asyncio pytest-timeout)
pure=(
    tests/golden tests/learning tests/protocol/test_{columns,frame,identity,messages,settings,topics}.py
    tests/gateway/test_{clean,clock,commit,config,decode,delivery,derive,pack,records,window}.py
    tests/cloud/test_ledger.py
)

platforms=()
for glibc in 2_17 2_24 2_26 2_27 2_28; do
    platforms+=(--platform "manylinux_${glibc}_aarch64")
done
for_arm() { # for_arm PYTHON_VERSION: options that make pip choose wheels for it
    printf '%s\n' --only-binary=:all: --implementation cp --python-version "$1" "${platforms[@]}" \
        --platform manylinux2014_aarch64 --platform any
}

"$python" - >"$place/requirements.txt" <<'PYTHON'
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"]
print(*project["dependencies"], *(line for name in ("postgres", "onnx", "fast") for line in extras[name]), sep="\n")
PYTHON

for version in 3.11 3.13; do
    mapfile -t options < <(for_arm "$version")
    "$python" -m pip download --quiet --disable-pip-version-check --dest "$place/wheels-$version" \
        "${options[@]}" --requirement "$place/requirements.txt"
    echo "Python $version on aarch64: $(ls "$place/wheels-$version" | wc -l) wheels, nothing to compile"
done

skip() {
    echo "Skipped: the pure and golden tests on arm64, because $1."
    exit 0
}
[ "$(id -u)" = 0 ] || skip "debootstrap needs root"
command -v debootstrap >/dev/null || skip "debootstrap is not installed (apt install debootstrap)"
command -v qemu-aarch64-static >/dev/null || skip "qemu is not installed (apt install qemu-user-static)"

# The packages are unpacked, not configured: that needs neither chroot nor binfmt_misc, and Python does not mind.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | head -n 1)
root=$place/root
debootstrap --foreign --arch=arm64 --variant=minbase --include=python3 "$release" "$root" ${mirror:+"$mirror"} \
    >"$place/debootstrap.log" 2>&1 || skip "debootstrap failed: $(tail -n 1 "$place/debootstrap.log")"
for package in "$root"/var/cache/apt/archives/*.deb; do
    dpkg-deb --extract "$package" "$root"
done

mapfile -t options < <(for_arm "$root_python")
"$python" -m pip install --quiet --disable-pip-version-check --target "$place/site" "${options[@]}" \
    --find-links "$place/wheels-$root_python" --requirement "$place/requirements.txt" "${test_needs[@]}"

present=()
for path in "${pure[@]}"; do
    [ ! -e "$path" ] || present+=("$path")
done
PYTHONHOME=$root/usr PYTHONPATH=$place/site PYTHONDONTWRITEBYTECODE=1 \
    qemu-aarch64-static -L "$root" "$root/usr/bin/python$root_python" -m pytest -p no:cacheprovider \
    -o timeout=0 "${present[@]}"
