#!/bin/bash
# Builds the container image where there is no registry and no engine, runs it, and proves it:   container.sh PYTHON
#
# 1. A Debian root by debootstrap becomes the base image, in place of the one that deploy/Containerfile names.
# 2. The wheels that the build needs are downloaded as this machine's pip is configured; the build itself is offline.
# 3. buildah carries out deploy/Containerfile.
# 4. tests/container.py starts the image with podman (which needs no engine either) and prints one JSON object.
#
# Needs root, debootstrap, buildah and podman; where one is missing, says so and ends well. RELEASE names Debian's
# release, MIRROR where it comes from (else what apt uses, else debootstrap's own). The base image is kept for next time.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$1
release=${RELEASE:-bookworm}
base=localhost/fieldgate-base:$release
image=localhost/fieldgate
place=$(mktemp -d -t fieldgate-container-XXXXXX)
trap 'rm -rf "$place"' EXIT

say() {
    printf '%s\n' "$*" >&2
}

logged() { # logged NAME COMMAND...: silent unless it fails
    "${@:2}" >"$place/$1.log" 2>&1 || {
        tail -n 20 "$place/$1.log" >&2
        exit 1
    }
}

skip() {
    say "Skipped: the container, because $1."
    exit 0
}
[ "$(id -u)" = 0 ] || skip "debootstrap needs root"
for tool in debootstrap buildah podman; do
    command -v "$tool" >/dev/null || skip "$tool is not installed (Debian: apt install debootstrap buildah podman)"
done
export BUILDAH_ISOLATION=chroot # needs no cgroups of its own: works in a container and in a small virtual machine

make_base() {
    local mirror=${MIRROR:-} root=$place/root container
    [ -n "$mirror" ] ||
        mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' 2>/dev/null |
            awk -v release="$release" '$2 == release { print $1; exit }')
    say "Unpacking Debian $release"
    debootstrap --variant=minbase --include=python3,python3-venv "$release" "$root" ${mirror:+"$mirror"} \
        >"$place/debootstrap.log" 2>&1 || skip "debootstrap failed: $(tail -n 1 "$place/debootstrap.log")"
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}/*
    container=$(buildah from scratch)
    buildah copy --quiet "$container" "$root" / >/dev/null
    buildah commit --quiet --rm "$container" "$base" >/dev/null
}
buildah inspect --type image "$base" >/dev/null 2>&1 || make_base

# The wheels for the base's Python, which may be another than ours; and the page's files, which the wheel carries.
base_python() {
    local container
    container=$(buildah from "$base")
    buildah run "$container" -- python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])'
    buildah rm "$container" >/dev/null
}
options=(--only-binary=:all: --implementation cp --python-version "$(base_python)" --platform any)
for glibc in 2014 _2_17 _2_24 _2_26 _2_27 _2_28 _2_31 _2_34; do
    options+=(--platform "manylinux${glibc}_$(uname -m)")
done
say "Fetching wheels and the page's files"
"$python" - >"$place/requirements.txt" <<'PYTHON'
import tomllib

with open("pyproject.toml", "rb") as file:
    whole = tomllib.load(file)
print(*whole["project"]["dependencies"], *whole["build-system"]["requires"], sep="\n")
PYTHON
logged pip "$python" -m pip download --dest "$place/wheels" "${options[@]}" --requirement "$place/requirements.txt"
logged page "$python" -m pip wheel --no-deps --wheel-dir "$place/built" . # leaves the page's files in cloud/web/vendor
printf '[global]\nno-index = true\nfind-links = /offline\n' >"$place/pip.conf"

say "Building $image"
logged build buildah bud --format docker --build-arg "BASE=$base" --file deploy/Containerfile --tag "$image" \
    --secret "id=pip,src=$place/pip.conf" --volume "$place/wheels:/offline:ro" .

# With cgroups of both versions side by side no container starts: there, show podman the second version alone.
proof=("$python" -m tests.container "$image")
if [ -d /sys/fs/cgroup/unified ]; then
    unshare --mount sh -c 'mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup && exec "$@"' sh "${proof[@]}"
else
    "${proof[@]}"
fi
